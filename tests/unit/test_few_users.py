"""However many rows there are: those of a handful of users judge nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest

from data_contracts.evidence import Estimate
from data_contracts.gate_rules import RuleInForce
from data_contracts.gates import Decision, better_than, made, recompute, worst_part
from data_contracts.judging import Verdict
from tests.unit.test_gates import rows

RULE = RuleInForce("better than constant", "offline")


@pytest.mark.parametrize(
    ("users", "verdict", "said"),
    [
        (np.zeros(3000), "cannot judge", "1.0 effective users, needs 20"),
        (np.arange(3000) % 19, "cannot judge", "19.0 effective users, needs 20"),
        (np.maximum(np.arange(3000) - 2900, 0), "cannot judge", "1.1 effective users, needs 20"),
        (np.arange(3000) % 20, "pass", "-0."),
    ],
)
def test_rows_of_few_users_judge_nothing_however_many_they_are(
    users: np.ndarray, verdict: Verdict, said: str
) -> None:
    labels, scores = rows()
    constant = np.full(3000, labels.mean())
    check = better_than(RULE, "x", labels, scores, constant, 0.95, users)
    assert (verdict, 3000) == (check.verdict, check.n)
    assert check.value.startswith(said)
    part = {"whole": np.ones(3000, bool)}
    assert verdict == worst_part(RULE, labels, scores, constant, part, 0.95, 200, users).verdict
    counted = {"limit": 1.25, "users": check.evidence["users"]}
    between = {**Estimate(1.0, 0.9, 1.1, 3000).as_dict(), **counted}
    assert verdict == made(RULE, "calibration", "between", between).verdict
    written = json.loads(json.dumps(Decision("s", (check,)).as_dict()))
    assert written == recompute(written).as_dict()


def test_a_decision_of_before_users_were_counted_is_made_again_as_it_was() -> None:
    labels, scores = rows()
    check = better_than(RULE, "x", labels, scores, np.full(3000, labels.mean()), 0.95)
    older = {name: value for name, value in check.evidence.items() if name != "users"}
    assert replace(check, evidence=older) == made(RULE, "x", "difference", older)
