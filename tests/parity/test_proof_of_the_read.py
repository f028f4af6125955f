"""Faults in how a server reads: found by schedules whose states lie in Feast's SQLite, and are read
from there by the server's own reader."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dagster_project.stages.parity import as_served
from data_contracts.aggregates import Count, Last, SinceLast
from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from data_contracts.views import View, ViewRegistry
from data_contracts.windows import Session, Sliding, Tumbling
from serving import online
from spark_jobs import proof
from spark_jobs.comparison import Outcome, rehearse
from spark_jobs.feature_store import OnlineStates
from spark_jobs.rehearsal import MemoryRehearsal
from spark_jobs.schedules import Log, draw
from spark_jobs.spark_rehearsal import ReadFeatures
from tests.parity.embedded import clicks_of, first_day
from tests.parity.mutants import MUTANTS, Patch

GROUP = FeatureGroup(
    "user",
    "user_id",
    {"n": Count(), "last": Last("position"), "since": SinceLast()},
    (Sliding("10m"), Tumbling("1h"), Session("2m")),
    ttl="2d",
)


class Stored(MemoryRehearsal):
    """Whose states lie in Feast's store as soon as they are asked for; the rest is in memory."""

    def __init__(self, use_case: UseCase, lake: Lake) -> None:
        super().__init__(use_case)
        self._store = OnlineStates(use_case, lake)
        self._read: dict[str, ReadFeatures] = {}
        self._stored: dict[tuple[str, str], bytes] = {}
        for group in use_case.groups:
            ViewRegistry(lake).put(View(group, "ready"))
            self._read[group.name] = as_served(use_case, lake, group)

    def served(self, group: FeatureGroup, keys: Sequence[str], q: int) -> np.ndarray:
        """See `Rehearsal`."""
        held = {key: self.online.packed.get((group.name, key), b"") for key in keys}
        moved = [key for key in keys if held[key] != self._stored.get((group.name, key), b"")]
        self._store.write(group, self.online.read(group, moved))
        self._store.remove(group, [key for key in moved if not held[key]])
        self._stored |= {(group.name, key): held[key] for key in moved}
        return self._read[group.name](keys, q)


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    return clicks_of(GROUP)


@pytest.fixture(scope="module")
def log(use_case: UseCase) -> Log:
    return first_day(use_case)


def found(use_case: UseCase, log: Log, root: Path) -> Outcome:
    """What schedules around each aggregate over each window show, up to the first mismatch."""
    outcome = Outcome()
    for number, focus in enumerate(proof._focuses(use_case)):
        rng = np.random.default_rng([1, number])
        schedule = draw(rng, use_case, log, focus, proof._matching(log, focus))
        lake = Stored(use_case, Lake(root / f"{number}", use_case.name))
        outcome.add(rehearse(use_case, schedule, lake, all_engines=False))
        if outcome.mismatches:
            break
    return outcome


def test_the_server_reads_the_oracles_values(use_case: UseCase, log: Log, tmp_path: Path) -> None:
    outcome = found(use_case, log, tmp_path)
    assert [] == [mismatch.told() for mismatch in outcome.mismatches]
    assert all(outcome.non_default[name] > 50 for name in use_case.feature_names)


def gone_on_with_what_was_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(online._Changes, "now", lambda self: (0, 0))


READS = ("all_that_a_state_holds", "tail_off_by_a_hop", "session_closed_a_moment_early")


@pytest.mark.parametrize("plant", [*(MUTANTS[n] for n in READS), gone_on_with_what_was_kept])
def test_a_fault_in_reading_is_found(
    plant: Patch, use_case: UseCase, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert "online" in {mismatch.engine for mismatch in found(use_case, log, tmp_path).mismatches}
