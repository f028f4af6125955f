"""The proof covers upkeep: faults in how old tiles are folded are found on a log of some days."""

from typing import Any

import pyarrow as pa
import pytest

from data_contracts.aggregates import Count, Last
from data_contracts.features import FeatureGroup
from data_contracts.use_case import UseCase
from data_contracts.windows import Lifetime, Sliding
from spark_jobs import proof, rehearsal
from spark_jobs.proof import prove, read_log
from spark_jobs.schedules import Log
from tests.parity.embedded import clicks_of, embedded_events
from tests.parity.mutants import Patch, wrapped

GROUP = FeatureGroup(
    "user", "user_id", {"n": Count(), "last": Last("position")}, (Sliding("1h"), Lifetime())
)


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    return clicks_of(GROUP)


@pytest.fixture(scope="module")
def log(use_case: UseCase) -> Log:
    """Every 20th event of the embedded log: seven days."""
    return read_log(use_case, embedded_events(use_case)[::20])


def base_claims_what_comes_after_it(patch: pytest.MonkeyPatch) -> None:
    wrapped(
        patch, rehearsal, "base_rows",
        lambda f: lambda group, states, day: [
            {**row, "seq": row["seq"] + 2} for row in f(group, states, day)
        ],
    )  # fmt: skip


def tiles_deleted_a_day_early(patch: pytest.MonkeyPatch) -> None:
    """And the events of that day count as held."""

    def early(original: Any) -> Any:
        def held(lake: Any, group: FeatureGroup, today: str, **more: Any) -> Any:
            packed, later = original(lake, group, today, **more)
            base = lake.tables.bases.get(group.name)
            if not base:
                return packed, later
            gone = base[0]["day"]
            return tuple(t.filter(pa.array([d != gone for d in t["day"].to_pylist()], pa.bool_()))
                         for t in (packed, later))  # fmt: skip

        return held

    wrapped(patch, rehearsal.MemoryRehearsal, "_held", early)


def test_the_engines_agree_on_it(use_case: UseCase, log: Log) -> None:
    assert prove(use_case, log, 8, seed=3).holds


@pytest.mark.parametrize("plant", [base_claims_what_comes_after_it, tiles_deleted_a_day_early])
def test_a_fault_in_folding_is_found(
    plant: Patch, use_case: UseCase, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "shrunk", lambda use_case, schedule, mismatch, through: mismatch)
    plant(monkeypatch)
    assert prove(use_case, log, 20, seed=3).outcome.mismatches
