"""Weights beside a graph, and a warm start from them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data_contracts.bundle import Manifest
from data_contracts.declared_inputs import differing_input, inputs_of
from data_contracts.use_case import UseCase

_MEND = "train with --no-warm-start"
WEIGHTS = "weights.npz"
"""Member of a bundle: a module's parameters and buffers by name, plain arrays without pickles."""


class NotContinued(ValueError):
    """The champion's weights are those of another model than the one to be trained."""


def check_same_inputs(manifest: Manifest, use_case: UseCase) -> None:
    """NotContinued naming the first input in which champion and use case differ: weights know
    columns only by their place, so that those of other columns would be taken for theirs."""
    if differ := differing_input(manifest, inputs_of(use_case)):
        raise NotContinued(
            f"champion: takes {differ.theirs or 'no more inputs'} where the use case declares "
            f"{differ.own or 'none'}: {_MEND}"
        )


def write_weights(model: nn.Module, folder: Path) -> None:
    """Write the state of a module into `folder`."""
    np.savez(folder / WEIGHTS, **{n: t.cpu().numpy() for n, t in model.state_dict().items()})


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The state that `write_weights` wrote into `folder`; open the bundle first."""
    with np.load(folder / WEIGHTS, allow_pickle=False) as held:
        return {name: torch.from_numpy(held[name]) for name in held.files}


def warm_state(folder: Path, model: nn.Module) -> dict[str, Tensor]:
    """The state with which `model` answers as the module beside the graph in `folder` did.

    Open the bundle first. An id that only `model` knows begins where the row out of vocabulary is.
    NotContinued naming what the bundle lacks or holds in another shape.
    """
    if not (folder / WEIGHTS).is_file():
        raise NotContinued(f"{folder}: the champion's bundle holds no {WEIGHTS}: {_MEND}")
    theirs = read_weights(folder)
    own = model.state_dict()
    if differ := sorted(
        {name for name in own if name in theirs and own[name].shape != theirs[name].shape}
        | set(own) ^ set(theirs)
    ):
        raise NotContinued(f"champion: {differ[0]} is missing or of another shape: {_MEND}")
    for name in own:
        if not name.endswith(".row"):
            continue
        table = name.removesuffix("row") + "table.weight"
        outside = len(theirs[name])
        new = (theirs[name] == outside) & (own[name] != outside)
        theirs[table][:outside][new] = theirs[table][outside]
        theirs[name] = torch.where(new, own[name], theirs[name])
    return theirs
