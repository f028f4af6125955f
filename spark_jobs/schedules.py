"""Adversarial schedules: a piece of a real log, disordered as logs are, and what is asked of it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from data_contracts.clock import DAY, SECOND, duration, format_time
from data_contracts.dimension import DimensionRow
from data_contracts.features import FeatureGroup
from data_contracts.keys import Key, Part, key_in, text_of
from data_contracts.record import Event
from data_contracts.use_case import UseCase
from data_contracts.windows import Lifetime, Session, Sliding, Tumbling, Window, hop_of
from spark_jobs.drawn_dimensions import Base, keys_met, placed
from spark_jobs.rehearsal import Loads, Record

Kill = Literal["", "online", "between", "before", "after"]
KILLS: tuple[Kill, ...] = ("online", "between", "before", "after")

_NOBODY: dict[str, str | int] = {"string": "\x7fnobody", "integer": -(2**53)}
"""By type of its field: what a key that no event has ends in."""

Focus = tuple[FeatureGroup, str, Window]
"""Group, aggregate and window whose values a schedule is to bring about."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch and what befalls it."""

    records: tuple[Record, ...]
    killed: Kill = ""
    again: bool = False
    """Runs once more after its commit."""
    reads: bool = False
    """A backfill reads right after it, and commits after the batch that follows."""
    upkeep: bool = False
    """Right after it tables are compacted, old tiles folded, and idle states removed."""
    loads: Loads = ()
    """Rows of dimensions that are loaded right before it."""
    amid: Loads = ()
    """Rows that are loaded between its death and its rerun; after it, where it lives."""


@dataclass(frozen=True)
class Schedule:
    """Batches in their order, and the keys and moments at which every engine is asked."""

    batches: tuple[Batch, ...]
    keys: Mapping[tuple[str, ...], tuple[Key, ...]]
    """Key fields -> keys, one of them unknown."""
    edges: tuple[int, ...]
    """µs at which the event that it is drawn around leaves its window, ±1 µs."""
    moments: tuple[int, ...]
    """µs at which to ask of every group, from the as-of on, beside the boundaries of the time."""
    feature: str
    """The first of the features that it is drawn around."""


@dataclass(frozen=True)
class Log:
    """Raw events (JSON-ready) with their typed form, in order of event time."""

    raw: Sequence[Mapping[str, Any]]
    events: Sequence[Event]
    """With what the dimensions hold of them."""
    dimensions: Base = field(default_factory=dict[str, Mapping[Part, DimensionRow]])

    @cached_property
    def digest(self) -> str:
        """64 hex digits over the raw events in this order."""
        whole = hashlib.sha256()
        for said in self.raw:
            whole.update(json.dumps(said, sort_keys=True, default=str).encode() + b"\n")
        return whole.hexdigest()

    @cached_property
    def times(self) -> np.ndarray:
        """int64[n] µs."""
        return np.array([event["event_time"] for event in self.events], np.int64)


def draw(
    rng: np.random.Generator, use_case: UseCase, log: Log, focus: Focus, matching: np.ndarray
) -> Schedule:
    """A schedule around one of the events `matching` (indices into the log) of its focus."""
    group, _, window = focus
    centre = int(rng.choice(matching))
    fields, key = group.key_fields, key_in(group.key_fields, log.events[centre])
    if key is None:
        raise ValueError(f"event {log.events[centre]['event_id']} has no key of {group.name}")
    moment = log.events[centre]["event_time"]
    times = log.times
    span = int(reach(window) * rng.choice([0.5, 1.2, 3.0]))
    end = moment + _soon(rng, exits(window, moment)[-1] - moment)
    in_reach = (times >= moment - span) & (times <= end)
    near: list[int] = np.flatnonzero(in_reach).tolist()
    own = [i for i in near if key_in(fields, log.events[i]) == key]
    chosen = sorted({centre, *_some(rng, own, 60), *_some(rng, near, 60)})
    mine = np.isin(chosen, own)
    moved, later = _moved(rng, times[chosen], mine, chosen.index(centre), end)
    moment, end = moment + later, end + later
    leaves = exits(window, moment)[-1]
    records = _records(rng, use_case, [log.raw[i] for i in chosen], moved.tolist(), end)
    every = dict.fromkeys(group.key_fields for group in use_case.groups)
    keys = {names: _keys(rng, use_case, log, chosen, names) for names in every}
    keys[fields] = tuple(dict.fromkeys((key, *keys[fields])))
    batches, dimensions = _batches(rng, records), use_case.declared.dimensions
    if dimensions:
        pairs = zip(chosen, moved.tolist(), strict=True)
        events = [{**log.events[i], "event_time": at} for i, at in pairs]
        batches, met = _loaded(rng, use_case, log, batches, events, chosen.index(centre), fields)
        keys[fields] = tuple(dict.fromkeys((*keys[fields], *met)))
    inside = tuple(end + _soon(rng, leaves - moment) for _ in range(3))
    edges = (leaves - 1, leaves, leaves + 1)
    return Schedule(tuple(batches), keys, edges, inside, feature_of(focus))


def _moved(
    rng: np.random.Generator, times: np.ndarray, mine: np.ndarray, centre: int, end: int
) -> tuple[np.ndarray, int]:
    """The times (µs) with some ties, more among the events of the key (`mine`), and in half of the
    schedules later by so much that a midnight is amid them; and how much, by which alone the first
    and the `centre` (index) are moved."""
    moved = times.copy()
    for some, share in ((~mine, 0.06), (mine, 0.2)):
        (among,) = np.nonzero(some)
        tied = (rng.random(len(among)) < share) & (among != centre)
        tied[:1] = False
        first = np.maximum.accumulate(np.where(tied, 0, np.arange(len(among))))
        moved[among] = times[among[first]]
    later = 0
    if rng.random() < 0.5:
        later = -int(rng.integers(times[0], end + 1)) % DAY
    return moved + later, later


def feature_of(focus: Focus) -> str:
    """The name of the focus's feature, the first where there are several."""
    group, name, window = focus
    return f"{group.name}_{name}{group.aggregates[name].outputs[0]}_{window.label}"


def reach(window: Window) -> int:
    """How far back (µs) a window looks; 30 days stand for a lifetime."""
    match window:
        case Sliding():
            return duration(window.width)
        case Tumbling():
            return 2 * duration(window.width)
        case Session():
            return 4 * duration(window.gap)
        case Lifetime():
            return duration("30d")


def exits(window: Window, t: int) -> list[int]:
    """The query times (µs) at which an event at `t` enters and leaves the window."""
    match window:
        case Sliding():
            width = duration(window.width)
            return [t + 1, (t // hop_of(width) + 1) * hop_of(width) + width]
        case Tumbling():
            width = duration(window.width)
            return [(t // width + 1) * width, (t // width + 2) * width]
        case Session():
            return [t + 1, t + duration(window.gap) + 1]
        case Lifetime():
            return [t + 1, t + reach(window)]


def _soon(rng: np.random.Generator, within: int) -> int:
    """A distance in µs, as likely within one order of magnitude as within another."""
    return int(max(within, 2) ** rng.random())


def _some(rng: np.random.Generator, among: Sequence[int], most: int) -> list[int]:
    if len(among) <= most:
        return list(among)
    return [int(i) for i in rng.choice(among, most, replace=False)]


def _keys(
    rng: np.random.Generator,
    use_case: UseCase,
    log: Log,
    chosen: Sequence[int],
    fields: tuple[str, ...],
) -> tuple[Key, ...]:
    held = {key_in(fields, log.events[i]) for i in chosen}
    known = sorted((key for key in held if key is not None), key=text_of)
    nobody = {n: _NOBODY[use_case.contract.fields[n].type] for n in fields[-1:]}
    strange = key_in(fields, {**log.events[chosen[0]], **nobody}) if rng.random() < 0.2 else None
    some = [known[i] for i in _some(rng, range(len(known)), 1)]
    return (*some, strange) if strange is not None else tuple(some)


def _records(
    rng: np.random.Generator,
    use_case: UseCase,
    raw: Sequence[Mapping[str, Any]],
    times: Sequence[int],
    end: int,
) -> list[Record]:
    """Events at those times (µs) in their order of arrival, by `end` at the latest where they may:
    most at once, some late or before their own time; with duplicates, conflicts, broken lines."""
    skew = use_case.contract.max_future_skew
    coming: list[tuple[int, float, bytes]] = []
    for said, at in zip(raw, times, strict=True):
        fate = rng.random()
        late = rng.integers(0, 2 * SECOND) if fate < 0.6 else rng.integers(0, max(end - at, 2))
        arrived = at - int(rng.integers(0, skew + 1)) if fate > 0.9 else at + int(late)
        arrived = max(min(arrived, end), at - skew)
        stamp = {"event_time": format_time(at), "arrived_at": format_time(arrived)}
        line = _line({**said, **stamp})
        coming.append((arrived, rng.random(), line))
        again = arrived + int(rng.integers(0, max(end - arrived, 1)))
        if rng.random() < 0.1:
            coming.append((again, rng.random(), line))
        if rng.random() < 0.03:
            other = _line({**said, **stamp, "event_time": format_time(at - 1)})
            coming.append((again, rng.random(), other))
        if rng.random() < 0.02:
            coming.append((again, rng.random(), line[:-2]))
    coming.sort()
    if rng.random() < 0.2:
        rng.shuffle(coming)
    return [Record("log.jsonl", n, line) for n, (_, _, line) in enumerate(coming, 1)]


def _batches(rng: np.random.Generator, records: Sequence[Record]) -> list[Batch]:
    cuts = sorted(rng.integers(0, len(records) + 1, rng.integers(1, 6)).tolist())
    drawn: list[Batch] = []
    for first, last in zip([0, *cuts], [*cuts, len(records)], strict=True):
        killed = KILLS[rng.integers(len(KILLS))] if rng.random() < 0.3 else ""
        again, reads = rng.random() < 0.2, rng.random() < 0.3
        drawn.append(Batch(tuple(records[first:last]), killed, bool(again), bool(reads)))
    return [replace(batch, upkeep=bool(rng.random() < 0.3)) for batch in drawn]


def _loaded(
    rng: np.random.Generator,
    use_case: UseCase,
    log: Log,
    batches: Sequence[Batch],
    events: Sequence[Event],
    centre: int,
    fields: tuple[str, ...],
) -> tuple[list[Batch], list[Key]]:
    """The batches with rows of dimensions loaded before and amid them, half of the latter dying;
    and the keys that the centre (index into the events) has under these rows."""
    focal, dimensions = events[centre], use_case.declared.dimensions
    ids = [{said["event_id"] for r in batch.records if (said := r.said)} for batch in batches]
    own = next((i for i, held in enumerate(ids) if focal["event_id"] in held), 0)
    rows = placed(rng, dimensions, log.dimensions, events, focal, own, len(batches))
    found: list[Batch] = []
    for batch, (before, amid) in zip(batches, rows, strict=True):
        dies = not batch.killed and amid and rng.random() < 0.5
        killed = KILLS[rng.integers(len(KILLS))] if dies else batch.killed
        found.append(replace(batch, loads=tuple(before), amid=tuple(amid), killed=killed))
    return found, keys_met(dimensions, rows, fields, focal)


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
