"""Decisions that answer every rule of a stage, for tests of what they lead to."""

from collections.abc import Callable, Collection
from typing import Any

from data_contracts.evidence import Estimate
from data_contracts.gate_rules import KIND_OF, RuleInForce, Stage
from data_contracts.gates import (
    Check,
    Decision,
    decision,
    failures_check,
    limit_check,
    made,
    ratio_check,
    sequence_check,
)
from data_contracts.sequences import Failures, Split, Sums
from data_contracts.use_case import load_use_case

RULES = load_use_case("clicks").declared.gates.rules
ALPHA, ROWS = 0.05, 2_000
BETTER = Estimate(-0.02, -0.03, -0.01, ROWS).as_dict()
EQUAL = Sums(0.0, 1e6, 1e4, 5e5, (10_000, 10_000), 2_000_000)


def answered(
    rival: str | None = None,
    stage: Stage = "offline",
    latency: float = 1.0,
    without: Collection[str] = (),
) -> Decision:
    """Made beside the champion `rival`, if any: passed, unless the latency is above its limit
    (offline 20 ms); `without` these checks."""
    asked = [r for r in RULES if r.stage == stage and r.check not in without]
    checks = [_check(rule, latency if rule.check == "latency p99" else 0.0) for rule in asked]
    return decision(stage, stage, asked, checks, rival)


def _check(rule: RuleInForce, value: float) -> Check:
    """That passes by evidence of the rule's own kind; `value`: what a limit is held against."""
    kind = KIND_OF[rule.check]
    numbers = {"margin": rule.margin, "least": rule.least}
    by_kind: dict[str, Callable[[], Check]] = {
        "same": lambda: _made(rule, found={}, declared={}, limit="equal", n=1),
        "fact": lambda: _made(rule, holds=True, value="so", limit="so", n=1),
        "at most": lambda: limit_check(rule, rule.check, value, ROWS),
        "failures": lambda: failures_check(rule, Failures(0, ROWS), Failures(0, ROWS)),
        "difference": lambda: _made(rule, of="log loss", **numbers, **BETTER),
        "slices": lambda: _made(rule, **numbers, parts={"a part": BETTER}),
        "between": lambda: _made(
            rule, limit=rule.limit, least=rule.least, **Estimate(1.0, 0.9, 1.1, ROWS).as_dict()
        ),
        "sequence": lambda: sequence_check(RULES, rule.check, EQUAL, EQUAL.weight, ALPHA),
        "ratio": lambda: ratio_check(RULES, [Split(0.5, 5_000, 10_000)], ALPHA),
    }
    return by_kind[kind]()


def _made(rule: RuleInForce, **evidence: Any) -> Check:
    return made(rule, rule.check, KIND_OF[rule.check], evidence)
