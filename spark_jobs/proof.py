"""The parity proof: all engines equal over adversarial schedules of a user's log and features."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from spark_jobs.spark_rehearsal import SparkRehearsal

ENGINES = ("online", "tiles", "training set")


@dataclass(frozen=True)
class RealParts:
    """How many of the schedules run through Spark, Delta and Feast, and where."""

    spark: SparkSession
    root: Path
    """A folder for their lakes; each is removed when its schedule has passed."""
    schedules: int
    killed: int
    """In how many of these a writer dies by kill -9."""


@dataclass
class Proof:
    """What a proof found; `certificate` is its record."""

    use_case: UseCase
    log: Log
    seed: int
    outcome: Outcome
    schedules: int = 0
    spark_schedules: int = 0
    kill_signals: int = 0

    @property
    def holds(self) -> bool:
        """Whether something was compared and nothing differed."""
        return self.outcome.compared.total() > 0 and not self.outcome.mismatches

    def certificate(self) -> dict[str, Any]:
        """JSON-ready: definitions, log, schedules, and per feature how often what was compared."""
        outcome = self.outcome
        compared = outcome.compared.total()
        return {
            "use_case": self.use_case.name,
            "feature_digests": digests_of(self.use_case.groups),
            "log_digest": self.log.digest,
            "log_events": len(self.log.events),
            "seed": self.seed,
            "schedules": self.schedules,
            "spark_schedules": self.spark_schedules,
            "kill_signals": self.kill_signals,
            "engines": list(ENGINES),
            "compared": compared,
            "mismatches": len(outcome.mismatches),
            "non_default_share": round(outcome.non_default.total() / max(compared, 1), 4),
            "boundary_share": round(outcome.boundary / max(outcome.moments, 1), 4),
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
    proof = Proof(use_case, log, seed, Outcome())
    matching = {feature_of(focus): _matching(log, focus) for focus in _focuses(use_case)}
    focuses = [focus for focus in _focuses(use_case) if len(matching[feature_of(focus)])]
    if not focuses:
        raise ValueError("the log holds no event that any declared aggregate counts")
    for number in range(schedules):
        rng = np.random.default_rng([seed, number])
        seen = proof.outcome.non_default
        focus = min(focuses, key=lambda f: (seen[feature_of(f)], rng.random()))
        schedule = draw(rng, use_case, log, focus, matching[feature_of(focus)])
        if real and number >= schedules - real.schedules:
            outcome = _through_real_parts(use_case, schedule, real, proof)
        else:
            outcome = rehearse(use_case, schedule)
        if outcome.mismatches:
            outcome.mismatches[:] = [shrunk(use_case, schedule, outcome.mismatches[0])]
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
    lake = SparkRehearsal(real.spark, use_case, root, by_signal)
    outcome = rehearse(use_case, schedule, lake, every=False)
    proof.spark_schedules += 1
    proof.kill_signals += lake.kill_signals
    if not outcome.mismatches:
        shutil.rmtree(root)
    return outcome


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
