"""The rollout of a use case's model: what it does, and what is asked of its controller."""

from collections.abc import Mapping
from dataclasses import replace
from getpass import getuser
from typing import Any

from dagster_project.deployment import Deployment
from data_contracts.clock import SystemClock, format_time
from data_contracts.exposure import Exposure, Traffic
from data_contracts.naming import naming
from data_contracts.rollout import START, check_asked
from data_contracts.rollout_store import RolloutStore
from data_contracts.stages import CHALLENGER
from serving.alignment import FOR_NOW
from serving.rollout_status import about, replayed
from serving.rollout_status import history as told
from serving.rollout_status import status as now
from serving.traffic import measured, needs
from training.registry import Registry


def status(deployment: Deployment) -> dict[str, Any]:
    """What is served to whom, and why the release does not go on."""
    return {**about(deployment.use_case), **now(_store(deployment))}


def traffic(deployment: Deployment, given: Mapping[str, float | None]) -> Traffic:
    """Figures of `Traffic` by name: those given, the others measured on the matured outcomes."""
    known = {name: value for name, value in given.items() if value is not None}
    if {"impressions_per_day", "requests_per_day", "users_per_day", "rate"} <= known.keys():
        return Traffic(**known)
    return replace(measured(deployment.lake), **known)


def exposure(deployment: Deployment, seen: Traffic) -> Exposure:
    """What each gate of the use case's releases needs at this traffic."""
    return needs(deployment.use_case, seen)


def ask(
    deployment: Deployment,
    action: str,
    version: str | None = None,
    reason: str = "asked for",
    override: bool = False,
    actor: str | None = None,
) -> dict[str, Any]:
    """Ask the controller for something; it answers within seconds while a server runs."""
    with naming("rollout"):
        check_asked(action, version)
    if not reason.strip():
        raise ValueError(f"rollout: {action}: --reason is empty: say why")
    store, actor = _store(deployment), actor or getuser()
    time = format_time(SystemClock().now())
    number = store.ask(time, actor, action, version, reason, override)
    return {"request": number, "action": action, "version": version, "actor": actor}


def answer(deployment: Deployment, number: int) -> str | None:
    """What became of a request; None while the controller has not answered."""
    return next(r.answer for r in _store(deployment).requests() if r.id == number)


def history(deployment: Deployment) -> dict[str, Any]:
    """Every plan, oldest first."""
    return {**about(deployment.use_case), "plans": told(_store(deployment))}


def replay(deployment: Deployment) -> dict[str, Any]:
    """Every decision of plans and looks, made again from the evidence that it embeds."""
    made, faults = replayed(_store(deployment))
    return {"decisions": made, "faults": faults}


def propose(deployment: Deployment, actor: str) -> dict[str, str]:
    """Ask for the release of the challenger where it may be released; what is served by now."""
    version = waiting(deployment)
    if version is not None:
        ask(deployment, START, version, "trained, and its gates passed", actor=actor)
    told = {"asked_for": version or "nothing"}
    try:
        found = status(deployment)
    except LookupError as error:
        return {**told, "stage": str(error)}
    names = ("epoch", "stage", "champion", "candidate", "share", "waits")
    return {**told, **{name: str(found[name]) for name in names if found[name] is not None}}


def waiting(deployment: Deployment) -> str | None:
    """The challenger that may be released now: its gates passed against today's champion, it is
    not barred, nothing else is being released, and nobody has asked for it yet, or only when
    there was no room or too little traffic."""
    store, registry = _store(deployment), Registry(deployment.lake)
    name, plan = deployment.use_case.name, store.plan()
    version = registry.aliases(name).get(CHALLENGER)
    if version is None or plan is None or plan.candidate is not None or version in store.barred():
        return None
    asked = [
        r
        for r in store.requests()
        if (r.action, r.version) == (START, version) and not (r.answer or "").startswith(FOR_NOW)
    ]
    decided, own = registry.decided(name, version), registry.version(name, version).digest
    passed = decided and decided["promotes"] and decided.get("bundle") == own
    return version if passed and not asked else None


def releasing(deployment: Deployment) -> bool:
    """Whether a release runs."""
    plan = _store(deployment).plan()
    return plan is not None and plan.candidate is not None


def _store(deployment: Deployment) -> RolloutStore:
    return RolloutStore(deployment.lake.rollouts, deployment.use_case.name)
