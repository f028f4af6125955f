"""Simulated releases, and at which look each way of watching them would have raised an alarm."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_contracts.evidence import Estimate
from data_contracts.rollout import BUCKETS, bucket
from data_contracts.sequences import (
    Split,
    Sums,
    arm_shares,
    interval,
    sample_ratio,
)
from tests.benchmarks.noise import Noise

Ramp = Sequence[tuple[float, int]]
RAMP: Ramp = ((0.01, 10), (0.05, 10), (0.25, 15), (0.50, 25))
"""(share of the candidate, looks) of each epoch; a look an hour."""
DAY = 24
_TABLE = 1 << 16
SERVICE, ANY = "errors, latency or scores", "any check of a release"


@dataclass(frozen=True)
class Scenario:
    """What is wrong with the candidate; nothing in an A/A release."""

    name: str
    clicks: float = 1.0
    """Its CTR over the champion's."""
    lost: float = 0.0
    """Share of its users whose requests never arrive."""
    tilt: float = 0.0
    """How far its logits lie above the champion's."""
    unanswered: float = 0.0
    """Share of its requests that it does not answer."""


SAME = Scenario("A/A")
WORSE = Scenario("20 % fewer clicks", clicks=0.8)
BROKEN = Scenario("scores too high, users lost", lost=0.15, tilt=0.25)
FAILING = Scenario("2 % of its requests unanswered", unanswered=0.02)


@dataclass(frozen=True)
class Shop:
    """Users with Pareto activity and their own click rate, who are hashed to an arm."""

    users: int = 5_000
    impressions: int = 2_000
    """A look, on average over the day."""
    tail: float = 2.0
    """Pareto's index of activity."""
    spread: float = 0.5
    """Standard deviation of the users' logits."""
    error: float = 0.3
    """Of a model's logit of a user."""
    rate: float = 0.07

    def table(self) -> np.ndarray:
        """int64[65536]: a uniform draw from it is a draw of users by their activity."""
        place = (np.arange(self.users) + 0.5) / self.users
        weight = np.cumsum((1 - place) ** (-1 / self.tail))
        return np.searchsorted(weight / weight[-1], (np.arange(_TABLE) + 0.5) / _TABLE)


Looks = dict[str, int]
"""Watcher -> first look with an alarm, or -1."""


def watch(
    shop: Shop, scenario: Scenario, releases: Iterable[int], seed: int, alpha: float
) -> list[Looks]:
    """The alarms of the releases of these numbers, `alpha` split over the three sequences."""
    found: list[Looks] = []
    for i in releases:
        looks = simulated(
            shop, scenario, np.random.default_rng((seed, i)), f"{scenario.name}\x1f{seed}\x1f{i}"
        )
        alarms = _service_alarms(scenario, np.random.default_rng((seed, i, 1)))
        next(alarms)
        found.append(_first_alarms(looks, alpha, alarms.send))
    return found


def simulated(
    shop: Shop,
    scenario: Scenario,
    rng: np.random.Generator,
    salt: str,
    ramp: Ramp = RAMP,
) -> Iterator["Look"]:
    """The looks of one release, whose users are hashed to an arm under `salt` as the server does
    it; a share of 0 is the shadow."""
    buckets = np.array([bucket(salt, f"u{user}") for user in range(shop.users)])
    return _release(shop, scenario, rng, buckets / BUCKETS, ramp)


@dataclass(frozen=True)
class Look:
    """What a release knows after one look."""

    arms: Sums
    by_day: Sums
    """The same with a unit per user and day."""
    pairs: Sums
    splits: Sequence[Split]
    naive: tuple[float, float, float]
    """CTR of champion and candidate over all impressions, and the z value of their difference."""
    planned: tuple[float, float]
    """Weight of arms and pairs at which the sequences shall be narrowest."""
    shown: tuple[int, int]
    """Impressions of champion and candidate since the look before."""


def _service_alarms(
    scenario: Scenario, rng: np.random.Generator
) -> Generator[bool, tuple[int, int]]:
    """Whether errors, latency or scores ring, look by look; it is sent what each look has shown.
    Each step counts its requests anew."""
    alarms = False
    for _, looks in RAMP:
        noise = Noise(rng, scenario.unanswered)
        for _ in range(looks):
            noise.add(*(yield alarms))
            alarms = noise.alarms
    yield alarms


def _first_alarms(
    release: Iterator[Look], alpha: float, service: Callable[[tuple[int, int]], bool]
) -> Looks:
    watchers: dict[str, Callable[[Look], bool]] = {
        "CTR sequence": lambda at: _below(interval(at.arms, alpha / 3, at.planned[0])),
        "paired log-loss sequence": lambda at: _above(interval(at.pairs, alpha / 3, at.planned[1])),
        "sample-ratio test": lambda at: sample_ratio(at.splits) >= 3 / alpha,
        SERVICE: lambda at: service(at.shown),
        "CTR sequence, users' days as independent": lambda at: _below(
            interval(at.by_day, alpha / 3, at.planned[0])
        ),
        "z-test at every look": lambda at: at.arms.judgeable and at.naive[2] < -1.96,
        "10 % below, at every look": lambda at: (
            at.arms.judgeable and at.naive[1] < 0.9 * at.naive[0]
        ),
    }
    found = dict.fromkeys(watchers, -1)
    for number, look in enumerate(release):
        for name, rings in watchers.items():
            if rings(look) and found[name] < 0:
                found[name] = number
    parts = list(watchers)[:4]
    rung = [found[name] for name in parts if found[name] >= 0]
    sequences = [found[name] for name in parts if found[name] >= 0 and name != SERVICE]
    firsts = {ANY: rung, "any of the three sequences": sequences}
    return {**{name: min(each, default=-1) for name, each in firsts.items()}, **found}


def _below(estimate: Estimate) -> bool:
    return estimate.high < 0


def _above(estimate: Estimate) -> bool:
    return estimate.low > 0


def _release(
    shop: Shop,
    scenario: Scenario,
    rng: np.random.Generator,
    place: np.ndarray,
    ramp: Ramp,
) -> Iterator[Look]:
    """`place` float64[users]: the candidate gets those below its share."""
    table = shop.table()
    users, looks = shop.users, sum(looks for _, looks in ramp)
    logit = rng.normal(np.log(shop.rate / (1 - shop.rate)) - 0.11, shop.spread, users)
    models = [rng.normal(0, shop.error, users), rng.normal(scenario.tilt, shop.error, users)]
    p0, p1 = (1 / (1 + np.exp(-logit - error)) for error in models)
    if_not = np.log((1 - p0) / (1 - p1))
    if_clicked = np.log(p0 / p1) - if_not
    usual = 1 / (1 + np.exp(-logit))
    lost = rng.random(users) < scenario.lost
    final = sum(share * (1 - share) * n for share, n in ramp) * shop.impressions
    planned = (final / 2, looks * shop.impressions / 2)
    z, today, gaps, shown = (np.zeros(users) for _ in range(4))
    closed = total = weight = level = 0.0
    seen = [np.zeros(users, bool), np.zeros(users, bool)]
    sums = np.zeros((2, 2))
    left_by = np.full(users, -1)
    decided = np.full(users, -1)
    counts = np.zeros((len(ramp), len(ramp) + 1, 2), np.int64)
    one = np.zeros(users, np.int64)
    number = 0
    for epoch, (share, many) in enumerate(ramp):
        candidate = place < share
        champion = ~candidate
        chances = usual * np.where(candidate, scenario.clicks, 1.0)
        gone = lost & candidate
        for _ in range(many):
            hour = 2 * np.pi * (number % DAY) / DAY
            drawn = rng.poisson(shop.impressions * (1 + 0.5 * np.sin(hour)))
            user = table[rng.integers(0, _TABLE, drawn, np.uint16)]
            if scenario.lost:
                user = user[~gone[user]]
            clicked = (
                rng.random(len(user), np.float32) < (1 + 0.2 * np.sin(hour + 1)) * chances[user]
            )
            n = np.bincount(user, minlength=users)
            k = np.bincount(user[clicked], minlength=users)
            share_of, added, champions = arm_shares(one, candidate, n, k)
            if number % DAY == 0:
                closed, today = closed + float(today @ today), np.zeros(users)
            z += share_of
            today += share_of
            total, weight, level = total + share_of.sum(), weight + added, level + champions
            gaps += k * if_clicked + n * if_not
            shown += n
            here = n > 0
            seen[0] |= here & champion
            seen[1] |= here & candidate
            fresh = here & (decided < epoch)
            _count(counts[epoch], fresh, left_by, candidate)
            decided[fresh] = np.where(candidate[fresh], len(ramp), epoch)
            left_by[fresh] = np.where(candidate[fresh], left_by[fresh], epoch)
            before = sums.copy()
            sums += [[n @ champion, k @ champion], [n @ candidate, k @ candidate]]
            units = (int(seen[0].sum()), int(seen[1].sum()))
            all_shown = float(shown.sum())
            mean = float(gaps.sum()) / all_shown
            spread = gaps - mean * shown
            pairs = (int((seen[0] | seen[1]).sum()),) * 2
            parts = (weight, level, units, int(all_shown))
            yield Look(
                Sums(total, weight, float(z @ z), *parts[1:]),
                Sums(total, weight, closed + float(today @ today), *parts[1:]),
                Sums(float(gaps.sum()), all_shown, float(spread @ spread), 0.0, pairs, parts[3]),
                _splits(counts, ramp),
                _naive(sums),
                planned,
                (int(sums[0, 0] - before[0, 0]), int(sums[1, 0] - before[1, 0])),
            )
            number += 1


def _count(
    counts: np.ndarray, fresh: np.ndarray, left_by: np.ndarray, candidate: np.ndarray
) -> None:
    group = left_by[fresh] + 1
    counts[:, 0] += np.bincount(group[candidate[fresh]], minlength=len(counts))
    counts[:, 1] += np.bincount(group, minlength=len(counts))


def _splits(counts: np.ndarray, ramp: Ramp) -> list[Split]:
    found = []
    for epoch, (share, _) in enumerate(ramp):
        for group, (candidate, units) in enumerate(counts[epoch]):
            before = ramp[group - 1][0] if group else 0.0
            if units and share:
                chance = (share - before) / (1 - before)
                found.append(Split(chance, int(candidate), int(units)))
    return found


def _naive(sums: np.ndarray) -> tuple[float, float, float]:
    (n0, k0), (n1, k1) = sums
    rates, rate = (k0 / max(n0, 1), k1 / max(n1, 1)), (k0 + k1) / max(n0 + n1, 1)
    error = np.sqrt(rate * (1 - rate) * (1 / max(n0, 1) + 1 / max(n1, 1)))
    return (*rates, float((rates[1] - rates[0]) / error) if error else 0.0)
