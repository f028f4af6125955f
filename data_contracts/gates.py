"""Gates: checks with value, limit and verdict, and the decision they add up to. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from data_contracts.evidence import (
    Estimate,
    effective_users,
    few_users,
    paired_difference,
)
from data_contracts.gate_rules import (
    FAILURES_ALPHA,
    KIND_OF,
    LOGISTIC,
    USES,
    Level,
    Mode,
    RuleInForce,
    Stage,
    alpha_of,
    counts,
)
from data_contracts.judging import KINDS, Evidence, Interval, Verdict
from data_contracts.sequences import Failures, Split, Sums


@dataclass(frozen=True)
class Check:
    """One gate's answer, with the evidence it was made from."""

    name: str
    verdict: Verdict
    value: str
    limit: str
    n: int
    interval: Interval = None
    level: Level = "required"
    mode: Mode = "enforce"
    kind: str = "fact"
    """Of `judging.KINDS`."""
    evidence: Evidence = field(default_factory=dict[str, Any])
    """JSON-ready; without it the check cannot be made again."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"interval": list(self.interval) if self.interval else None}

    @property
    def counts(self) -> bool:
        """Whether a move needs this check passed."""
        return counts(self.level, self.mode)


@dataclass(frozen=True)
class Decision:
    """All checks of a move. Without any that counts there is nothing to judge by, and no move."""

    stage: str
    """When it was made: at which step of a release, or of which training."""
    checks: tuple[Check, ...]
    rival: str | None = None
    """Version of the champion that it was made against."""
    bundle: str | None = None
    """Digest of the bundle that was judged, of a version's own decision; None of a release's."""

    @property
    def verdict(self) -> Verdict:
        """Of the checks that count."""
        return _joined(check for check in self.checks if check.counts)

    @property
    def advice(self) -> Verdict:
        """Of those that stop nothing; `pass` where there is none."""
        others = [check for check in self.checks if not check.counts]
        return _joined(others) if others else "pass"

    @property
    def promotes(self) -> bool:
        """Whether the move is made: every check that counts passes, and there is one."""
        return self.verdict == "pass"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with all that `recompute` needs."""
        return {
            "stage": self.stage,
            **({"rival": self.rival} if self.rival else {}),
            **({"bundle": self.bundle} if self.bundle else {}),
            "verdict": self.verdict,
            "advice": self.advice,
            "promotes": self.promotes,
            "checks": [check.as_dict() for check in self.checks],
        }


def _joined(checks: Iterable[Check]) -> Verdict:
    verdicts = {check.verdict for check in checks}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "cannot judge"


def recompute(decided: Mapping[str, Any]) -> Decision:
    """The decision that the evidence embedded in `Decision.as_dict` leads to, made again.

    Its `as_dict` equals `decided` where nothing was edited. Raises ValueError naming a check
    without evidence or of no known kind.
    """
    checks: list[Check] = []
    for raw in decided["checks"]:
        name, kind, evidence = raw["name"], raw.get("kind"), raw.get("evidence")
        if kind not in KINDS or not evidence:
            raise ValueError(f"check {name!r}: no evidence of kind {kind!r} to make it again from")
        try:
            checks.append(_made(name, kind, evidence, raw["level"], raw["mode"]))
        except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise ValueError(f"check {name!r}: its evidence is damaged: {error!r}") from error
    return Decision(decided["stage"], tuple(checks), decided.get("rival"), decided.get("bundle"))


def unanswered(decided: Mapping[str, Any], rules: Iterable[RuleInForce], stage: Stage) -> list[str]:
    """The rules of a stage without which no move is made, and that no check of a decision, as
    `as_dict` gave it, answers with their level, mode and numbers.

    Only evidence of the kind that its check is judged by answers a rule: no fact stands for a
    statistic, and a check that only shows no harm so far answers none.
    """
    return [
        rule.check
        for rule in rules
        if rule.stage == stage
        and rule.counts
        and not any(_answers(check, rule) for check in decided["checks"])
    ]


def _answers(check: Mapping[str, Any], rule: RuleInForce) -> bool:
    kind, evidence = check["kind"], check["evidence"]
    judged = kind == KIND_OF[rule.check] or (kind == "itself" and rule.check == LOGISTIC)
    same = (check["level"], check["mode"]) == (rule.level, rule.mode)
    if not (judged and same and rule.covers(check["name"])):
        return False
    return all(evidence.get(number) == getattr(rule, number) for number in USES[kind])


def made(rule: RuleInForce, name: str, kind: str, evidence: Evidence) -> Check:
    """The check that this evidence leads to, as the rule lets it count."""
    return _made(name, kind, evidence, rule.level, rule.mode)


def _made(name: str, kind: str, evidence: Evidence, level: Level, mode: Mode) -> Check:
    return Check(name, *KINDS[kind](evidence), level, mode, kind, evidence)


def limit_check(rule: RuleInForce, name: str, value: float, n: int, unit: str = "") -> Check:
    """Pass when `value` is at most the rule's limit; not judged below its `least`."""
    known = None if value != value else float(value)
    evidence = {"value": known, "limit": rule.limit, "n": n, "unit": unit, "least": rule.least}
    return made(rule, name, "at most", evidence)


def failures_check(rule: RuleInForce, candidate: Failures, champion: Failures) -> Check:
    """`errors` at a look at one step's requests: fail where the candidate fails beyond doubt more
    often than the rule's limit and than the champion, however few requests that took.

    Pass when its share is at most either of theirs, from the rule's `least` on; else wait for more.
    """
    evidence = {
        "candidate": asdict(candidate),
        "champion": asdict(champion),
        "limit": rule.limit,
        "alpha": FAILURES_ALPHA,
        "least": rule.least,
    }
    return made(rule, rule.check, "failures", evidence)


def better_than(
    rule: RuleInForce,
    name: str,
    labels: np.ndarray,
    candidate: np.ndarray,
    baseline: np.ndarray,
    confidence: float,
    users: np.ndarray | None = None,
) -> Check:
    """Pass when the paired log-loss difference is below the rule's margin with its whole interval.

    Fail when it is above 0 with its whole interval; else the data cannot tell, nor can that of
    fewer than `LEAST_USERS` effective users. `users` [n]: whose rows they are, over whom the
    interval is.
    """
    numbers = {"margin": rule.margin, "least": rule.least}
    evidence: dict[str, Any] = {"of": "log loss", **numbers, "n": len(labels)}
    evidence["users"] = effective_users(len(labels), users)
    if len(set(np.asarray(labels).tolist())) < 2:
        return made(rule, name, "difference", {**evidence, "reason": "one class only"})
    gap: Estimate = paired_difference(labels, candidate, baseline, confidence, users=users)
    return made(rule, name, "difference", {**evidence, **gap.as_dict()})


def worst_part(
    rule: RuleInForce,
    labels: np.ndarray,
    candidate: np.ndarray,
    baseline: np.ndarray,
    parts: Mapping[str, np.ndarray],
    confidence: float,
    least: int,
    users: np.ndarray | None = None,
) -> Check:
    """`better_than` on each part (name -> bool[n]) with both classes, `LEAST_USERS` effective users
    and `least` rows, or the rule's where that is more.

    The confidence is shared out over the parts (Bonferroni).
    """
    fewest = max(least, rule.least)
    own = {name: None if users is None else users[mask] for name, mask in parts.items()}
    judged = {
        name: mask
        for name, mask in parts.items()
        if mask.sum() >= fewest
        and 0 < labels[mask].sum() < mask.sum()
        and not few_users(effective_users(int(mask.sum()), own[name]))
    }
    shared = 1 - (1 - confidence) / max(len(judged), 1)
    gaps: dict[str, Any] = {}
    for name, mask in judged.items():
        rows = (labels[mask], candidate[mask], baseline[mask])
        gaps[name] = paired_difference(*rows, shared, users=own[name]).as_dict()
    evidence = {"margin": rule.margin, "least": rule.least, "parts": gaps}
    return made(rule, "worst slice", "slices", evidence)


def sequence_check(
    rules: Sequence[RuleInForce], name: str, sums: Sums, tuned_at: float, alpha: float
) -> Check:
    """`paired log loss` or `CTR` at a look, with its part of the release's `alpha`.

    Pass when the sequence lies inside the margin, fail when it is worse than 0 beyond doubt.
    `tuned_at`: the plan's weight (`exposure.Need.weight`).
    """
    rule = next(rule for rule in rules if rule.check == name)
    evidence = {
        "sums": sums.as_dict(),
        "alpha": alpha_of(name, rules, alpha),
        "tuned_at": float(tuned_at),
        "margin": rule.margin,
        "least": rule.least,
        "higher_is_better": name == "CTR",
        "of": name.removeprefix("paired "),
    }
    return made(rule, name, "sequence", evidence)


def ratio_check(rules: Sequence[RuleInForce], splits: Sequence[Split], alpha: float) -> Check:
    """`sample ratio` at a look, with its part of the release's `alpha`."""
    name = "sample ratio"
    rule = next(rule for rule in rules if rule.check == name)
    raw = [asdict(split) for split in splits]
    evidence = {"splits": raw, "alpha": alpha_of(name, rules, alpha), "least": rule.least}
    return made(rule, name, "ratio", evidence)


def decision(
    stage: Stage,
    title: str,
    rules: Iterable[RuleInForce],
    checks: Iterable[Check],
    rival: str | None = None,
) -> Decision:
    """The checks of a stage under its rules: without those that are off, and with those missing.

    A rule that counts and that no check answers cannot be judged.
    """
    kept: list[Check] = []
    given = list(checks)
    for rule in rules:
        if rule.stage != stage or rule.mode == "off":
            continue
        own = [check for check in given if rule.covers(check.name)]
        missing = made(rule, rule.check, "absent", {"absent": True})
        kept += own or ([missing] if rule.level == "required" else [])
    return Decision(title, tuple(kept), rival)
