"""Exact products of int64 arrays where a float64 would round."""

import numpy as np

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def variance(count: np.ndarray, total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """float64[n]: squares / count - (total / count)^2 without cancellation.

    `count` (above 0), `total` and `squares` are int64 sums over the same values.
    """
    above, below = _minus(_times(count, squares), _times(np.abs(total), np.abs(total)))
    spread = above.astype(np.float64) * 2.0**64 + below.astype(np.float64)
    return spread / (count.astype(np.float64) * count.astype(np.float64))


def _times(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(high, low) uint64 halves of the product of two non-negative int64 arrays."""
    a, b = a.astype(np.uint64), b.astype(np.uint64)
    a1, a0, b1, b0 = a >> _HALF, a & _LOW, b >> _HALF, b & _LOW
    low, cross = a0 * b0, a1 * b0
    middle = (low >> _HALF) + (cross & _LOW) + a0 * b1
    return a1 * b1 + (cross >> _HALF) + (middle >> _HALF), (middle << _HALF) | (low & _LOW)


def _minus(
    x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The difference of two such products, x >= y."""
    return x[0] - y[0] - (x[1] < y[1]).astype(np.uint64), x[1] - y[1]
