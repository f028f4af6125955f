"""What a use case's traffic is, by its matured outcomes."""

import numpy as np

from data_contracts.exposure import Traffic
from data_contracts.lake import Lake
from serving.evidence import columns

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_DAYS = 7


def measured(lake: Lake) -> Traffic:
    """Impressions and users a day, CTR and its design effect, over the last seven whole days or
    over what there is of a first one, whose users are then taken for a day's and none for new.

    Raises ValueError where the outcomes tell of less than an hour, or of one class only.
    """
    rows = columns(lake.outcomes, ["unit", "label", "q", "request_id"])
    if not rows or rows["q"].max(initial=0) - rows["q"].min(initial=0) < _HOUR_US:
        raise ValueError(
            "traffic: no hour of matured outcomes to measure it by: run `headrace report` later, "
            "or give --impressions, --requests, --users and --rate"
        )
    ago = rows["q"].max() - rows["q"]
    days = min(int(ago.max() // _DAY_US), _DAYS)
    recent = ago < (days or 1) * _DAY_US
    labels, ago = rows["label"][recent].astype(float), ago[recent]
    _, unit = np.unique(rows["unit"][recent], return_inverse=True)
    rate = float(labels.mean())
    if not 0 < rate < 1:
        raise ValueError(
            f"traffic: all {len(labels):,} matured outcomes are of one class: give --rate"
        )
    squares = float((np.bincount(unit, labels - rate) ** 2).sum())
    spent, day = days or float(ago.max()) / _DAY_US, ago // _DAY_US
    users = len({*zip(unit.tolist(), day.tolist(), strict=True)}) / (days or 1)
    came = np.zeros(len(set(unit.tolist())), np.int64)
    np.maximum.at(came, unit, day)
    fresh = float((came < days - 1).sum()) / (days - 1) if days > 1 else 0.0
    return Traffic(
        impressions_per_day=len(labels) / spent,
        requests_per_day=len(set(rows["request_id"][recent].tolist())) / spent,
        users_per_day=users,
        new_users_per_day=min(fresh, users),
        rate=rate,
        # Where it looks smaller than one, that is chance.
        design_effect=max(1.0, squares / (len(labels) * rate * (1 - rate))),
    )
