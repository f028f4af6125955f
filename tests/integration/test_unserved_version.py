"""`headrace models value`: what drawn slates, served and joined, tell of a version that was not."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from deltalake import DeltaTable, write_deltalake
from mlflow import MlflowClient
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from dagster_project.commands.models import register as register_commands
from dagster_project.deployment import Deployment
from dagster_project.stages.exploration import value_exploration
from data_contracts.clock import HOUR, MINUTE, SECOND, format_time
from data_contracts.encoding import encode_dense, encode_ids
from data_contracts.lake import Lake
from data_contracts.predictions import read_log
from data_contracts.results import read_result
from data_contracts.use_case import UseCase, load_use_case
from serving.app import build_app
from serving.auth import create_key
from spark_jobs.outcomes import collect_outcomes
from spark_jobs.stream import ingest_available
from tests.integration.asgi import Client
from tests.integration.releases import register_version
from tests.integration.test_chosen_answers import DECLARED, ITEMS
from tests.integration.world import World, as_role, export, patient, register
from tests.spark.lakes import NOON, click, impression, land_at, to_file
from training.engine import Engine

REQUESTS, USERS = 360, 60
FITTED = NOON + HOUR + 60 * SECOND
"""Query time of the newest row that version 2 was fitted on: 61 requests are not asked later."""


@dataclass(frozen=True)
class Logged:
    deployment: Deployment
    folder: str
    records: list[dict[str, Any]]
    clicked: set[str]
    """Ids of impressions: request, then item."""

    def asked(self, *arguments: str) -> tuple[int, str]:
        app = typer.Typer()
        register_commands(app)
        options = ["--use-case", self.folder, "--root", str(self.deployment.root)]
        done = CliRunner().invoke(app, ["models", *arguments, *options])
        return done.exit_code, done.output

    def told(self, *arguments: str) -> dict[str, Any]:
        code, output = self.asked(*arguments, "--json")
        assert 0 == code, output
        return json.loads(output)


@pytest.fixture(scope="module")
def logged(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """Version 1 answers by drawn slates, whose first three are shown; 2 is the challenger."""
    home = tmp_path_factory.mktemp("unserved")
    folder = home / "clicks"
    folder.mkdir()
    clicks = load_use_case("clicks")
    shutil.copy(clicks.folder / "events.odcs.yaml", folder)
    (folder / "use_case.py").write_text(DECLARED.format(rules=""))
    use_case, lake = load_use_case(str(folder)), Lake(home / "lake", "clicks")
    past = [impression(f"p{i}", NOON - i * MINUTE, f"u{i}", ITEMS[i % 6]) for i in range(60)]
    land_at(lake, to_file(home / "past.jsonl", past), at=NOON + 1)
    ingest_available(spark, use_case, lake)
    key = create_key(lake.keys, ["predict", "operate"], "test")
    world = World(lake.root, clicks, lake, key, key, key, register(use_case, lake, home / "one"))
    manifest = export(use_case, home / "two", seed=4, fitted_until=FITTED)
    register_version(world, home / "two", manifest)
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    client.set_registered_model_alias("clicks", "challenger", "2")
    settings = patient(lake.root, clock="replay", use_case=str(folder))
    with Client(build_app(settings)) as served:
        for number in range(REQUESTS):
            _ask(served, key, number)
    (log,) = lake.prediction_log.iterdir()
    records = read_log(log).records
    shown, clicked = _came_of(records)
    land_at(lake, to_file(home / "then.jsonl", [*shown, *clicked]), at=NOON + 9 * HOUR)
    ingest_available(spark, use_case, lake)
    collect_outcomes(spark, use_case, lake)
    deployment = Deployment(str(folder), lake.root)
    return Logged(deployment, str(folder), records, {row["impression_id"] for row in clicked})


def _ask(client: Client, key: str, number: int) -> None:
    rows = [{"item_id": item, "position": 1 + i % 3} for i, item in enumerate(ITEMS)]
    at = format_time(NOON + HOUR + number * SECOND)
    body = {"request_id": f"r{number}", "event_time": at, "user_id": f"u{number % USERS}"}
    answer = client.post(
        "/clicks/v1/predict", json={**body, "candidates": rows}, headers=as_role(key)
    )
    assert 200 == answer.status_code, answer.text


def _came_of(records: list[dict[str, Any]]) -> tuple[list[dict], list[dict]]:
    """The first three of each slate are shown, and clicked the more the lower their number; hours
    later a click on something else, up to which the others are complete."""
    shown, clicked = [], []
    rng = np.random.default_rng(3)
    for record in records:
        for row, rank in zip(record["inputs"], record["choice"]["ranks"], strict=True):
            if rank <= 3:
                item, user, q = row["item_id"], row["user_id"], record["q"]
                name = f"{record['request_id']}-{item}"
                known = {"position": rank, "request_id": record["request_id"]}
                shown.append(impression(name, q, user, item, **known))
                if rng.random() < 0.6 - int(item[1:]) / 10:
                    clicked.append(click(name, q + SECOND, user, item))
    return shown, [*clicked, click("p0", NOON + 8 * HOUR, "u0", "i0")]


def _naive(logged: Logged, use_case: UseCase, engine: Engine) -> tuple[float, float, int]:
    """IPS of version 2, mean of the log, and slates, from the records, slot by slot."""
    values, own = [], []
    spec = use_case.model
    for record in logged.records:
        if record["q"] <= FITTED:
            continue
        rows, features = record["inputs"], np.array(record["features"])
        ids = encode_ids(spec.categorical, rows, [record["q"]] * 6)
        scores = engine.score(ids, encode_dense(spec.numeric, rows, features)).astype(float)
        odds = (scores / (1 - scores)) ** 2
        left, weight, value, hits = set(range(6)), 1.0, 0.0, 0
        order = sorted(left, key=lambda i: record["choice"]["ranks"][i])
        chances = record["choice"]["slot_propensities"]
        for row, chance in zip(order, chances, strict=False):
            weight *= odds[row] / sum(odds[i] for i in left) / chance
            left.remove(row)
            hit = f"{record['request_id']}-{rows[row]['item_id']}" in logged.clicked
            value, hits = value + weight * hit, hits + hit
        values.append(value)
        own.append(hits)
    return float(np.mean(values)), float(np.mean(own)), len(values)


def test_a_version_is_valued_before_it_answers_and_shows_it(logged: Logged, tmp_path: Path) -> None:
    use_case, lake = logged.deployment.use_case, logged.deployment.lake
    export(use_case, tmp_path / "two", seed=4, fitted_until=FITTED)
    ips, own, slates = _naive(logged, use_case, Engine(tmp_path / "two"))
    found = logged.told("value", "2")
    assert (REQUESTS - 61, slates) == (slates, found["snips"]["n"])
    assert (ips, own) == pytest.approx((found["ips"]["value"], found["logged"]["value"]), rel=1e-6)
    gain = found["snips"]["value"] - own
    assert gain == pytest.approx(found["gain"]["value"])
    left = {f"of the rows it was fitted on, up to {format_time(FITTED)}": 61}
    assert (left, "user_id") == (found["left_out"], found["intervals_over"])
    assert found == read_result(lake, "slate_value") == logged.told("show", "2")["slate_value"]
    for printed in (logged.asked("value", "2")[1], logged.asked("show", "2")[1]):
        assert f"the logged order        {own:.4f}" in printed
        assert "left out: 61 of the rows it was fitted on" in printed
    code, output = logged.asked("value", "9")
    assert (1, True) == (code, "version 9: is not registered" in output)


def test_a_report_values_who_is_on_the_way_and_answered_nothing(logged: Logged) -> None:
    found = value_exploration(logged.deployment)
    assert ["drawn", "by score", "version 2"] == [*found]
    version = logged.told("value", "2")
    assert found["version 2"] == {name: version[name] for name in found["version 2"]}
    assert 0 == found["drawn"]["gain"]["value"]
    # A version that is not what was registered is not scored, and the others are.
    client = MlflowClient(logged.deployment.lake.mlflow_uri, logged.deployment.lake.mlflow_uri)
    digest = client.get_model_version("clicks", "2").tags["bundle_sha256"]
    client.set_model_version_tag("clicks", "2", "bundle_sha256", "0" * 64)
    try:
        refused = value_exploration(logged.deployment)
        assert found["drawn"] == refused["drawn"]
        assert "its bundle is refused" in refused["version 2"]["doubt"]
        assert 1 == logged.asked("value", "2")[0]
    finally:
        client.set_model_version_tag("clicks", "2", "bundle_sha256", digest)


def test_slates_of_before_inputs_were_kept_are_said_to_lack_them(
    logged: Logged, tmp_path: Path
) -> None:
    shutil.copytree(logged.deployment.root, tmp_path / "lake")
    older = replace(logged, deployment=Deployment(logged.folder, tmp_path / "lake"))
    lake = older.deployment.lake
    rows = DeltaTable(lake.predictions).to_pyarrow_table().drop_columns("inputs")
    write_deltalake(lake.predictions, rows, mode="overwrite", schema_mode="overwrite")
    found = older.told("value", "2")
    assert ("cannot judge", 0) == (found["verdict"], found["snips"]["n"])
    assert f"{REQUESTS - 61} logged without inputs" in found["doubt"]
    assert "cannot judge: no slate is left: " in older.asked("value", "2")[1]
    labels = DeltaTable(lake.outcomes).to_pyarrow_table().drop_columns("label_q")
    write_deltalake(lake.outcomes, labels, mode="overwrite", schema_mode="overwrite")
    code, output = older.asked("value", "2")
    assert (1, True) == (code, "lacks label_q: run `headrace report`" in output)
