"""What a run records of a training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.bundle import Manifest
from data_contracts.evidence import Estimate


@dataclass(frozen=True)
class RunRecord:
    """What a run records beside its bundle about how a version came to be."""

    manifest: Manifest
    began_ms: int
    """When the training began, since 1970."""
    params: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Estimate]]
    """Model -> metric -> estimate on the test split."""
    curves: Mapping[str, Sequence[float]]
    """Figure per epoch, from epoch 0."""
    training_set: Path
    delta_version: int
    dataset_digest: str
    made_of: Mapping[str, int]
    """Table that the training set was built from -> its Delta version."""
    simulated: bool = False
    """Whether its rows are of no real user or item."""
    continued_from: str | None = None
    """The version whose weights the fit began with."""
    notes: Sequence[str] = ()
    """What was asked for or declared and could not be done."""
