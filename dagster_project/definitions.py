"""The code location: everything under `defs/`, joined into the loop."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """Assets, checks, jobs, schedules and sensors of the deployment that the environment names."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
