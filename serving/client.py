"""A client of a served use case: what was not answered is sent again until its deadline."""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from serving.events import EventsResponse
from serving.predict_body import PredictResponse
from serving.retrying import passing, pause_s

Result = TypeVar("Result")


class Refused(RuntimeError):
    """The server's last word on a request: its status, and which fields are wrong and why."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, str]]) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.errors = errors


class Unanswered(TimeoutError):
    """No answer by the deadline; it may have been given and lost, so ask with the same id."""


class Client:
    """`with Client(url, key, "clicks") as client: client.predict([{"item_id": "i1"}])`.

    What was not answered is sent again (`retrying.py`). Requests are made by an event loop in a
    thread of its own, where a time limit holds for an attempt as a whole: sockets know one for each
    read, within which a server that trickles never stops.
    """

    def __init__(
        self,
        url: str,
        key: str,
        use_case: str,
        deadline_s: float = 10.0,
        attempt_s: float = 2.5,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`deadline_s` is of a call with all its attempts, `attempt_s` of one of them."""
        self._deadline_s = deadline_s
        self._attempt_s = attempt_s
        self._pause = pause
        self._http = httpx.AsyncClient(
            base_url=f"{url.rstrip('/')}/{use_case}/v1",
            headers={"Authorization": f"Bearer {key}"},
            transport=transport,
            timeout=None,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._run(self._http.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def predict(
        self,
        candidates: Iterable[Mapping[str, Any]],
        *,
        request_id: str | None = None,
        deadline_s: float | None = None,
        **shared: Any,
    ) -> PredictResponse:
        """Scores of `candidates`, in their order; `shared`: fields of every candidate, `context`.

        Give `request_id` where a later process may ask again: same id, same predictions. Raises
        Refused or Unanswered.
        """
        name = request_id or uuid.uuid4().hex
        body = {"request_id": name, **shared, "candidates": list(candidates)}
        return PredictResponse.model_validate_json(self._asked("/predict", body, deadline_s))

    def events(
        self, events: Iterable[Mapping[str, Any]], *, deadline_s: float | None = None
    ) -> EventsResponse:
        """Collect `events`, all or none; they are on the server's disk when this returns.

        Raises Refused or Unanswered.
        """
        return EventsResponse.model_validate_json(self._asked("/events", list(events), deadline_s))

    def _asked(self, path: str, body: Any, deadline_s: float | None) -> bytes:
        end = time.monotonic() + (self._deadline_s if deadline_s is None else deadline_s)
        attempt = 0
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise Unanswered(f"{path}: no answer after {attempt} attempts: try again later")
            within = min(left, self._attempt_s)
            headers = {"X-Deadline-Ms": str(max(1, int(within * 1000)))}
            answer, failure = None, ""
            try:
                answer = self._run(self._sent(path, body, headers, within))
            except (httpx.TransportError, TimeoutError) as error:
                failure = repr(error)
            if answer is not None and answer.is_success:
                return answer.content
            if answer is not None and not passing(answer):
                raise _refused(answer)
            attempt += 1
            wait = pause_s(attempt, answer)
            if time.monotonic() + wait >= end:
                if answer is not None:
                    raise _refused(answer)
                raise Unanswered(f"{path}: no answer after {attempt} attempts: {failure}")
            self._pause(wait)

    async def _sent(
        self, path: str, body: Any, headers: Mapping[str, str], within: float
    ) -> httpx.Response:
        async with asyncio.timeout(within):
            return await self._http.post(path, json=body, headers=headers)

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of a coroutine on the client's own loop."""
        under_way = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return under_way.result()
        finally:
            under_way.cancel()


def _refused(answer: httpx.Response) -> Refused:
    try:
        said = answer.json()
        return Refused(answer.status_code, said["detail"], said.get("errors", []))
    except (ValueError, KeyError, TypeError):
        return Refused(answer.status_code, answer.text[:200] or answer.reason_phrase, [])
