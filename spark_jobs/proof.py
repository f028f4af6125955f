"""The parity proof: all engines equal over adversarial schedules of a user's log and features."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from data_contracts.accumulators import Decayed, Source
from data_contracts.clock import parse_time
from data_contracts.features import FeatureGroup
from data_contracts.keys import key_in
from data_contracts.record import Event, Refused, check_event
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of
from spark_jobs.comparison import Outcome, rehearse
from spark_jobs.drawn_dimensions import base_rows, with_base
from spark_jobs.schedules import Focus, Log, Schedule, draw, feature_of
from spark_jobs.shrinking import shrunk
from spark_jobs.spark_rehearsal import OpenReader, SparkRehearsal

ENGINES = ("online", "tiles", "training set")
COUNTED = "a value is one feature of one key at one moment in one engine, beside the oracle"

WHOLE = 200
"""From so many schedules on a proof holds only if it meets these thresholds."""
NON_DEFAULT_SHARE = 0.3
"""Of the values compared, how many must differ from their default."""
BOUNDARY_SHARE = 0.5
"""Of the query times, how many must be within 1 µs of an event entering or leaving a window."""
LEAST_SEEN = 500
"""Values other than the default of every aggregate over every window that the log can move."""
REAL, KILLED = 20, 5
"""Schedules through Spark, Delta and Feast, and writers killed by signal amid these."""


@dataclass(frozen=True)
class RealParts:
    """How many of the schedules run through Spark, Delta and Feast, and where."""

    spark: SparkSession
    root: Path
    """A folder for their lakes; each is removed when its schedule has passed."""
    schedules: int
    killed: int
    """In how many of these a writer dies by kill -9."""
    open_reader: OpenReader
    """By which the online store is read."""


@dataclass
class Proof:
    """What a proof found; `certificate` is its record."""

    use_case: UseCase
    log: Log
    seed: int
    outcome: Outcome
    unmoved: tuple[str, ...] = ()
    """Features that the log holds no event for: their default is all that could be compared."""
    schedules: int = 0
    spark_schedules: int = 0
    kill_signals: int = 0

    @property
    def holds(self) -> bool:
        """Whether something was compared and nothing differed; of a whole proof, enough of it."""
        if not self.outcome.compared.total() or self.outcome.mismatches:
            return False
        return self.schedules < WHOLE or all(each["met"] for each in self.thresholds().values())

    def thresholds(self) -> dict[str, dict[str, Any]]:
        """Per threshold: the value, what it must be at least, and whether it is."""
        outcome = self.outcome
        moved = [f for f in map(feature_of, _focuses(self.use_case)) if f not in self.unmoved]
        least = min(moved, key=lambda feature: outcome.non_default[feature])
        found: dict[str, tuple[float, float]] = {
            "non_default_share": (_share(outcome.non_default.total(), outcome.compared.total()),
                                  NON_DEFAULT_SHARE),
            "boundary_share": (_share(outcome.boundary, outcome.moments), BOUNDARY_SHARE),
            "least_seen": (outcome.non_default[least], LEAST_SEEN),
            "spark_schedules": (self.spark_schedules, REAL),
            "kill_signals": (self.kill_signals, KILLED),
        }  # fmt: skip
        said: dict[str, dict[str, Any]] = {
            name: {"value": value, "at_least": limit, "met": value >= limit}
            for name, (value, limit) in found.items()
        }
        said["least_seen"]["feature"] = least
        return said

    def certificate(self) -> dict[str, Any]:
        """JSON-ready: definitions, log, schedules, and per feature how often what was compared."""
        outcome = self.outcome
        thresholds = self.thresholds()
        return {
            "use_case": self.use_case.name,
            "simulated": self.use_case.declared.simulated,
            "feature_digests": digests_of(self.use_case.groups),
            "log_digest": self.log.digest,
            "log_events": len(self.log.events),
            "seed": self.seed,
            "schedules": self.schedules,
            "spark_schedules": self.spark_schedules,
            "kill_signals": self.kill_signals,
            "engines": list(ENGINES),
            "counted": COUNTED,
            "compared": outcome.compared.total(),
            "mismatches": len(outcome.mismatches),
            "non_default_share": thresholds["non_default_share"]["value"],
            "boundary_share": thresholds["boundary_share"]["value"],
            "thresholds": {"from_schedules": WHOLE, **thresholds},
            "unmoved": list(self.unmoved),
            "holds": self.holds,
            "features": {
                name: {"compared": outcome.compared[name], "non_default": outcome.non_default[name]}
                for name in self.use_case.feature_names
            },
            "counterexample": outcome.mismatches[0].told() if outcome.mismatches else None,
        }


def prove(
    use_case: UseCase,
    log: Log,
    schedules: int,
    seed: int,
    real: RealParts | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Proof:
    """Draw and run `schedules`, the last of them through the real parts; stops at the first
    mismatch, and cuts its schedule down.

    Each is drawn around the feature that so far was the least often other than its default.
    """
    matching = {feature_of(focus): _matching(log, focus) for focus in _focuses(use_case)}
    focuses = [focus for focus in _focuses(use_case) if len(matching[feature_of(focus)])]
    if not focuses:
        raise ValueError("the log holds no event that any declared aggregate counts")
    unmoved = tuple(feature for feature, events in matching.items() if not len(events))
    proof = Proof(use_case, log, seed, Outcome(), unmoved)
    for number in range(schedules):
        rng = np.random.default_rng([seed, number])
        seen = proof.outcome.non_default
        focus = min(focuses, key=lambda f: (seen[feature_of(f)], rng.random()))
        schedule = draw(rng, use_case, log, focus, matching[feature_of(focus)])
        if real and number >= schedules - real.schedules:
            outcome = _through_real_parts(use_case, schedule, real, proof)
            through = partial(_again, use_case, real)
        else:
            outcome, through = rehearse(use_case, schedule), None
        if outcome.mismatches:
            outcome.mismatches[:] = [shrunk(use_case, schedule, outcome.mismatches[0], through)]
        proof.outcome.add(outcome)
        proof.schedules += 1
        if on_progress:
            on_progress(proof.schedules)
        if outcome.mismatches:
            break
    return proof


def _through_real_parts(
    use_case: UseCase, schedule: Schedule, real: RealParts, proof: Proof
) -> Outcome:
    by_signal = proof.kill_signals < real.killed
    root = real.root / f"schedule-{proof.schedules}"
    lake = SparkRehearsal(real.spark, use_case, root, real.open_reader, by_signal)
    outcome = rehearse(use_case, schedule, lake, all_engines=False)
    proof.spark_schedules += 1
    proof.kill_signals += lake.kill_signals
    if not outcome.mismatches:
        shutil.rmtree(root)
    return outcome


def _again(use_case: UseCase, real: RealParts, schedule: Schedule) -> Outcome:
    """A schedule through the real parts in a lake that is not kept; writers die in this process."""
    with TemporaryDirectory(dir=real.root) as root:
        lake = SparkRehearsal(real.spark, use_case, Path(root), real.open_reader)
        return rehearse(use_case, schedule, lake, all_engines=False)


def _share(some: int, of: int) -> float:
    return round(some / max(of, 1), 4)


def _focuses(use_case: UseCase) -> Iterator[Focus]:
    for group in use_case.groups:
        for name in group.aggregates:
            for window in group.windows:
                yield group, name, window


def _matching(log: Log, focus: Focus) -> np.ndarray:
    """Indices of the log's events that give the aggregate another value than its default."""
    group, name, _ = focus
    part = group.aggregates[name].parts[0]
    source: Source = (part.base if isinstance(part, Decayed) else part).source
    default = group.defaults.get(name, 0.0)
    chosen = [i for i, e in enumerate(log.events) if _counts(source, group, default, e)]
    return np.array(chosen, np.int64)


def _counts(source: Source, group: FeatureGroup, default: float, event: Event) -> bool:
    """Whether the event alone would give another value than the default."""
    if key_in(group.key_fields, event) is None:
        return False
    if source.field and event[source.field] in (None, default):
        return False
    return all(event[name] in values for name, values in source.where)


def read_log(use_case: UseCase, raw: Sequence[dict[str, object]]) -> Log:
    """Canonical events as schedules take them; those that break the contract are left out.

    Rows of declared dimensions are drawn: what a lake holds of them is not looked at.
    """
    pairs: list[tuple[dict[str, object], Event]] = []
    for said in raw:
        try:
            pairs.append((said, check_event(use_case.contract, said)))
        except Refused:
            continue
    pairs.sort(key=lambda pair: parse_time(str(pair[0]["event_time"])))
    events = [event for _, event in pairs]
    base = base_rows(use_case, events)
    return Log([said for said, _ in pairs], with_base(use_case, base, events), base)
