"""What the tables say of a release: matured impressions of both arms, and of the shadow."""

# deltalake and pyarrow ship partial types:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyarrow.parquet import filters_to_expression

from data_contracts.clock import HOUR
from data_contracts.evidence import log_losses
from data_contracts.lake import Lake
from data_contracts.release import NOTHING, Evidence
from data_contracts.rollout import Plan
from data_contracts.rollout_store import Report
from data_contracts.sequences import Split, Sums, arm_difference, paired_gap
from data_contracts.splits import splits
from data_contracts.tally import UNEXPOSED
from serving.reports import counted

Hours = Sequence[int]
Filters = list[tuple[str, str, Any]]


def gathered(lake: Lake, plan: Plan, reports: Sequence[Report]) -> Evidence:
    """All that is known of the plan's release now: its matured outcomes, and what replicas say of
    its present step."""
    told = counted(plan, reports)
    return replace(
        told,
        pairs=_pairs(lake, plan, told.lost) if plan.stage == "shadow" else NOTHING,
        arms=_arms(lake, plan, told.lost) if plan.stage == "canary" else NOTHING,
        splits=_splits(lake, plan, told.lost) if plan.stage == "canary" else (),
    )


def base_rate(lake: Lake) -> float | None:
    """CTR of the matured predictions; None before there are any of both kinds."""
    labels = columns(lake.outcomes, ["label"]).get("label", np.zeros(0))
    rate = float(labels.mean()) if len(labels) else 0.0
    return rate if 0 < rate < 1 else None


def _pairs(lake: Lake, plan: Plan, lost: Hours) -> Sums:
    """The candidate's log loss beside the champion's on the impressions that both have scored."""
    assert plan.candidate is not None
    of = [("release", "=", plan.release), ("shadow_version", "=", plan.candidate.version)]
    rows = columns(lake.outcomes, ["unit", "label", "score", "shadow_score"], of, lost)
    if not rows or not len(rows["label"]):
        return NOTHING
    theirs = log_losses(rows["label"], rows["score"])
    gaps = log_losses(rows["label"], rows["shadow_score"]) - theirs
    return paired_gap(rows["unit"], gaps, np.ones(len(gaps)), theirs)


def _arms(lake: Lake, plan: Plan, lost: Hours) -> Sums:
    """CTR of the candidate's arm beside the champion's, in strata of epoch and hour; none in which
    the candidate was not exposed. An impression counts once, as it was answered last."""
    of = [("release", "=", plan.release), ("canary_bps", ">", 0)]
    names = ["unit", "label", "arm", "epoch", "q", "fallback", "event_id"]
    rows = columns(lake.outcomes, names, of, lost)
    if not rows or not len(rows["label"]):
        return NOTHING
    strata = rows["epoch"] * 10_000_000 + rows["q"] // HOUR
    # Of a request that was sent again, and answered by another version, the client has shown one.
    last = _last_of_each(rows["event_id"], rows["q"])
    # While nobody was exposed the champion answered both arms, which would hide a difference.
    kept = last[~np.isin(strata[last], strata[rows["fallback"] == UNEXPOSED])]
    candidate = rows["arm"] == "candidate"
    units, labels = rows["unit"][kept], rows["label"][kept].astype(float)
    return arm_difference(units, strata[kept], candidate[kept], np.ones(len(units)), labels)


def _last_of_each(ids: np.ndarray, q: np.ndarray) -> np.ndarray:
    """int64[ids that differ]: the row of each id with the latest `q`, in the rows' own order."""
    order = np.lexsort((q, ids))
    ordered = ids[order]
    return np.sort(order[np.append(ordered[1:] != ordered[:-1], True)])


def _splits(lake: Lake, plan: Plan, lost: Hours) -> tuple[Split, ...]:
    of = [("release", "=", plan.release), ("canary_bps", ">", 0)]
    names = ["unit", "canary_bps", "arm"]
    stored = _stored(lake.predictions, names, of, lost)
    if stored is None:
        return ()
    # There is a row for each candidate that was shown; kept of them is one a unit and share.
    found, fresh = _distinct([stored.projected_schema.empty_table()]), list[Any]()
    for batch in stored.to_batches():
        fresh.append(_distinct([pa.Table.from_batches([batch])]))
        if sum(each.num_rows for each in fresh) > found.num_rows:
            found, fresh = _distinct([found, *fresh]), []
    found = _distinct([found, *fresh])
    rows = {name: _numpy(name, found[name]) for name in names}
    return splits(rows["unit"], rows["canary_bps"], rows["arm"] == "candidate")


def _distinct(parts: Sequence[Any]) -> Any:
    names = parts[0].schema.names
    return pa.concat_tables(parts).group_by(names).aggregate([]).select(names)


def columns(
    table: Path, names: list[str], of: Filters | None = None, without: Hours = ()
) -> Mapping[str, np.ndarray]:
    """Columns of a Delta table, times in µs, units and events as numbers that stand for them; empty
    where the table or a column is not there yet. Rows of the hours `without` are left out."""
    stored = _stored(table, names, of, without)
    if stored is None:
        return {}
    found = stored.to_table()
    return {name: _numpy(name, found[name]) for name in names}


def instant(us: int) -> Any:
    """That time as a filter takes it."""
    return pa.scalar(us, pa.timestamp("us", "UTC"))


def _stored(table: Path, names: list[str], of: Filters | None, without: Hours) -> Any:
    """A scan of these columns; None where the table or one of them is not there yet."""
    if not DeltaTable.is_deltatable(str(table)):
        return None
    stored = DeltaTable(str(table))
    known = {field.name for field in stored.schema().fields}
    if not {*names, *(name for name, _, _ in of or ())} <= known:
        return None
    kept: Any = filters_to_expression(of) if of else None
    for hour in without:
        begin, end = instant(hour * HOUR), instant((hour + 1) * HOUR)
        other = (pc.field("q") < begin) | (pc.field("q") >= end)
        kept = other if kept is None else kept & other
    return stored.to_pyarrow_dataset().scanner(columns=names, filter=kept)


def _numpy(name: str, column: Any) -> np.ndarray:
    if name == "q":
        column = column.cast("int64")
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        return column.to_numpy(zero_copy_only=False)
    # A Python string a row would take most of a look's time and memory.
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    places = encoded.indices.to_numpy(zero_copy_only=False)
    if name in ("unit", "event_id"):
        return places
    return encoded.dictionary.to_numpy(zero_copy_only=False)[places]
