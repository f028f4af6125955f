"""Which gates a use case declares for each stage of a release, and how much each of them counts."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

Stage = Literal["offline", "shadow", "canary"]
"""Where the evidence comes from: held-out rows, mirrored requests, answers to users."""
Level = Literal["required", "advisory"]
"""A move needs every required gate passed; an advisory one is told and stops nothing."""
Mode = Literal["off", "dry_run", "enforce"]
"""Not judged; judged and told; judged, told and counted."""


BETTER = "better than champion"
"""The check that needs a champion to be asked."""
LOGISTIC = "better than logistic"
"""The check that the logistic baseline itself passes as such: evidence of kind `itself`."""
NUMBERS = ("margin", "limit", "least")
"""Fields of a rule that come from the default where they are not given."""


def counts(level: str, mode: str) -> bool:
    """Whether a move needs such a check passed."""
    return (level, mode) == ("required", "enforce")


@dataclass(frozen=True)
class Rule:
    """One gate of a stage, as declared: a number that is not given is that of `DEFAULTS`."""

    check: str
    """Of `CHECKS`. One that names its rival, as `better than champion 3`, goes by the rest."""
    stage: Stage
    level: Level = "required"
    mode: Mode = "enforce"
    margin: float | None = None
    """How much worse still passes. Nats of log loss offline; in a release a share of the
    champion's figure (log loss, CTR)."""
    limit: float | None = None
    """The most that a figure may be, for gates that limit one: milliseconds of the offline latency;
    of errors the share of requests, unless the champion's is more;
    of latency and mean score in a canary how many times the champion's; of the calibration also the
    least, as 1 / limit."""
    least: int | None = None
    """Sample below which nothing is judged: held-out rows (of the worst slice: of each part), for
    errors, latency and scores requests, for the sample ratio units, else impressions."""

    @property
    def counts(self) -> bool:
        """Whether a move needs its check passed."""
        return counts(self.level, self.mode)

    def covers(self, check: str) -> bool:
        """Whether the check of this name is under this rule."""
        return check == self.check or check.startswith(f"{self.check} ")


@dataclass(frozen=True)
class RuleInForce(Rule):
    """A rule with all its numbers."""

    margin: float = 0.0
    limit: float = 0.0
    least: int = 0


DEFAULTS = (
    RuleInForce("definitions", "offline"),
    RuleInForce("golden rows", "offline"),
    RuleInForce("latency p99", "offline", limit=20.0),
    RuleInForce("better than constant", "offline"),
    RuleInForce(LOGISTIC, "offline"),
    RuleInForce("calibration", "offline", "advisory", limit=1.25),
    RuleInForce("worst slice", "offline", "advisory"),
    RuleInForce(BETTER, "offline"),
    RuleInForce("paired log loss", "shadow", margin=0.02),
    RuleInForce("errors", "canary", limit=0.001, least=1_000),
    RuleInForce("latency p99", "canary", limit=1.5, least=1_000),
    RuleInForce("score shift", "canary", limit=2.0, least=1_000),
    RuleInForce("sample ratio", "canary"),
    RuleInForce("CTR", "canary", margin=0.05),
)
"""What holds unless a use case declares otherwise. A release's alpha is split over `SEQUENTIAL`."""
CHECKS = tuple((rule.stage, rule.check) for rule in DEFAULTS)
KIND_OF = {
    "definitions": "same",
    "golden rows": "fact",
    "latency p99": "at most",
    "better than constant": "difference",
    LOGISTIC: "difference",
    "calibration": "between",
    "worst slice": "slices",
    BETTER: "difference",
    "paired log loss": "sequence",
    "errors": "failures",
    "score shift": "at most",
    "sample ratio": "ratio",
    "CTR": "sequence",
}
"""Check -> kind of the evidence that judges it, of `judging.KINDS`; no other stands for it."""
USES = {
    "same": (),
    "itself": (),
    "fact": (),
    "at most": ("limit", "least"),
    "failures": ("limit", "least"),
    "difference": ("margin", "least"),
    "between": ("limit", "least"),
    "slices": ("margin", "least"),
    "sequence": ("margin", "least"),
    "ratio": ("least",),
}
"""Kind of evidence -> the numbers of a rule by which it is judged, and which it embeds."""
ABOVE = {"latency p99": 0.0, "calibration": 1.0, "score shift": 1.0}
"""Check -> what its limit must be above: no figure is below."""
SEQUENTIAL = ("paired log loss", "sample ratio", "CTR")
"""Checks that are looked at again and again while a release runs."""
FAILURES_ALPHA = 0.001
"""Most of the candidates that fail no more often than they may which errors end on one step of a
canary, at any of its looks: beside the release's alpha, for its requests are counted anew on each
step, so that four steps come to 0.4 % at most."""


def effective(changed: Iterable[Rule]) -> tuple[RuleInForce, ...]:
    """The defaults, each changed by the rule of the same stage and check where there is one."""
    own = {(rule.stage, rule.check): rule for rule in changed}
    return tuple(_changed(rule, own.get((rule.stage, rule.check), rule)) for rule in DEFAULTS)


def _changed(default: RuleInForce, by: Rule) -> RuleInForce:
    given = {name: value for name in NUMBERS if (value := getattr(by, name)) is not None}
    return replace(default, level=by.level, mode=by.mode, **given)


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
        for number in NUMBERS:
            value, used = getattr(rule, number), USES[KIND_OF[rule.check]]
            if value is not None and number not in used:
                judged = f"is judged by {' and '.join(used) or 'no number'}"
                raise ValueError(f"{name}: {number} {value:g}: {judged}: leave it out")
            if value is not None and not value >= 0:
                raise ValueError(f"{name}: {number} {value:g}: must not be below 0")
        if rule.margin == 0 and KIND_OF[rule.check] == "sequence":
            raise ValueError(
                f"{name}: margin 0: a candidate that is as good never passes: declare one above 0"
            )
        if rule.least is not None and (rule.stage, rule.check) == ("offline", "latency p99"):
            raise ValueError(
                f"{name}: least {rule.least}: is measured by calls of its own: leave it out"
            )
        if rule.limit is not None and not rule.limit > ABOVE.get(rule.check, -1.0):
            raise ValueError(
                f"{name}: limit {rule.limit:g}: must be above {ABOVE[rule.check]:g}, "
                "or nothing passes"
            )
        seen.add((rule.stage, rule.check))


def alpha_of(check: str, rules: Iterable[Rule], alpha: float) -> float:
    """A sequential check's part of a release's alpha: equal parts for all that are not off."""
    on = {rule.check for rule in rules if rule.check in SEQUENTIAL and rule.mode != "off"}
    if check not in on:
        raise ValueError(f"gate {check!r}: is off or no sequence: has no part of alpha")
    return alpha / len(on)
