"""Stage predictions: the held-out days replayed through the HTTP endpoint, the stream beside it."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.clock import duration
from data_contracts.results import read_result, write_result
from serving.auth import create_key
from serving.replay import replay
from serving.running import running
from serving.settings import Settings
from spark_jobs.lake_lease import lake_lease
from spark_jobs.stream import running_stream


def replay_held_out(deployment: Deployment) -> dict[str, Any]:
    """Serve the champion for as long as the replay of the held-out days takes."""
    report = reporter()
    report.stage("serve the champion")
    settings = Settings(
        root=deployment.lake.root, use_case=str(deployment.use_case.folder), clock="replay"
    )
    key = create_key(deployment.lake.keys, {"predict", "events", "operate"}, "replay")
    with lake_lease(deployment.lake), running(settings) as server:
        return replay_against(deployment, server.url, key)


def replay_against(deployment: Deployment, url: str, key: str) -> dict[str, Any]:
    """Replay the held-out days against the server at `url` with a key of role operate."""
    report = reporter()
    held_out = read_result(deployment.lake, "raw_log")["held_out"]
    report.stage(f"replay {' … '.join(dict.fromkeys((held_out[0], held_out[-1])))}")
    with running_stream(deployment.spark, deployment.use_case, deployment.lake) as stream:

        def wait_for_stream(_: int) -> None:
            stream.catch_up()

        found = replay(
            url,
            key,
            deployment.use_case,
            _events(deployment, held_out),
            step_us=duration(deployment.step),
            on_step=wait_for_stream if deployment.wait else None,
            on_progress=report.detail,
        )
    result = {**asdict(found), "step": deployment.step, "waited": deployment.wait, "days": held_out}
    if not found.requests:
        on = deployment.use_case.declared.label.on
        raise ValueError(
            f"replay: none of the held-out days {', '.join(held_out)} has an event of type {on!r}, "
            "so that nothing was asked: import a log that ends with such ones"
        )
    write_result(deployment.lake, "predictions", result)
    return result


def _events(deployment: Deployment, days: list[str]) -> Iterator[dict[str, Any]]:
    for day in days:
        with open(deployment.lake.imported / f"{day}.jsonl", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
