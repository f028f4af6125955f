"""What a version would have said of candidates that others answered about, from what was logged."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from data_contracts.bundle import BundleRefused, Manifest, check_inputs
from data_contracts.clock import format_time
from data_contracts.encoding import HOUR_OF_DAY, Categorical, Numeric, encode_dense, encode_ids
from data_contracts.views import joint_digest
from training.data import AT_ONCE
from training.engine import Scoring


def with_scores(predictions: pa.Table, manifest: Manifest, engine: Scoring) -> pa.Table:
    """The rows of `lake.predictions` with `own_score` of the bundle of `manifest`, and in its place
    `left_out`, why there is none.

    Beside `q`, `definitions`, `features` and `inputs` they need `label_q`. Only what was asked, and
    whose label row is, after all rows that the version was fitted on has a score: of others the
    version may know what came. Raises BundleRefused for a score that is no probability.
    """
    parts = [_scored(each, manifest, engine) for each in predictions.to_batches(AT_ONCE)]
    given = predictions.drop_columns(["features", "inputs", "definitions", "label_q"])
    scores = pa.chunked_array([score for score, _ in parts], pa.float64())
    reasons = pa.chunked_array([reason for _, reason in parts], pa.string())
    return given.append_column("own_score", scores).append_column("left_out", reasons)


def _scored(part: pa.RecordBatch, manifest: Manifest, engine: Scoring) -> tuple[pa.Array, pa.Array]:
    columns = ["q", "label_q", "definitions", "features", "inputs"]
    rows = part.select(columns).to_pylist()
    q = part["q"].cast(pa.int64()).to_pylist()
    label_q = part["label_q"].cast(pa.int64()).to_pylist()
    fitted, definitions = manifest.fitted_until, joint_digest(manifest.feature_digests)
    reasons: list[str | None] = []
    for row, *times in zip(rows, q, label_q, strict=True):
        row["inputs"] = json.loads(row["inputs"]) if row["inputs"] is not None else None
        known = min(time for time in times if time is not None) <= fitted
        reasons.append(_of_the_fit(fitted) if known else _unscorable(row, manifest, definitions))
    scores = np.full(len(rows), np.nan)
    if kept := [i for i, reason in enumerate(reasons) if reason is None]:
        inputs = [rows[i]["inputs"] for i in kept]
        features = np.array([rows[i]["features"] for i in kept], np.float64)
        ids = encode_ids(
            [Categorical(*each) for each in manifest.categorical], inputs, [q[i] for i in kept]
        )
        dense = encode_dense([Numeric(*each) for each in manifest.numeric], inputs, features)
        check_inputs(manifest, ids, dense)
        scores[kept] = engine.score(ids, dense)
        if not ((scores[kept] >= 0) & (scores[kept] <= 1)).all():
            raise BundleRefused(f"{manifest.model}: its graph gives a score that is no probability")
    return pa.array(scores, mask=np.isnan(scores)), pa.array(reasons, pa.string())


def _of_the_fit(until: int) -> str:
    return f"of the rows it was fitted on, up to {format_time(until)}"


def _unscorable(row: Mapping[str, Any], manifest: Manifest, definitions: str) -> str | None:
    if row["features"] is None or row["definitions"] != definitions:
        return "served under other definitions"
    if row["inputs"] is None:
        return "logged without inputs"
    fields = [name for name, _ in (*manifest.categorical, *manifest.numeric)]
    lacking = {*fields} - {HOUR_OF_DAY, *row["inputs"]}
    return f"logged without {', '.join(sorted(lacking))}" if lacking else None
