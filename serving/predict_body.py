"""The bodies of `/v1/predict`: what a use case's requests and responses hold."""

from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from data_contracts.clock import parse_time
from data_contracts.record import check_value
from data_contracts.use_case import UseCase

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
    score: float | None
    """Null where a rule dropped the candidate."""
    state_seq: dict[str, int | None]
    """The micro-batch up to which the state holds events; null where there was no state."""
    features_age_s: dict[str, float | None]
    """q minus the state's as-of."""
    rank: int | None = None
    """The place at which to show it, from 1, where the use case declares how that is chosen."""
    dropped_by: str | None = None
    """The rule by which it must not be shown; no model was asked about it."""


class Explained(BaseModel):
    """What stood behind one candidate's score."""

    prediction_id: str
    features: dict[str, float]
    """The values that the model was given, by feature."""
    inputs: dict[str, Any]
    attributions: dict[str, float] | None
    """Input -> log-odds that it adds to the score beside its default; 0 where it has its default,
    null for candidates beyond those that are explained."""


class Explanation(BaseModel):
    """Why the scores are what they are."""

    method: str
    candidates: list[Explained]
    """Those that were scored, in their order."""
    failed: str | None
    """Why there are no attributions."""


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
    rules_failed: list[str] = []
    """Rules that could not be asked, and so had no say in this answer."""
    explanation: Explanation | None = None
    """Where it was asked for by `explain=1`."""


def request_model(use_case: UseCase, max_candidates: int) -> type[PredictRequest]:
    """The request of one use case: its inputs, each checked as the event contract says."""
    fields: dict[str, Any] = {}
    for name in use_case.request_fields:
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
