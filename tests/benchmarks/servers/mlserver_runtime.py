"""The bare function as an MLServer runtime, WORKERS behind one HTTP process.

`python -m tests.benchmarks.servers.mlserver_runtime ROOT PORT CHAMPION WORKERS`; with 0 workers the
model runs in the HTTP process. It is reached by a custom handler that takes the same JSON as the
others and spares it the tensors of the inference protocol. Runs in an environment of its own.
"""

import asyncio
import sys
import tempfile
from typing import Any

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.handlers import custom_handler
from mlserver.settings import ModelParameters

from serving.isolation import choose_ports
from tests.benchmarks.servers.bare import Bare


class Clicks(MLModel):
    """Scores of a request's candidates."""

    async def load(self) -> bool:
        parameters = self.settings.parameters
        assert parameters is not None and parameters.extra is not None
        self._bare = Bare(parameters.extra["root"], parameters.extra["champion"], "onnx")
        return True

    @custom_handler(rest_path="/readyz", rest_method="GET")
    async def readyz(self) -> dict[str, bool]:
        return {"ready": True}

    @custom_handler(rest_path="/clicks/v1/predict")
    async def score(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self._bare.answer(body)


async def main(root: str, port: str, champion: str, workers: str) -> None:
    """Serve until ended."""
    ports = choose_ports("127.0.0.1", int(port))
    with tempfile.TemporaryDirectory() as place:
        settings = Settings(
            host="127.0.0.1", http_port=ports.http, grpc_port=ports.fallback_grpc, debug=False,
            parallel_workers=int(workers), metrics_endpoint=None, metrics_dir=place,
            environments_dir=place,
        )  # fmt: skip
        model = ModelSettings(
            name="clicks",
            implementation="tests.benchmarks.servers.mlserver_runtime.Clicks",
            parameters=ModelParameters(extra={"root": root, "champion": champion}),
        )
        await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
