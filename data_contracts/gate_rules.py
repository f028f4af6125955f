"""Which gates a use case declares for each stage of a release, and how much each of them counts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Stage = Literal["offline", "shadow", "canary"]
"""Where the evidence comes from: held-out rows, mirrored requests, answers to users."""
Level = Literal["required", "advisory"]
"""A move needs every required gate passed; an advisory one is told and stops nothing."""
Mode = Literal["off", "dry_run", "enforce"]
"""Not judged; judged and told; judged, told and counted."""


BETTER = "better than champion"
"""The check that needs a champion to be asked."""


@dataclass(frozen=True)
class Rule:
    """One gate of a stage."""

    check: str
    """Of `CHECKS`. One that names its rival, as `better than champion 3`, goes by the rest."""
    stage: Stage
    level: Level = "required"
    mode: Mode = "enforce"
    margin: float = 0.0
    """How much worse still passes. Nats of log loss offline; in a release a share of the
    champion's figure (log loss, CTR)."""
    limit: float = 0.0
    """The most that a figure may be, for gates that limit one; of latency and mean score in a
    canary how many times the champion's."""
    least: int = 0
    """Impressions (of errors, latency and scores: requests) below which nothing is judged."""

    def covers(self, check: str) -> bool:
        """Whether the check of this name is under this rule."""
        return check == self.check or check.startswith(f"{self.check} ")


DEFAULTS = (
    Rule("definitions", "offline"),
    Rule("golden rows", "offline"),
    Rule("latency p99", "offline"),
    Rule("better than constant", "offline"),
    Rule("better than logistic", "offline"),
    Rule("calibration", "offline", "advisory", limit=1.25),
    Rule("worst slice", "offline", "advisory"),
    Rule(BETTER, "offline"),
    Rule("paired log loss", "shadow", margin=0.02),
    Rule("errors", "canary", limit=0.001, least=1_000),
    Rule("latency p99", "canary", limit=1.5, least=1_000),
    Rule("score shift", "canary", limit=2.0, least=1_000),
    Rule("sample ratio", "canary"),
    Rule("CTR", "canary", margin=0.05),
)
"""What holds unless a use case declares otherwise. A release's alpha is split over `SEQUENTIAL`."""
CHECKS = tuple((rule.stage, rule.check) for rule in DEFAULTS)
SEQUENTIAL = ("paired log loss", "sample ratio", "CTR")
"""Checks that are looked at again and again while a release runs."""


def effective(changed: Iterable[Rule]) -> tuple[Rule, ...]:
    """The defaults, each replaced by the rule of the same stage and check where there is one."""
    own = {(rule.stage, rule.check): rule for rule in changed}
    return tuple(own.get((rule.stage, rule.check), rule) for rule in DEFAULTS)


def check_rules(changed: Iterable[Rule]) -> None:
    """Raise ValueError naming a rule of no known check, with a bad number, or declared twice."""
    seen: set[tuple[str, str]] = set()
    for rule in changed:
        name = f"gate {rule.check!r} of stage {rule.stage!r}"
        if (rule.stage, rule.check) not in CHECKS:
            known = ", ".join(f"{check!r} ({stage})" for stage, check in CHECKS)
            raise ValueError(f"{name}: unknown: choose from {known}")
        if (rule.stage, rule.check) in seen:
            raise ValueError(f"{name}: declared twice: keep one")
        if rule.level not in get_args(Level) or rule.mode not in get_args(Mode):
            raise ValueError(f"{name}: level {rule.level!r}, mode {rule.mode!r}: no such words")
        if min(rule.margin, rule.limit, rule.least) < 0:
            raise ValueError(f"{name}: margin, limit and least must not be below 0")
        seen.add((rule.stage, rule.check))


def alpha_of(check: str, rules: Iterable[Rule], alpha: float) -> float:
    """A sequential check's part of a release's alpha: equal parts for all that are not off."""
    on = {rule.check for rule in rules if rule.check in SEQUENTIAL and rule.mode != "off"}
    if check not in on:
        raise ValueError(f"gate {check!r}: is off or no sequence: has no part of alpha")
    return alpha / len(on)
