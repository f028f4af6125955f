"""A client that lives a logged period again: predictions first, then what arrived, step by step."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx
import numpy as np

from data_contracts.clock import format_time, parse_time
from data_contracts.use_case import UseCase
from serving.retrying import passing, pause_s

_ATTEMPTS = 5
_EVENTS_PER_POST = 200
_CONCURRENCY = 8
"""Requests that are under way at once."""
_TIMEOUT_S = 60.0

Event = Mapping[str, Any]
"""A canonical event, JSON-ready."""


class ReplayFailed(RuntimeError):
    """The server did not take events, so the log is no longer what is replayed."""


@dataclass(frozen=True)
class ReplayResult:
    """What was sent and how it was answered."""

    requests: int
    errors: int
    """Predict requests that were not answered with 200."""
    first_error: str | None
    events: int
    refused: int
    """Events that the server refused as invalid."""
    steps: int
    p50_ms: float
    p99_ms: float
    """Latency of predict requests as the client saw it, with all attempts; NaN when there was
    none."""
    seconds: float
    landing: dict[str, int]
    """Landing file -> end of the last append in bytes."""


@dataclass
class _Step:
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    events: list[Event] = field(default_factory=list[Event])


def replay(
    url: str,
    key: str,
    use_case: UseCase,
    events: Iterable[Event],
    step_us: int,
    on_step: Callable[[int], None] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> ReplayResult:
    """Send `events` through the server at `url` in steps of `step_us` of event time.

    In a step first every request whose earliest row lies in it is predicted, then the events that
    arrived in it are collected, in order of arrival; when all is answered, `on_step` gets the
    step's end (µs) and may wait for the stream. `key` needs the roles predict, events and operate,
    the server the replay clock.
    Replayed again, the same version's predictions and the events stay as they are; those of another
    version are new predictions.
    Raises ReplayFailed when events cannot be delivered.
    """
    steps = _steps(use_case, events, step_us)
    player = _Player(url, key, use_case.name, on_progress)
    return asyncio.run(player.play(steps, on_step))


def _steps(use_case: UseCase, events: Iterable[Event], step_us: int) -> list[tuple[int, _Step]]:
    """(end of the step in µs, what is sent in it) in time order."""
    every = list(events)
    steps: dict[int, _Step] = {}
    for moment, event in _in_order(every, _arrival):
        steps.setdefault(moment // step_us, _Step()).events.append(event)
    requests: dict[str, dict[str, Any]] = {}
    for moment, event in _in_order(every, _happened):
        step = steps.setdefault(moment // step_us, _Step())
        if event["event_type"] != use_case.label.on:
            continue
        name = str(event.get(use_case.declared.request_field or "") or event["event_id"])
        if name not in requests:
            requests[name] = {
                "request_id": name,
                "event_time": format_time(moment),
                "candidates": [],
            }
            step.requests.append(requests[name])
        given = {n: event[n] for n in use_case.request_fields if event.get(n) is not None}
        requests[name]["candidates"].append(given)
    return [((index + 1) * step_us, steps[index]) for index in sorted(steps)]


def _in_order(events: list[Event], time: Callable[[Event], int]) -> list[tuple[int, Event]]:
    return sorted(((time(event), event) for event in events), key=lambda pair: pair[0])


def _happened(event: Event) -> int:
    return parse_time(event["event_time"])


def _arrival(event: Event) -> int:
    """When it reached the collector, as far as the log says; never before it happened."""
    stamp = event.get("arrived_at")
    return max(_happened(event), parse_time(stamp) if stamp else _happened(event))


class _Player:
    def __init__(
        self,
        url: str,
        key: str,
        use_case: str,
        on_progress: Callable[[str], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pause = pause
        self._client = httpx.AsyncClient(
            base_url=f"{url}/{use_case}/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=_TIMEOUT_S,
            limits=httpx.Limits(max_connections=_CONCURRENCY),
            transport=transport,
        )
        self._on_progress = on_progress
        self._latencies: list[float] = []
        self._errors: list[str] = []
        self._landing: dict[str, int] = {}
        self._refused = 0
        self._sent = 0

    async def play(
        self, steps: list[tuple[int, _Step]], on_step: Callable[[int], None] | None
    ) -> ReplayResult:
        started = time.monotonic()
        total = sum(len(step.requests) for _, step in steps)
        async with self._client:
            for end, step in steps:
                await self._predict_all(step.requests)
                for i in range(0, len(step.events), _EVENTS_PER_POST):
                    await self._collect(step.events[i : i + _EVENTS_PER_POST])
                if self._on_progress is not None:
                    done = len(self._latencies)
                    self._on_progress(f"{done:,} of {total:,} requests, {format_time(end)[:16]}")
                if on_step is not None:
                    on_step(end)
        return ReplayResult(
            requests=len(self._latencies),
            errors=len(self._errors),
            first_error=self._errors[0] if self._errors else None,
            events=self._sent,
            refused=self._refused,
            steps=len(steps),
            p50_ms=_quantile(self._latencies, 0.5),
            p99_ms=_quantile(self._latencies, 0.99),
            seconds=time.monotonic() - started,
            landing=self._landing,
        )

    async def _predict_all(self, requests: Sequence[Event]) -> None:
        left = iter(requests)

        async def one_after_another() -> None:
            for request in left:
                await self._predict(request)

        await asyncio.gather(*(one_after_another() for _ in range(_CONCURRENCY)))

    async def _predict(self, request: Event) -> None:
        started = time.monotonic()
        try:
            answer = await self._post("/predict", request)
            failure = None if answer.status_code == HTTPStatus.OK else answer.text
        except httpx.TransportError as error:
            failure = repr(error)
        self._latencies.append((time.monotonic() - started) * 1000)
        if failure is not None:
            self._errors.append(f"{request['request_id']}: {failure}")

    async def _collect(self, events: Sequence[Event]) -> None:
        """Post events; those that the server names as invalid are left out and counted."""
        now = format_time(max(map(_arrival, events)))
        answer = await self._post("/events", events, {"now": now})
        if answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY:
            invalid = {e["field"].partition(".")[0] for e in answer.json()["errors"]}
            good = [event for i, event in enumerate(events) if str(i) not in invalid]
            if len(good) == len(events):
                raise ReplayFailed(f"events refused as a whole: {answer.text}")
            self._refused += len(events) - len(good)
            if good:
                await self._collect(good)
            return
        if answer.status_code != HTTPStatus.ACCEPTED:
            raise ReplayFailed(f"{len(events)} events not taken: {answer.text}")
        found = answer.json()
        self._landing[found["file"]] = max(found["offset"], self._landing.get(found["file"], 0))
        self._sent += len(events)

    async def _post(
        self, path: str, body: Any, query: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The answer; sent again where another may follow soon, for all that the server says."""
        attempt = 0
        while True:
            attempt += 1
            answer = None
            try:
                answer = await self._client.post(path, json=body, params=query)
            except httpx.TransportError:
                if attempt == _ATTEMPTS:
                    raise
            wait = pause_s(attempt, answer)
            last = attempt == _ATTEMPTS or wait > _TIMEOUT_S
            if answer is not None and (last or not passing(answer)):
                return answer
            await self._pause(wait)


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if values else float("nan")
