"""Batch scoring: a registered version over a table of one's own."""

from pathlib import Path
from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.rollout import Target
from serving.loader import load
from serving.registry import Registry
from spark_jobs.engine import open_graph
from spark_jobs.scoring import score_table


def score_rows(
    deployment: Deployment, table: Path, time: str, version: str, out: Path
) -> dict[str, Any]:
    """Score `table` by a version of the model, by its number or an alias that it has now, verified
    as a replica verifies it; see `score_table`."""
    use_case, lake = deployment.use_case, deployment.lake
    registry = Registry(lake)
    aliases = registry.aliases(use_case.name)
    number = version if version.isdecimal() else aliases.get(version)
    if number is None:
        held = ", ".join(aliases) or "there is none: run `headrace train`"
        raise ValueError(f"--version {version}: no such alias: give a number or one of {held}")
    reporter().stage(f"load version {number}")
    target = Target(number, registry.version(use_case.name, number).digest)
    bundle = load(use_case, lake, target)
    graph = open_graph(bundle.folder, bundle.digest)
    reporter().stage(f"score {table.name}")
    return score_table(deployment.spark, use_case, lake, graph, number, table, time, out)
