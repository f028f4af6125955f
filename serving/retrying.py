"""Whether the same request may be answered soon, and how long to leave the server alone until then.

Sending again is safe: a prediction's id follows from the request's id, and an event of a known
`event_id` is a duplicate.
"""

import random
from http import HTTPStatus

import httpx

from serving.problem import MEDIA_TYPE

_BASE_S, _MOST_S = 0.05, 2.0
_BUSY = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


def passing(answer: httpx.Response) -> bool:
    """Whether the same request may be answered soon; a proxy's own 500 is no problem document."""
    proxied = not answer.headers.get("content-type", "").startswith(MEDIA_TYPE)
    lost = answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR and proxied
    return lost or answer.status_code in _BUSY


def pause_s(attempt: int, answer: httpx.Response | None) -> float:
    """Seconds to wait after this attempt (from 1), which got `answer` or none: drawn at random
    below a bound that grows, beyond the `Retry-After` that it names (M. Brooker, Exponential
    Backoff And Jitter, AWS 2015)."""
    text = answer.headers.get("retry-after", "") if answer is not None else ""
    named = float(text) if text.isascii() and text.isdigit() else 0.0
    return named + random.uniform(0, min(_MOST_S, _BASE_S * 2**attempt))
