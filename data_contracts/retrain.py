"""When drift is reason enough to train again: k of the last n windows, with a cooldown."""

from collections.abc import Sequence

from data_contracts.clock import duration
from data_contracts.use_case import Retrain


def drift_alarm(
    policy: Retrain, windows: Sequence[tuple[int, float]], now: int, trained: int | None
) -> str | None:
    """Why to retrain, or None. `windows`: when each was judged (µs) and its drifted share of
    inputs, oldest first; `now` and `trained`, when a version was trained last, in µs.

    Within the cooldown after a training nothing is an alarm, and windows that were judged before it
    are none after it either.
    """
    if trained is not None and now - trained < duration(policy.cooldown):
        return None
    since = [share for at, share in windows if trained is None or at > trained]
    recent = since[-policy.windows :]
    drifted = sum(share >= policy.drift_share for share in recent)
    if drifted < policy.alarms:
        return None
    return (
        f"{drifted} of the last {len(recent)} windows have at least "
        f"{policy.drift_share:.0%} of their inputs drifted"
    )
