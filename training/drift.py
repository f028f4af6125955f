"""Drift of inputs and scores between two periods: Evidently's only file.

Evidently's default tests alarm without any drift, so each column's threshold is drawn from
permutations of the two samples themselves.
"""

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

METHOD = "wasserstein"
"""First Wasserstein distance in standard deviations of the reference."""
LEAST = 0.1
"""A smaller distance is no drift, however sure: on large samples everything differs a little."""
MAX_ROWS = 5_000
PERMUTATIONS = 300
FALSE_ALARMS = 0.01
"""Share of undrifted columns that are expected to alarm."""


@dataclass(frozen=True)
class ColumnDrift:
    """How far a column moved and from where on that is called drift."""

    distance: float
    threshold: float


@dataclass(frozen=True)
class DriftResult:
    """What a drift report found."""

    share: float
    """Share of the compared columns that drifted; 0 where none could be compared."""
    drifted: Mapping[str, ColumnDrift]
    steady: Mapping[str, ColumnDrift]
    skipped: Mapping[str, str]
    """Column -> why it could not be compared."""
    html: Path
    json: Path


def drift_report(
    reference: pd.DataFrame, current: pd.DataFrame, folder: Path, seed: int = 0
) -> DriftResult:
    """Compare the numeric columns of both frames, write `drift.html` and `drift.json` to `folder`.

    At most `MAX_ROWS` rows of each, sampled by `seed`. Raises ValueError when a frame holds no row
    or they share no numeric column that can be compared.
    """
    for name, frame in (("reference", reference), ("current", current)):
        if frame.empty:
            raise ValueError(f"drift: {name} holds no rows: choose a longer period")
    rng = np.random.default_rng(seed)
    reference, current = (_sample(frame, rng) for frame in (reference, current))
    skipped = _skipped(reference, current)
    columns = [str(name) for name in reference.select_dtypes("number") if name not in skipped]
    if not columns:
        raise ValueError(f"drift: no numeric column can be compared: {skipped or 'none is shared'}")
    thresholds = {
        name: max(LEAST, _null_threshold(_values(reference, name), _values(current, name), rng))
        for name in columns
    }
    folder.mkdir(parents=True, exist_ok=True)
    html, summary = folder / "drift.html", folder / "drift.json"
    both = reference.filter(columns), current.filter(columns)
    distances = _evidently(*both, thresholds, html)
    found = {name: ColumnDrift(distances[name], thresholds[name]) for name in columns}
    drifted = {name: each for name, each in found.items() if each.distance >= each.threshold}
    steady = {name: each for name, each in found.items() if name not in drifted}
    result = DriftResult(len(drifted) / len(columns), drifted, steady, skipped, html, summary)
    content = {
        **asdict(result),
        "html": html.name,
        "json": summary.name,
        "rows": {"reference": len(reference), "current": len(current)},
    }
    summary.write_text(json.dumps(content, indent=1))
    return result


def _sample(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    sample = frame.sample(min(len(frame), MAX_ROWS), random_state=rng).reset_index(drop=True)
    return sample.replace([np.inf, -np.inf], np.nan)


def _values(frame: pd.DataFrame, name: str) -> np.ndarray:
    """The known values of a column as float64."""
    return frame[name].dropna().to_numpy(np.float64)


def _skipped(reference: pd.DataFrame, current: pd.DataFrame) -> dict[str, str]:
    skipped = {}
    for name in reference.select_dtypes("number"):
        if name not in current:
            skipped[name] = "not in the current rows"
            continue
        both = (_values(reference, name), _values(current, name))
        if not all(map(len, both)):
            skipped[name] = "without any finite value"
        elif len(np.unique(np.concatenate(both))) == 1:
            skipped[name] = "the same value in every row"
    return skipped


def _null_threshold(reference: np.ndarray, current: np.ndarray, rng: np.random.Generator) -> float:
    """The distance that two samples of one population of these sizes reach in 1 % of the draws."""
    pooled = np.concatenate([reference, current])
    norm = max(float(np.std(reference)), 0.001)
    order = np.argsort(pooled)
    gaps = np.diff(pooled[order])
    share = np.where(np.arange(len(pooled)) < len(reference), 1 / len(reference), 0.0)
    share -= np.where(np.arange(len(pooled)) >= len(reference), 1 / len(current), 0.0)
    distances = [
        float(np.abs(np.cumsum(rng.permutation(share))[:-1]) @ gaps) / norm
        for _ in range(PERMUTATIONS)
    ]
    return float(np.quantile(distances, 1 - FALSE_ALARMS))


def _evidently(
    reference: pd.DataFrame, current: pd.DataFrame, thresholds: Mapping[str, float], html: Path
) -> dict[str, float]:
    # Read when Evidently is imported, which also takes seconds: hence here and not above.
    os.environ.setdefault("DO_NOT_TRACK", "true")
    with warnings.catch_warnings():
        # Evidently and what it loads call deprecated names, which no one here can mend.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Correlations of a constant column, which the report draws but nothing here reads.
        warnings.filterwarnings("ignore", "invalid value encountered in divide", RuntimeWarning)
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

        columns = list(thresholds)
        definition = DataDefinition(numerical_columns=columns)
        preset = DataDriftPreset(
            columns=columns,
            per_column_method=dict.fromkeys(columns, METHOD),
            per_column_threshold=dict(thresholds),
        )
        snapshot = Report([preset]).run(
            reference_data=Dataset.from_pandas(reference, data_definition=definition),
            current_data=Dataset.from_pandas(current, data_definition=definition),
        )
        snapshot.save_html(str(html))
        return _distances(snapshot.dict())


def _distances(report: Mapping[str, Any]) -> dict[str, float]:
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in report["metrics"]
        if "column" in metric.get("config", {})
    }
