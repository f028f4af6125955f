"""What the reader of the protocol refuses before it makes a candidate of anything."""

import json
from typing import Any

import pytest

from serving.inference import HEADER, read_request
from serving.problem import Problem

FIELDS = ("user_id", "clicked")
MOST = 10


def tensor(rows: int, name: str = "clicked", **changes: Any) -> dict[str, Any]:
    sized = {"binary_data_size": rows}
    return {"name": name, "datatype": "BOOL", "shape": [rows], "parameters": sized, **changes}


def read(*tensors: dict[str, Any], rest: bytes = b"", **said: Any) -> tuple[Any, Any]:
    head = json.dumps({"inputs": tensors, **said}).encode()
    return read_request(head + rest, {HEADER: str(len(head))}, FIELDS, MOST)


def test_as_many_candidates_as_allowed_are_read() -> None:
    body, wanted = read(tensor(MOST), rest=b"\1" * MOST, id="r")
    assert {"request_id": "r", "candidates": [{"clicked": True}] * MOST} == body
    assert {"score": False} == wanted


@pytest.mark.parametrize("rows", [MOST + 1, 1_048_000, 10**4000])
def test_more_candidates_than_allowed_are_refused_by_their_shape_alone(rows: int) -> None:
    with pytest.raises(Problem, match=r"'clicked': \d{2,20} candidates, at most 10") as refused:
        read(tensor(rows, parameters={"binary_data_size": 0}))
    assert 422 == refused.value.status


@pytest.mark.parametrize("name", ["stranger", "s" * 10_000])
def test_a_tensor_that_the_model_does_not_take_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(Problem, match=r"'s[a-z]{5,59}': name some of user_id, clicked") as refused:
        read(tensor(1, name), rest=b"\1")
    assert 400 == refused.value.status


@pytest.mark.parametrize("outputs", [[[]], [{}], {}, [{"name": []}], [{"name": {}}], "s", [None]])
def test_an_output_that_there_is_not_is_refused_before_there_is_an_answer(outputs: Any) -> None:
    with pytest.raises(Problem, match="name score, prediction_id or rank") as refused:
        read(tensor(1), rest=b"\1", outputs=outputs)
    assert 400 == refused.value.status


def test_outputs_are_binary_where_they_or_all_of_them_shall_be() -> None:
    outputs = ["score", {"name": "rank", "parameters": {"binary_data": False}}]
    _, wanted = read(tensor(1), rest=b"\1", outputs=outputs, parameters={"binary_data_output": 1})
    assert {"score": True, "rank": False} == wanted
