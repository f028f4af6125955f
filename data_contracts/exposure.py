"""How many impressions and days a release needs until each of its required gates can be judged."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import log, sqrt
from statistics import NormalDist
from typing import Any

from data_contracts.gate_rules import Rule, alpha_of
from data_contracts.sequences import LEAST_UNITS, boundary

RAMP = (0.01, 0.05, 0.25, 0.50)
"""Shares of the candidate; CTR is judged at the last one."""
POWER = 0.9
"""Chance of an equal candidate to have passed by the time that is told."""


@dataclass(frozen=True)
class Traffic:
    """What a use case sees, and how much its figures vary."""

    impressions_per_day: float
    users_per_day: float
    rate: float
    """CTR, in (0, 1)."""
    design_effect: float = 2.0
    """Variance of the CTR over that of independent impressions: users come back."""
    gap_deviation: float = 0.05
    """Standard deviation over impressions of the log-loss gap of two models, in nats."""

    def check(self) -> None:
        """Raise ValueError naming a figure that cannot be."""
        for name, value in asdict(self).items():
            if not value > 0 or (name == "rate" and value >= 1):
                raise ValueError(f"traffic: {name} {value:g}: needs a number above 0, a rate < 1")
        if self.users_per_day > self.impressions_per_day:
            raise ValueError(
                f"traffic: {self.users_per_day:g} users a day with {self.impressions_per_day:g} "
                "impressions: each user has one at least"
            )


@dataclass(frozen=True)
class Need:
    """What one gate needs at the share of its stage."""

    check: str
    stage: str
    share: float
    """Of the traffic that the candidate answers; 1 where it scores all in the shadow."""
    weight: float
    """At which its sequence is narrowest: `tuned_at`; 0 for a gate that is no sequence."""
    impressions: int
    """Of both arms."""
    days: float


@dataclass(frozen=True)
class Plan:
    """The needs of every required gate that a release judges on traffic."""

    needs: tuple[Need, ...]
    max_days: float

    @property
    def days(self) -> float:
        """From shadow to champion: the longest gate of each stage, one stage after the other."""
        stages = {need.stage for need in self.needs}
        return sum(max(n.days for n in self.needs if n.stage == stage) for stage in stages)

    def check(self) -> None:
        """Raise ValueError when the release could not end, naming its longest gate."""
        if self.days > self.max_days:
            longest = max(self.needs, key=lambda need: need.days)
            raise ValueError(
                f"release plan: needs {self.days:.1f} days, max_days is {self.max_days:g}: "
                f"{longest.check} alone takes {longest.impressions:,} impressions in "
                f"{longest.days:.1f} days: declare a wider margin, more days, or it advisory"
            )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        needs = [asdict(need) for need in self.needs]
        return {"days": self.days, "max_days": self.max_days, "needs": needs}


def plan(
    rules: Sequence[Rule], traffic: Traffic, alpha: float, max_days: float, power: float = POWER
) -> Plan:
    """When each enforced, required gate passes with probability `power` a candidate that is equal.

    Raises ValueError for a required sequence without a margin: an equal candidate never passes it.
    """
    traffic.check()
    needs: list[Need] = []
    for rule in rules:
        if rule.stage == "offline" or (rule.level, rule.mode) != ("required", "enforce"):
            continue
        share = 1.0 if rule.stage == "shadow" else RAMP[-1]
        # Of both arms; the candidate's is the smaller one.
        units = LEAST_UNITS / min(share, 1 - share if share < 1 else 1)
        days = units / traffic.users_per_day
        weight = 0.0
        if rule.check in ("CTR", "paired log loss"):
            weight = _weight(rule, traffic, alpha_of(rule.check, rules, alpha), power)
        split = share * (1 - share) if share < 1 else 1.0
        least = max(weight / split, rule.least / share, days * traffic.impressions_per_day)
        spent = least / traffic.impressions_per_day
        needs.append(Need(rule.check, rule.stage, share, weight, round(least), spent))
    return Plan(tuple(needs), max_days)


def weights(rules: Sequence[Rule], traffic: Traffic, alpha: float) -> dict[str, float]:
    """Check -> weight at which its sequence shall be narrowest, for every sequence that is on."""
    return {
        rule.check: _weight(rule, traffic, alpha_of(rule.check, rules, alpha), POWER)
        for rule in rules
        if rule.check in ("CTR", "paired log loss") and rule.mode != "off"
    }


def _weight(rule: Rule, traffic: Traffic, alpha: float, power: float) -> float:
    """Weight at which the sequence's end and the noise of the estimate fit into the margin."""
    if not rule.margin:
        raise ValueError(
            f"gate {rule.check!r}: required without a margin: a candidate that is as good never "
            "passes: declare one"
        )
    rate = traffic.rate
    if rule.check == "CTR":
        deviation, level = sqrt(rate * (1 - rate) * traffic.design_effect), rate
    else:
        entropy = -rate * log(rate) - (1 - rate) * log(1 - rate)
        deviation, level = traffic.gap_deviation, entropy
    errors = boundary(1.0, alpha, 1.0) + NormalDist().inv_cdf(power)
    return (errors * deviation / (rule.margin * level)) ** 2
