"""What a request asks: about which rows, and at which time."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from data_contracts.clock import Clock, ReplayClock, parse_time
from data_contracts.use_case import UseCase
from serving.auth import Role, demand
from serving.predict_body import Fields, PredictRequest
from serving.problem import Problem, unprocessable


def query_time(clock: Clock, request: PredictRequest, roles: Collection[Role]) -> int:
    """µs: the clock's now, or the event time of a replayed request; Problem 403 where that may not
    be said."""
    if request.event_time is None:
        return clock.now()
    demand(roles, "operate", "event_time")
    if not isinstance(clock, ReplayClock):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "event_time: this server runs on the system clock: start it with clock 'replay'",
        )
    return parse_time(request.event_time)


def rows_of(use_case: UseCase, request: PredictRequest) -> list[dict[str, Any]]:
    """The fields of each candidate; Problem 422 naming one without a required key."""
    reserved = PredictRequest.model_fields
    shared = dict.fromkeys(use_case.request_fields) | {
        name: value for name, value in vars(request).items() if name not in reserved
    }
    if request.context is not None:
        shared |= _given(request.context)
    rows: list[dict[str, Any]] = []
    missing: list[tuple[str, str]] = []
    for i, candidate in enumerate(request.candidates):
        row = shared | _given(candidate)
        rows.append(row)
        for name in use_case.identity:
            if row.get(name) is None and use_case.contract.fields[name].required:
                missing.append((f"candidates.{i}.{name}", "required"))
    if missing:
        raise unprocessable(missing)
    return rows


def _given(fields: Fields) -> dict[str, Any]:
    return {name: value for name, value in vars(fields).items() if value is not None}
