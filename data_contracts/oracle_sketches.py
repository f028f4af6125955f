"""The oracle's sketches, in plain Python: HyperLogLog, log-linear histogram, sampled counts."""

import math
from collections.abc import Sequence


def hyperloglog(values: Sequence[int], bits: int) -> float:
    """The estimate of how many of `values` are distinct, with 2^`bits` registers."""
    registers = [0] * 2**bits
    for value in values:
        x = value % 2**64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        x ^= x >> 31
        rest = x >> bits
        rank = 64 - bits - rest.bit_length() + 1
        registers[x % 2**bits] = max(registers[x % 2**bits], rank)
    m, empty = 2**bits, registers.count(0)
    raw = 0.7213 / (1 + 1.079 / m) * m * m / sum(2.0**-rank for rank in registers)
    return m * math.log(m / empty) if raw <= 2.5 * m and empty else raw


def sampled_counts(
    codes: Sequence[int], values: Sequence[int], sample: int
) -> list[tuple[int, float]]:
    """(value, how often it is among `values`, by those of the `sample` smallest of their codes)."""
    drawn = [value for _, value in sorted(zip(codes, values, strict=True))[:sample]]
    share = {value: drawn.count(value) for value in drawn}
    return [(value, n * len(values) / len(drawn)) for value, n in share.items()]


def most_frequent(
    counts: Sequence[tuple[int, float]], k: int, default: float, scale: int
) -> list[float]:
    """The `k` values of the largest counts, a tie to the smaller value, and then their counts."""
    top = sorted(counts, key=lambda pair: (-pair[1], pair[0]))[:k]
    less = k - len(top)
    values, sizes = [value / scale for value, _ in top], [float(n) for _, n in top]
    return values + [default] * less + sizes + [0.0] * less


def bucket_middle(value: int) -> float:
    """The middle of the log-linear bucket in which `value` lies."""
    shift = max(abs(value).bit_length() - 7, 0)
    low = abs(value) >> shift << shift
    return math.copysign(low + (2**shift - 1) / 2, value) if value else 0.0
