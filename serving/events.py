"""`POST /{use_case}/v1/events`: events checked, stamped and on the disk before the answer."""

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from pydantic import BaseModel

from data_contracts.clock import Clock, ReplayClock, format_time, parse_time
from data_contracts.contract import Contract
from data_contracts.record import MAX_BYTES, Event, Refused, check_arrival, check_event
from serving.auth import Role
from serving.landing import LandingLog
from serving.problem import Problem, unprocessable

ARRIVED = "arrived_at"
QUOTES = "'\""

_log = logging.getLogger(__name__)

_JSON = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "timestamp": "string",
}


class EventsResponse(BaseModel):
    """What was appended, and where: the stream has it once it is past `offset` of `file`."""

    accepted: int
    file: str
    offset: int


def events_schema(contract: Contract, max_events: int) -> dict[str, Any]:
    """JSON schema of the body: one event of the contract, or a list of them."""
    event: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"type": _JSON[field.type], "description": field.description}
            for name, field in contract.fields.items()
        },
        "required": [name for name, field in contract.fields.items() if field.required],
    }
    many = {"type": "array", "items": event, "minItems": 1, "maxItems": max_events}
    return {"anyOf": [event, many]}


@dataclass
class Collector:
    """Takes events of one use case into the landing log."""

    contract: Contract
    clock: Clock
    log: LandingLog
    max_events: int
    accepted: int = 0
    refused: int = 0
    log_failures: int = 0

    async def collect(
        self, body: Any, roles: Collection[Role], at: str | None = None
    ) -> dict[str, Any]:
        """Append one event or a list, all or none (shape of the answer: EventsResponse).

        `at` is where a replayed log stands (role operate); the replay clock comes along.
        Problem 403 for an `at` that is not believed; 422 lists reasons by index, also of an
        arrival (role operate) that lies further ahead of the clock than the contract allows; 503
        when the log cannot be written.
        """
        values = cast(list[Any], body) if isinstance(body, list) else [body]
        if not 1 <= len(values) <= self.max_events:
            raise unprocessable([("body", f"{len(values)} events, 1 to {self.max_events} allowed")])
        lines = self._lines(values, "operate" in roles, self._stands(at, roles))
        try:
            position = await self.log.append(lines)
        except OSError as error:
            self.log_failures += 1
            _log.exception("%s: %d events not taken", self.log.path, len(lines))
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "the event log cannot be written: try again",
                headers={"Retry-After": "1"},
            ) from error
        self.accepted += len(lines)
        return {"accepted": len(lines), "file": position.file, "offset": position.offset}

    def _stands(self, at: str | None, roles: Collection[Role]) -> list[int]:
        if at is None:
            return []
        if "operate" not in roles or not isinstance(self.clock, ReplayClock):
            detail = "now: needs role operate and the clock 'replay': leave it out"
            raise Problem(HTTPStatus.FORBIDDEN, detail)
        try:
            return [parse_time(at)]
        except ValueError as error:
            raise unprocessable([("now", str(error))]) from None

    def _lines(self, values: list[Any], operate: bool, stands: list[int]) -> list[bytes]:
        errors: list[tuple[str, str]] = []
        events: list[tuple[int, dict[str, Any], Event]] = []
        for i, value in enumerate(values):
            if not isinstance(value, dict):
                errors.append((str(i), f"a JSON {type(value).__name__}, an object is needed"))
                continue
            said = cast(dict[str, Any], value)
            if not operate:
                said = {name: v for name, v in said.items() if name != ARRIVED}
            try:
                events.append((i, said, check_event(self.contract, said)))
            except Refused as refused:
                errors += _located(i, refused)
        now = self._now([*stands, *(event["event_time"] for _, _, event in events)], operate)
        lines: list[bytes] = []
        for i, said, event in events:
            arrived = event.get(ARRIVED)
            arrived = now if arrived is None else arrived
            stamped = {**said, ARRIVED: format_time(arrived)}
            line = json.dumps(stamped, separators=(",", ":")).encode()
            if len(line) > MAX_BYTES:
                errors.append((str(i), f"{len(line)} bytes, at most {MAX_BYTES} allowed"))
            ahead, allowed = arrived - now, self.contract.max_future_skew
            if ahead > allowed:
                reason = f"{ahead / 1e6:g} s ahead of the clock, {allowed / 1e6:g} s allowed"
                errors.append((f"{i}.{ARRIVED}", f"{reason}: leave it out"))
            try:
                check_arrival(self.contract, event, arrived)
            except Refused as refused:
                errors += _located(i, refused)
            lines.append(line)
        if errors:
            self.refused += len(values)
            raise unprocessable(errors)
        if isinstance(self.clock, ReplayClock) and operate:
            self.clock.advance(now)
        return lines

    def _now(self, times: list[int], operate: bool) -> int:
        """When these events arrive; a replayed log takes the clock along with it."""
        now = self.clock.now()
        if isinstance(self.clock, ReplayClock) and operate:
            return max([now, *times])
        return now


def _located(index: int, refused: Refused) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for reason in refused.reasons:
        field, _, said = reason.partition(": ")
        found.append((f"{index}.{field.strip(QUOTES)}", said))
    return found
