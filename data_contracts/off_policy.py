"""Off-policy value of a policy from another policy's log with known propensities."""

from dataclasses import dataclass

import numpy as np

from data_contracts.evidence import Estimate, percentile_interval


@dataclass(frozen=True)
class OffPolicyValue:
    """Inverse-propensity estimates of the mean reward under the target policy."""

    ips: Estimate
    snips: Estimate
    effective_sample_size: float
    max_weight: float


def off_policy_value(
    rewards: np.ndarray,
    logged: np.ndarray,
    target: np.ndarray,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> OffPolicyValue:
    """IPS (Horvitz & Thompson 1952), SNIPS (Swaminathan & Joachims 2015), bootstrap intervals.

    `rewards` float[n]; `logged` and `target`: probability of the logged action under each policy.
    Raises ValueError when a logged probability is not in (0, 1].
    """
    if not len(rewards) or not ((logged > 0) & (logged <= 1)).all():
        raise ValueError("off-policy value: needs rows, each with a logged propensity in (0, 1]")
    weight = target / logged
    rng = np.random.default_rng(seed)
    ips: list[float] = []
    snips: list[float] = []
    for _ in range(draws):
        pick = rng.integers(0, len(rewards), len(rewards))
        w, r = weight[pick], rewards[pick]
        ips.append(float((w * r).mean()))
        if total := float(w.sum()):
            snips.append(float((w * r).sum()) / total)
    total = float(weight.sum())
    normalised = float((weight * rewards).sum()) / total if total else float("nan")
    n = len(rewards)
    return OffPolicyValue(
        ips=Estimate(float((weight * rewards).mean()), *percentile_interval(ips, confidence), n),
        snips=Estimate(normalised, *percentile_interval(snips, confidence), n),
        effective_sample_size=total**2 / float((weight**2).sum()) if total else 0.0,
        max_weight=float(weight.max()),
    )
