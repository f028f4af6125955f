"""Stage quarantine: records that broke the contract, seen and taken again after a mend."""

from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from dagster_project.stages.events import ingest_files
from spark_jobs.quarantine import mended, quarantined


def list_quarantine(deployment: Deployment) -> dict[str, Any]:
    """Every reason, with how many records it holds back."""
    reporter().stage("read the quarantine")
    return {"quarantine": quarantined(deployment.spark, deployment.lake)}


def replay_quarantine(deployment: Deployment) -> dict[str, Any]:
    """Land and ingest the quarantined records that the contract takes by now.

    They stay in the quarantine under their first origin, and become events under the second, so
    that every landed record still ends in one table; run twice, it adds nothing.
    """
    lake = deployment.lake
    reporter().stage("judge the quarantine by today's contract")
    file = lake.home / "mended" / "quarantine.jsonl"
    count = mended(deployment.spark, deployment.use_case, lake, file)
    if not count:
        return {"mended": 0}
    return {"mended": count, **ingest_files(deployment, [file])}
