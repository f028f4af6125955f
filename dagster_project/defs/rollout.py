"""The rollout: what is served to whom. Dagster only asks; the server's controller decides."""

import dagster as dg

from dagster_project.partitions import deployment
from dagster_project.stages.rollout import propose, waiting
from data_contracts.clock import HOUR, SystemClock


@dg.asset(deps=["model"], group_name="serving", kinds={"ray"}, owners=["team:ml"], code_version="1")
def rollout() -> dg.MaterializeResult:
    """The release of the challenger, asked for where one may be released."""
    return dg.MaterializeResult(metadata=propose(deployment(), "Dagster"))


release = dg.define_asset_job(
    "release",
    dg.AssetSelection.assets("rollout"),
    description="Ask for the release of the challenger",
)


@dg.sensor(
    job=release,
    minimum_interval_seconds=60,
    description="The release of a challenger is asked for once its gates have passed, and again "
    "an hour later where that failed, or there was no room or too little traffic for it. "
    "Stopped until it is switched on in the Automation page.",
)
def release_challenger() -> dg.RunRequest | dg.SkipReason:
    """One run an hour at most for a challenger that may be released."""
    version = waiting(deployment())
    if version is None:
        return dg.SkipReason("no challenger may be released now")
    return dg.RunRequest(run_key=f"release-{version}-{SystemClock().now() // HOUR}")
