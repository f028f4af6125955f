"""Steady traffic against a server, and what its prediction log says of it."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from data_contracts.lake import Lake
from data_contracts.predictions import SUFFIX, read_log
from data_contracts.rollout import bucket

USERS = 2_000


def write_bodies(path: Path) -> None:
    """Requests of users who come back, one a line."""
    lines = []
    for user in range(USERS):
        items = [{"item_id": f"i{(user + j) % 50}", "position": j + 1} for j in range(5)]
        body = {"request_id": "REQUEST", "user_id": f"u{user}", "candidates": items}
        lines.append(json.dumps(body))
    path.write_text("\n".join(lines))


class Traffic:
    """A load generator that runs for so long, beside whatever is done to the server."""

    def __init__(self, url: str, bodies: Path, mode: str, value: float, seconds: float) -> None:
        target = f"{url}/clicks/v1/predict"
        options = [target, str(bodies), mode, f"{value:g}", str(seconds)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.load", *options],
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def flows(self) -> bool:
        """Whether requests are still being sent."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Send no more."""
        self._process.terminate()

    def said(self) -> dict[str, Any]:
        """What came of the requests, once the last is answered."""
        told, _ = self._process.communicate()
        assert 0 == self._process.returncode
        return json.loads(told)


def records(lake: Lake) -> list[dict[str, Any]]:
    """Every answered request in the prediction log."""
    logs = [read_log(path).records for path in sorted(lake.prediction_log.glob(f"*{SUFFIX}"))]
    return [record for log in logs for record in log if "shadow" not in record]


def repeated_ids(found: list[dict[str, Any]]) -> list[str]:
    """Prediction ids that stand in more than one place."""
    counts = Counter(name for record in found for name in record["prediction_ids"])
    return [name for name, count in counts.items() if count > 1]


def strays(found: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    """(release, share, unit) of units that are in another arm than the plan of that share says, so
    that some would leave the candidate while it grows, or come back to it."""
    return [
        (record["release"], record["canary_bps"], record["unit"])
        for record in found
        if (record["arm"] == "candidate")
        != (bucket(f"{record['use_case']}\x1f{record['release']}", record["unit"])
            < record["canary_bps"])
    ]  # fmt: skip
