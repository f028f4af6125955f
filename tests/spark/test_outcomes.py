"""Logged predictions find their labels, and the features served are proven or refuted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import HOUR, MINUTE, SECOND
from data_contracts.evidence import log_losses
from data_contracts.lake import Lake
from data_contracts.predictions import SUFFIX, PredictionLog, prediction_ids
from data_contracts.rollout import Plan, Target, advanced, began
from data_contracts.sequences import Split
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of, joint_digest
from serving.evidence import base_rate, gathered
from serving.features import FeatureReader
from spark_jobs.outcomes import Collected, collect_outcomes
from spark_jobs.parity import ServedParity, served_parity
from spark_jobs.stream import ingest_available
from spark_jobs.tables import load
from spark_jobs.tables import replace as replace_table
from tests.spark.lakes import ARRIVAL, NOON, click, impression, land_at, to_file

SHOWN = [(f"r{i}", NOON + i * MINUTE, f"u{i % 3}", f"i{i % 4}") for i in range(12)]
OPEN = ("r-open", NOON + 3 * HOUR, "u0", "i0")
"""A request whose label is still open: the last click is of its very moment."""


@dataclass(frozen=True)
class Served:
    lake: Lake
    records: list[dict[str, Any]]


@pytest.fixture(scope="module")
def served(
    spark: SparkSession, clicks: UseCase, tmp_path_factory: pytest.TempPathFactory
) -> Served:
    """Features are read between two batches; then come a late event, the labels and the rest."""
    folder = tmp_path_factory.mktemp("served")
    lake = Lake(folder / "root", clicks.name)
    past = [impression(f"p{i}", NOON - i * MINUTE, f"u{i % 4}", f"i{i % 3}") for i in range(1, 30)]
    land_at(lake, to_file(folder / "past.jsonl", past))
    ingest_available(spark, clicks, lake)
    reader = FeatureReader(clicks, lake, digests_of(clicks.groups))
    records = [answer(clicks, reader, *request) for request in (*SHOWN, OPEN)]
    log = [impression(*request) for request in (*SHOWN, OPEN)]
    log += [click(name, at + SECOND, user, item) for name, at, user, item in SHOWN[::4]]
    log.append(impression("late", NOON - 5 * MINUTE, "u0", "i0"))
    log.append(click("p1", NOON + 3 * HOUR, "u1", "i1"))
    # Hours of impressions while no click comes any more.
    log += [impression(f"on-{i}", NOON + (3 + i) * HOUR, "u0", "i0") for i in range(1, 9)]
    land_at(lake, to_file(folder / "then.jsonl", log), at=ARRIVAL + 1)
    ingest_available(spark, clicks, lake)
    return Served(lake, records)


def answer(
    clicks: UseCase, reader: FeatureReader, request: str, q: int, user: str, item: str
) -> dict[str, Any]:
    """What the server logs for a request: the item, one never seen and, again, the item."""
    inputs: list[Mapping[str, str | None]] = [
        {"user_id": user, "item_id": name} for name in (item, "unseen", item)
    ]
    features = reader.read_now(inputs, q)
    return {
        "request_id": request,
        "arrival": q,
        "prediction_ids": ids(clicks, "1", request),
        "q": features.q,
        "inputs": inputs,
        "feature_names": list(clicks.feature_names),
        "definitions": joint_digest(digests_of(clicks.groups)),
        "view_of": reader.reading.view_of(),
        "features": features.values.tolist(),
        "seqs": features.seqs.tolist(),
        "scores": [0.1, 0.2, 0.3],
        "model": "logistic",
        "version": 1,
        "store_failed": request == "r1",
    }


def ids(clicks: UseCase, version: str, request: str) -> list[str]:
    return prediction_ids(clicks.name, version, request, ["shown", "unseen", "shown"])


def collect(
    spark: SparkSession, clicks: UseCase, lake: Lake, *logs: list[dict[str, Any]]
) -> tuple[Collected, ServedParity]:
    """Replace the prediction log and its table by `logs`, one file each."""
    for folder in (lake.prediction_log, lake.predictions, lake.shadow_scores):
        rmtree(folder, ignore_errors=True)
    for i, records in enumerate(logs):
        log = PredictionLog(lake.prediction_log, "replica", f"boot{i}")
        for record in records:
            log.append(record)
        log.close()
    return collect_outcomes(spark, clicks, lake), served_parity(spark, clicks, lake)


def test_honest_predictions_match_their_recomputation_and_find_their_labels(
    spark: SparkSession, clicks: UseCase, served: Served
) -> None:
    collected, parity = collect(spark, clicks, served.lake, served.records)
    requests, candidates = len(served.records), 3 * len(served.records)
    assert (1, ("1",)) == (collected.store_failures, collected.versions)
    assert (requests, candidates, 0, 0) == (
        collected.requests,
        collected.predictions,
        collected.gaps,
        collected.torn_bytes,
    )
    assert 0 == parity.mismatches
    assert candidates * len(clicks.feature_names) == parity.compared
    assert 0 < parity.lagging < parity.compared
    assert 0 < parity.non_default < parity.compared
    rows = load(spark, served.lake.outcomes).toArrow().to_pylist()
    positive = {name for name, *_ in SHOWN[::4]}
    expected = {
        (ids(clicks, "1", name)[i], name, int(name in positive))
        for name, *_ in SHOWN
        for i in (0, 2)
    }
    assert expected == {(r["prediction_id"], r["event_id"], r["label"]) for r in rows}
    assert OPEN[0] not in {r["request_id"] for r in rows}, "clicks have stopped, not matured"
    assert (len(expected), 2 * len(positive)) == (collected.outcomes, collected.positives)
    assert len(rows) == len(expected), "one outcome for each prediction"


def test_collecting_again_changes_nothing_and_a_retry_is_the_same_prediction(
    spark: SparkSession, clicks: UseCase, served: Served
) -> None:
    retried = {**served.records[0], "scores": [0.9, 0.9, 0.9]}
    before, _ = collect(spark, clicks, served.lake, served.records, [retried])
    assert len(served.records) + 1 == before.requests
    assert before == collect_outcomes(spark, clicks, served.lake)
    rows = load(spark, served.lake.predictions).where("request_id = 'r0'").toArrow().to_pylist()
    assert [0.1, 0.2, 0.3] == sorted(row["score"] for row in rows)


def test_what_is_in_the_table_is_not_read_again(
    spark: SparkSession, clicks: UseCase, served: Served
) -> None:
    whole, _ = collect(spark, clicks, served.lake, served.records)
    collect(spark, clicks, served.lake, served.records[:6])
    (taken,) = served.lake.prediction_log.glob(f"*{SUFFIX}")
    taken.write_bytes(bytes(taken.stat().st_size))
    log = PredictionLog(served.lake.prediction_log, "replica", "later")
    for record in served.records[6:]:
        log.append(record)
    log.close()
    assert whole == collect_outcomes(spark, clicks, served.lake)


def test_a_later_version_s_replay_is_kept_apart_and_what_knew_its_outcome_is_not_counted(
    spark: SparkSession, clicks: UseCase, served: Served
) -> None:
    alone, _ = collect(spark, clicks, served.lake, served.records)
    again = [
        {
            **record,
            "version": 2,
            "arrival": ARRIVAL + i,
            "prediction_ids": ids(clicks, "2", record["request_id"]),
            "q": record["q"] + (2 * HOUR if i % 2 else 0),
        }
        for i, record in enumerate(served.records)
    ]
    both, _ = collect(spark, clicks, served.lake, served.records, again)
    assert (2 * alone.predictions, ("1", "2"), "2") == (
        both.predictions, both.versions, both.last_version
    )  # fmt: skip
    of_champion = collect_outcomes(spark, clicks, served.lake, champion="1")
    assert ("1", alone.outcomes) == (of_champion.last_version, of_champion.outcomes)
    assert (0, alone.outcomes // 2) == (alone.late, both.late)
    assert alone.outcomes // 2 == both.outcomes
    rows = load(spark, served.lake.outcomes).where("version = '1'")
    assert alone.outcomes == rows.count()


def test_what_a_version_answered_by_name_is_no_prediction_of_traffic(
    spark: SparkSession, clicks: UseCase, served: Served
) -> None:
    alone, _ = collect(spark, clicks, served.lake, served.records)
    named = [
        {**record, "version": 9, "arrival": ARRIVAL, "off_policy": True,
         "prediction_ids": ids(clicks, "9", record["request_id"])}
        for record in served.records
    ]  # fmt: skip
    both, _ = collect(spark, clicks, served.lake, served.records, named)
    assert replace(alone, off_policy=len(named)) == both
    assert "1" == both.last_version
    assert {"1"} == {row["version"] for row in load(spark, served.lake.outcomes).collect()}


def test_a_release_is_judged_by_the_arms_and_copies_that_were_logged(
    spark: SparkSession, clicks: UseCase, served: Served
) -> None:
    one, two = Target("1", "1" * 64), Target("2", "2" * 64)
    shadow = began(Plan(1, one), two, {})
    canary = advanced(shadow, (5_000,))
    logs: list[list[dict[str, Any]]] = [[], []]
    for i, record in enumerate(served.records):
        plan, arm = (shadow, "champion") if i < 6 else (canary, ("champion", "candidate")[i % 2])
        logs[0].append(
            {**record, "epoch": plan.epoch, "release": plan.release, "unit": f"u{i}",
             "canary_bps": plan.canary_bps, "arm": arm, "fallback": None}
        )  # fmt: skip
        if i < 6:
            names, scores = record["prediction_ids"], [0.4, 0.5, 0.6]
            said = {"version": "2", "bundle": "b", "release": plan.release}
            logs[1].append({"shadow": {**said, "prediction_ids": names, "scores": scores}})
    collect(spark, clicks, served.lake, *logs)
    assert 0 == collect_outcomes(spark, clicks, served.lake).gaps
    # Of each request two rows are outcomes; every fourth request was clicked, the last is open.
    pairs = gathered(served.lake, shadow, []).pairs
    labels = np.array([i % 4 == 0 for i in range(6) for _ in (0, 1)])
    ours, theirs = np.tile([0.4, 0.6], 6), np.tile([0.1, 0.3], 6)
    expected = log_losses(labels, ours).sum() - log_losses(labels, theirs).sum()
    assert (12, (6, 6)) == (pairs.impressions, pairs.units)
    assert expected == pytest.approx(pairs.total)
    seen = gathered(served.lake, canary, [])
    # An item that a request holds twice was shown once.
    assert (6, (3, 3)) == (seen.arms.impressions, seen.arms.units)
    assert -1 / 3 == pytest.approx(seen.arms.difference)
    assert (Split(0.5, 3, 7),) == seen.splits
    assert 6 / 24 == base_rate(served.lake)


def test_a_table_that_lacks_the_inputs_of_drawn_orders_gains_them(
    spark: SparkSession, clicks: UseCase, served: Served
) -> None:
    drawn = {"ranks": [1, 2, 3], "boosts": [0.0] * 3, "temperature": 0.5, "seed": "s",
             "slot_propensities": [0.5], "slate_propensity": 0.5, "dropped": []}  # fmt: skip
    ordered = {key: drawn[key] for key in ("ranks", "boosts", "dropped")}
    records = [{**record, "choice": drawn} for record in served.records]
    collect(spark, clicks, served.lake, records[:6])
    older = load(spark, served.lake.predictions).drop("inputs").toArrow()
    replace_table(spark.createDataFrame(older), served.lake.predictions)
    log = PredictionLog(served.lake.prediction_log, "replica", "later")
    for record in (*records[6:-1], {**records[-1], "choice": ordered}):
        log.append(record)
    log.close()
    collect_outcomes(spark, clicks, served.lake)
    rows = load(spark, served.lake.predictions).toArrow().to_pylist()
    found = {row["prediction_id"]: row["inputs"] for row in rows}
    expected = {
        name: json.dumps(record["inputs"][i]) if 6 <= number < len(records) - 1 else None
        for number, record in enumerate(records)
        for i, name in enumerate(record["prediction_ids"])
    }
    assert expected == found
    outcomes = load(spark, served.lake.outcomes)
    assert "inputs" not in outcomes.columns
    asked = {name: q for name, q, *_ in SHOWN}
    for row in outcomes.select("request_id", sf.unix_micros("label_q").alias("q")).collect():
        assert asked[row["request_id"]] == row["q"]


@pytest.mark.parametrize("plant", ["feature", "seq"])
def test_a_planted_mismatch_is_found(
    spark: SparkSession, clicks: UseCase, served: Served, plant: str
) -> None:
    record = served.records[3]
    if plant == "feature":
        features = [list(row) for row in record["features"]]
        features[0][7] += 1e-9
        planted, expected = {**record, "features": features}, {1}
    else:
        seqs = [list(row) for row in record["seqs"]]
        seqs[0][0] = 2
        planted, expected = {**record, "seqs": seqs}, set(range(1, 25))
    records = [*served.records[:3], planted, *served.records[4:]]
    _, parity = collect(spark, clicks, served.lake, records)
    assert parity.mismatches in expected


def test_predictions_of_other_declared_features_are_kept_and_not_compared(
    spark: SparkSession, clicks: UseCase, served: Served
) -> None:
    older = {
        **served.records[0],
        "feature_names": ["clicks_ever"],
        "definitions": "0" * 32,
        "features": [[1.0]] * 3,
        "seqs": [[1]] * 3,
    }
    collected, parity = collect(spark, clicks, served.lake, [older, *served.records[1:]])
    assert 3 * len(served.records) == collected.predictions
    assert 0 == parity.mismatches
    assert 3 * (len(served.records) - 1) * len(clicks.feature_names) == parity.compared


def test_predictions_that_were_collected_under_an_earlier_declaration_are_not_compared(
    spark: SparkSession, clicks: UseCase, served: Served
) -> None:
    _, parity = collect(spark, clicks, served.lake, served.records)
    assert parity.compared > 0
    groups = (replace(clicks.groups[0], defaults={"clicks": 7.0}), *clicks.groups[1:])
    changed = replace(clicks, declared=replace(clicks.declared, groups=groups))
    collect_outcomes(spark, changed, served.lake)
    assert ServedParity(0, 0, 0, 0) == served_parity(spark, changed, served.lake)


def test_a_log_without_a_prediction_says_what_to_run(
    spark: SparkSession, clicks: UseCase, tmp_path: Path
) -> None:
    lake = Lake(tmp_path, clicks.name)
    lake.prediction_log.mkdir(parents=True)
    (lake.prediction_log / f"replica-boot{SUFFIX}").touch()
    with pytest.raises(ValueError, match=r"no prediction yet: ask .* or run `headrace replay`"):
        collect_outcomes(spark, clicks, lake)
