"""What a use case's traffic is, by its matured outcomes."""

from dataclasses import replace
from math import sqrt

import numpy as np

from data_contracts.clock import DAY, HOUR
from data_contracts.evidence import log_losses
from data_contracts.exposure import Exposure, Traffic, plan
from data_contracts.lake import Lake
from data_contracts.sequences import LEAST_UNITS, paired_gap
from data_contracts.use_case import UseCase
from serving.evidence import columns, instant

_DAYS = 7


class Unmeasured(ValueError):
    """Outcomes that do not tell the traffic yet."""


def needs(use_case: UseCase, seen: Traffic) -> Exposure:
    """What each gate of the use case's releases needs at this traffic; ValueError for one that
    never passes."""
    declared = use_case.declared
    gates, maturing = declared.gates, declared.label.window / DAY
    return plan(gates.rules, seen, gates.alpha, gates.max_days, declared.rollout, maturing)


def expected(use_case: UseCase, lake: Lake) -> Exposure | None:
    """What a release that begins now needs; None where no outcomes tell the traffic yet.

    Who is new shows after two whole days of outcomes: before them all users are taken for new, so
    that the days are the fewest that there can be. ValueError for a gate that never passes.
    """
    try:
        seen, days = _measured(lake)
    except Unmeasured:
        return None
    return needs(
        use_case, seen if days > 1 else replace(seen, new_users_per_day=seen.users_per_day)
    )


def measured(lake: Lake) -> Traffic:
    """Impressions and users a day, CTR and its design effect, over the last seven whole days or
    over what there is of a first one, whose users are then taken for a day's and none for new; the
    log loss of what was served then, and the gap to it of the last candidate that was in a shadow.

    Raises Unmeasured where the outcomes tell of less than an hour, or of one class only.
    """
    return _measured(lake)[0]


def _measured(lake: Lake) -> tuple[Traffic, int]:
    """The traffic, and over how many whole days it was measured."""
    times = columns(lake.outcomes, ["q"]).get("q", np.empty(0, np.int64))
    if not len(times) or np.ptp(times) < HOUR:
        raise Unmeasured(
            "traffic: no hour of matured outcomes to measure it by: run `headrace report` later, "
            "or give --impressions, --requests, --users and --rate"
        )
    days = min(int(np.ptp(times) // DAY), _DAYS)
    before = instant(int(times.max()) - (days or 1) * DAY)
    names = ["unit", "label", "q", "request_id", "score"]
    rows = columns(lake.outcomes, names, [("q", ">", before)])
    if not rows:
        raise Unmeasured("traffic: outcomes of an older build: run `headrace report` once")
    labels, ago = rows["label"].astype(float), times.max() - rows["q"]
    _, unit = np.unique(rows["unit"], return_inverse=True)
    rate = float(labels.mean())
    if not 0 < rate < 1:
        raise Unmeasured(
            f"traffic: all {len(labels):,} matured outcomes are of one class: give --rate"
        )
    squares = float((np.bincount(unit, labels - rate) ** 2).sum())
    spent, day = days or float(ago.max()) / DAY, ago // DAY
    users = len({*zip(unit.tolist(), day.tolist(), strict=True)}) / (days or 1)
    came = np.zeros(len(set(unit.tolist())), np.int64)
    np.maximum.at(came, unit, day)
    fresh = float((came < days - 1).sum()) / (days - 1) if days > 1 else 0.0
    found = Traffic(
        impressions_per_day=len(labels) / spent,
        requests_per_day=len(set(rows["request_id"].tolist())) / spent,
        users_per_day=users,
        new_users_per_day=min(fresh, users),
        rate=rate,
        # Where it looks smaller than one, that is chance.
        design_effect=max(1.0, squares / (len(labels) * rate * (1 - rate))),
        gap_deviation=_gap_deviation(lake),
        log_loss=float(log_losses(labels, rows["score"]).mean()),
    )
    return found, days


def _gap_deviation(lake: Lake) -> float | None:
    """Of the last version that scored in a shadow; None before `LEAST_UNITS` units have come."""
    names = ["unit", "label", "score", "shadow_score", "shadow_version", "q"]
    rows = columns(lake.outcomes, names, [("shadow_version", "!=", "")])
    if not rows or not len(rows["q"]):
        return None
    kept = rows["shadow_version"] == rows["shadow_version"][rows["q"].argmax()]
    theirs = log_losses(rows["label"], rows["score"])[kept]
    gaps = log_losses(rows["label"], rows["shadow_score"])[kept] - theirs
    sums = paired_gap(rows["unit"][kept], gaps, np.ones(len(gaps)), theirs)
    known = sums.units[0] >= LEAST_UNITS and sums.variance > 0
    return sqrt(sums.variance / sums.weight) if known else None
