"""`POST /{use_case}/v1/predict`: candidates in, scores out, and a record of how they came about."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from data_contracts.clock import Clock, ReplayClock, format_time, parse_time
from data_contracts.encoding import encode_dense, encode_ids
from data_contracts.online import view_name
from data_contracts.predictions import PredictionLog, prediction_id
from data_contracts.record import check_value
from data_contracts.use_case import UseCase
from serving.auth import Role, demand
from serving.dimensions import DimensionReader
from serving.features import FeatureReader, Served
from serving.problem import Problem, unprocessable
from serving.scorer import Batcher, Model, ScoreFailed, Scores

_log = logging.getLogger(__name__)

_PYTHON = {"string": str, "integer": int, "number": float, "boolean": bool, "timestamp": int}


def _is_time(text: str) -> str:
    parse_time(text)
    return text


class Fields(BaseModel):
    """Input fields of a row; the subclass of a use case has those that its model takes."""

    model_config = ConfigDict(extra="forbid")


class PredictRequest(Fields):
    """Score candidates. A field is looked up in the candidate, then in context, then here."""

    request_id: Annotated[str, Field(min_length=1, max_length=128)]
    """The client's: sent again it gives the same prediction ids, from the same version."""
    event_time: Annotated[str, AfterValidator(_is_time)] | None = None
    """RFC 3339; the query time of a replayed request (role operate, replay clock)."""
    context: Fields | None = None
    candidates: list[Fields]


class Prediction(BaseModel):
    """One candidate's score and the state of the features behind it, by feature group."""

    prediction_id: str
    score: float
    state_seq: dict[str, int | None]
    """The micro-batch up to which the state holds events; null where there was no state."""
    features_age_s: dict[str, float | None]
    """q minus the state's as-of."""


class PredictResponse(BaseModel):
    """Scores in the order of the candidates."""

    request_id: str
    model: str
    version: str
    q: str
    """The query time of all features, RFC 3339."""
    predictions: list[Prediction]
    flags: dict[str, bool]
    """`defaults_used`: some key had no state; `store_failed`: the online store was not read."""


def request_model(use_case: UseCase, max_candidates: int) -> type[PredictRequest]:
    """The request of one use case: its inputs, each checked as the event contract says."""
    fields: dict[str, Any] = {}
    for name in use_case.inputs:
        declared = use_case.contract.fields[name]
        checked = BeforeValidator(partial(check_value, declared))
        kind = Annotated[_PYTHON[declared.type] | None, checked]
        fields[name] = (kind, Field(default=None, description=declared.description))
    row = create_model("Row", __base__=Fields, **fields)
    own = {k: v for k, v in fields.items() if k not in PredictRequest.model_fields}
    context: Any = (row | None, None)
    rows: Any = Annotated[list[row], Field(min_length=1, max_length=max_candidates)]
    return create_model(
        "PredictRequest",
        __base__=PredictRequest,
        context=context,
        candidates=(rows, ...),
        **own,
    )


@dataclass
class Predictor:
    """Answers predict requests of one use case with one model."""

    use_case: UseCase
    clock: Clock
    reader: FeatureReader
    dimensions: DimensionReader
    model: Model
    batcher: Batcher
    log: PredictionLog
    timeout_ms: int
    definitions: str
    """Digest over the model's features, by which a record tells what was served."""
    answered: int = 0
    log_failures: int = 0
    """Answers whose record the prediction log refused."""

    async def answer(self, request: PredictRequest, roles: Collection[Role]) -> dict[str, Any]:
        """The response to one request (shape: PredictResponse); Problem where there is none."""
        arrival, started = time.time_ns() // 1000, time.monotonic()
        asked = self._query_time(request, roles)
        rows = await self.dimensions.filled(self._rows(request), asked)
        if isinstance(self.clock, ReplayClock):
            self.clock.advance(asked)
        keys = [{name: row[name] for name in self.use_case.entities} for row in rows]
        served = await self.reader.read(keys, asked)
        features_ms = (time.monotonic() - started) * 1000
        spec = self.use_case.model
        ids = encode_ids(spec.categorical, rows, [served.q] * len(rows))
        dense = encode_dense(spec.numeric, rows, served.values)
        scores = await self._score(ids, dense, started + self.timeout_ms / 1000)
        bundle = self.model.bundle
        names = [
            prediction_id(self.use_case.name, bundle.version, request.request_id, i)
            for i in range(len(rows))
        ]
        self.answered += 1
        latency = {
            "features": round(features_ms, 3),
            "queue": round(scores.queue_ms, 3),
            "model": round(scores.model_ms, 3),
            "total": round((time.monotonic() - started) * 1000, 3),
        }
        self._record(
            {
                "use_case": self.use_case.name,
                "request_id": request.request_id,
                "prediction_ids": names,
                "arrival": arrival,
                "event_time": parse_time(request.event_time) if request.event_time else None,
                "q_asked": asked,
                "q": served.q,
                "inputs": rows,
                "feature_names": bundle.manifest.features,
                "definitions": self.definitions,
                "features": served.values.tolist(),
                "views": [view_name(group) for group in self.reader.reading.groups],
                "view_of": self.reader.reading.view_of(),
                "seqs": served.seqs.tolist(),
                "as_ofs": served.as_ofs,
                "defaults_used": served.defaults_used,
                "store_failed": served.store_failed,
                "scores": scores.values.tolist(),
                "model": bundle.name,
                "version": bundle.version,
                "bundle": bundle.digest,
                "latency_ms": latency,
            }
        )
        return self._response(request, names, served, scores)

    def _query_time(self, request: PredictRequest, roles: Collection[Role]) -> int:
        if request.event_time is None:
            return self.clock.now()
        demand(roles, "operate", "event_time")
        if not isinstance(self.clock, ReplayClock):
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "event_time: this server runs on the system clock: start it with clock 'replay'",
            )
        return parse_time(request.event_time)

    def _rows(self, request: PredictRequest) -> list[dict[str, Any]]:
        """The inputs of each row; Problem 422 naming a candidate without a required key."""
        reserved = PredictRequest.model_fields
        shared = dict.fromkeys(self.use_case.inputs) | {
            name: value for name, value in vars(request).items() if name not in reserved
        }
        if request.context is not None:
            shared |= _given(request.context)
        rows: list[dict[str, Any]] = []
        missing: list[tuple[str, str]] = []
        for i, candidate in enumerate(request.candidates):
            row = shared | _given(candidate)
            rows.append(row)
            for name in self.use_case.identity:
                if row.get(name) is None and self.use_case.contract.fields[name].required:
                    missing.append((f"candidates.{i}.{name}", "required"))
        if missing:
            raise unprocessable(missing)
        return rows

    async def _score(self, ids: Any, dense: Any, deadline: float) -> Scores:
        try:
            return await self.batcher.score(ids, dense, deadline)
        except TimeoutError as error:
            detail = f"{error}: {self.timeout_ms} ms: send less at once, or try again"
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"}
            ) from None
        except ScoreFailed as error:
            raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error

    def _record(self, record: Mapping[str, Any]) -> None:
        try:
            self.log.append(record)
        except OSError:
            # The answer stands without its record; the next record's number shows the gap.
            self.log_failures += 1
            _log.exception("prediction log: %s is not recorded", record["request_id"])

    def _response(
        self, request: PredictRequest, names: list[str], served: Served, scores: Scores
    ) -> dict[str, Any]:
        groups = [group.name for group in self.reader.reading.groups]
        predictions: list[dict[str, Any]] = []
        for name, score, seqs, as_ofs in zip(
            names, scores.values.tolist(), served.seqs.tolist(), served.as_ofs, strict=True
        ):
            known = _oldest(groups, [seq or None for seq in seqs])
            ages = {
                group: None if as_of is None else (served.q - as_of) / 1e6
                for group, as_of in _oldest(groups, as_ofs).items()
            }
            predictions.append(
                {
                    "prediction_id": name,
                    "score": score,
                    "state_seq": known,
                    "features_age_s": ages,
                }
            )
        return {
            "request_id": request.request_id,
            "model": self.model.bundle.name,
            "version": self.model.bundle.version,
            "q": format_time(served.q),
            "predictions": predictions,
            "flags": {"defaults_used": served.defaults_used, "store_failed": served.store_failed},
        }


def _oldest(groups: Sequence[str], stamps: Sequence[int | None]) -> dict[str, int | None]:
    """Group -> the lowest stamp of the views it was read from; None where one has none."""
    found: dict[str, int | None] = {}
    for group, stamp in zip(groups, stamps, strict=True):
        held = found.get(group, stamp)
        found[group] = None if held is None or stamp is None else min(held, stamp)
    return found


def _given(fields: Fields) -> dict[str, Any]:
    return {name: value for name, value in vars(fields).items() if value is not None}
