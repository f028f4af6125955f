"""What replicas say of a step of a release, and what ended ones said, added up: without that,
every look at the reports would take longer with every boot there ever was."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from data_contracts.release import Evidence
from data_contracts.rollout import Plan
from data_contracts.rollout_store import Report, RolloutStore
from data_contracts.tally import Tally, summed

MANY = 128
"""Reports of ended replicas that are kept one by one."""
LOST_S = 86_400.0
"""A replica that said nothing for this long has ended without a word."""
COUNTED = {
    "feature_failures": "Reads of the online store that ended in declared defaults.",
    "answers_by_defaults": "Answers with a declared default where a key had no state, or no read.",
    "dimension_failures": "Reads of dimension tables that ended in nulls.",
    "log_failures": "Answers whose record the prediction log refused.",
    "landing_log_failures": "Events that the landing log refused.",
    "plan_failures": "Looks for a plan of the rollout that failed.",
    "quota_failures": "Blocks of a key's quota that one replica counted alone.",
    "rule_failures": "Rules of the use case that were skipped for a request.",
}
"""Entry of a report -> what it counts since the boot."""
_SUMS = (
    *COUNTED, "answered", "lost", "statuses", "shed", "events", "totals", "spent_ms",
    "shadow_scored", "shadow_dropped",
)  # fmt: skip


def counted(plan: Plan, reports: Sequence[Report]) -> Evidence:
    """What replicas know of the plan's present step, without any outcome."""
    champion, candidate = (tally(reports, plan.step, arm) for arm in ("champion", "candidate"))
    lost = {int(hour) for report in reports for hour in report.body.get("lost", {})}
    return Evidence(
        champion=champion,
        candidate=candidate,
        broken=broken(reports, plan.step),
        lost=tuple(sorted(lost)),
    )


def tally(reports: Iterable[Report], step: str, arm: str) -> Tally:
    """An arm's counts of a step, of all replicas."""
    told = (report.body["tallies"].get(step, {}) for report in reports)
    return summed(Tally.from_dict(arms[arm]) for arms in told if arm in arms)


def broken(reports: Iterable[Report], step: str) -> dict[str, str]:
    """Replica -> why its breaker has opened on a step."""
    return {r.replica: r.body["broken"][step] for r in reports if step in r.body["broken"]}


def fold(store: RolloutStore, reports: Sequence[Report], step: str) -> None:
    """Put one report in the place of many that replicas left behind; of the tallies only those of
    `step`, the plan's present one, are kept."""
    over = [each for each in reports if _over(each.body, time.time())]
    if len(over) < MANY:
        return
    bodies = [each.body for each in over]
    steps = [body["tallies"][step] for body in bodies if step in body.get("tallies", {})]
    broken = [body["broken"][step] for body in bodies if step in body.get("broken", {})]
    said = {
        "at": 0.0,
        "ended": True,
        "epoch": 0,
        "champion": "",
        "busy": 0.0,
        "broken": {step: broken[-1]} if broken else {},
        "tallies": {step: _added(steps)} if steps else {},
        **_added({name: body[name] for name in _SUMS if name in body} for body in bodies),
    }
    beat = max(each.beat for each in over) + 1
    store.fold(over, Report("ended", f"{len(over)} before {time.time_ns()}", beat, said))


def _over(body: Mapping[str, Any], now: float) -> bool:
    return bool(body.get("ended")) or now - body.get("at", 0.0) > LOST_S


def _added(bodies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers summed by name, at every depth."""
    found: dict[str, Any] = {}
    for body in bodies:
        for name, value in body.items():
            if isinstance(value, Mapping):
                inner = cast("Mapping[str, Any]", value)
                found[name] = _added([found.get(name, {}), inner])
            else:
                found[name] = found.get(name, 0) + value
    return found
