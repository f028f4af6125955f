"""The test rows as the champion takes them: its own columns and encoding, on the same rows."""

import numpy as np

from data_contracts.bundle import Manifest
from data_contracts.clock import format_time
from data_contracts.encoding import (
    HOUR_OF_DAY,
    Categorical,
    Numeric,
    encode_dense,
    encode_ids,
)
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of
from training.batches import Rows
from training.data import AT_ONCE, Dataset
from training.evaluate import read_split


class Incomparable(ValueError):
    """A version whose inputs the test rows do not hold."""


def known_rows(manifest: Manifest, dataset: Dataset) -> str | None:
    """That a version was fitted on rows which the dataset judges by; None where it was not."""
    if manifest.fitted_until < dataset.judged_from:
        return None
    until, since = (format_time(at) for at in (manifest.fitted_until, dataset.judged_from))
    return f"was fitted on rows up to {until}, and the test rows begin at {since}"


def rival_rows(
    use_case: UseCase, lake: Lake, delta_version: int, manifest: Manifest, labels: np.ndarray
) -> Rows:
    """The test rows of the training set at that version as the bundle of `manifest` takes them.

    `labels` float[n]: of the rows as they were scored, in their order. Raises Incomparable naming
    the features that are no longer declared, or otherwise than the bundle knows them, and the
    fields that the training set lacks.
    """
    declared, known = digests_of(use_case.groups), dict(manifest.feature_digests)
    if other := [name for name in manifest.features if declared.get(name) != known[name]]:
        raise Incomparable(f"takes {_some(other)}, not declared so any more")
    fields = [name for name, _ in (*manifest.categorical, *manifest.numeric)]
    fields = [name for name in dict.fromkeys(fields) if name != HOUR_OF_DAY]
    if gone := [name for name in fields if name not in use_case.contract.fields]:
        raise Incomparable(f"takes {_some(gone)}, no longer in the contract")
    wanted = [*manifest.features, *fields]
    table = read_split(use_case, lake, delta_version, "test", wanted, labels)
    categorical = [Categorical(*each) for each in manifest.categorical]
    numeric = [Numeric(*each) for each in manifest.numeric]
    ids, dense = [], []
    for part in table.to_batches(max_chunksize=AT_ONCE):
        rows = part.select(fields).to_pylist()
        features = np.column_stack([part[name].to_numpy() for name in manifest.features])
        ids.append(encode_ids(categorical, rows, part["q"].cast("int64").to_pylist()))
        dense.append(encode_dense(numeric, rows, features))
    return Rows(np.concatenate(ids), np.concatenate(dense), labels)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
