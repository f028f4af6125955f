"""Weights beside a graph, and a warm start from them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

WEIGHTS = "weights.npz"
"""Member of a bundle: a module's parameters and buffers by name, plain arrays without pickles."""


def write_weights(model: nn.Module, folder: Path) -> None:
    """Write the state of a module into `folder`."""
    np.savez(folder / WEIGHTS, **{n: t.cpu().numpy() for n, t in model.state_dict().items()})


def warm_state(folder: Path, model: nn.Module) -> dict[str, Tensor]:
    """The state with which `model` answers as the module beside the graph in `folder` did.

    Open the bundle first. An id that only `model` knows begins where the row out of vocabulary is.
    ValueError naming what the bundle lacks or holds in another shape.
    """
    mend = "train with --no-warm-start"
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder}: the champion's bundle holds no {WEIGHTS}: {mend}")
    with np.load(folder / WEIGHTS, allow_pickle=False) as held:
        theirs = {name: torch.from_numpy(held[name]) for name in held.files}
    own = model.state_dict()
    if differ := sorted(
        {name for name in own if name in theirs and own[name].shape != theirs[name].shape}
        | set(own) ^ set(theirs)
    ):
        raise ValueError(f"champion: {differ[0]} is missing or of another shape: {mend}")
    for name in own:
        if not name.endswith(".row"):
            continue
        table = name.removesuffix("row") + "table.weight"
        outside = len(theirs[name])
        new = (theirs[name] == outside) & (own[name] != outside)
        theirs[table][:outside][new] = theirs[table][outside]
        theirs[name] = torch.where(new, own[name], theirs[name])
    return theirs
