"""The time at which a request asks."""

from collections.abc import Collection
from http import HTTPStatus

from data_contracts.clock import Clock, ReplayClock, parse_time
from serving.auth import Role, demand
from serving.predict_body import PredictRequest
from serving.problem import Problem


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
