"""What is to be told of a rollout: the plan, both arms, the last look, what was asked and done."""

from collections.abc import Iterable
from typing import Any

from data_contracts.ledger import stands
from data_contracts.remaining import remaining
from data_contracts.rollout import Plan
from data_contracts.rollout_store import Report, RolloutStore
from data_contracts.tally import Tally, summed

ARMS = ("champion", "candidate")
LOOKS = 200
"""Of a release's looks that many are told, evenly over its course."""


def status(store: RolloutStore) -> dict[str, Any]:
    """Plan, arms, last look and open requests of a model; JSON-ready.

    Raises LookupError before there is a plan.
    """
    plan = store.plan()
    if plan is None:
        raise LookupError("no plan yet: start `headrace serve`, whose controller writes the first")
    looks = store.looks(plan.release) if plan.candidate else []
    reports = store.reports()
    return {
        "epoch": plan.epoch,
        "stage": plan.stage,
        "champion": plan.champion.version,
        "candidate": plan.candidate.version if plan.candidate else None,
        "share": plan.share,
        "canary_bps": plan.canary_bps,
        "held": plan.held,
        "since": plan.time,
        "reason": plan.reason,
        "waits": looks[-1]["waits"] if looks else "",
        "arms": {arm: _told(_tally(plan, reports, arm)) for arm in ARMS},
        "breakers": {r.replica: r.body["broken"] for r in reports if plan.step in r.body["broken"]},
        "replicas": [{"replica": r.replica, "boot": r.boot, **_own(r)} for r in reports],
        "decision": looks[-1]["decision"] if looks else plan.decision,
        "remaining": [each.as_dict() for each in remaining(looks)],
        "barred": store.barred(),
        "requests": [vars(request) for request in store.requests()[-10:]],
    }


def looks_of(store: RolloutStore) -> list[dict[str, Any]]:
    """The looks of the last release that had any: time, epoch, and of each sequence its value,
    interval and limit."""
    last = next((p.release for p in reversed(store.plans()) if p.release), 0)
    looks = store.looks(last)
    chosen = looks[:: max(1, len(looks) // LOOKS)]
    if looks and chosen[-1] is not looks[-1]:
        chosen.append(looks[-1])
    return [
        {"time": look["time"], "epoch": look["epoch"], "sequences": _sequences(look["decision"])}
        for look in chosen
    ]


def history(store: RolloutStore) -> list[dict[str, Any]]:
    """Every plan, oldest first."""
    return [
        {
            "epoch": plan.epoch,
            "time": plan.time,
            "actor": plan.actor,
            "stage": plan.stage,
            "champion": plan.champion.version,
            "candidate": plan.candidate.version if plan.candidate else None,
            "share": plan.share,
            "verdict": plan.decision["verdict"] if plan.decision else None,
            "override": dict(plan.override) if plan.override else None,
            "reason": plan.reason,
        }
        for plan in store.plans()
    ]


def replayed(store: RolloutStore) -> tuple[int, list[str]]:
    """How many decisions were made again from their evidence, and which came out otherwise."""
    faults: list[str] = []
    made = 0
    plans = store.plans()
    for plan in plans:
        if plan.decision is not None:
            made += 1
            if not stands(dict(plan.decision)):
                faults.append(f"plan {plan.epoch}: its decision is not what its evidence leads to")
    for release in sorted({plan.release for plan in plans if plan.release}):
        for number, look in enumerate(store.looks(release), 1):
            made += 1
            if not stands(look["decision"]):
                faults.append(f"look {number} of release {release}: its evidence leads elsewhere")
    epochs = [plan.epoch for plan in plans]
    if epochs != list(range(1, len(plans) + 1)):
        faults.append(f"epochs {epochs}: one is missing")
    return made, faults


def _tally(plan: Plan, reports: Iterable[Report], arm: str) -> Tally:
    steps = [report.body["tallies"].get(plan.step, {}) for report in reports]
    return summed(Tally.from_dict(step[arm]) for step in steps if arm in step)


def _told(tally: Tally) -> dict[str, Any]:
    known = tally.requests > 0
    return {
        "requests": tally.requests,
        "fallbacks": tally.failures,
        "p50_ms": tally.quantile_ms(0.5) if known else None,
        "p99_ms": tally.quantile_ms(0.99) if known else None,
        "mean_score": tally.mean_score if tally.scores else None,
    }


def _own(report: Report) -> dict[str, Any]:
    names = ("epoch", "champion", "busy", "answered", "shadow_scored", "shadow_dropped")
    return {name: report.body[name] for name in names}


def _sequences(decision: dict[str, Any]) -> dict[str, Any]:
    """Check -> value, ends and limit of each sequence, as shares of the champion's figure."""
    found: dict[str, Any] = {}
    for check in decision["checks"]:
        evidence = check["evidence"]
        evidence = evidence.get("evidence", evidence)
        if "sums" not in evidence or not check["interval"]:
            continue
        sums = evidence["sums"]
        champion = sums["level"] / sums["weight"]
        low, high = check["interval"]
        found[check["name"].removesuffix(" so far")] = {
            "value": sums["total"] / sums["weight"] / champion,
            "low": low / champion,
            "high": high / champion,
            "margin": evidence["margin"] * (-1 if evidence["higher_is_better"] else 1),
            "impressions": sums["impressions"],
        }
    return found
