"""`explain=1`: the features behind a score, and what each input does to it."""

import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from data_contracts.bundle import GRAPH
from data_contracts.clock import SECOND
from data_contracts.encoding import bucket, encode_dense, encode_ids
from data_contracts.predictions import read_log
from serving.explain import MOST_CANDIDATES, explanation
from serving.predict_body import PredictResponse
from tests.integration.asgi import Client
from tests.integration.test_serving import last_record, replica
from tests.integration.world import NOW, World, as_role, asked

PATH = "/clicks/v1/predict?explain=1"


def explained(client: Client, world: World, **changes: Any) -> dict[str, Any]:
    answer = client.post(PATH, json=asked(**changes), headers=as_role(world.operate))
    assert 200 == answer.status_code, answer.text
    PredictResponse.model_validate(answer.json())
    return answer.json()


def test_a_linear_model_s_attributions_are_its_weights_times_the_way_from_the_defaults(
    client: Client, world: World
) -> None:
    answer = explained(client, world, candidates=[{"item_id": "i1", "position": 1}])
    (told,) = answer["explanation"]["candidates"]
    assert answer["predictions"][0]["prediction_id"] == told["prediction_id"]
    assert ("i1", 1) == (told["inputs"]["item_id"], told["inputs"]["position"])
    record = last_record(client)
    assert (
        dict(zip(record["feature_names"], record["features"][0], strict=True)) == told["features"]
    )

    graph = onnx.load(world.bundle / GRAPH).graph
    weights = {each.name: numpy_helper.to_array(each).ravel() for each in graph.initializer}
    defaults = np.concatenate([group.default_values() for group in world.use_case.groups])
    dense = dict(zip(world.use_case.feature_names, weights["b"], strict=False))
    found = told["attributions"]
    assert sum(value != 0 for value in found.values()) > 10
    for name, default in zip(world.use_case.feature_names, defaults, strict=True):
        way = told["features"][name] - default
        assert found[name] == pytest.approx(dense[name] * way, abs=1e-4), name
    position = weights["b"][len(defaults)]
    assert found["position"] == pytest.approx(position * (1 - 2.0), abs=1e-4)
    assert 0.0 == found["affinity"], "it was not given, so it has its default"
    item = [c.field for c in world.use_case.model.categorical].index("item_id")
    buckets = world.use_case.model.categorical[item].buckets
    expected = weights["a"][item] * bucket("item_id", "i1", buckets)
    assert found["item_id"] == pytest.approx(expected, abs=1e-4)


def test_an_explained_request_is_answered_and_logged_as_any_other_and_once(
    client: Client, world: World
) -> None:
    log = replica(client).predictor.log.path
    body = asked(request_id="plain", candidates=[{"item_id": f"i{i}"} for i in range(7)])
    headers = as_role(world.operate)
    plain = client.post("/clicks/v1/predict", json=body, headers=headers).json()
    before = len(read_log(log).records)
    answer = explained(client, world, **body)
    assert before + 1 == len(read_log(log).records)
    scores = [[row["score"] for row in said["predictions"]] for said in (plain, answer)]
    assert scores[0] == pytest.approx(scores[1])
    assert "explanation" not in plain
    told = answer["explanation"]["candidates"]
    assert 7 == len(told)
    best = sorted(range(7), key=lambda i: -scores[1][i])[:MOST_CANDIDATES]
    assert [i in best for i in range(7)] == [each["attributions"] is not None for each in told]


def test_reasons_need_role_operate_and_a_clear_wish(client: Client, world: World) -> None:
    reader = as_role(world.predict)
    body = asked()
    del body["event_time"]
    refused = client.post(PATH, json=body, headers=reader)
    assert (403, "explain needs the role 'operate', this key has predict") == (
        refused.status_code, refused.json()["detail"]
    )  # fmt: skip
    unclear = client.post(f"{PATH}0", json=body, headers=as_role(world.operate))
    assert (422, "explain") == (unclear.status_code, unclear.json()["errors"][0]["field"])
    assert 200 == client.post(PATH[:-1] + "0", json=body, headers=reader).status_code


def test_features_are_told_also_when_there_was_no_time_for_attributions(
    client: Client, world: World
) -> None:
    arm = replica(client).predictor.arms.now.champion
    row = {"user_id": "u1", "item_id": "i1", "position": 1, "affinity": None}
    served = arm.reader.read_now([row], NOW + SECOND)
    spec, said = world.use_case.model, [{"prediction_id": "p", "score": 0.5}]
    encoded = (
        encode_ids(spec.categorical, [row], [served.q]),
        encode_dense(spec.numeric, [row], served.values),
    )
    late = time.monotonic() - 1
    work = explanation(world.use_case, arm, served, [row], encoded, said, late)
    told = client.run(work)
    assert told["failed"]
    (candidate,) = told["candidates"]
    assert (None, 5.0) == (
        candidate["attributions"], candidate["features"]["user_impressions_10m"]
    )  # fmt: skip
