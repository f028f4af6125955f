"""Weights beside a graph, and a warm start from them."""

from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data_contracts.bundle import Manifest
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of

_MEND = "train with --no-warm-start"
WEIGHTS = "weights.npz"
"""Member of a bundle: a module's parameters and buffers by name, plain arrays without pickles."""


class NotContinued(ValueError):
    """The champion's weights are those of another model than the one to be trained."""


def check_inputs(manifest: Manifest, use_case: UseCase) -> None:
    """NotContinued naming the first input that the champion takes and the use case does not, or the
    other way round, or that is another by definition, size or default: weights know columns only by
    their place, so that those of other columns would be taken for theirs."""
    declared = digests_of(use_case.groups)
    theirs: list[object] = [*manifest.feature_digests.items()]
    own: list[object] = [(name, declared[name]) for name in use_case.feature_names]
    theirs += [*map(tuple, manifest.categorical), *map(tuple, manifest.numeric)]
    own += [(each.field, each.buckets) for each in use_case.model.categorical]
    own += [(each.field, each.default) for each in use_case.model.numeric]
    for one, other in zip_longest(theirs, own):
        if one != other:
            raise NotContinued(
                f"champion: takes {one or 'no more inputs'} where the use case declares "
                f"{other or 'none'}: {_MEND}"
            )


def write_weights(model: nn.Module, folder: Path) -> None:
    """Write the state of a module into `folder`."""
    np.savez(folder / WEIGHTS, **{n: t.cpu().numpy() for n, t in model.state_dict().items()})


def warm_state(folder: Path, model: nn.Module) -> dict[str, Tensor]:
    """The state with which `model` answers as the module beside the graph in `folder` did.

    Open the bundle first. An id that only `model` knows begins where the row out of vocabulary is.
    NotContinued naming what the bundle lacks or holds in another shape.
    """
    if not (folder / WEIGHTS).is_file():
        raise NotContinued(f"{folder}: the champion's bundle holds no {WEIGHTS}: {_MEND}")
    with np.load(folder / WEIGHTS, allow_pickle=False) as held:
        theirs = {name: torch.from_numpy(held[name]) for name in held.files}
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
