"""The bare function in Ray Serve: SHAPE follows ROOT PORT CHAMPION.

`defaults`: one deployment, Ray's own proxy, nothing set. `two`: features and scores in deployments
of their own, with the flags that measured best.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from serving.isolation import choose_ports, environment, write_proxy

FREE = {"num_cpus": 0.1}


def main(root: str, port: str, champion: str, shape: str) -> None:
    """Serve until ended."""
    folder = Path(tempfile.mkdtemp(prefix="hr-", dir="/tmp"))
    ports = choose_ports("127.0.0.1", int(port))
    if shape == "two":
        write_proxy(folder)
        os.environ.update(environment(folder, ports))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from fastapi import FastAPI, Request
    from ray import serve
    from ray.serve.config import HTTPOptions

    from tests.benchmarks.servers.bare import Bare

    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        object_store_memory=80 << 20, _temp_dir=str(folder / "r"),
    )  # fmt: skip
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=ports.http))
    app = FastAPI()

    @serve.deployment(ray_actor_options=FREE, max_ongoing_requests=1000)
    class Scorer:
        def __init__(self) -> None:
            self._bare = Bare(root, champion, "onnx")

        def score(self, ids: Any, dense: Any) -> list[float]:
            return self._bare.score(ids, dense)

    @serve.deployment(ray_actor_options=FREE, max_ongoing_requests=1000)
    @serve.ingress(app)
    class Ingress:
        def __init__(self, scorer: Any = None) -> None:
            self._bare, self._scorer = Bare(root, champion, "onnx"), scorer

        @app.get("/readyz")
        async def ready(self) -> dict[str, bool]:
            return {"ready": True}

        @app.post("/clicks/v1/predict")
        async def predict(self, request: Request) -> dict[str, Any]:
            body = await request.json()
            if self._scorer is None:
                return await self._bare.answer(body)
            return {"scores": await self._scorer.score.remote(*await self._bare.encoded(body))}

    bound = Ingress.bind(Scorer.bind()) if shape == "two" else Ingress.bind()  # type: ignore[attr-defined]
    serve.run(bound)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])


if __name__ == "__main__":
    main(*sys.argv[1:])
