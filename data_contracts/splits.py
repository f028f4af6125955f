"""Which units each share of a canary decided about: the input of the sample-ratio test."""

from collections.abc import Iterable

from data_contracts.rollout import BUCKETS
from data_contracts.sequences import Split


def splits(seen: Iterable[tuple[str, int, bool]]) -> tuple[Split, ...]:
    """Per share and share before: how many distinct units were decided about, how they fell.

    `seen`: (unit, share of the canary in basis points, whether it was the candidate's), in any
    order. A unit of the champion's is decided about again at the next share; one of the
    candidate's stays, and counts no more.
    """
    counts: dict[tuple[int, int], list[int]] = {}
    left: dict[str, int] = {}
    """Unit -> the share that left it with the champion."""
    gone: set[str] = set()
    ordered = sorted({(bps, unit, theirs) for unit, bps, theirs in seen})
    for bps, unit, theirs in ordered:
        before = left.get(unit, 0)
        if unit in gone or before == bps:
            continue
        count = counts.setdefault((before, bps), [0, 0])
        count[0] += theirs
        count[1] += 1
        if theirs:
            gone.add(unit)
        else:
            left[unit] = bps
    return tuple(
        Split((bps - before) / (BUCKETS - before), candidate, units)
        for (before, bps), (candidate, units) in sorted(counts.items())
    )
