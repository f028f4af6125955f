"""What a use case declares about judging its models: whose rankings, and which slices."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Slice:
    """A way to cut the rows into parts that are judged each for itself."""

    by: str
    """A field of the contract, or a feature."""
    edges: tuple[float, ...] = ()
    """Ascending cuts of a number: below the first, from each to the next, from the last on.

    Without any, each value is a part.
    """
    most: int = 20
    """Of parts by value: as many of the most frequent ones, and one for the others."""

    def parts(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Name -> bool[n] of each part that holds a row."""
        if self.edges:
            numbers = values.astype(np.float64)
            place = np.where(np.isnan(numbers), -1, np.digitize(numbers, self.edges))
            names = [
                f"{self.by} < {self.edges[0]:g}",
                *(f"{a:g} <= {self.by} < {b:g}" for a, b in pairwise(self.edges)),
                f"{self.by} >= {self.edges[-1]:g}",
            ]
            masks = {name: place == i for i, name in enumerate(names)}
            masks[f"{self.by} unknown"] = place == -1
        else:
            unknown = np.array([value is None or value != value for value in values.tolist()], bool)
            texts = np.where(unknown, "", values.astype(str))
            found, counts = np.unique(texts[~unknown], return_counts=True)
            kept = found[np.argsort(-counts, kind="stable")[: self.most]]
            masks = {f"{self.by} = {text}": ~unknown & (texts == text) for text in kept}
            masks[f"{self.by} beyond the {self.most}"] = ~unknown & ~np.isin(texts, kept)
            masks[f"{self.by} unknown"] = unknown
        return {name: mask for name, mask in masks.items() if mask.any()}


@dataclass(frozen=True)
class Evaluation:
    """How the rankings and parts of a use case's rows are judged."""

    user: str | None = None
    """The field that stands for a user: GAUC is per user, and intervals are over users, because a
    user's rows are not independent. Over rows where none is named."""
    top: int = 5
    """Slots that count: precision is of the highest `top` scores of a request."""
    slices: tuple[Slice, ...] = ()
    least: int = 200
    """Rows a part needs, with both classes, to be compared with the others."""

    def check(self, fields: Collection[str], features: Collection[str]) -> None:
        """Raise ValueError naming what the contract and the features do not have."""
        if self.user not in (None, *fields):
            raise ValueError(f"evaluation: user {self.user!r} is not in the contract")
        if self.top < 1 or self.least < 1:
            raise ValueError(f"evaluation: top {self.top}, least {self.least}: at least 1 each")
        for part in self.slices:
            if part.by not in fields and part.by not in features:
                raise ValueError(f"evaluation: slice by {part.by!r}: no field, no feature")
            if list(part.edges) != sorted(set(part.edges)) or part.most < 1:
                raise ValueError(f"evaluation: slice by {part.by!r}: edges ascend, most is >= 1")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the training set that judging needs beside labels and scores."""
        named = (*([self.user] if self.user else []), *(part.by for part in self.slices))
        return tuple(dict.fromkeys(named))


def cut(declared: Evaluation, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Name -> bool[n] of every part of every declared slice."""
    return {
        name: mask
        for part in declared.slices
        for name, mask in part.parts(columns[part.by]).items()
    }
