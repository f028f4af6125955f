"""A server on Ray that is told to stop while it answers."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from data_contracts.predictions import SUFFIX, read_log
from data_contracts.rollout_store import RolloutStore
from serving.running import running
from serving.settings import Settings
from tests.integration.world import as_role, asked, build

CLIENTS = 6
BEFORE = 40
"""Answers before it is told to stop."""
CANDIDATES = 300

pytestmark = [pytest.mark.full, pytest.mark.faults]


def test_what_two_replicas_have_under_way_is_answered_before_they_end(tmp_path: Path) -> None:
    world = build(tmp_path / "lake")
    settings = Settings(root=world.root, replicas=2, timeout_ms=5_000, max_in_flight=1000)
    answered: dict[str, int] = {}
    lost: list[str] = []
    some = threading.Event()
    with running(settings) as server:

        def ask(client: int) -> None:
            body = asked(candidates=[{"item_id": f"i{i}"} for i in range(CANDIDATES)])
            del body["event_time"]
            with httpx.Client(timeout=30, headers=as_role(world.predict)) as http:
                for number in range(10_000):
                    name = f"{client}-{number}"
                    try:
                        told = {**body, "request_id": name}
                        answer = http.post(f"{server.url}/clicks/v1/predict", json=told)
                    except httpx.ConnectError:
                        return
                    except httpx.TransportError as error:
                        lost.append(f"{name}: {error!r}")
                        return
                    answered[name] = answer.status_code
                    if len(answered) > BEFORE:
                        some.set()

        with ThreadPoolExecutor(CLIENTS) as pool, httpx.Client(base_url=server.url) as idle:
            assert 200 == idle.get("/readyz").status_code
            asking = [pool.submit(ask, client) for client in range(CLIENTS)]
            assert some.wait(60)
            os.kill(server.pid, signal.SIGTERM)
            for each in asking:
                each.result()
            began = time.monotonic()
            server.process.wait(60)
            took = time.monotonic() - began
    logs = [read_log(path) for path in world.lake.prediction_log.glob(f"*{SUFFIX}")]
    logged = {record["request_id"] for log in logs for record in log.records}
    print({"answered": len(answered), "seconds until it was gone": took})
    assert [] == lost
    assert {200} == {*answered.values()}
    assert logged == answered.keys()
    reports = RolloutStore(world.lake.rollouts, "clicks").reports()
    assert [True, True] == [report.body["ended"] for report in reports]
    assert [0, 0] == [log.gaps for log in logs]
    assert len(answered) == sum(report.body["answered"] for report in reports)
