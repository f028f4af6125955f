import json

import numpy as np
import pytest

from data_contracts.gates import Check, Decision, Verdict, better_than, first_version, limit_check

GOOD = Check("a", "pass", "1", "<= 2", 10)
BAD = Check("b", "fail", "3", "<= 2", 10)
UNSURE = Check("c", "cannot judge", "?", "<= 2", 10)


def rows(n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    scores = rng.beta(1, 5, n)
    return (rng.random(n) < scores).astype(np.int32), scores


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ((GOOD,), "pass"),
        ((GOOD, UNSURE), "cannot judge"),
        ((GOOD, UNSURE, BAD), "fail"),
        ((UNSURE,), "cannot judge"),
        ((), "cannot judge"),
    ],
)
def test_a_decision_fails_with_any_check_and_else_says_when_the_data_cannot_tell(
    checks: tuple[Check, ...], verdict: Verdict
) -> None:
    assert first_version(checks).verdict == verdict


@pytest.mark.parametrize(
    ("checks", "decisive", "promotes"),
    [
        ((GOOD, UNSURE), None, True),
        ((GOOD, UNSURE, BAD), None, False),
        ((UNSURE, GOOD), "a", True),
        ((GOOD, UNSURE), "c", False),
        ((GOOD, BAD), "a", False),
        ((GOOD,), "never made", False),
        ((), None, False),
    ],
)
def test_a_move_needs_its_decisive_check_passed_and_none_failed(
    checks: tuple[Check, ...], decisive: str | None, promotes: bool
) -> None:
    decision = Decision("against champion 1", checks, decisive)
    assert promotes == decision.promotes == decision.as_dict()["promotes"]


def test_a_decision_is_written_with_its_evidence() -> None:
    written = json.loads(json.dumps(Decision("first version", (GOOD, BAD)).as_dict()))
    assert written["verdict"] == "fail"
    assert [check["value"] for check in written["checks"]] == ["1", "3"]


@pytest.mark.parametrize(("value", "verdict"), [(1.9, "pass"), (2.0, "pass"), (2.1, "fail")])
def test_a_limit_may_be_reached_but_not_passed(value: float, verdict: Verdict) -> None:
    check = limit_check("latency p99", value, 2.0, 200, " ms")
    assert check.verdict == verdict
    assert check.limit == "<= 2 ms"


def test_not_a_number_is_over_every_limit() -> None:
    assert limit_check("latency p99", float("nan"), 2.0, 200).verdict == "fail"


def test_the_true_probabilities_beat_the_constant_and_the_constant_loses() -> None:
    labels, scores = rows()
    constant = np.full(len(labels), labels.mean())
    assert better_than("x", labels, scores, constant, 0.95).verdict == "pass"
    assert better_than("x", labels, constant, scores, 0.95).verdict == "fail"


def test_the_same_scores_cannot_be_told_apart() -> None:
    labels, scores = rows()
    assert better_than("x", labels, scores, scores, 0.95).verdict == "cannot judge"


def test_few_clicks_cannot_rank_two_models() -> None:
    rng = np.random.default_rng(5)
    labels = np.zeros(3000)
    labels[:6] = 1
    scores = np.clip(rng.normal(0.002, 0.0004, 3000), 1e-4, 1)
    check = better_than("x", labels, scores, np.full(3000, 0.002), 0.95)
    assert check.verdict == "cannot judge"
    assert check.n == 3000


def test_one_class_cannot_judge() -> None:
    labels, scores = rows()
    check = better_than("x", np.zeros(len(labels)), scores, scores / 2, 0.95)
    assert (check.verdict, check.value) == ("cannot judge", "one class only")
