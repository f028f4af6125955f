"""How many impressions and days a release needs until its required gates have judged each step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import inf, log, sqrt
from statistics import NormalDist
from typing import Any

from data_contracts.gate_rules import RuleInForce, alpha_of
from data_contracts.rollout import BUCKETS, Rollout
from data_contracts.sequences import LEAST_UNITS, boundary

CTR, RATIO, WEIGHED = "CTR", "sample ratio", ("CTR", "paired log loss")
SERVICE = ("errors", "latency p99", "score shift")
"""Checks that count requests."""
POWER = 0.9
"""Chance of an equal candidate to have passed by the time that is told."""
APART = 0.4
"""How far a candidate's log odds are taken to be from the champion's, as a standard deviation over
impressions, until a shadow has shown it."""


@dataclass(frozen=True)
class Traffic:
    """What a use case sees, and how much its figures vary."""

    impressions_per_day: float
    requests_per_day: float
    users_per_day: float
    """Distinct units of assignment a day."""
    rate: float
    """CTR, in (0, 1)."""
    new_users_per_day: float = 0.0
    """Of them those who did not come on the days before, from the second day on."""
    design_effect: float = 2.0
    """Variance of the CTR over that of independent impressions: users come back."""
    gap_deviation: float | None = None
    """Of the sum of two models' log-loss gaps over impressions, in nats, over the root of their
    number, so that users who come back are in it; None: of log odds that are `APART`."""
    log_loss: float | None = None
    """The champion's, in nats; None: that of the constant `rate`."""

    @property
    def gap(self) -> float:
        """`gap_deviation`, or what it is taken for: a gap is (score - label) x log odds apart."""
        spread = sqrt(self.rate * (1 - self.rate) * self.design_effect)
        return APART * spread if self.gap_deviation is None else self.gap_deviation

    @property
    def loss(self) -> float:
        """`log_loss`, or the entropy of the rate."""
        rate = self.rate
        entropy = -rate * log(rate) - (1 - rate) * log(1 - rate)
        return entropy if self.log_loss is None else self.log_loss

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with the names of the figures that are `assumed` while none is measured."""
        unknown = [name for name, value in asdict(self).items() if value is None]
        taken = {"gap_deviation": self.gap, "log_loss": self.loss, "assumed": unknown}
        return asdict(self) | taken

    def check(self) -> None:
        """Raise ValueError naming a figure that cannot be."""
        for name, value in asdict(self).items():
            if value is None or (name == "new_users_per_day" and value == 0):
                continue
            if not value > 0 or (name == "rate" and value >= 1):
                raise ValueError(f"traffic: {name} {value:g}: needs a number above 0, a rate < 1")
        falling = ("impressions", "requests", "users", "new_users")
        for more, less in pairwise(falling):
            most, least = (getattr(self, f"{name}_per_day") for name in (more, less))
            if least > most:
                raise ValueError(f"traffic: {least:g} {less} a day are more than {most:g} {more}")

    def days_of(self, users: float) -> float:
        """Until so many distinct users have come; infinite where they never do."""
        if users <= self.users_per_day:
            return users / self.users_per_day
        new = self.new_users_per_day
        return 1 + (users - self.users_per_day) / new if new else inf


@dataclass(frozen=True)
class Need:
    """What one gate needs on one step of a release."""

    check: str
    stage: str
    share: float
    """Of the traffic that the candidate answers; 1 where it scores all in the shadow."""
    weight: float
    """At which its sequence is narrowest: `tuned_at`; 0 for a gate that is no sequence."""
    impressions: int
    """Of both arms, in that time."""
    days: float
    """Since the step began."""


@dataclass(frozen=True)
class Exposure:
    """The needs of every required gate that a release judges on traffic."""

    needs: tuple[Need, ...]
    max_days: float

    @property
    def days(self) -> float:
        """From shadow to champion: the longest gate of each step, one step after the other."""
        longest: dict[tuple[str, float], float] = {}
        for need in self.needs:
            step = need.stage, need.share
            longest[step] = max(need.days, longest.get(step, 0.0))
        return sum(longest.values())

    def check(self) -> None:
        """Raise ValueError when the release could not end, naming its longest gate."""
        if self.days > self.max_days:
            longest = max(self.needs, key=lambda need: need.days)
            raise ValueError(
                f"release plan: needs {self.days:.1f} days, max_days is {self.max_days:g}: "
                f"{longest.check} at {longest.share:.0%} alone takes {longest.impressions:,} "
                f"impressions in {longest.days:.1f} days: declare a wider margin, less that is "
                "needed, larger steps, more days, or it advisory"
            )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        needs = [asdict(need) for need in self.needs]
        return {"days": self.days, "max_days": self.max_days, "needs": needs}


def plan(
    rules: Sequence[RuleInForce],
    traffic: Traffic,
    alpha: float,
    max_days: float,
    rollout: Rollout,
    maturing_days: float,
    power: float = POWER,
) -> Exposure:
    """When each enforced, required gate passes with probability `power` a candidate that is equal.

    `maturing_days`: until an impression's label is known. Dwell times and the time between looks
    are not counted. Raises ValueError for a stage without such a gate, which nothing ends, and for
    a gate that needs more users than ever come.
    """
    traffic.check()
    on = [rule for rule in rules if rule.stage != "offline" and rule.counts]
    for stage in ("shadow", "canary"):
        if not any(rule.stage == stage for rule in on):
            raise ValueError(
                f"release plan: no gate of the {stage} is required and enforced: nothing ends it "
                "but an override: declare one so"
            )
    tuned = {
        rule.check: _weight(rule, traffic, alpha_of(rule.check, rules, alpha), power)
        for rule in on
        if rule.check in WEIGHED
    }
    needs = [*_shadow(on, traffic, tuned, maturing_days)]
    spent = gained = 0.0
    for bps in rollout.steps:
        share = bps / BUCKETS
        step = [*_service(on, traffic, share)]
        if bps == rollout.steps[-1]:
            step += _last(on, traffic, share, tuned, spent, gained, maturing_days)
        needs += step
        days = max((need.days for need in step), default=0.0)
        spent += days
        gained += days * share * (1 - share) * traffic.impressions_per_day
    return Exposure(tuple(needs), max_days)


def _shadow(
    rules: Sequence[RuleInForce], traffic: Traffic, tuned: Mapping[str, float], maturing: float
) -> Iterator[Need]:
    """The paired comparison on every impression."""
    for rule in rules:
        if rule.stage == "shadow":
            weight = tuned[rule.check]
            rows = max(weight, rule.least) / traffic.impressions_per_day
            days = max(rows, _users(rule, traffic, LEAST_UNITS)) + maturing
            yield _need(rule, traffic, 1.0, days, weight)


def _service(rules: Sequence[RuleInForce], traffic: Traffic, share: float) -> Iterator[Need]:
    """Checks of the candidate's answers, made anew on each step."""
    for rule in rules:
        if rule.check in SERVICE and rule.stage == "canary":
            days = rule.least / (share * traffic.requests_per_day)
            yield _need(rule, traffic, share, days)


def _last(
    rules: Sequence[RuleInForce],
    traffic: Traffic,
    share: float,
    tuned: Mapping[str, float],
    spent: float,
    gained: float,
    maturing: float,
) -> Iterator[Need]:
    """What has to be proven at the last share: `spent` days and `gained` weight before it count."""
    for rule in rules:
        if rule.stage != "canary" or rule.check in SERVICE:
            continue
        units = LEAST_UNITS / min(share, 1 - share)
        days = _users(rule, traffic, max(units, rule.least) if rule.check == RATIO else units)
        weight = tuned.get(rule.check, 0.0)
        if rule.check == CTR:
            left = (weight - gained) / (share * (1 - share) * traffic.impressions_per_day)
            rows = rule.least / traffic.impressions_per_day - spent
            days = max(days, left, rows) + maturing
        yield _need(rule, traffic, share, days, weight)


def _users(rule: RuleInForce, traffic: Traffic, users: float) -> float:
    days = traffic.days_of(users)
    if days == inf:
        raise ValueError(
            f"gate {rule.check!r}: needs {users:,.0f} users, {traffic.users_per_day:,.0f} a day "
            "come and no new ones: tell how many are new, or declare it advisory"
        )
    return days


def _need(
    rule: RuleInForce, traffic: Traffic, share: float, days: float, weight: float = 0.0
) -> Need:
    impressions = round(days * traffic.impressions_per_day)
    return Need(rule.check, rule.stage, share, weight, impressions, days)


def weights(rules: Sequence[RuleInForce], traffic: Traffic, alpha: float) -> dict[str, float]:
    """Check -> weight at which its sequence shall be narrowest, for every sequence that is on."""
    return {
        rule.check: _weight(rule, traffic, alpha_of(rule.check, rules, alpha), POWER)
        for rule in rules
        if rule.check in WEIGHED and rule.mode != "off"
    }


def _weight(rule: RuleInForce, traffic: Traffic, alpha: float, power: float) -> float:
    """Weight at which the sequence's end and the noise of the estimate fit into the margin."""
    rate = traffic.rate
    if rule.check == CTR:
        deviation, level = sqrt(rate * (1 - rate) * traffic.design_effect), rate
    else:
        deviation, level = traffic.gap, traffic.loss
    errors = boundary(1.0, alpha, 1.0) + NormalDist().inv_cdf(power)
    return (errors * deviation / (rule.margin * level)) ** 2
