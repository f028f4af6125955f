"""What is to be told of a rollout: the plan, both arms, the last look, what was asked and done."""

import time
from typing import Any

from data_contracts.ledger import stands
from data_contracts.remaining import remaining
from data_contracts.rollout_store import Report, RolloutStore
from data_contracts.tally import LATE, UNEXPOSED, Tally
from data_contracts.use_case import UseCase
from serving.headroom import lives
from serving.reports import broken, tally

ARMS = ("champion", "candidate")
LOOKS = 200
"""Of a release's looks that many are told, evenly over its course."""


def about(use_case: UseCase) -> dict[str, Any]:
    """Whose rollout is told, and whether all that is told of it is made up; JSON-ready."""
    simulated = use_case.declared.simulated
    return {"use_case": use_case.name, "title": use_case.title, "simulated": simulated}


def status(store: RolloutStore) -> dict[str, Any]:
    """Plan, arms, last look and open requests of a model; JSON-ready.

    Raises LookupError before there is a plan.
    """
    plan = store.plan()
    if plan is None:
        raise LookupError("no plan yet: start `headrace serve`, whose controller writes the first")
    looks = store.ends(plan.release) if plan.candidate else []
    reports = store.reports()
    live = [report for report in reports if lives(report.body, time.time())]
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
        "arms": {arm: _told(arm, tally(reports, plan.step, arm)) for arm in ARMS},
        "breakers": broken(reports, plan.step),
        "replicas": [{"replica": r.replica, "boot": r.boot, **_own(r)} for r in live],
        "decision": looks[-1]["decision"] if looks else plan.decision,
        "remaining": [each.as_dict() for each in remaining(looks)],
        "barred": store.barred(),
        "requests": [vars(request) for request in store.requests(last=10)],
    }


class Drawn:
    """What a page draws of a release's looks; read again only when there is another one."""

    def __init__(self, store: RolloutStore) -> None:
        self._store = store
        self._of = (0, 0)
        self._told: list[dict[str, Any]] = []

    def looks(self) -> list[dict[str, Any]]:
        """Of the present release, or the last one: time, epoch, and of each sequence its value,
        interval and limit; of many looks `LOOKS`."""
        plan = self._store.plan()
        release = (plan.release if plan is not None else 0) or self._store.released()
        now = release, self._store.looked(release)
        if now != self._of:
            looks = self._store.looks(release, LOOKS)
            self._told = [
                {
                    "time": look["time"],
                    "epoch": look["epoch"],
                    "sequences": _sequences(look["decision"]),
                }
                for look in looks
            ]
            self._of = now
        return self._told


def history(store: RolloutStore, last: int | None = None) -> list[dict[str, Any]]:
    """Every plan, or the `last` ones, oldest first."""
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
        for plan in store.plans(last)
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
        for number, look in enumerate(store.every_look(release), 1):
            made += 1
            if not stands(look["decision"]):
                faults.append(f"look {number} of release {release}: its evidence leads elsewhere")
    epochs = [plan.epoch for plan in plans]
    if epochs != list(range(1, len(plans) + 1)):
        faults.append(f"epochs {epochs}: one is missing")
    return made, faults


def _told(arm: str, seen: Tally) -> dict[str, Any]:
    known = bool(seen.latency)
    return {
        "requests": seen.requests,
        # What its own model was asked for and failed to answer, by reason: what its gate counts.
        "errors": {why: n for why, n in seen.failures.items() if why not in (UNEXPOSED, LATE)},
        # Nobody answers in the champion's place.
        "fallbacks": seen.failures if arm == "candidate" else {},
        "p50_ms": seen.quantile_ms(0.5) if known else None,
        "p99_ms": seen.quantile_ms(0.99) if known else None,
        "mean_score": seen.mean_score if seen.scores else None,
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
        if not champion:
            # Its arm has no click yet: nothing is a share of that.
            continue
        low, high = check["interval"]
        found[check["name"].removesuffix(" so far")] = {
            "value": sums["total"] / sums["weight"] / champion,
            "low": low / champion,
            "high": high / champion,
            "margin": evidence["margin"] * (-1 if evidence["higher_is_better"] else 1),
            "impressions": sums["impressions"],
        }
    return found
