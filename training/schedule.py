"""How the learning rate moves over a fit."""

import math

WARM_UP = 0.05
"""Share of the steps over which `cosine` rises from zero."""


def cosine(step: int, steps: int) -> float:
    """What the learning rate is multiplied by at `step` (from 0) of `steps`: a linear rise, then
    half a cosine down to zero (Loshchilov & Hutter 2017, no restart)."""
    rise = max(1, round(steps * WARM_UP))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise)))) / 2
