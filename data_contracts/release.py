"""What a release is judged by at a look, and the decision that it leads to. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_contracts.gate_rules import RuleInForce
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
from data_contracts.rollout import Plan
from data_contracts.sequences import Failures, Split, Sums
from data_contracts.tally import LATE, Tally

NOTHING = Sums(0.0, 0.0, 0.0, 0.0, (0, 0), 0)
"""The sums before any row has matured."""
PAIRED, RATIO, CTR = "paired log loss", "sample ratio", "CTR"
MOST_LATE = 0.05
"""Share of a candidate's requests that the champion may answer because they were late: by as much
of itself a difference between the arms is hidden."""
_ALWAYS = RuleInForce("errors", "canary")
"""Counts whatever a use case declares."""


@dataclass(frozen=True)
class Evidence:
    """All that is known of a release at a look."""

    pairs: Sums = NOTHING
    """Of the same matured impressions scored by both models."""
    arms: Sums = NOTHING
    """Of matured impressions by assigned arm."""
    splits: tuple[Split, ...] = ()
    champion: Tally = field(default_factory=Tally)
    """Of the present step, all replicas."""
    candidate: Tally = field(default_factory=Tally)
    broken: Mapping[str, str] = field(default_factory=dict[str, str])
    """Replica -> why its breaker has opened."""
    unread: str = ""
    """Why there are no outcomes though there may be; empty where they were read."""
    lost: tuple[int, ...] = ()
    """Hours (of the query time, since 1970) in which a replica's log took no record of some answer:
    no outcome of theirs is judged."""


def judged(
    plan: Plan, rules: Sequence[RuleInForce], alpha: float, seen: Evidence, last: bool
) -> Decision:
    """The decision of the plan's stage at a look, `alpha` of the whole release.

    Before the `last` share of a canary its sequences only need to show no harm. An open breaker
    fails at every stage, and without the outcomes none passes.
    """
    lost = f", without {len(seen.lost)} h whose records were lost" if seen.lost else ""
    title = f"{plan.stage} {plan.share}{lost}"
    checks = [_broken(seen.broken)] if seen.broken else []
    if seen.unread:
        checks.append(made(_ALWAYS, "outcomes", "absent", {"absent": True, "reason": seen.unread}))
    if plan.stage == "shadow":
        on = [rule for rule in rules if rule.check == PAIRED and rule.mode != "off"]
        found = [sequence_check(rules, PAIRED, seen.pairs, plan.tuned[PAIRED], alpha) for _ in on]
        made_by_rules = decision("shadow", title, rules, found)
    else:
        by_name = {rule.check: rule for rule in rules if rule.stage == "canary"}
        made_by_rules = decision("canary", title, rules, [
            *_service(by_name, seen),
            *_traffic(plan, rules, by_name, alpha, seen, last),
        ])  # fmt: skip
    return Decision(title, (*checks, *made_by_rules.checks), plan.champion.version)


def _service(rules: Mapping[str, RuleInForce], seen: Evidence) -> list[Check]:
    """Of the answers themselves: errors, latency and scores beside the champion's."""
    ours, theirs = seen.candidate, seen.champion
    counted = (Failures(arm.failed_requests, arm.asked) for arm in (ours, theirs))
    figures = {
        "latency p99": (ours.quantile_ms(0.99), theirs.quantile_ms(0.99), False, ours.asked),
        "score shift": (ours.mean_score, theirs.mean_score, True, ours.own_answers),
    }
    errors = failures_check(rules["errors"], *counted)
    late = ours.failures.get(LATE, 0)
    if errors.verdict == "pass" and late > MOST_LATE * ours.asked:
        # Nobody is to blame, but its arm saw too much of the champion.
        why = f"the champion answered {late:,} of {ours.asked:,} in its place: it was late"
        errors = made(rules["errors"], "errors", "absent", {"absent": True, "reason": why})
    return [errors, *(_beside(rules[name], *told) for name, told in figures.items())]


def _traffic(
    plan: Plan,
    rules: Sequence[RuleInForce],
    by_name: Mapping[str, RuleInForce],
    alpha: float,
    seen: Evidence,
    last: bool,
) -> list[Check]:
    """Of what users did with the answers."""
    checks: list[Check] = []
    if by_name[RATIO].mode != "off":
        checks.append(ratio_check(rules, seen.splits, alpha))
    if by_name[CTR].mode != "off":
        checks.append(sequence_check(rules, CTR, seen.arms, plan.tuned[CTR], alpha))
    return checks if last else [_no_harm(by_name[check.name], check) for check in checks]


def _no_harm(rule: RuleInForce, check: Check) -> Check:
    evidence = {"kind": check.kind, "evidence": check.evidence}
    return made(rule, f"{check.name} so far", "no harm", evidence)


def _broken(broken: Mapping[str, str]) -> Check:
    told = "; ".join(f"{replica}: {reason}" for replica, reason in sorted(broken.items()))
    evidence: dict[str, Any] = {
        "holds": False, "value": told, "limit": "no open breaker", "n": len(broken),
    }  # fmt: skip
    return made(_ALWAYS, "breaker", "fact", evidence)


def _beside(rule: RuleInForce, value: float, champion: float, either: bool, n: int) -> Check:
    """A figure as a multiple of the champion's, or with `either` the greater of the two as one of
    the smaller, of `n` requests; nothing is judged where the champion has none, and to have none
    beside it fails, where there are enough of them."""
    if not champion > 0:
        reason = {"absent": True, "reason": "the champion has no figure to compare with"}
        return made(rule, rule.check, "absent", reason)
    times = value / champion if value > 0 else float("nan")
    return limit_check(rule, rule.check, max(times, 1 / times) if either else times, n)
