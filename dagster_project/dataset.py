"""Features for labels of your own by one call: `headrace dataset build`, from Python."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.deployment import Deployment
from dagster_project.stages.catalogue import build_own_dataset


def build_dataset(
    use_case: str,
    labels: str | Path,
    features: Sequence[str] = (),
    time: str = "event_time",
    root: str | Path = ".headrace",
    out: str | Path | None = None,
    as_known: bool = False,
) -> pa.Table:
    """The parquet or Delta table `labels` with the named features (all when none is named) of a use
    case, as they were at each row's `time`; written to the new folder `out` too if one is given.

    `as_known`: as they could be read online by then. Raises ValueError for a feature or column that
    is not there, for one of the wrong type, and for an `out` that exists.
    """
    with TemporaryDirectory(prefix="headrace-dataset-") as folder:
        to = Path(out).resolve() if out else Path(folder) / "rows"
        deployment = Deployment(use_case, Path(root))
        build_own_dataset(deployment, Path(labels).resolve(), features, time, to, as_known)
        return pq.read_table(to)
