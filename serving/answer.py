"""What a client is told of an answer: scores in the order of the candidates, and what stood behind
each."""

from collections.abc import Sequence
from typing import Any

from data_contracts.clock import format_time
from serving.arms import Arm
from serving.features import Served


def response(
    request_id: str, names: Sequence[str], arm: Arm, served: Served, scores: Sequence[float]
) -> dict[str, Any]:
    """The response (shape: PredictResponse) to a request whose rows have these prediction ids."""
    groups = [group.name for group in arm.reader.reading.groups]
    stamps: list[tuple[int, ...]] = [tuple(row) for row in served.seqs.tolist()]
    known: dict[tuple[int, ...], dict[str, int | None]] = {}
    aged: dict[tuple[int | None, ...], dict[str, float | None]] = {}
    predictions: list[dict[str, Any]] = []
    for name, score, seqs, as_ofs in zip(
        names, scores, stamps, map(tuple, served.as_ofs),
        strict=True,
    ):  # fmt: skip
        # Rows of one request mostly read states of the same few stamps.
        if seqs not in known:
            known[seqs] = oldest(groups, [seq or None for seq in seqs])
        if as_ofs not in aged:
            aged[as_ofs] = {
                group: None if as_of is None else (served.q - as_of) / 1e6
                for group, as_of in oldest(groups, as_ofs).items()
            }
        predictions.append(
            {
                "prediction_id": name,
                "score": score,
                "state_seq": known[seqs],
                "features_age_s": aged[as_ofs],
            }
        )
    return {
        "request_id": request_id,
        "model": arm.bundle.name,
        "version": arm.bundle.version,
        "q": format_time(served.q),
        "predictions": predictions,
        "flags": {"defaults_used": served.defaults_used, "store_failed": served.store_failed},
    }


def oldest(groups: Sequence[str], stamps: Sequence[int | None]) -> dict[str, int | None]:
    """Group -> the lowest stamp of the views it was read from; None where one has none."""
    found: dict[str, int | None] = {}
    for group, stamp in zip(groups, stamps, strict=True):
        held = found.get(group, stamp)
        found[group] = None if held is None or stamp is None else min(held, stamp)
    return found
