"""Entities whose keys are integers, through both protocols to features, scores and log."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from data_contracts.predictions import SUFFIX, read_log
from data_contracts.use_case import load_use_case
from serving.running import RunningServer, running
from tests.integration.world import SEQ, World, build, patient

USER = 7
TEXT = """      - name: user_id
        logicalType: string
        required: true
        logicalTypeOptions: {minLength: 1, maxLength: 128}
"""
NUMBER = """      - name: user_id
        logicalType: integer
        required: true
        logicalTypeOptions: {minimum: 0, maximum: 9000000000000000000}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The use case, of users with numbers."""
    folder = tmp_path_factory.mktemp("declared") / "clicks"
    copytree(load_use_case("clicks").folder, folder)
    contract = folder / "events.odcs.yaml"
    said = contract.read_text()
    assert 1 == said.count(TEXT)
    contract.write_text(said.replace(TEXT, NUMBER))
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> World:
    return build(tmp_path_factory.mktemp("lake"), folder, str(USER))


@pytest.fixture(scope="module")
def server(world: World, folder: Path) -> Iterator[RunningServer]:
    settings = patient(world.root, use_case=str(folder), engine="plain", auth=False)
    with running(settings) as server:
        yield server


@pytest.fixture
def infer(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(f"{server.url.removeprefix('http://')}/clicks")
    yield client
    client.close()


def asked(user: np.ndarray, kind: str) -> list[triton.InferInput]:
    users = triton.InferInput("user_id", [len(user)], kind)
    users.set_data_from_numpy(user)
    items = triton.InferInput("item_id", [len(user)], "BYTES")
    items.set_data_from_numpy(np.array(["i1"] * len(user), np.object_))
    return [users, items]


def records(world: World) -> dict[str, dict[str, Any]]:
    logs = [read_log(path) for path in world.lake.prediction_log.glob(f"*{SUFFIX}")]
    return {record["request_id"]: record for log in logs for record in log.records}


def test_int64_keys_reach_features_scores_and_log(
    infer: triton.InferenceServerClient, world: World
) -> None:
    known, unknown = USER, 2**53 - 1
    users = np.array([known, unknown], np.int64)
    found = infer.infer("clicks", asked(users, "INT64"), request_id="numbers")
    record = records(world)["numbers"]
    assert [known, unknown] == [row["user_id"] for row in record["inputs"]]
    assert [[SEQ, SEQ], [0, SEQ]] == record["seqs"]
    assert np.allclose(record["scores"], found.as_numpy("score"), rtol=1e-5)
    assert record["scores"][0] != record["scores"][1]
    kinds = {
        each["name"]: each["datatype"] for each in infer.get_model_metadata("clicks")["inputs"]
    }
    assert ("INT64", "BYTES") == (kinds["user_id"], kinds["item_id"])


def test_a_key_of_another_type_than_declared_is_refused(
    infer: triton.InferenceServerClient,
) -> None:
    users = np.array(["7"], np.object_)
    with pytest.raises(InferenceServerException, match="user_id"):
        infer.infer("clicks", asked(users, "BYTES"))
