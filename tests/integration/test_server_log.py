"""What stays of what went wrong in a server, and what does not: anybody's data."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from data_contracts.clock import parse_time
from data_contracts.predictions import digest
from serving.app import build_app
from serving.settings import Settings
from tests.integration.asgi import Client
from tests.integration.test_serving import replica
from tests.integration.world import World, as_role, asked, build

LINE = {"time", "level", "logger", "message", "error", "at"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("lake"))


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
    with Client(build_app(Settings(root=world.root, clock="replay"))) as client:
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
