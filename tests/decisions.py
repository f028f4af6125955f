"""Decisions that answer every rule of a stage, for tests of what they lead to."""

from collections.abc import Collection

from data_contracts.gate_rules import Rule, Stage
from data_contracts.gates import Check, Decision, decision, limit_check, made
from data_contracts.use_case import load_use_case

RULES = load_use_case("clicks").declared.gates.rules


def answered(
    title: str, stage: Stage = "offline", latency: float = 1.0, without: Collection[str] = ()
) -> Decision:
    """Passed, unless the latency is above 5 ms; `without` the rules of these checks."""
    asked = [r for r in RULES if r.stage == stage and r.check not in without]
    return decision(stage, title, asked, [_check(rule, latency) for rule in asked])


def _check(rule: Rule, latency: float) -> Check:
    if rule.check == "latency p99":
        return limit_check(rule, rule.check, latency, 5.0, 2_000, " ms")
    return made(rule, rule.check, "fact", {"holds": True, "value": "so", "limit": "so", "n": 1})
