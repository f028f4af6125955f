"""What somebody writes who has a model and features: FastAPI around a function, and no more.

`python -m tests.benchmarks.servers.bare ROOT PORT CHAMPION onnx|eager`. No checks, assignment, log,
batches or deadlines; the features are read by our server's reader, a request at a time.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request

from data_contracts.clock import SystemClock
from data_contracts.encoding import encode_dense, encode_ids
from data_contracts.lake import Lake
from data_contracts.rollout import Target
from data_contracts.use_case import load_use_case
from serving.features import FeatureReader, Served
from serving.loader import load
from serving.scorer import Model

Rows = Sequence[Mapping[str, Any]]


class Bare:
    """Features and a model behind one coroutine.

    `champion`: `VERSION:DIGEST` of a bundle that is kept under `root`: no registry is asked.
    """

    def __init__(self, root: str, champion: str, engine: str) -> None:
        self.use_case = load_use_case("clicks")
        lake = Lake(Path(root), self.use_case.name)
        bundle = load(self.use_case, lake, Target(*champion.split(":")))
        self.reader = FeatureReader(self.use_case, lake, bundle.manifest.feature_digests)
        model = Model(bundle, 1)
        self._run = model.run if engine == "onnx" else _eager(lake, bundle)
        self.clock = SystemClock()
        self._thread = ThreadPoolExecutor(1)

    def rows(self, body: Mapping[str, Any]) -> Rows:
        """The inputs of each candidate."""
        return [
            {**dict.fromkeys(self.use_case.inputs), "user_id": body["user_id"], **candidate}
            for candidate in body["candidates"]
        ]

    def encode(self, rows: Rows, served: Served) -> tuple[np.ndarray, np.ndarray]:
        """ids int64[rows, C] and dense float32[rows, D]."""
        spec = self.use_case.model
        ids = encode_ids(spec.categorical, rows, [served.q] * len(rows))
        return ids, encode_dense(spec.numeric, rows, served.values)

    async def encoded(self, body: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """As `encode`, of a request."""
        rows = self.rows(body)
        loop, now = asyncio.get_running_loop(), self.clock.now()
        read = loop.run_in_executor(self._thread, self.reader.read_now, rows, now)
        return self.encode(rows, await read)

    def score(self, ids: np.ndarray, dense: np.ndarray) -> list[float]:
        """The probabilities."""
        return self._run(ids, dense).tolist()

    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The scores of a request's candidates."""
        return {"scores": self.score(*await self.encoded(body))}


def _eager(lake: Lake, bundle: Any) -> Any:
    import torch

    from training.data import TrainingData, read_dataset
    from training.models.zoo import build_model
    from training.warm import warm_state

    use_case = load_use_case("clicks")
    torch.set_num_threads(1)
    data = TrainingData(read_dataset(use_case, lake), use_case.model)
    module = build_model(bundle.manifest.model, use_case.model, data.dataset.seen(use_case.model))
    module.load_state_dict(warm_state(bundle.folder, module))
    module.eval()

    def run(ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = module(torch.from_numpy(ids), torch.from_numpy(dense))
            return torch.sigmoid(logits).numpy()

    return run


def application(bare: Bare) -> FastAPI:
    """The application around it."""
    app = FastAPI()

    @app.get("/readyz")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/clicks/v1/predict")
    async def predict(request: Request) -> dict[str, Any]:
        return await bare.answer(await request.json())

    return app


def main(root: str, port: str, champion: str, engine: str) -> None:
    """Serve until ended."""
    uvicorn.run(application(Bare(root, champion, engine)), port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
