"""Which variants of a version may be served in its place: pure rules over what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from data_contracts.bundle import LOGIT_TOLERANCE
from data_contracts.evidence import Estimate, few_users

FASTER = 0.10
"""Least share of p99 at 21 rows that a variant made to save time must save."""
SMALLER = 0.30
"""Least share of the graph's bytes that a variant made to save memory must save."""
STEADY = 2.0
"""Highest p99 over lowest of the runs above which the machine is too busy to say what is faster."""
LEAST_RUNS = 3
"""Runs below which the machine may be as busy in all of them, and nothing is called faster."""
LEAST_ROWS = 10_000
"""Held-out rows below which no variant is judged."""


@dataclass(frozen=True)
class Figures:
    """What was measured of a variant, or of the version's own graph."""

    saves: Literal["time", "memory"]
    p99_ms: float
    """At 21 rows, in the quietest run: a busy neighbour is not a property of the variant."""
    runs: int
    """How many there were."""
    bytes: int
    above: Estimate
    """Log loss less that of the version's own graph on the same rows, with its interval."""
    ece_above: Estimate
    """The same of the expected calibration error."""
    users: float
    """Effective users over whom both intervals are."""
    alone: float
    """How far a logit moves when its row is scored alone and not among others."""
    swing: float = 1.0
    """Highest p99 at 21 rows over the lowest, of the runs."""
    storable: bool = True
    """Whether a bundle may hold it: compiled code and what a GPU holds may not be."""


def refusal(
    own: Figures,
    reference: Figures,
    margin: float,
    ece_margin: float,
    least: int = LEAST_ROWS,
) -> str | None:
    """Why a variant is not offered beside `reference`, the version's own graph; None if it is.

    `margin`: nats of log loss that it may lose at most, `ece_margin`: calibration error that it may
    gain, each with the whole interval.
    """
    if own.above.n < least:
        return f"cannot judge: {own.above.n:,} held-out rows, needs {least:,}"
    if few := few_users(own.users):
        return f"cannot judge: {few}"
    if own.alone > LOGIT_TOLERANCE:
        return (
            f"a score depends on the rows beside it: a logit moves by {own.alone:.1e}, at most "
            f"{LOGIT_TOLERANCE:g} allowed"
        )
    if not own.above.high <= margin:
        return f"may lose {own.above.high:.5f} nats of log loss, more than the margin of {margin:g}"
    if not own.ece_above.high <= ece_margin:
        return (
            f"may gain {own.ece_above.high:.5f} of calibration error, more than the margin of "
            f"{ece_margin:g}"
        )
    if own.saves == "time" and own.runs < LEAST_RUNS:
        return "cannot judge: fewer than three runs"
    swing = max(own.swing, reference.swing)
    if own.saves == "time" and swing > STEADY:
        return f"cannot judge: p99 swings by {swing:.1f} between runs: measure when less runs here"
    if own.saves == "time" and own.p99_ms > (1 - FASTER) * reference.p99_ms:
        return f"p99 {_change(own.p99_ms, reference.p99_ms)}, needs -{FASTER:.0%}"
    if own.saves == "memory" and own.bytes > (1 - SMALLER) * reference.bytes:
        return f"bytes {_change(own.bytes, reference.bytes)}, needs -{SMALLER:.0%}"
    if not own.storable:
        return "a figure only: no bundle may hold compiled code"
    return None


def pick(offered: Mapping[str, Figures], budget_ms: float) -> str | None:
    """The variant to serve: of those whose p99 fits the budget the one that loses least log loss.

    `offered` begins with the version's own graph, which ties go to. None where nothing fits.
    """
    fitting = [name for name, each in offered.items() if each.p99_ms <= budget_ms]
    return min(fitting, key=lambda name: max(offered[name].above.high, 0.0), default=None)


def _change(value: float, reference: float) -> str:
    return f"{value / reference - 1:+.0%}"
