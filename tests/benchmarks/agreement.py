"""Whether two engines computed the same features."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tests.benchmarks.definitions import benchmark_use_case

FLOATING = ("sum", "mean")
TOLERANCE = 1e-6
"""How far a peer's sums of floats may lie from ours, which are exact; all else is compared by
`==`."""


def disagreements(ours: Path, theirs: Path) -> list[str]:
    """One line for each feature that differs, none when the two training sets say the same."""
    names = benchmark_use_case().feature_names
    left, right = (pq.read_table(path).sort_by("label") for path in (ours, theirs))
    if not left["label"].equals(right["label"]):
        return [f"{left.num_rows} labels, not {right.num_rows}, or others"]
    found: list[str] = []
    for name in names:
        a, b = left[name].to_numpy(), right[name].to_numpy()
        loose = name.split("_")[1] in FLOATING
        same = np.abs(a - b) <= TOLERANCE if loose else a == b
        if not same.all():
            at = int(np.argmin(same))
            found.append(f"{name}: {int((~same).sum())} rows, first {a[at]!r}, not {b[at]!r}")
    return found
