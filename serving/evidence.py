"""What the tables say of a release: matured impressions of both arms, and of the shadow."""

# deltalake ships partial types:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from deltalake import DeltaTable

from data_contracts.evidence import log_losses
from data_contracts.lake import Lake
from data_contracts.release import NOTHING, Evidence
from data_contracts.rollout import Plan
from data_contracts.rollout_store import Report
from data_contracts.sequences import Sums, arm_difference, paired_gap
from data_contracts.splits import splits
from data_contracts.tally import Tally, summed

_HOUR_US = 3_600_000_000


def gathered(lake: Lake, plan: Plan, reports: Iterable[Report]) -> Evidence:
    """All that is known of the plan's release now: its matured outcomes, and what replicas say of
    its present step."""
    step, told = plan.step, list(reports)
    tallies = {
        arm: summed(
            Tally.from_dict(each.body["tallies"][step][arm])
            for each in told
            if arm in each.body["tallies"].get(step, {})
        )
        for arm in ("champion", "candidate")
    }
    broken = {
        each.replica: each.body["broken"][step] for each in told if step in each.body["broken"]
    }
    return Evidence(
        pairs=_pairs(lake, plan) if plan.stage == "shadow" else NOTHING,
        arms=_arms(lake, plan) if plan.stage == "canary" else NOTHING,
        splits=_splits(lake, plan) if plan.stage == "canary" else (),
        champion=tallies["champion"],
        candidate=tallies["candidate"],
        broken=broken,
    )


def base_rate(lake: Lake) -> float | None:
    """CTR of the matured predictions; None before there are any of both kinds."""
    labels = columns(lake.outcomes, ["label"]).get("label", np.zeros(0))
    rate = float(labels.mean()) if len(labels) else 0.0
    return rate if 0 < rate < 1 else None


def _pairs(lake: Lake, plan: Plan) -> Sums:
    """The candidate's log loss beside the champion's on the impressions that both have scored."""
    assert plan.candidate is not None
    of = [("release", "=", plan.release), ("shadow_version", "=", plan.candidate.version)]
    rows = columns(lake.outcomes, ["unit", "label", "score", "shadow_score"], of)
    if not rows or not len(rows["label"]):
        return NOTHING
    theirs = log_losses(rows["label"], rows["score"])
    gaps = log_losses(rows["label"], rows["shadow_score"]) - theirs
    return paired_gap(rows["unit"], gaps, np.ones(len(gaps)), theirs)


def _arms(lake: Lake, plan: Plan) -> Sums:
    """CTR of the candidate's arm beside the champion's, in strata of epoch and hour."""
    of = [("release", "=", plan.release), ("canary_bps", ">", 0)]
    rows = columns(lake.outcomes, ["unit", "label", "arm", "epoch", "q"], of)
    if not rows or not len(rows["label"]):
        return NOTHING
    strata = rows["epoch"] * 10_000_000 + rows["q"] // _HOUR_US
    candidate = rows["arm"] == "candidate"
    return arm_difference(
        rows["unit"], strata, candidate, np.ones(len(strata)), rows["label"].astype(float)
    )


def _splits(lake: Lake, plan: Plan) -> Any:
    of = [("release", "=", plan.release), ("canary_bps", ">", 0)]
    rows = columns(lake.predictions, ["unit", "canary_bps", "arm"], of)
    if not rows:
        return ()
    candidate = rows["arm"] == "candidate"
    return splits(zip(rows["unit"], rows["canary_bps"].tolist(), candidate.tolist(), strict=True))


def columns(
    table: Path, names: list[str], of: list[tuple[str, str, Any]] | None = None
) -> Mapping[str, np.ndarray]:
    """Columns of a Delta table, times in µs; empty where the table or a column is not there yet."""
    if not DeltaTable.is_deltatable(str(table)):
        return {}
    stored = DeltaTable(str(table))
    known = {field.name for field in stored.schema().fields}
    if not {*names, *(name for name, _, _ in of or ())} <= known:
        return {}
    found: Any = stored.to_pyarrow_table(columns=names, filters=of)
    columns: dict[str, np.ndarray] = {}
    for name in names:
        column = found[name]
        if name == "q":
            column = column.cast("int64")
        columns[name] = column.to_numpy(zero_copy_only=False)
    return columns
