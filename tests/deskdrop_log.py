"""The Deskdrop log, which is not part of the project: the folder that DESKDROP_LOG names."""

import os
from pathlib import Path

import pytest

LOG = Path(os.environ.get("DESKDROP_LOG", ""))
ARCHIVE = LOG / "users_interactions.csv.zip"


def demand_log() -> Path:
    """The folder of the log; the test that asks is skipped where there is none."""
    if not ARCHIVE.is_file():
        pytest.skip(f"DESKDROP_LOG names no folder that holds {ARCHIVE.name}")
    return LOG
