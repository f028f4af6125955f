"""Records as JSON lines: events of the contract, and records that break it."""

import json
import re
from collections.abc import Iterator

import numpy as np

from data_contracts.world.draws import Purpose
from data_contracts.world.generator import CONFLICT, KINDS, MALFORMED
from data_contracts.world.population import DEVICES, Population

FAULTS: tuple[tuple[str, str, str], ...] = (
    ("user_id", r'"user_id":"[^"]*",', ""),
    ("event_time", r'"event_time":"[^"]*"', '"event_time":1704067200000'),
    ("position", r'"position":\d+', '"position":0'),
    ("device", r'"device":"[^"]*"', '"device":"toaster"'),
    ("price", r'"price":[\d.]+', '"price":-1.00'),
    ("price", r'"price":([\d.]+)', r'"price":"\1"'),
    ("colour", r"\}$", ',"colour":"red"}'),
    ("category", r'("category":"[^"]*")', r"\1,\1"),
    ("record", r'"price":.*', ""),
)
"""How a good line is broken: the field that its refusal names, what is replaced, by what."""


def request_of(page: int) -> str:
    """The `request_id` of a page that the world's own users ask for."""
    return f"p{page}"


def rendered(people: Population, block: np.ndarray, request: str | None = None) -> Iterator[str]:
    """One line for each of RECORD[…], without its end; `request` names the page of all of them."""
    most = people.parameters.most_pages
    columns: list[list[int]] = [
        block[name].tolist() for name in ("page", "position", "kind", "copy", "user")
    ]
    columns += [block[name].tolist() for name in ("item", "device")]
    clock: list[list[str]] = [
        np.datetime_as_string(block[name].astype("M8[us]")).tolist() for name in ("time", "arrived")
    ]
    faults: list[int] = fault_of(people, block).tolist()
    segment, category = people.segment.tolist(), people.category.tolist()
    price = [f"{cents // 100}.{cents % 100:02d}" for cents in people.cents.tolist()]
    given = json.dumps(request)[1:-1] if request else None
    rows = zip(*columns, faults, *clock, strict=True)
    for page, position, kind, copy, user, item, device, fault, time, arrived in rows:
        name = given or request_of(page)
        shown = f"{name}-{position}"
        event = shown if kind == 0 else f"{shown}-{KINDS[kind]}"
        line = (
            f'{{"event_id":"{event}{"-malformed" if copy == MALFORMED else ""}",'
            f'"event_type":"{KINDS[kind]}","event_time":"{time}Z","arrived_at":"{arrived}Z",'
            f'"user_id":"u{user}","item_id":"i{item}",'
            f'"session_id":"s{page // most}{"-other" if copy == CONFLICT else ""}",'
        )
        if kind == 0:
            line += (
                f'"request_id":"{name}","position":{position},"device":"{DEVICES[device]}",'
                f'"segment":"g{segment[user]}","category":"c{category[item]}",'
                f'"price":{price[item]}}}'
            )
        elif KINDS[kind] == "purchase":
            line += f'"impression_id":"{shown}","price":{price[item]}}}'
        else:
            line += f'"impression_id":"{shown}"}}'
        if copy == MALFORMED:
            line = _broken(line, fault)
        yield line


def _broken(line: str, fault: int) -> str:
    _, found, instead = FAULTS[fault]
    return re.sub(found, instead, line, count=1)


def fault_of(people: Population, block: np.ndarray) -> np.ndarray:
    """int64[…]: which of `FAULTS` each of RECORD[…] has if it is malformed."""
    return people.draws.below(len(FAULTS), Purpose.FAULT, block["page"], block["item"])
