"""`headrace features` and `headrace dataset` on a lake of ten events, and the same from Python."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from dagster_project.commands import data, features
from dagster_project.dataset import build_dataset
from dagster_project.deployment import Deployment
from dagster_project.stages.definitions import plan_features, retire_views
from dagster_project.stages.features import backfill_days
from data_contracts.aggregates import Count
from data_contracts.clock import DAY, HOUR, MINUTE, format_time
from data_contracts.lake import Lake
from data_contracts.online import view_name
from data_contracts.oracle import oracle_features
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.views import View, ViewRegistry
from spark_jobs.stream import ingest_available
from tests.integration.world import build
from tests.spark.lakes import NOON, click, impression, land_at, to_file, typed

LOG = [
    *(impression(f"e{i}", NOON + i * MINUTE, user=f"u{i % 2}") for i in range(9)),
    click("e2", NOON + 3 * MINUTE, user="u0"),
]
CLICKS = load_use_case("clicks")
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a lake whose events are ingested and packed."""
    folder = tmp_path_factory.mktemp("features")
    deployment = Deployment("clicks", folder / ".headrace")
    land_at(deployment.lake, to_file(folder / "log.jsonl", LOG))
    ingest_available(spark, CLICKS, deployment.lake)
    backfill_days(deployment, "2019-11-24", "2019-12-01")
    at = pa.array([NOON + 5 * MINUTE, NOON + HOUR], pa.timestamp("us", "UTC"))
    rows = {"user_id": ["u0", "u1"], "item_id": ["i1", "i1"], "bought": [1, 0], "at": at}
    pq.write_table(pa.table(rows), folder / "labels.parquet")
    return deployment.root


@pytest.fixture
def changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """The same lake under a declaration whose item group has gained an aggregate."""
    user, item = CLICKS.groups
    gained = replace(item, aggregates={**item.aggregates, "events": Count()})
    declared = replace(CLICKS.declared, groups=(user, gained))
    made = Deployment("clicks", root)
    monkeypatch.setitem(made.__dict__, "use_case", replace(CLICKS, declared=declared))
    return made


def run(root: Path, *command: str) -> Any:
    """The JSON that a command prints; without `--json`, what it shows."""
    app = typer.Typer()
    features.register(app)
    data.register(app)
    said = CliRunner().invoke(app, [*command, "--root", str(root)], env={"COLUMNS": "400"})
    assert 0 == said.exit_code, said.output
    return json.loads(said.stdout) if "--json" in command else said.stdout


def test_the_list_says_what_each_feature_is_and_how_fresh_its_group(root: Path) -> None:
    found = run(root, "features", "list", "--json")["features"]
    assert list(CLICKS.feature_names) == [entry["name"] for entry in found]
    assert {("float64", format_time(NOON + 8 * MINUTE))} == {
        (entry["type"], entry["fresh_to"]) for entry in found
    }
    (affinity,) = (entry for entry in found if entry["name"] == "user_affinity_1h")
    assert (0.1, None, []) == (affinity["null_rate"], affinity["default_rate"], affinity["models"])
    shown = run(root, "features", "list")
    assert CLICKS.groups[0].description in shown
    assert "user_affinity_1h" in shown


def test_the_list_says_who_takes_a_feature_and_how_often_it_is_its_default(tmp_path: Path) -> None:
    world = build(tmp_path / "root")
    defaults = [group.default_values() for group in CLICKS.groups]
    names = [name for group in CLICKS.groups for name in group.feature_names]
    rows = dict(zip(names, ([value] * 4 for values in defaults for value in values), strict=True))
    rows["user_clicks_1h"] = [0.0, 1.0, 2.0, 3.0]
    write_deltalake(str(world.lake.training_set), pa.table(rows))
    found = run(world.root, "features", "list", "--json")["features"]
    rates = {entry["name"]: entry["default_rate"] for entry in found}
    assert {**dict.fromkeys(names, 1.0), "user_clicks_1h": 0.25} == rates
    assert {("champion 1",)} == {tuple(entry["models"]) for entry in found}


def test_rows_that_are_older_than_a_field_count_as_without_it(tmp_path: Path) -> None:
    """Merged into one file, or not."""
    lake = Deployment("clicks", tmp_path).lake
    at = pa.array([NOON] * 4, pa.timestamp("us", "UTC"))
    old = {"event_time": at, "event_type": ["impression"] * 4, "user_id": ["u"] * 4}
    write_deltalake(str(lake.events), pa.table(old))
    new = pa.table({**old, "affinity": [0.5, None, 0.5, 0.5]})
    write_deltalake(str(lake.events), new, mode="append", schema_mode="merge")
    rates: list[float] = []
    for _ in range(2):
        found = run(tmp_path, "features", "list", "--json")["features"]
        rates += [e["null_rate"] for e in found if e["name"] == "user_affinity_1h"]
        DeltaTable(str(lake.events)).optimize.compact()
    assert [5 / 8] * 2 == rates


def test_a_group_is_as_fresh_as_the_latest_event_that_it_counts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_project.stages.catalogue import list_features

    clicked = replace(
        CLICKS.groups[0], aggregates={"clicks": Count(where=("click",))}, derived={}, defaults={}
    )
    declared = replace(CLICKS.declared, groups=(clicked, CLICKS.groups[1]))
    deployment = Deployment("clicks", root)
    monkeypatch.setitem(deployment.__dict__, "use_case", replace(CLICKS, declared=declared))
    fresh = {entry["group"]: entry["fresh_to"] for entry in list_features(deployment)["features"]}
    wanted = {"user": NOON + 3 * MINUTE, "item": NOON + 8 * MINUTE}
    assert {name: format_time(at) for name, at in wanted.items()} == fresh


def test_a_plan_without_a_change_costs_nothing(root: Path) -> None:
    found = run(root, "features", "plan", "--json")
    assert [0, 0] == [group["events"] for group in found["groups"]]
    for group, declared in zip(found["groups"], CLICKS.groups, strict=True):
        assert (list(declared.feature_names), []) == (group["kept"], group["computed"])
        assert (declared.state_bytes, 0) == (group["key_bytes"], group["worst_bytes"])
        assert 0 == group["seconds"]
    assert [["declared"]] * 2 == [view["read_by"] for view in found["views"]]
    assert f"{CLICKS.groups[0].state_bytes:,}" in run(root, "features", "plan")


def test_a_plan_says_what_a_change_computes_from_how_much(changed: Deployment) -> None:
    user, item = plan_features(changed)["groups"]
    assert ((), 0, 0.0) == (user["computed"], user["worst_bytes"], user["seconds"])
    labels = [window.label for window in CLICKS.groups[1].windows]
    assert [f"item_events_{label}" for label in labels] == list(item["computed"])
    assert (10, 1, 1, 10) == tuple(item[n] for n in ("events", "days", "keys", "largest_key"))
    assert item["worst_bytes"] == item["added_bytes"] < item["key_bytes"]
    assert item["seconds"] > 0


def test_a_plan_takes_a_key_that_the_table_is_older_than(tmp_path: Path) -> None:
    """A contract may gain a field, and a group be keyed by it, before any event has it."""
    deployment = Deployment("world", tmp_path)
    rows = {"event_time": pa.array([NOON], pa.timestamp("us", "UTC")), "user_id": ["u1"]}
    write_deltalake(str(deployment.lake.events), pa.table(rows))
    found = {group["group"]: group for group in plan_features(deployment)["groups"]}
    assert (1, 1, 0) == tuple(found["taste"][name] for name in ("events", "days", "keys"))
    assert (1, 1) == (found["user"]["keys"], found["user"]["largest_key"])
    assert found["user"]["seconds"] is None


def test_a_view_is_retired_once_nothing_reads_it(root: Path, changed: Deployment) -> None:
    lake: Lake = changed.lake
    read = view_name(CLICKS.groups[0])
    with pytest.raises(ValueError, match=f"view {read}: is read by declared: retire that first"):
        retire_views(changed, [read], unread=False)
    old = replace(CLICKS.groups[1], aggregates={"n": Count()}, derived={}, defaults={})
    ViewRegistry(lake).put(View(old, "ready"))
    assert {"retired": [view_name(old)]} == run(root, "features", "retire", "--unread", "--json")
    assert "retired" == ViewRegistry(lake).views()[view_name(old)].status
    assert "ready" == ViewRegistry(lake).views()[read].status
    app = typer.Typer()
    features.register(app)
    data.register(app)
    assert 2 == CliRunner().invoke(app, ["features", "retire", "--root", str(root)]).exit_code


def test_a_value_is_explained_with_what_the_stores_hold(root: Path) -> None:
    q = NOON + HOUR
    command = ("features", "explain", "--entity", "user_id=u0", "--at", format_time(q))
    (said,) = run(root, *command, "--json").values()
    values = expected(CLICKS, "u0", q)
    assert values == said["values"] == said["stored"]["online"] == said["stored"]["tiles"]
    shown = run(root, *command)
    assert view_name(CLICKS.groups[0]) in shown
    assert "impressions [" in shown


def expected(use_case: UseCase, user: str, q: int) -> dict[str, float]:
    group = use_case.groups[0]
    values = oracle_features(group, typed(use_case, LOG), user, q)
    return dict(zip(group.feature_names, values, strict=True))


def test_labels_get_their_features_by_the_command_and_by_the_call_of_the_readme(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, out = root.parent / "labels.parquet", tmp_path / "out"
    names = ["user_impressions_1h", "item_ctr_24h"]
    command = ("dataset", "build", "--labels", str(labels), "--out", str(out), "--time", "at")
    found = run(root, *command, "--features", ",".join(names), "--json")
    assert {"out": str(out), "rows": 2} == found
    wanted = pq.read_table(out)
    assert ["user_id", "item_id", "bought", "at", *names] == wanted.column_names
    shown = [expected(CLICKS, f"u{i}", at) for i, at in enumerate((NOON + 5 * MINUTE, NOON + HOUR))]
    assert [each[names[0]] for each in shown] == wanted.sort_by("user_id")[names[0]].to_pylist()

    asked = ("dataset", "build", "--labels", str(labels), "--features", ",".join(names))
    unnamed = Path(run(root, *asked, "--time", "at", "--json")["out"])
    assert Lake(root, "clicks").datasets.resolve() / "labels" == unnamed.resolve()
    assert wanted == pq.read_table(unnamed)

    monkeypatch.chdir(root.parent)
    (example,) = re.findall(
        r"```python\n(from dagster_project.dataset.*?)```", README.read_text(), re.S
    )
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert wanted.sort_by("user_id") == scope["table"].sort_by("user_id")
    with pytest.raises(ValueError, match="exists already"):
        build_dataset("clicks", labels, names, time="at", root=root, out=out)


def test_tiles_tell_how_fast_they_were_packed(root: Path) -> None:
    said = json.loads((Lake(root.resolve(), "clicks").reports / "tiles.json").read_text())
    assert 20 == said["events"]
    again = backfill_days(Deployment("clicks", root), "2019-11-24", "2019-12-01")
    assert (0, said["events_per_s"]) == (again["events"], again["events_per_s"])
    assert DeltaTable(str(Lake(root.resolve(), "clicks").tiles)).to_pyarrow_table().num_rows == 3


def test_a_backfill_that_names_no_day_builds_those_before_the_declared_start_too(
    spark: SparkSession, tmp_path: Path
) -> None:
    deployment = Deployment("clicks", tmp_path / ".headrace")
    log = [impression("early", NOON - 9 * DAY), *LOG]
    land_at(deployment.lake, to_file(tmp_path / "log.jsonl", log))
    ingest_available(spark, CLICKS, deployment.lake)
    run(deployment.root, "backfill", "--json")
    days = DeltaTable(deployment.lake.tiles).to_pyarrow_table(columns=["day"])["day"].to_pylist()
    assert {"2019-11-17", "2019-11-26"} == {*days}
    assert "2019-11-17" < CLICKS.declared.start
