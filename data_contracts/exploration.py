"""Exploration: the order to show is drawn, and how likely that order was is known.

Plackett-Luce (Luce 1959, Plackett 1975): slot by slot a row is drawn of those that are left, with a
chance in proportion to exp(utility / temperature); drawn at once by adding Gumbel noise to all
utilities (Yellott 1977). The noise of a row is a hash of seed, key and turn, so the order of the
candidates in a request, and what else is among them, does not touch it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

MOST_SLOTS = 5
"""More slots make slates so rare that no log tells their value."""
_EDGE = 1e-12
"""Scores are kept this far from 0 and 1, where log-odds are infinite."""
_BITS = 52


@dataclass(frozen=True)
class Exploration:
    """How a use case explores: which slots are drawn, and how far from the model's own order."""

    slots: int
    """The first so many slots are drawn; the rows below them stand by utility."""
    temperature: float
    """In log-odds: a row that much above another is e times as likely to be drawn before it."""

    def check(self) -> None:
        """Raise ValueError naming what cannot be."""
        if not 1 <= self.slots <= MOST_SLOTS:
            raise ValueError(f"exploration: {self.slots} slots: take 1 to {MOST_SLOTS}")
        if not 0.01 <= self.temperature <= 100:
            raise ValueError(
                f"exploration: temperature {self.temperature}: take 0.01 to 100 log-odds"
            )


@dataclass(frozen=True)
class Slate:
    """A drawn order."""

    order: list[int]
    """Rows, the one to show first at first."""
    propensities: list[float]
    """Of the row in each explored slot, given the rows above it."""

    @property
    def propensity(self) -> float:
        """Of the explored slots as a whole."""
        return math.prod(self.propensities)


def utilities(scores: Sequence[float] | np.ndarray, boosts: np.ndarray | float = 0.0) -> np.ndarray:
    """float64[n]: log-odds of `scores` float64[n] in [0, 1], with `boosts` (log-odds) added."""
    kept = np.clip(np.asarray(scores, np.float64), _EDGE, 1 - _EDGE)
    return np.log(kept) - np.log1p(-kept) + boosts


def ranked(utility: np.ndarray, keys: Sequence[str]) -> list[int]:
    """Rows by utility, the highest first; ties by key, then by row."""
    values = utility.tolist()
    return sorted(range(len(keys)), key=lambda i: (-values[i], keys[i], i))


def candidate_key(identity: Sequence[str], row: Mapping[str, Any]) -> str:
    """What tells a row from the others of its request, by the fields of `UseCase.identity`."""
    return "\x1f".join("" if row.get(name) is None else str(row[name]) for name in identity)


def seed_of(use_case: str, request_id: str) -> str:
    """16 hex digits: the seed of a request's noise, the same whenever and by whom it is asked."""
    text = f"exploration\x1f{use_case}\x1f{request_id}".encode()
    return blake2b(text, digest_size=8).hexdigest()


def gumbel_noise(seed: str, keys: Sequence[str]) -> np.ndarray:
    """float64[n]: standard Gumbel noise of the rows with these keys; rows of one key, in their
    turn, have noise of their own."""
    turns: Counter[str] = Counter()
    bits: list[int] = []
    for key in keys:
        text = f"{turns[key]}\x1f{key}".encode("utf-8", "surrogatepass")
        turns[key] += 1
        digest = blake2b(text, digest_size=8, key=seed.encode()).digest()
        bits.append(int.from_bytes(digest, "little") >> (64 - _BITS))
    uniform = (np.array(bits, np.float64) + 0.5) / 2.0**_BITS
    return -np.log(-np.log(uniform))


def drawn(exploration: Exploration, utility: np.ndarray, keys: Sequence[str], seed: str) -> Slate:
    """The order to show of rows with these utilities (float64[n], log-odds) and keys."""
    by_utility = ranked(utility, keys)
    perturbed = utility / exploration.temperature + gumbel_noise(seed, keys)
    first = ranked(perturbed, keys)[: exploration.slots]
    taken = {*first}
    order = first + [i for i in by_utility if i not in taken]
    return Slate(order, propensities(utility, first, exploration.temperature))


def propensities(utility: np.ndarray, first: Sequence[int], temperature: float) -> list[float]:
    """Of each row of `first` in its turn, given those before it, among rows of these utilities
    (float64[n], log-odds)."""
    scaled = utility / temperature
    left = np.ones(len(scaled), bool)
    found: list[float] = []
    for row in first:
        most = scaled[left].max()
        found.append(float(np.exp(scaled[row] - most) / np.exp(scaled[left] - most).sum()))
        left[row] = False
    return found


def followed(utility: np.ndarray, keys: Sequence[str], first: Sequence[int]) -> list[float]:
    """As `propensities`, of who shows rows by utility without a draw: 1 or 0 for each slot."""
    order = ranked(utility, keys)
    found: list[float] = []
    for row in first:
        found.append(float(order[0] == row))
        order.remove(row)
    return found
