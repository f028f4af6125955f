"""When drift is reason enough to train again: k of the last n windows, with a cooldown."""

from collections.abc import Sequence

from data_contracts.clock import duration
from data_contracts.use_case import Retrain


def drift_alarm(
    policy: Retrain, shares: Sequence[float], now: int, last_retrain: int | None
) -> str | None:
    """Why to retrain, or None. `shares`: drifted share of inputs per window, oldest first.

    `now` and `last_retrain` in µs; within the cooldown after a retraining nothing is an alarm.
    """
    if last_retrain is not None and now - last_retrain < duration(policy.cooldown):
        return None
    recent = shares[-policy.windows :]
    drifted = sum(share >= policy.drift_share for share in recent)
    if drifted < policy.alarms:
        return None
    return (
        f"{drifted} of the last {len(recent)} windows have at least "
        f"{policy.drift_share:.0%} of their inputs drifted"
    )
