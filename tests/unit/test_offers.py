from dataclasses import replace

import pytest

from data_contracts.evidence import Estimate
from training.offers import LEAST_ROWS, LEAST_RUNS, Figures, pick, refusal

SAME = Estimate(0.0, 0.0, 0.0, LEAST_ROWS)
FP32 = Figures(
    "time",
    p99_ms=1.0,
    runs=LEAST_RUNS,
    bytes=1000,
    above=SAME,
    ece_above=SAME,
    alone=0.0,
    users=20.0,
)
FAST = replace(FP32, p99_ms=0.9)
SMALL = replace(FP32, saves="memory", bytes=700, p99_ms=1.1)
MARGIN, ECE_MARGIN = 0.001, 0.002


def above(low: float, high: float, rows: int = LEAST_ROWS) -> Estimate:
    return Estimate((low + high) / 2, low, high, rows)


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        (FAST, None),
        (replace(FAST, p99_ms=0.95), "p99 -5%, needs -10%"),
        (replace(FAST, p99_ms=1.2, bytes=10), "p99 +20%, needs -10%"),
        (
            replace(FAST, swing=2.5),
            "cannot judge: p99 swings by 2.5 between runs: measure when less runs here",
        ),
        (replace(SMALL, swing=2.5), None),
        (replace(FAST, runs=2), "cannot judge: fewer than three runs"),
        (replace(SMALL, runs=1), None),
        (SMALL, None),
        (replace(SMALL, bytes=701), "bytes -30%, needs -30%"),
        (replace(SMALL, bytes=1200, p99_ms=0.1), "bytes +20%, needs -30%"),
        (replace(FAST, above=above(-0.002, 0.001)), None),
        (
            replace(FAST, above=above(-0.002, 0.0011)),
            "may lose 0.00110 nats of log loss, more than the margin of 0.001",
        ),
        (
            replace(FAST, above=Estimate(float("nan"), float("nan"), float("nan"), LEAST_ROWS)),
            "may lose nan nats of log loss, more than the margin of 0.001",
        ),
        (replace(FAST, ece_above=above(-0.01, 0.002)), None),
        (
            replace(FAST, ece_above=above(-0.01, 0.0021)),
            "may gain 0.00210 of calibration error, more than the margin of 0.002",
        ),
        (
            replace(FAST, ece_above=Estimate(0.0, float("nan"), float("nan"), LEAST_ROWS)),
            "may gain nan of calibration error, more than the margin of 0.002",
        ),
        (
            replace(FAST, above=above(0, 0, 9_999)),
            "cannot judge: 9,999 held-out rows, needs 10,000",
        ),
        (replace(FAST, users=3.0), "cannot judge: 3.0 effective users, needs 20"),
        (
            replace(FAST, alone=0.17),
            "a score depends on the rows beside it: a logit moves by 1.7e-01, "
            "at most 0.0001 allowed",
        ),
        (replace(FAST, storable=False), "a figure only: no bundle may hold compiled code"),
    ],
)
def test_a_variant_is_offered_only_where_it_gains_enough_and_loses_nothing_that_counts(
    figures: Figures, why: str | None
) -> None:
    assert why == refusal(figures, FP32, MARGIN, ECE_MARGIN)


@pytest.mark.parametrize(
    ("budget", "picked"),
    [(2.0, "fp32"), (1.0, "fp32"), (0.9, "int8"), (0.5, "pruned"), (0.1, None)],
)
def test_the_budget_picks_what_loses_least_of_those_that_fit(
    budget: float, picked: str | None
) -> None:
    offered = {
        "fp32": FP32,
        "better by chance": replace(FP32, above=above(-0.003, -0.001)),
        "int8": replace(FAST, above=above(0.0, 0.0005)),
        "pruned": replace(SMALL, p99_ms=0.4, above=above(0.0, 0.0009)),
    }
    assert picked == pick(offered, budget)
