"""Request bodies: strict JSON in, validated models out, their schemas for the API documents."""

import json
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeVar, cast

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from serving.problem import TOLD, Problem, too_large, unprocessable

Model = TypeVar("Model", bound=BaseModel)

_SHOWN = 64
"""Characters of a name that is no field of ours."""


async def read_json(request: Request, most: int | None = None) -> Any:
    """The JSON value of the body in UTF-8; Problem 400 for anything else, and for a name twice, 413
    for more than `most` bytes."""
    body = await request.body()
    if most is not None and len(body) > most:
        raise too_large(most)
    return strict(body, "body")


def strict(text: bytes, what: str) -> Any:
    """The JSON value of UTF-8 `text`; Problem 400 saying `what` is none, or has a name twice."""
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{what}: not JSON: {error}") from None


def validate(model: type[Model], value: Any) -> Model:
    """`value` as `model`; Problem 422 naming each wrong field, e.g. `candidates.3.item_id`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)[:TOLD]
        raise unprocessable(
            [(".".join(map(str, e["loc"])) or "body", _reason(e["msg"])) for e in found],
            error.error_count(),
        ) from None


def json_response(value: Mapping[str, Any], status: int = 200) -> Response:
    """`value` as a JSON response."""
    return Response(to_json(value), status, media_type="application/json")


def documented(schema: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI part of a route that says its body follows the JSON `schema`."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of `model` with every reference resolved, to stand inside a document."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in cast(list[Any], node)]
        if not isinstance(node, dict):
            return node
        found = cast(dict[str, Any], node)
        if "$ref" in found:
            return resolve(definitions[found["$ref"].rsplit("/", 1)[1]])
        return {name: resolve(value) for name, value in found.items()}

    return cast(dict[str, Any], resolve(schema))


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name, n in times.items() if n > 1)
        raise ValueError(f"{twice[:_SHOWN]!r} stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
