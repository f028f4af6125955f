"""The rollout of a use case's model: what it does, and what is asked of its controller."""

from getpass import getuser
from typing import Any

from dagster_project.deployment import Deployment
from data_contracts.clock import SystemClock, format_time
from data_contracts.rollout_store import RolloutStore
from serving.release import ACTIONS, START
from serving.rollout_status import history as told
from serving.rollout_status import replayed
from serving.rollout_status import status as now


def status(deployment: Deployment) -> dict[str, Any]:
    """What is served to whom, and why the release does not go on."""
    return now(_store(deployment))


def ask(
    deployment: Deployment, action: str, version: str | None, reason: str, override: bool
) -> dict[str, Any]:
    """Ask the controller for something; it answers within seconds while a server runs."""
    if action not in ACTIONS:
        raise ValueError(f"rollout: action {action!r}: one of {', '.join(ACTIONS)}")
    if (action == START) != (version is not None):
        raise ValueError(f"rollout: {action}: {'which version?' if action == START else version}")
    store, actor = _store(deployment), getuser()
    time = format_time(SystemClock().now())
    number = store.ask(time, actor, action, version, reason, override)
    return {"request": number, "action": action, "version": version, "actor": actor}


def answer(deployment: Deployment, number: int) -> str | None:
    """What became of a request; None while the controller has not answered."""
    return next(r.answer for r in _store(deployment).requests() if r.id == number)


def history(deployment: Deployment) -> dict[str, Any]:
    """Every plan, oldest first."""
    return {"plans": told(_store(deployment))}


def replay(deployment: Deployment) -> dict[str, Any]:
    """Every decision of plans and looks, made again from the evidence that it embeds."""
    made, faults = replayed(_store(deployment))
    return {"decisions": made, "faults": faults}


def _store(deployment: Deployment) -> RolloutStore:
    return RolloutStore(deployment.lake.rollouts, deployment.use_case.name)
