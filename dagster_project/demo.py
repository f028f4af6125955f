"""The demo: the loop's own assets, materialised once, in this process."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.deployment import Deployment
from dagster_project.instance import dagster_instance
from dagster_project.progress import reporter
from data_contracts.lake import Lake
from data_contracts.results import read_result
from spark_jobs.lake_lease import lake_lease
from spark_jobs.lease import writer_lease

MARK = "made-by-demo"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def run_demo(deployment: Deployment) -> dict[str, Any]:
    """Materialise every asset over the log's history, then return the report's summary.

    The use case's folder under the root is made anew if a demo made it or it holds no data, and
    refused otherwise.
    Raises RuntimeError naming the asset or check that failed, or who else writes to this root.
    """
    with writer_lease(deployment.lake.root / f".{deployment.use_case.name}-demo"):
        with lake_lease(deployment.lake):
            clear(deployment)
        return _run(deployment)


def _run(deployment: Deployment) -> dict[str, Any]:
    reporter().stage("start Spark, load the definitions")
    with ThreadPoolExecutor(1) as beside:
        spark = beside.submit(lambda: deployment.spark)
        from dagster_project.definitions import defs

        job = defs().resolve_job_def("loop")
        spark.result()
    with dagster_instance(deployment) as instance:
        raw_log = dg.AssetKey("raw_log")
        job.execute_in_process(_QUIET, instance, asset_selection=[raw_log])
        history = read_result(deployment.lake, "raw_log")["history"]
        if not history:
            raise ValueError(f"{deployment.raw_log}: all its days are held out: give a longer log")
        others = [key for key in job.asset_layer.executable_asset_keys if key != raw_log]
        tags = {_FIRST: history[0], _LAST: history[-1]}
        run = job.execute_in_process(_QUIET, instance, asset_selection=others, tags=tags)
        _refuse_failed_checks(run)
    return read_result(deployment.lake, "report")


def clear(deployment: Deployment) -> None:
    """Empty the use case's folder for a new demo; ValueError when it holds data of another maker.

    What refused commands leave behind is no data.
    """
    home = deployment.lake.home
    if not (home / MARK).exists() and _holds_data(deployment.lake):
        raise ValueError(
            f"{home}: holds a lake that no demo made, and a demo starts anew: choose another --root"
        )
    with tempfile.TemporaryDirectory(dir=deployment.lake.root, prefix=".old-") as away:
        if home.exists():
            home.rename(Path(away) / home.name)
    home.mkdir(parents=True)
    (home / MARK).touch()


def _holds_data(lake: Lake) -> bool:
    """Whether any file below the home has content, but for what is derived from other files."""
    derived = (lake.reports, lake.online, lake.stream, lake.server_log, lake.access_log)
    parts = [path for path in lake.home.glob("*") if path not in derived]
    files = [file for path in parts for file in (path, *path.rglob("*")) if file.is_file()]
    return any(file.stat().st_size for file in files)


def _refuse_failed_checks(run: dg.ExecuteInProcessResult) -> None:
    failed = [check.check_name for check in run.get_asset_check_evaluations() if not check.passed]
    if failed:
        raise RuntimeError(f"asset checks failed: {', '.join(failed)}: see the report")
