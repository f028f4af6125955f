"""Random numbers that are addressed, not drawn in turn: the same for the same address, anywhere.

A draw is a function of seed, purpose and ids (SplitMix64's finaliser, Steele et al. 2014, over each
in turn), so no order of generation, size of a slice or machine can change it.
"""

from enum import IntEnum

import numpy as np

from data_contracts.windows import floor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_LANES = np.array([0, 16, 32, 48], np.uint64)
_LANE = np.uint64(0xFFFF)
_SUM_MEAN, _SUM_DEVIATION = 131_070, 37_837.0


class Purpose(IntEnum):
    """What a draw decides; draws of different purposes are independent."""

    ACTIVITY, SEGMENT, HOME_DEVICE, TASTE, SEGMENT_TASTE = range(1, 6)
    CATEGORY, QUALITY, PRICE, PHASE = range(11, 15)
    START, USER, PAGES, GAP, DEVICE, OTHER_DEVICE, SHOWN = range(21, 28)
    CLICK, CLICK_DELAY, CART, CART_DELAY, PURCHASE, PURCHASE_DELAY = range(31, 37)
    TRANSIT, LATE, COPY, COPY_TRANSIT, MALFORMED, FAULT = range(41, 47)


class Draws:
    """The draws of one seed; ids are broadcast against each other."""

    def __init__(self, seed: int) -> None:
        self._seed = _mixed(np.array([seed], np.int64).astype(np.uint64))

    def bits(self, purpose: Purpose, *ids: np.ndarray | int) -> np.ndarray:
        """uint64[…]: 64 random bits an address."""
        state = _mixed(self._seed + np.uint64(purpose))
        for part in ids:
            state = _mixed(state ^ np.asarray(part, np.int64).astype(np.uint64))
        return state

    def uniform(self, purpose: Purpose, *ids: np.ndarray | int) -> np.ndarray:
        """float64[…] in [0, 1), multiples of 2^-53."""
        return (self.bits(purpose, *ids) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(
        self, limit: np.ndarray | int, purpose: Purpose, *ids: np.ndarray | int
    ) -> np.ndarray:
        """int64[…] in 0 … limit - 1."""
        return (self.uniform(purpose, *ids) * limit).astype(np.int64)

    def bell(self, purpose: Purpose, *ids: np.ndarray | int) -> np.ndarray:
        """float64[…] of mean 0 and deviation 1, bounded by 3.47: a sum of four 16-bit uniforms."""
        lanes = self.bits(purpose, *ids)[..., None] >> _LANES & _LANE
        total = lanes[..., 0] + lanes[..., 1] + lanes[..., 2] + lanes[..., 3]
        return (total.astype(np.float64) - _SUM_MEAN) / _SUM_DEVIATION


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) for |x| <= 20, within 1e-12.

    Made of +, x and / alone, which IEEE 754 defines to the bit; a library's exp is not the same on
    every machine.
    """
    y = -x / 64
    power = np.ones_like(y)
    for n in range(14, 0, -1):
        power = 1.0 + power * y / n
    for _ in range(6):
        power = power * power
    return 1.0 / (1.0 + power)


def triangle(t: np.ndarray, period: int) -> np.ndarray:
    """float64[…] in [-1, 1]: a triangle wave of `period` µs, -1 where t is a multiple of it."""
    return 1.0 - np.abs(4.0 * ((t - floor(t, period)) / period) - 2.0)


def _mixed(state: np.ndarray) -> np.ndarray:
    state = state + _GOLDEN
    state = (state ^ (state >> _SHIFTS[0])) * _FIRST
    state = (state ^ (state >> _SHIFTS[1])) * _SECOND
    return state ^ (state >> _SHIFTS[2])
