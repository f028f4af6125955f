"""The code location loads, reads as the loop, and its checks block."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from data_contracts.clock import DAY, HOUR
from data_contracts.lake import Lake
from data_contracts.results import write_result
from data_contracts.rollout import BUCKETS, Plan, Target
from data_contracts.rollout_store import RolloutStore
from data_contracts.version_registry import Version
from training.registry import Registry

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def defs(root: Path) -> dg.Definitions:
    os.environ["HEADRACE_ROOT"] = str(root)
    from dagster_project.definitions import defs

    try:
        return defs()
    finally:
        del os.environ["HEADRACE_ROOT"]


def test_dagster_validates_the_workspace(root: Path):
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        cwd=REPOSITORY,
        env={**os.environ, "HEADRACE_ROOT": str(root), "DAGSTER_HOME": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert 0 == done.returncode, done.stderr[-2000:]


def test_the_assets_are_the_stages_of_the_loop(defs: dg.Definitions):
    graph = defs.resolve_asset_graph()
    order = [key.to_user_string() for key in graph.toposorted_asset_keys]
    stages = {"raw_log", "events", "tiles", "online_state", "training_set", "model", "predictions",
              "rollout", "outcomes", "drift", "off_policy", "report"}  # fmt: skip
    assert stages == set(order)
    for earlier, later in (("raw_log", "events"), ("events", "tiles"), ("tiles", "online_state"),
                           ("events", "training_set"), ("training_set", "model"),
                           ("model", "predictions"), ("predictions", "outcomes"),
                           ("outcomes", "report")):  # fmt: skip
        assert order.index(earlier) < order.index(later)


def test_every_asset_has_an_owner_a_kind_and_a_group(defs: dg.Definitions):
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.owners, key
        assert node.kinds, key
        assert node.group_name != "default", key


def test_contract_conservation_and_parity_are_blocking_checks(defs: dg.Definitions):
    graph = defs.resolve_asset_graph()
    blocking = {
        (key.asset_key.to_user_string(), key.name)
        for key in graph.asset_check_keys
        if graph.get_check_spec(key).blocking
    }
    assert {
        ("events", "contract"),
        ("events", "conservation"),
        ("events", "freshness"),
        ("online_state", "parity"),
        ("online_state", "proof"),
        ("predictions", "served_conservation"),
        ("outcomes", "served_parity"),
    } == blocking


@pytest.mark.parametrize(
    ("compared", "mismatches", "lost", "said"),
    [(60, 0, 0, (True, "ERROR")), (60, 20, 1, (False, "ERROR")), (0, 0, 0, (False, "WARN"))],
)
def test_the_parity_of_a_store_of_which_nothing_was_compared_is_told_and_blocks_nothing(
    defs: dg.Definitions, root: Path, compared: int, mismatches: int, lost: int, said: object
):
    figures = {"keys": 3, "compared": compared, "mismatches": mismatches, "lost": lost,
               "superfluous": 0}  # fmt: skip
    write_result(Lake(root, "clicks"), "online_state", figures)
    from dagster_project.defs.features import parity

    found = parity()
    assert isinstance(found, dg.AssetCheckResult)
    assert said == (found.passed, found.severity.name)


def test_events_and_tiles_are_daily_partitions_from_the_first_day(defs: dg.Definitions):
    graph = defs.resolve_asset_graph()
    for name in ("events", "tiles"):
        partitions = graph.get(dg.AssetKey(name)).partitions_def
        assert partitions is not None
        assert "2019-11-24" == partitions.get_first_partition_key()


def test_the_schedule_trains_again(defs: dg.Definitions):
    schedule = defs.get_repository_def().get_schedule_def("retrain_on_schedule")
    assert ("retrain", "0 3 * * *") == (schedule.job_name, schedule.cron_schedule)


def test_upkeep_and_the_whole_proof_run_at_night(defs: dg.Definitions):
    repository = defs.get_repository_def()
    for name, job in (
        ("maintain_on_schedule", "maintenance"),
        ("prove_on_schedule", "full_proof"),
        ("judge_on_schedule", "judge"),
        ("watch_on_schedule", "watch"),
    ):
        schedule = repository.get_schedule_def(name)
        assert job == schedule.job_name
        assert dg.DefaultScheduleStatus.STOPPED == schedule.default_status
        assert "Automation page" in str(schedule.description)


def test_schedule_and_sensor_are_stopped_and_say_where_to_switch_them_on(defs: dg.Definitions):
    repository = defs.get_repository_def()
    schedule = repository.get_schedule_def("retrain_on_schedule")
    sensors = [
        repository.get_sensor_def(name) for name in ("retrain_on_drift", "release_challenger")
    ]
    assert dg.DefaultScheduleStatus.STOPPED == schedule.default_status
    for sensor in sensors:
        assert dg.DefaultSensorStatus.STOPPED == sensor.default_status
    for told in (schedule.description, *(sensor.description for sensor in sensors)):
        assert "Automation page" in str(told)


def tick(defs: dg.Definitions, under_way: bool = False) -> list[str | None]:
    """The keys of the runs that the drift sensor asks for."""
    sensor = defs.get_repository_def().get_sensor_def("retrain_on_drift")
    with dg.DagsterInstance.ephemeral() as instance:
        if under_way:
            started = dg.DagsterRunStatus.STARTED
            instance.create_run_for_job(defs.resolve_job_def("retrain"), status=started)
        context = dg.build_sensor_context(instance=instance, definitions=defs)
        return [run.run_key for run in sensor.evaluate_tick(context).run_requests or []]


def write_windows(root: Path, *windows: tuple[int, float]) -> None:
    """Make the drift history these windows: when each was judged (µs), its drifted share."""
    history = Lake(root, "clicks").reports / "drift.jsonl"
    history.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"at": at, "until": at, "share": share}) for at, share in windows]
    history.write_text("".join(f"{line}\n" for line in lines))


def test_drift_in_two_of_three_windows_asks_for_one_retraining_at_a_time(
    defs: dg.Definitions, root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dagster_project.defs.loop.SystemClock.now", lambda clock: 7 * HOUR)
    windows = list(enumerate((0.1, 0.9, 0.9)))
    asked: list[list[str | None]] = []
    for seen in range(len(windows) + 1):
        write_windows(root, *windows[:seen])
        asked.append(tick(defs))
    assert [[], [], [], ["drift-7"]] == asked
    assert [] == tick(defs, under_way=True)


def test_windows_from_before_a_version_was_registered_ask_for_none(
    defs: dg.Definitions, root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dagster_project.defs.loop.SystemClock.now", lambda clock: 9 * DAY)
    trained = Version("clicks", "1", "run", "ab", "fm", "cannot judge", None, created=5 * DAY)
    monkeypatch.setattr(Registry, "versions", lambda *_: [trained])
    write_windows(root, (3 * DAY, 0.9), (4 * DAY, 0.9))
    assert [] == tick(defs)
    write_windows(root, (4 * DAY, 0.9), (6 * DAY, 0.9), (7 * DAY, 0.9))
    assert ["drift-216"] == tick(defs)


def test_outcomes_are_joined_for_a_release_only(defs: dg.Definitions, root: Path):
    schedule = defs.get_repository_def().get_schedule_def("judge_on_schedule")
    store = RolloutStore(Lake(root, "clicks").rollouts, "clicks")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance=instance)
        assert [] == list(schedule.evaluate_tick(context).run_requests or [])
        store.add(Plan(1, Target("1", "a"), Target("2", "b"), "shadow", 0, BUCKETS, 1))
        assert 1 == len(list(schedule.evaluate_tick(context).run_requests or []))


def test_a_challenger_is_asked_for_once_an_hour_at_most(
    defs: dg.Definitions, monkeypatch: pytest.MonkeyPatch
):
    sensor = defs.get_repository_def().get_sensor_def("release_challenger")
    now = [DAY]
    monkeypatch.setattr("dagster_project.defs.rollout.waiting", lambda deployment: "2")
    monkeypatch.setattr("dagster_project.defs.rollout.SystemClock.now", lambda clock: now[0])
    keys: list[str | None] = []
    for later in (0, HOUR - 1, HOUR):
        now[0] = DAY + later
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance, definitions=defs)
            found = sensor.evaluate_tick(context).run_requests or []
        keys += [request.run_key for request in found]
    assert (3, 2) == (len(keys), len({*keys}))
    assert keys[0] == keys[1]
