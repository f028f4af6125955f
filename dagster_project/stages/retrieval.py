"""Items for a user by the towers of a registered version."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dagster_project.deployment import Deployment
from dagster_project.stages.models import find_version
from data_contracts.bundle import open_bundle
from training.retrieval import open_towers, top_items
from training.variants import check_declared


def retrieve(
    deployment: Deployment, number: str, user: str, top: int, out: Path | None
) -> dict[str, Any]:
    """The `top` items of the training set for a user, best first, each with its logit; see
    `top_items`. With `out` all vectors are written there, as `.npz`."""
    use_case, lake = deployment.use_case, deployment.lake
    registry, version = find_version(deployment, number)
    with tempfile.TemporaryDirectory() as home:
        folder = registry.download(version, Path(home))
        manifest = open_bundle(folder, version.digest)
        check_declared(use_case, manifest)
        best, vectors = top_items(use_case, lake, open_towers(folder, manifest), user, top)
    if out is not None:
        with out.open("wb") as file:
            np.savez(file, item=vectors["item"], vectors=vectors["vectors"], user=vectors["user"])
    items = [{"item": item, "logit": logit} for item, logit in best]
    return {"version": number, "user": user, "of": len(vectors["item"]), "items": items}
