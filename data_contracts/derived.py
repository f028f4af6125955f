"""Features derived from finalised ones of the same window."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rate:
    """A smoothed ratio of two aggregates: (num + prior x strength) / (den + strength)."""

    numerator: str
    denominator: str
    prior: float
    strength: float

    @property
    def of(self) -> tuple[str, str]:
        """The aggregates that it takes, in order."""
        return self.numerator, self.denominator

    def finalize(self, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        """float64[n] from the two finalised aggregates."""
        return (numerator + self.prior * self.strength) / (denominator + self.strength)


@dataclass(frozen=True)
class Difference:
    """One aggregate minus another."""

    left: str
    right: str

    @property
    def of(self) -> tuple[str, str]:
        """The aggregates that it takes, in order."""
        return self.left, self.right

    def finalize(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """float64[n] from the two finalised aggregates."""
        return left - right


Derived = Rate | Difference
