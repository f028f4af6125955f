"""Stages outcomes, drift and off_policy: what came of the predictions, and of the policies."""

import csv
from dataclasses import asdict
from typing import Any

import numpy as np
from deltalake import DeltaTable

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from dagster_project.stages.exploration import told_user, value_exploration
from data_contracts.file_lock import locked
from data_contracts.off_policy import Modelled, off_policy_value, tabular_model
from data_contracts.policies import OffPolicy
from data_contracts.results import write_result
from data_contracts.rollout_store import RolloutStore
from spark_jobs.events import load_events
from spark_jobs.labels import settled_rows
from spark_jobs.outcomes import collect_outcomes
from spark_jobs.parity import served_parity
from training.evaluate import keys_of
from training.live import live_metrics


def join_outcomes(deployment: Deployment) -> dict[str, Any]:
    """Prediction log joined with labels, and parity; quality of the champion, where it answered,
    else of the version that answered last.

    Of several processes one at a time does it.
    """
    reporter().stage("outcomes")
    with locked(deployment.lake.home / "outcomes.lock"):
        return _joined(deployment)


def _joined(deployment: Deployment) -> dict[str, Any]:
    spark, use_case, lake = deployment.spark, deployment.use_case, deployment.lake
    plan = RolloutStore(lake.rollouts, use_case.name).plan()
    champion = plan.champion.version if plan else None
    collected = collect_outcomes(spark, use_case, lake, champion)
    reporter().detail("served features against recomputation")
    parity = served_parity(spark, use_case, lake)
    table = DeltaTable(lake.outcomes)
    user = told_user(table, use_case)
    columns = table.to_pyarrow_table(
        columns=["score", "label", *([user] if user else [])],
        filters=[("version", "=", collected.last_version)],
    )
    confidence = use_case.declared.gates.confidence
    metrics = live_metrics(columns, confidence, user)
    result = {
        **asdict(collected),
        "parity": asdict(parity),
        "metrics": {name: estimate.as_dict() for name, estimate in metrics.items()},
        "confidence": confidence,
        "intervals_over": user or "rows",
    }
    write_result(lake, "outcomes", result)
    return result


def value_policies(deployment: Deployment) -> dict[str, Any]:
    """Off-policy value of the declared target policy, beside its on-policy figure; {} where none is
    declared, or no row of the logging policy has its label yet. Of a use case that explores, the
    values of other orders are a result of their own.
    """
    value_exploration(deployment)
    declared, use_case = deployment.use_case.declared.off_policy, deployment.use_case
    if declared is None:
        return {}
    reporter().stage("off-policy value")
    with open(use_case.folder / declared.action_distribution, newline="") as lines:
        target = {
            tuple(row[name] for name in declared.action): float(row["probability"])
            for row in csv.DictReader(lines)
        }
    events = load_events(deployment.spark, use_case, deployment.lake)
    user = use_case.declared.evaluation.user
    columns = ["policy", "propensity", "label", *declared.action, *([user] if user else [])]
    settled = settled_rows(use_case, events, declared.closed).select(*dict.fromkeys(columns))
    rows = settled.toArrow().to_pylist()
    logged = [row for row in rows if row["policy"] == declared.logged]
    if not logged:
        reporter().note(f"no row of policy {declared.logged} has its label yet")
        return {}
    own = [row["label"] for row in rows if row["policy"] == declared.target]
    confidence = use_case.declared.gates.confidence
    rewards = np.array([row["label"] for row in logged], float)
    users = keys_of(np.array([row[user] for row in logged], object)) if user else None
    value = off_policy_value(
        rewards,
        np.array([row["propensity"] for row in logged], float),
        np.array([target.get(_action(declared, row), 0.0) for row in logged], float),
        confidence,
        modelled=_modelled(rewards, [_action(declared, row) for row in logged], target, users),
        users=users,
    )
    result = {
        "logged": declared.logged,
        "target": declared.target,
        **value.as_dict(),
        "confidence": confidence,
        "intervals_over": user or "rows",
        "on_policy": float(np.mean(own)) if own else None,
        "on_policy_n": len(own),
    }
    write_result(deployment.lake, "off_policy", result)
    return result


def _modelled(
    rewards: np.ndarray,
    actions: list[tuple[str, ...]],
    target: dict[tuple[str, ...], float],
    users: np.ndarray | None,
) -> Modelled:
    """What a mean per action and place expects; the first field of an action is what was chosen."""
    cells = {action: i for i, action in enumerate(dict.fromkeys([*target, *actions]))}
    places = {place: i for i, place in enumerate(dict.fromkeys(cell[1:] for cell in cells))}
    return tabular_model(
        rewards,
        np.array([cells[action] for action in actions]),
        np.array([places[cell[1:]] for cell in cells]),
        np.array([target.get(cell, 0.0) for cell in cells]),
        users=users,
    )


def _action(declared: OffPolicy, row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in declared.action)
