"""The proof on real events: no mismatch as the engines are, one for every fault planted in them."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from dagster_project.commands import parity
from dagster_project.stages.parity import as_served
from data_contracts.aggregates import (
    Count,
    DecayedCount,
    Distinct,
    Last,
    LastK,
    Mean,
    Min,
    SinceLast,
    StdDev,
    Sum,
    TopK,
)
from data_contracts.features import FeatureGroup
from data_contracts.use_case import UseCase
from data_contracts.windows import Lifetime, Session, Sliding, Tumbling
from serving import online
from spark_jobs import proof, shrinking
from spark_jobs.comparison import Outcome, rehearse
from spark_jobs.proof import Proof, RealParts, prove, read_log
from spark_jobs.rehearsal import MemoryRehearsal
from spark_jobs.schedules import Log, Schedule, draw
from spark_jobs.shrinking import shrunk
from spark_jobs.spark_rehearsal import SparkRehearsal
from tests.parity.embedded import clicks_of, first_day
from tests.parity.mutants import MUTANTS, Patch, wrapped

GROUPS = (
    FeatureGroup(
        name="user",
        entity="user_id",
        aggregates={
            "shown": Count(where=("impression",)),
            "clicked": Count(where=("click",)),
            "position": Mean("position"),
            "highest": Min("position"),
            "total": Sum("position", where=("impression",)),
            "spread": StdDev("position"),
            "last": Last("position"),
            "items": LastK("item_id", k=3),
            "distinct": Distinct("item_id", cap=20),
            "top": TopK("item_id", k=2, cap=20),
            "since": SinceLast(where=("impression",)),
        },
        windows=(Sliding("10m"), Sliding("1h"), Tumbling("1h"), Session("2m"), Lifetime()),
        defaults={"position": 2.5, "since": 1e6},
    ),
    FeatureGroup(
        name="item",
        entity="item_id",
        aggregates={"heat": DecayedCount("30m"), "shown": Count(where=("impression",))},
        windows=(Sliding("1h"), Sliding("24h")),
    ),
)


@pytest.fixture(scope="module")
def use_case() -> UseCase:
    return clicks_of(*GROUPS)


@pytest.fixture(scope="module")
def log(use_case: UseCase) -> Log:
    return first_day(use_case)


def test_every_engine_gives_the_oracles_values_on_real_events(use_case: UseCase, log: Log) -> None:
    found = prove(use_case, log, 16, seed=1)
    said = found.certificate()
    assert found.holds
    assert (16, 0, 0) == (said["schedules"], said["mismatches"], said["spark_schedules"])
    assert said["compared"] == sum(f["compared"] for f in said["features"].values()) > 50_000
    assert said["non_default_share"] >= 0.3
    assert said["boundary_share"] >= 0.5
    assert set(use_case.feature_names) == set(said["features"])
    assert said == json.loads(json.dumps(said))


def test_the_same_seed_proves_the_same(use_case: UseCase, log: Log) -> None:
    first, again = (prove(use_case, log, 2, seed=5).certificate() for _ in range(2))
    assert first == again
    assert first["features"] != prove(use_case, log, 2, seed=6).certificate()["features"]


def test_a_log_without_an_event_that_counts_proves_nothing(use_case: UseCase) -> None:
    with pytest.raises(ValueError, match="no event that any declared aggregate counts"):
        prove(use_case, read_log(use_case, []), 1, seed=0)


def test_a_schedule_through_spark_delta_and_feast_agrees(
    spark: SparkSession, use_case: UseCase, log: Log, tmp_path: Path
) -> None:
    found = prove(use_case, log, 1, seed=6, real=RealParts(spark, tmp_path, 1, 0, as_served))
    assert found.holds
    assert (1, 0) == (found.spark_schedules, found.kill_signals)
    assert found.outcome.compared.total() > 1000


@pytest.mark.full
def test_schedules_through_the_real_parts_agree_also_when_writers_are_killed_by_signal(
    spark: SparkSession, use_case: UseCase, log: Log, tmp_path: Path
) -> None:
    found = prove(use_case, log, 6, seed=6, real=RealParts(spark, tmp_path, 6, 3, as_served))
    assert found.holds
    assert (6, 3) == (found.spark_schedules, found.kill_signals)


@pytest.fixture
def unshrunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The first mismatch as it was found."""
    with monkeypatch.context() as patch:
        patch.setattr(proof, "shrunk", lambda use_case, schedule, mismatch, through: mismatch)
        yield


@pytest.mark.parametrize("plant", MUTANTS.values(), ids=list(MUTANTS))
def test_a_fault_planted_in_an_engine_is_found(
    plant: Patch, use_case: UseCase, log: Log, monkeypatch: pytest.MonkeyPatch, unshrunk: None
) -> None:
    plant(monkeypatch)
    assert prove(use_case, log, 40, seed=1).outcome.mismatches


QUICK = "double_counted_replay"


@pytest.mark.parametrize(
    "name", [QUICK, *(pytest.param(n, marks=pytest.mark.full) for n in MUTANTS if n != QUICK)]
)
def test_what_is_found_is_shown_with_five_events_at_most(
    name: str, use_case: UseCase, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS[name](monkeypatch)
    found: Proof = prove(use_case, log, 40, seed=3)
    (shown,) = found.outcome.mismatches
    assert shown.oracle != shown.value
    assert shown.fewest
    assert 1 <= len(shown.events) <= 5
    assert shown.told() == found.certificate()["counterexample"]


def test_a_counterexample_comes_with_the_tiles_of_its_window(
    use_case: UseCase, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS[QUICK](monkeypatch)
    certificate = prove(use_case, log, 40, seed=3).certificate()
    shown = certificate["counterexample"]
    assert {"start", "seconds", "holds"} == set(shown["tiles"][0])
    said = parity._failure(certificate)
    assert f"the {len(shown['events'])} events {{" in said
    assert f"whose tiles are {shown['tiles']}" in said
    assert "fewer may do" in parity._failure(
        {**certificate, "counterexample": {**shown, "fewest": 0}}
    )


class FaultyOnline(MemoryRehearsal):
    """Real parts of which one is wrong: what memory alone does not show."""

    def served(self, *asked: Any) -> np.ndarray:
        return super().served(*asked) + 1


@pytest.mark.parametrize("tries", [1, 40])
def test_a_fault_of_the_real_parts_alone_is_cut_down_through_them(
    tries: int, use_case: UseCase, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrinking, "TRIES", tries)
    focus = next(proof._focuses(use_case))
    rng = np.random.default_rng(1)
    schedule = draw(rng, use_case, log, focus, proof._matching(log, focus))
    run: list[Schedule] = []

    def through(cut: Schedule) -> Outcome:
        run.append(cut)
        return rehearse(use_case, cut, FaultyOnline(use_case), all_engines=False)

    first = through(schedule).mismatches[0]
    found = shrunk(use_case, schedule, first, through)
    assert tries >= len(run) - 1
    assert found.fewest == (tries > 1)
    assert (1 == len(found.events)) == (tries > 1)


@pytest.mark.full
def test_a_server_that_goes_on_giving_what_it_kept_is_found(
    spark: SparkSession,
    use_case: UseCase,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    unshrunk: None,
) -> None:
    monkeypatch.setattr(online._Changes, "now", lambda self: (0, 0))
    found = prove(use_case, log, 1, seed=6, real=RealParts(spark, tmp_path, 1, 0, as_served))
    assert {"online"} == {mismatch.engine for mismatch in found.outcome.mismatches}


def test_features_that_the_log_cannot_move_are_named(use_case: UseCase, log: Log) -> None:
    shown = [said for said in log.raw if said["event_type"] == "impression"]
    found = prove(use_case, read_log(use_case, shown), 1, seed=1).certificate()
    labels = [window.label for window in GROUPS[0].windows]
    assert [f"user_clicked_{label}" for label in labels] == found["unmoved"]
    assert found["thresholds"]["least_seen"]["feature"] not in found["unmoved"]


def seen(use_case: UseCase, least: int = 500, compared: int = 1000) -> Outcome:
    """What a proof may have compared, one feature the `least` often other than its default."""
    names = use_case.feature_names
    often = Counter(dict.fromkeys(names, 500))
    often[names[0]] = least
    return Outcome(Counter(dict.fromkeys(names, compared)), often, boundary=50, moments=100)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"least": 499}, "user_shown_10m has 499 values not the default, 500 needed"),
        ({"compared": 2000}, "25% of the values are not the default, 30% needed"),
        ({"boundary": 49}, "49% of the query times are at a boundary, 50% needed"),
        ({"spark_schedules": 19}, "19 schedules ran through Spark, 20 needed"),
        ({"kill_signals": 4}, "4 writers were killed by signal, 5 needed"),
    ],
)
def test_a_whole_proof_that_saw_too_little_does_not_hold(
    changes: dict[str, int], said: str, use_case: UseCase, log: Log
) -> None:
    real = {"spark_schedules": 20, "kill_signals": 5}
    assert Proof(use_case, log, 0, seen(use_case), schedules=200, **real).holds
    real |= {name: changes.pop(name) for name in real.keys() & changes.keys()}
    boundary = changes.pop("boundary", 50)
    little = replace(seen(use_case, **changes), boundary=boundary)
    assert Proof(use_case, log, 0, little, schedules=199, **real).holds
    whole = Proof(use_case, log, 0, little, schedules=200, **real)
    assert not whole.holds
    told = parity._failure(whole.certificate())
    assert f"no value differs, but too little was compared to say so: {said}" == told
    parity.closing_table(whole.certificate())


@pytest.mark.full
def test_a_fault_of_spark_delta_or_feast_is_cut_down_through_them(
    spark: SparkSession,
    use_case: UseCase,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(shrinking, "TRIES", 3)
    wrapped(monkeypatch, SparkRehearsal, "served", lambda f: lambda *asked: f(*asked) + 1)
    found = prove(use_case, log, 1, seed=6, real=RealParts(spark, tmp_path, 1, 0, as_served))
    (shown,) = found.outcome.mismatches
    assert ("online", False, 1.0) == (shown.engine, shown.fewest, shown.value - shown.oracle)
    assert shown.events
    assert ["schedule-0"] == [path.name for path in tmp_path.iterdir()]
