"""The bare function as a BentoML service: `python -m tests.benchmarks.servers.bento ROOT PORT …`.

`bentoml serve` with one worker, as for production; its access log is off, as everybody's is here.
Runs in an environment of its own.
"""

import json
import os
import sys
from typing import Any

import bentoml

from tests.benchmarks.servers.bare import Bare

GIVEN = "HEADRACE_BENCH"
"""Environment variable with what the service's process needs to know, JSON."""


@bentoml.service(name="clicks", workers=1, logging={"access": {"enabled": False}})
class Clicks:
    """Scores of a request's candidates."""

    def __init__(self) -> None:
        root, champion = json.loads(os.environ[GIVEN])
        self._bare = Bare(root, champion, "onnx")

    @bentoml.api(route="/clicks/v1/predict")
    async def predict(
        self, request_id: str, user_id: str, candidates: list[dict[str, Any]]
    ) -> dict[str, Any]:
        return await self._bare.answer({"user_id": user_id, "candidates": candidates})


def main(root: str, port: str, champion: str) -> None:
    """Serve until ended."""
    os.environ |= {GIVEN: json.dumps([root, champion]), "BENTOML_DO_NOT_TRACK": "True"}
    service = f"{__spec__.name}:Clicks"
    command = ["-m", "bentoml", "serve", service, "--port", port, "--host", "127.0.0.1"]
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main(*sys.argv[1:])
