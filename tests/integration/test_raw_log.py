"""What of an imported log is history, and what no later stage goes on from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dagster_project.deployment import Deployment
from dagster_project.stages import events, model
from dagster_project.stages.raw_log import import_raw_log
from data_contracts.results import read_result, write_result


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    found = Deployment("clicks", tmp_path)
    days = {"history": ["2019-11-24", "2019-11-25"], "held_out": ["2019-11-26"]}
    write_result(found.lake, "raw_log", days)
    return found


def test_a_log_that_begins_before_its_declared_start_is_refused(tmp_path: Path) -> None:
    deployment = Deployment("clicks", tmp_path)
    declared = replace(deployment.use_case.declared, start="2019-11-25")
    deployment.__dict__["use_case"] = replace(deployment.use_case, declared=declared)
    told = "use case clicks: start 2019-11-25: the log begins 2019-11-24: declare that"
    with pytest.raises(ValueError, match=told):
        import_raw_log(deployment)
    with pytest.raises(ValueError, match="has not run"):
        read_result(deployment.lake, "raw_log")


def test_no_partition_takes_a_day_that_is_held_out(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes through the endpoint: taken before, its requests would be served their outcomes."""
    taken: list[Any] = []
    monkeypatch.setattr(events, "ingest_files", lambda _, files: taken.append([*files]) or {})
    events.ingest_days(deployment, "2019-11-25", "2019-11-26")
    assert [[deployment.lake.imported / "2019-11-25.jsonl"]] == taken


def test_a_log_of_held_out_days_alone_has_no_history(deployment: Deployment) -> None:
    write_result(deployment.lake, "raw_log", {"history": [], "held_out": ["2019-11-24"]})
    with pytest.raises(ValueError, match=r"every imported day .2019-11-24. is held out"):
        events.imported_history(deployment)


def test_nothing_is_trained_from_a_lake_whose_records_are_not_all_accounted_for(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "conserved", lambda _: {"holds": False, "records": 3, "events": 2})
    with pytest.raises(RuntimeError, match="conservation does not hold, so that nothing is train"):
        model.build_point_in_time(deployment)
    assert not deployment.lake.training_set.exists()
