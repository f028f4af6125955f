"""The gate of a canary's errors: seldom wrong however often it is looked at, and quickly right."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from data_contracts.gate_rules import DEFAULTS, FAILURES_ALPHA
from data_contracts.gates import Decision, failures_check, limit_check, recompute
from data_contracts.sequences import Failures, more_failures

LIMIT, LOOKS, MOST = 0.001, 96, 20_000
RULE = next(rule for rule in DEFAULTS if (rule.stage, rule.check) == ("canary", "errors"))
SHARES = (0.01, 0.05, 0.25, 0.5)


def counted(
    rng: np.random.Generator, share: float, rates: tuple[float, float], asked: np.ndarray
) -> Iterator[tuple[Failures, Failures]]:
    """Candidate and champion, which fail at these rates, once the candidate was asked so often."""
    per_arm = (asked, (asked * (1 - share) / share).astype(int))
    arms = [
        (np.cumsum(rng.binomial(np.diff(many, prepend=0), rate)), many)
        for rate, many in zip(rates, per_arm, strict=True)
    ]
    for counts in zip(*(column.tolist() for arm in arms for column in arm), strict=True):
        yield Failures(*counts[:2]), Failures(*counts[2:])


def verdicts(
    rng: np.random.Generator, share: float, rates: tuple[float, float], first: int
) -> list[str]:
    asked = np.linspace(first, MOST, LOOKS).astype(int)
    arms = counted(rng, share, rates, asked)
    return [failures_check(RULE, *each).verdict for each in arms]


def asked_until_found(
    rng: np.random.Generator, share: float, rates: tuple[float, float], most: int
) -> int:
    """Requests of the candidate, looked at after each; `most` where it was not found."""
    for ours, theirs in counted(rng, share, rates, np.arange(1, most + 1)):
        if failures_check(RULE, ours, theirs).verdict == "fail":
            return ours.asked
    return most


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [((6, 300), (15, 29_700)), ((9, 9), (0, 9)), ((40, 400), (20, 400)), ((7, 5_000), (0, 0))],
)
def test_the_evidence_is_a_beta_mixture_over_the_most_favourable_truth(
    ours: tuple[int, int], theirs: tuple[int, int]
) -> None:
    mixed = [betabinom.pmf(*arm, 0.5, 0.5) for arm in (ours, theirs)]
    both = (ours[0] + theirs[0]) / (ours[1] + theirs[1])
    against_limit = mixed[0] / binom.pmf(*ours, LIMIT)
    against_champion = np.prod(mixed) / binom.pmf(*ours, both) / binom.pmf(*theirs, both)
    expected = max(1.0, min(against_limit, against_champion))
    assert expected == pytest.approx(more_failures(Failures(*ours), Failures(*theirs), LIMIT))


def test_more_failures_are_more_evidence_and_those_of_the_champion_or_a_wider_limit_are_less() -> (
    None
):
    def falls(by: Callable[[int], float], many: int) -> bool:
        return all(a >= b for a, b in pairwise(map(by, range(many))))

    for asked, theirs in ((10, 900), (800, 800), (3_000, 9_000)):
        for other in (0, 3, theirs // 10):
            champion = Failures(other, theirs)
            by_own = [more_failures(Failures(k, asked), champion, LIMIT) for k in range(asked + 1)]
            assert by_own == sorted(by_own) and 1.0 == by_own[0]
        ours = Failures(asked // 5, asked)
        assert falls(lambda j, n=theirs, o=ours: more_failures(o, Failures(j, n), LIMIT), theirs)
        assert falls(lambda j, n=theirs, o=ours: more_failures(o, Failures(1, n), j / 50), 51)
    assert float("inf") == more_failures(Failures(2_000, 2_000), Failures(0, 9_000), 0.0)


@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize("rate", [0.0003, 0.0005, 0.0008, 0.001, 0.05])
def test_one_that_fails_as_often_as_its_champion_is_seldom_ended_and_passes(
    share: float, rate: float
) -> None:
    rng = np.random.default_rng(7)
    found = [verdicts(rng, share, (rate, rate), first=20 if share == 0.5 else 1_000)
             for _ in range(120)]  # fmt: skip
    assert sum("fail" in each for each in found) <= 1
    assert sum("pass" in each for each in found) >= 100


@pytest.mark.parametrize(("share", "half"), [(0.01, 350), (0.05, 400), (0.25, 700), (0.5, 1_300)])
def test_one_that_fails_in_fifty_requests_once_is_found_in_a_few_hundred(
    share: float, half: int
) -> None:
    rng = np.random.default_rng(8)
    took = [asked_until_found(rng, share, (0.02, 0.0005), 3_000) for _ in range(25)]
    assert np.median(took) <= half and max(took) < 3_000


@pytest.mark.parametrize("share", SHARES)
def test_one_that_fails_always_is_found_within_ten_requests(share: float) -> None:
    rng = np.random.default_rng(9)
    took = asked_until_found(rng, share, (1.0, 0.0005), 50)
    assert took <= 10 < RULE.least


def verdict(ours: tuple[int, int], theirs: tuple[int, int]) -> str:
    return failures_check(RULE, Failures(*ours), Failures(*theirs)).verdict


def test_it_is_held_against_the_limit_or_the_champion_and_passes_from_least_on() -> None:
    many = 10 * RULE.least
    assert "pass" == verdict((many // 500, many), (many // 20, many))
    assert "pass" == verdict((0, RULE.least), (0, 0))
    assert "cannot judge" == verdict((0, RULE.least - 1), (0, many))
    assert "cannot judge" == verdict((0, 0), (0, many))
    assert "cannot judge" == verdict((12, many), (11, many))
    assert "cannot judge" == verdict((9, 9), (0, 0)), "nobody knows how often its champion fails"


def test_a_decision_is_made_again_by_the_numbers_that_it_was_made_with() -> None:
    tenfold = replace(RULE, least=RULE.least * 10, limit=RULE.limit * 10)
    checks = [
        failures_check(rule, Failures(*ours), Failures(*theirs))
        for rule in (RULE, tenfold)
        for ours in ((0, 0), (1, 2_000), (40, 2_000))
        for theirs in ((0, 0), (9, 90_000))
    ]
    # As it was held against its limit alone, whatever the champion's share.
    checks.append(limit_check(RULE, "errors", 0.5, RULE.least))
    decided = Decision("canary", tuple(checks)).as_dict()
    assert decided == recompute(json.loads(json.dumps(decided))).as_dict()
    assert {"pass", "fail", "cannot judge"} == {check.verdict for check in checks}
    assert f"evidence < {1 / FAILURES_ALPHA:.4g}" in checks[0].limit
