"""The world answers live: whoever ranks its items, its users click by the same model."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from data_contracts.clock import DAY, HOUR, format_time
from data_contracts.world.behaviour import Behaviour
from data_contracts.world.generator import SLICE, funnel, shown
from data_contracts.world.lines import rendered, request_of
from data_contracts.world.parameters import LONGEST, Parameters
from data_contracts.world.population import DEVICES, Population
from data_contracts.world.visits import Pages, Visits

PATIENCE = HOUR
"""How far (µs) a visit may lie before the latest one that was answered."""

_HASHED = 2**62


@dataclass(frozen=True)
class Visit:
    """A simulated user asks for a page."""

    request_id: str
    user_id: str
    device: str
    event_time: int
    """µs."""


@dataclass(frozen=True)
class Answer:
    """What the simulated user did with the page, position by position."""

    p_true: tuple[float, ...]
    clicked: tuple[bool, ...]
    events: tuple[dict[str, Any], ...]
    """Impressions, clicks, carts and purchases, JSON-ready, by event time (some in the future of
    the visit); each arrives the moment it happens."""


class World:
    """A world that lives on with every answer; two with equal parameters and visits are equal.

    Not shared between threads. A log of the same parameters is answered alike: the visits of
    `visits` with the items of `candidates` in their order are clicked as in that log.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._behaviour = Behaviour(Population(parameters))
        self._people = self._behaviour.population
        self._visits = Visits(self._people)
        self._latest = parameters.origin
        self._answered: dict[str, tuple[Visit, tuple[str, ...], Answer]] = {}

    def visits(self, start: int | None = None) -> Iterator[Visit]:
        """The visits of the world's users from `start` (µs) on in order of time, without end."""
        chosen = self._people.parameters
        since = chosen.origin if start is None else start
        session = max(0, (since - chosen.origin) // DAY - 1) * chosen.sessions_per_day
        ahead = self._visits.pages(0, 0)
        while True:
            ahead = Pages.joined([ahead, self._visits.pages(session, session + SLICE)])
            session += SLICE
            ripe = ahead.time < self._visits.begin(session)
            now, ahead = ahead.take(ripe & (ahead.time >= since)), ahead.take(~ripe)
            now = now.take(np.lexsort((now.number, now.time)))
            columns = (now.number, now.user, now.device, now.time)
            rows: list[list[int]] = np.stack(columns, axis=1).tolist()
            for page, user, device, time in rows:
                yield Visit(request_of(page), f"u{user}", DEVICES[device], time)

    def candidates(self, visit: Visit) -> list[dict[str, Any]]:
        """The inputs of a prediction for each item that the logging policy would show."""
        pages = self._page(visit)
        user = int(pages.user[0])
        return [
            {
                "user_id": visit.user_id,
                "item_id": f"i{item}",
                "segment": f"g{self._people.segment[user]}",
                "device": visit.device,
                "category": f"c{self._people.category[item]}",
                "price": int(self._people.cents[item]) / 100,
                "position": position,
            }
            for position, item in enumerate(self._visits.shown(pages)[0].tolist(), 1)
        ]

    def answer(self, visit: Visit, ranking: Sequence[str]) -> Answer:
        """Show the items `ranking` from the first slot on and say what the user does.

        A function of seed, request id, ranking and what was answered before; the same request again
        is the same answer. Raises ValueError for an unknown user, device or item, an item that
        stands twice, a visit more than `PATIENCE` before the latest, and a request id that was
        answered for another visit or ranking, and a time outside of the world's 203 days.
        """
        known = self._answered.get(visit.request_id)
        if known is not None:
            if known[:2] != (visit, tuple(ranking)):
                raise ValueError(
                    f"request {visit.request_id!r}: was answered for another visit or ranking: "
                    "give each request an id of its own"
                )
            return known[2]
        pages, items = self._page(visit), self._items(ranking)
        origin = self._people.parameters.origin
        if not origin <= visit.event_time < origin + LONGEST:
            raise ValueError(
                f"request {visit.request_id!r}: {format_time(visit.event_time)} is outside of "
                f"{format_time(origin)} and the {LONGEST // DAY} days after it: choose `start`"
            )
        if visit.event_time < self._latest - PATIENCE:
            raise ValueError(
                f"request {visit.request_id!r}: {format_time(visit.event_time)} lies more than "
                f"{PATIENCE // HOUR} h before the latest visit: answer visits in order of time"
            )
        rows = shown(self._behaviour, pages, items[None, :])[0]
        happened = np.concatenate(
            [rows, *funnel(self._people.draws, self._people.parameters, rows)]
        )
        happened["arrived"] = happened["time"]
        happened = happened[np.lexsort([happened[n] for n in ("position", "kind", "time")])]
        lines = rendered(self._people, happened, visit.request_id)
        answer = Answer(
            p_true=tuple(rows["p"].tolist()),
            clicked=tuple(rows["clicked"].tolist()),
            events=tuple(json.loads(line) for line in lines),
        )
        self._answered[visit.request_id] = (visit, tuple(ranking), answer)
        self._move(visit.event_time)
        return answer

    def _move(self, time: int) -> None:
        if time <= self._latest:
            return
        self._latest = time
        oldest = time - PATIENCE
        self._behaviour.clicks.forget(oldest)
        self._behaviour.impressions.forget(oldest)
        while (first := next(iter(self._answered.values()))[0]).event_time < oldest:
            del self._answered[first.request_id]

    def _page(self, visit: Visit) -> Pages:
        match = re.fullmatch(r"u(\d{1,7})", visit.user_id)
        if not match or int(match[1]) >= self._people.parameters.users:
            raise ValueError(
                f"user {visit.user_id!r}: this world has u0 to u{self._people.parameters.users - 1}"
            )
        if visit.device not in DEVICES:
            raise ValueError(f"device {visit.device!r}: is none of {', '.join(DEVICES)}")
        row = (_number(visit.request_id), int(match[1]), DEVICES.index(visit.device))
        return Pages(*(np.array([value], np.int64) for value in (*row, visit.event_time)))

    def _items(self, ranking: Sequence[str]) -> np.ndarray:
        found: list[int] = []
        for name in ranking:
            match = re.fullmatch(r"i(\d{1,7})", name)
            if not match or int(match[1]) >= self._people.parameters.items:
                raise ValueError(
                    f"item {name!r}: this world has i0 to i{self._people.parameters.items - 1}"
                )
            found.append(int(match[1]))
        if not found or len(set(found)) != len(found):
            raise ValueError("ranking: needs at least one item and each only once")
        return np.array(found, np.int64)


def _number(request_id: str) -> int:
    match = re.fullmatch(r"p(\d{1,18})", request_id)
    if match:
        return int(match[1])
    digest = blake2b(request_id.encode(), digest_size=8).digest()
    return _HASHED + int.from_bytes(digest, "little") % _HASHED
