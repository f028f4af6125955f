"""The Open Inference Protocol v2 over HTTP with its binary tensor extension, as Triton speaks it.

A request goes the way of one to `/v1/predict`: a tensor per input field, an element per candidate.
https://github.com/kserve/open-inference-protocol and Triton's `extension_binary_data.md`.
"""

import json
import secrets
import struct
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, cast

import numpy as np
from fastapi import Response

from data_contracts.contract import Field
from serving.body import strict
from serving.problem import Problem

HEADER = "inference-header-content-length"
PLATFORM = "onnxruntime_onnx"
SCORE, PREDICTION, RANK = "score", "prediction_id", "rank"
_KINDS: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_FIELDS = {
    "string": "BYTES",
    "integer": "INT64",
    "number": "FP64",
    "boolean": "BOOL",
    "timestamp": "BYTES",
}
_OUTPUTS = {SCORE: "FP64", PREDICTION: "BYTES", RANK: "INT64"}
"""A candidate that a rule dropped has no score (null, NaN where binary); it, and every candidate
of a use case that chooses no order, has rank 0."""
_LENGTH = struct.Struct("<I")


def metadata(name: str, versions: list[str], fields: Mapping[str, Field]) -> dict[str, Any]:
    """The model's metadata: a tensor per input field; only keys that the contract requires have
    to be sent."""
    inputs = [
        {"name": field, "datatype": _FIELDS[held.type], "shape": [-1]}
        for field, held in fields.items()
    ]
    outputs = [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in _OUTPUTS.items()]
    return {
        "name": name,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
    }


def read_request(
    body: bytes, headers: Mapping[str, str], fields: Collection[str], most: int
) -> tuple[dict[str, Any], dict[str, bool]]:
    """(the body of `/v1/predict` that an inference request stands for, output that it wants ->
    whether binary), of tensors that are named like `fields` and have `most` elements at most.

    Problem 400 naming the tensor that is not what it says or no output, 422 for too many elements.
    """
    head, rest = _parts(body, headers)
    asked = strict(head, "the request")
    if not isinstance(asked, dict):
        raise _bad("the request is no JSON object")
    said = cast(dict[str, Any], asked)
    tensors = said.get("inputs")
    if not isinstance(tensors, list) or not tensors:
        raise _bad("inputs: none")
    columns: dict[str, list[Any]] = {}
    at = 0
    for tensor in cast(list[Any], tensors):
        name, values, size = _tensor(tensor, rest, at, most)
        if name not in fields or name in columns:
            why = "stands twice" if name in columns else f"name some of {', '.join(fields)}"
            raise _bad(f"input {name[:60]!r}: {why}")
        columns[name], at = values, at + size
    if at != len(rest):
        raise _bad(f"{len(rest) - at} bytes follow the last binary tensor")
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise _bad(f"inputs have {sorted(lengths)} elements: every tensor has one a candidate")
    identity = said.get("id") or secrets.token_hex(16)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"request_id": identity, "candidates": rows}, _wanted(said)


def written(
    answer: Mapping[str, Any], wanted: Mapping[str, bool]
) -> tuple[bytes, dict[str, str], str]:
    """(body, headers, media type) of the response with the outputs that are `wanted`."""
    predictions: list[dict[str, Any]] = answer["predictions"]
    found: dict[str, list[Any]] = {
        SCORE: [each["score"] for each in predictions],
        PREDICTION: [each["prediction_id"] for each in predictions],
        RANK: [each.get("rank") or 0 for each in predictions],
    }
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for name, binary in wanted.items():
        kind = _OUTPUTS[name]
        tensor: dict[str, Any] = {"name": name, "datatype": kind, "shape": [len(predictions)]}
        if binary:
            blobs.append(_packed(kind, found[name]))
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = found[name]
        outputs.append(tensor)
    head = json.dumps(
        {
            "model_name": answer["model"],
            "model_version": answer["version"],
            "id": answer["request_id"],
            "outputs": outputs,
        }
    ).encode()
    if not blobs:
        return head, {}, "application/json"
    return head + b"".join(blobs), {HEADER: str(len(head))}, "application/octet-stream"


def refusal(problem: Problem) -> Response:
    """The protocol's own form of an error."""
    return Response(
        json.dumps({"error": problem.detail}), problem.status, problem.headers, "application/json"
    )


def _parts(body: bytes, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
    text = headers.get(HEADER)
    if text is None:
        return body, b""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > len(body):
        raise _bad(f"{HEADER}: {text[:40]!r}: bytes of the JSON part, at most {len(body)}")
    return body[: int(text)], body[int(text) :]


def _tensor(tensor: Any, rest: bytes, at: int, most: int) -> tuple[str, list[Any], int]:
    """(name, values, bytes that it takes of the binary part from `at` on)."""
    if not isinstance(tensor, dict):
        raise _bad("inputs: not all of them are objects")
    said = cast(dict[str, Any], tensor)
    name, kind, shape = said.get("name"), said.get("datatype"), said.get("shape")
    if not isinstance(name, str) or kind not in (*_KINDS, "BYTES"):
        raise _bad(f"input {str(name)[:60]!r}: datatype {str(kind)[:20]!r}")
    rows = _rows(name, shape, most)
    size = _parameters(said).get("binary_data_size")
    if size is None:
        values = said.get("data")
        if not isinstance(values, list):
            raise _bad(f"input {name[:60]!r}: no data")
        flat = cast(list[Any], values)
        if any(isinstance(value, list) for value in flat):
            inner = [cast(list[Any], v) if isinstance(v, list) else [v] for v in flat]
            flat = [value for values in inner for value in values]
        if len(flat) != rows:
            raise _bad(f"input {name[:60]!r}: {len(flat)} elements, its shape says {rows}")
        return name, flat, 0
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest) - at:
        raise _bad(f"input {name[:60]!r}: binary_data_size {str(size)[:20]}: more than there is")
    return name, _unpacked(name, str(kind), rest[at : at + size], rows), size


def _rows(name: str, shape: Any, most: int) -> int:
    numbers: list[Any] = shape if issubclass(type(shape), list) else []
    good = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers)
    if not good or not (len(numbers) == 1 or (len(numbers) == 2 and numbers[1] == 1)):
        raise _bad(f"input {name[:60]!r}: shape {str(shape)[:60]}: [n] or [n, 1] with n > 0")
    if numbers[0] > most:
        detail = f"input {name[:60]!r}: {str(numbers[0])[:20]} candidates, at most {most} allowed"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    return int(numbers[0])


def _unpacked(name: str, kind: str, data: bytes, rows: int) -> list[Any]:
    if kind != "BYTES":
        dtype = _KINDS[kind]
        if len(data) != rows * dtype.itemsize:
            raise _bad(f"input {name[:60]!r}: {len(data)} bytes are not {rows} of {kind}")
        return np.frombuffer(data, dtype).tolist()
    values: list[str] = []
    at = 0
    while at < len(data) and len(values) < rows:
        if at + _LENGTH.size > len(data):
            break
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        try:
            values.append(data[at : at + length].decode())
        except UnicodeDecodeError as error:
            raise _bad(f"input {name[:60]!r}: element {len(values)} is no UTF-8: {error}") from None
        at += length
    if at != len(data) or len(values) != rows:
        raise _bad(f"input {name[:60]!r}: its bytes are not {rows} elements")
    return values


def _packed(kind: str, values: list[Any]) -> bytes:
    if kind in _KINDS:
        return np.asarray(values, _KINDS[kind]).tobytes()
    encoded = [str(value).encode() for value in values]
    return b"".join(_LENGTH.pack(len(each)) + each for each in encoded)


def _wanted(asked: Mapping[str, Any]) -> dict[str, bool]:
    """Output -> whether it goes out binary."""
    outputs, whole = asked.get("outputs"), bool(_parameters(asked).get("binary_data_output", False))
    if outputs is None:
        return {SCORE: whole}
    found: dict[str, bool] = {}
    for output in cast(list[Any], outputs) if isinstance(outputs, list) else [outputs]:
        name = cast(dict[str, Any], output).get("name") if isinstance(output, dict) else output
        if not isinstance(name, str) or name not in _OUTPUTS:
            raise _bad(f"output {str(name)[:60]!r}: name {SCORE}, {PREDICTION} or {RANK}")
        found[name] = bool(_parameters(output).get("binary_data", whole))
    return found


def _parameters(said: Any) -> Mapping[str, Any]:
    found = cast(dict[str, Any], said).get("parameters") if isinstance(said, dict) else None
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, detail)
