"""What each stage of the loop found: one JSON file a stage under `lake.reports`."""

import json
from collections.abc import Mapping
from typing import Any

from data_contracts.atomic_write import write_atomically
from data_contracts.file_lock import locked
from data_contracts.lake import Lake


def write_result(lake: Lake, stage: str, result: Mapping[str, Any]) -> None:
    """Replace the result of `stage` (a noun such as `events`)."""
    said = json.dumps(result, indent=1, allow_nan=False)
    with locked(lake.reports / "results.lock"):
        write_atomically(lake.reports / f"{stage}.json", said)


COMMANDS = {
    "raw_log": "import", "events": "ingest", "conservation": "ingest", "tiles": "backfill",
    "training_set": "backfill", "online_state": "materialize", "model": "train",
    "predictions": "replay", "outcomes": "report", "drift": "report", "off_policy": "report",
    "exploration": "report", "slate_value": "models value",
    "parity_certificate": "parity", "proof": "demo", "maintenance": "maintain",
    "variants": "models variants",
}  # fmt: skip
"""The command that runs a stage."""


def read_result(lake: Lake, stage: str) -> dict[str, Any]:
    """The last result of `stage`; ValueError naming the command when it has not run."""
    path = lake.reports / f"{stage}.json"
    if not path.is_file():
        command = COMMANDS.get(stage, "demo")
        raise ValueError(f"{path}: stage {stage} has not run: run `headrace {command}`")
    return json.loads(path.read_text())
