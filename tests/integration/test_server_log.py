"""What stays of what went wrong in a server, and what does not: anybody's data."""

import errno
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from data_contracts.clock import parse_time
from data_contracts.predictions import digest
from serving.app import build_app
from serving.controller import main as controller
from serving.registry import Registry
from serving.running import NotReady, running
from tests.integration.asgi import Client
from tests.integration.releases import Release
from tests.integration.test_serving import replica
from tests.integration.world import World, as_role, asked, patient

LINE = {"time", "level", "logger", "message", "error", "at"}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in folder.iterdir() for line in path.read_text().splitlines()]


def test_an_error_leaves_its_kind_and_place_under_the_root_and_names_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> Any:
        try:
            raise KeyError("anna")
        except KeyError as error:
            raise ValueError("user anna bought a fish") from error

    def refuse(record: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left", "/home/anna")

    key, path = as_role(world.operate), "/clicks/v1/predict"
    with Client(build_app(patient(world.root, clock="replay"))) as client:
        with monkeypatch.context() as broken:
            broken.setattr(replica(client).predictor.choices, "of", wrong)
            with pytest.raises(ValueError, match="anna"):
                client.post(path, json=asked(request_id="anna", user_id="anna"), headers=key)
        with monkeypatch.context() as full:
            full.setattr(replica(client).predictor.log, "append", refuse)
            assert 200 == client.post(path, json=asked(request_id="anna"), headers=key).status_code
    found = lines(world.lake.server_log)
    assert all({*line} == LINE and parse_time(line["time"]) for line in found)
    failed = next(line for line in found if line["logger"] == "serving.problem")
    assert ("ERROR", "POST /v1/predict failed", "ValueError after KeyError") == (
        failed["level"], failed["message"], failed["error"]
    )  # fmt: skip
    assert any(each.startswith("serving/predict.py:") for each in failed["at"])
    unlogged = next(line for line in found if line["logger"] == "serving.predict")
    assert (f"prediction log: {digest('anna')} is not recorded", "OSError ENOSPC") == (
        unlogged["message"], unlogged["error"]
    )  # fmt: skip
    assert "anna" not in json.dumps(found)


def test_what_a_release_did_stays_without_the_words_and_names_of_people(
    release: Release,
) -> None:
    release.ask("start", "2")
    release.store.ask("now", "anna", "abort", None, "anna saw a fish in it", False)
    release.settle()
    # The version is barred in anna's words now, which are what a move by hand is refused with.
    Registry(release.lake).set_alias("clicks", "shadow", "2")
    release.settle()
    answers = [request.answer for request in release.store.requests()]
    assert "is barred (aborted by anna: anna saw a fish in it)" in str(answers[-1])
    found = lines(release.lake.server_log)
    assert [
        "rollout: plan 1: steady",
        "rollout: plan 2: copies of 100 % of the requests",
        "rollout: plan 3: steady",
    ] == [line["message"] for line in found if line["logger"] == "serving.plans"]
    assert "anna" not in json.dumps(found)


def test_a_controller_that_ends_says_so_in_the_log_of_its_instance_each_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> Any:
        raise ValueError("user anna")

    monkeypatch.setattr("serving.controller.Registry", wrong)
    before = signal.getsignal(signal.SIGINT)
    given = ["--settings", patient(world.root).model_dump_json(), "--boot", "b1"]
    try:
        assert [1, 1] == [controller(given), controller(given)]
    finally:
        signal.signal(signal.SIGINT, before)
    text = (world.lake.server_log / "controller-b1.jsonl").read_text()
    said = ("serving.controller", "rollout: the controller ends", "ValueError")
    assert 2 * [said] == [
        (line["logger"], line["message"], line["error"])
        for line in map(json.loads, text.splitlines())
    ]
    assert "anna" not in text


def test_a_server_that_cannot_start_leaves_why_in_the_logs_of_instance_and_replica(
    tmp_path: Path,
) -> None:
    settings = patient(tmp_path, engine="plain")
    settings.lake().mlflow_artifacts.mkdir(parents=True)
    with pytest.raises(NotReady, match="no version has the alias champion"), running(settings):
        pass
    found = {
        (line["logger"], line["error"]): line["at"] for line in lines(settings.lake().server_log)
    }
    for logger in ("serving.instance", "serving.replica"):
        assert found[logger, "BundleRefused"][-1].startswith("serving/loader.py:")
