"""What the prediction log keeps of an answered request."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_contracts.clock import parse_time
from data_contracts.online import view_name
from serving.query import Query, Scored


def record_of(
    query: Query,
    scored: Scored,
    names: Sequence[str],
    failure: str | None,
    chosen: Mapping[str, Any] | None,
    total_ms: float,
) -> dict[str, Any]:
    """The record of a query that `scored` answers.

    `names`: the prediction ids of its rows; `failure`: why the arm of its unit did not answer;
    `chosen`: what there is to keep of the order.
    """
    request, plan = query.request, query.snapshot.plan
    arm, served = scored.arm, scored.served
    reading = arm.reader.reading
    return {
        "use_case": query.use_case,
        "request_id": request.request_id,
        "prediction_ids": names,
        "arrival": query.arrival,
        "event_time": parse_time(request.event_time) if request.event_time else None,
        "q_asked": query.q_asked,
        "q": served.q,
        "inputs": query.rows,
        "feature_names": arm.bundle.manifest.features,
        "definitions": arm.definitions,
        "features": served.values.tolist(),
        "views": [view_name(group) for group in reading.groups],
        "view_of": reading.view_of(),
        "seqs": served.seqs.tolist(),
        "as_ofs": served.as_ofs,
        "defaults_used": served.defaults_used,
        "store_failed": served.store_failed,
        "scores": scored.scores.values.tolist(),
        "model": arm.bundle.name,
        "version": arm.bundle.version,
        "bundle": arm.bundle.digest,
        "latency_ms": {**scored.spent_ms, "total": round(total_ms, 3)},
        "epoch": plan.epoch,
        "release": plan.release if query.assigned else 0,
        "canary_bps": plan.canary_bps if query.assigned else 0,
        "unit": query.unit,
        "arm": query.assigned,
        "off_policy": query.version is not None,
        "fallback": failure,
        "choice": chosen,
    }
