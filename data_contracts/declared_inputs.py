"""The inputs that a use case declares, and where a bundle takes others.

Beside `bundle.py` and not in it: what only scores opens bundles and loads no use case.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from data_contracts.bundle import Inputs, Manifest
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of

Kind = Literal["features", "categorical", "numeric"]
Input = tuple[str, str | int | float]
"""(feature, digest), (field, buckets) or (field, default)."""


@dataclass(frozen=True)
class Difference:
    """An input that stands in the same place as another one."""

    kind: Kind
    theirs: Input | None
    """What the bundle takes; None where it takes no more of this kind."""
    own: Input | None
    """What it is compared with."""


def inputs_of(use_case: UseCase) -> Inputs:
    """What a graph takes that is fitted by what is declared."""
    return Inputs(
        digests_of(use_case.groups),
        tuple((column.field, column.buckets) for column in use_case.model.categorical),
        tuple((number.field, number.default) for number in use_case.model.numeric),
    )


def differing_input(manifest: Manifest, inputs: Manifest | Inputs) -> Difference | None:
    """The first input that a bundle takes and `inputs` lacks, or the other way round, or that is
    another by definition, size or default; None where they are the same in the same order.

    Graphs and weights know columns only by their place.
    """
    pairs: dict[Kind, tuple[Iterable[Input], Iterable[Input]]] = {
        "features": (manifest.feature_digests.items(), inputs.feature_digests.items()),
        "categorical": (manifest.categorical, inputs.categorical),
        "numeric": (manifest.numeric, inputs.numeric),
    }
    for kind, (theirs, own) in pairs.items():
        for one, other in zip_longest(theirs, own):
            if one != other:
                return Difference(kind, one, other)
    return None
