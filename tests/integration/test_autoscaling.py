"""Replicas that come and go with the load, on a real Ray."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from data_contracts.predictions import SUFFIX, read_log
from data_contracts.rollout_store import RolloutStore
from serving.headroom import Replicas
from serving.running import running
from serving.settings import Settings
from tests.integration.world import World, as_role, asked, build

PATIENCE_S = 240.0
CLIENTS = 8
LOST = 0


@contextmanager
def loaded(url: str, world: World, clients: int) -> Iterator[Counter[int]]:
    """Clients that ask one request after another; counts of statuses so far, `LOST` of those whose
    connection ended without an answer."""
    found: Counter[int] = Counter()
    over = threading.Event()

    def ask(client: int) -> None:
        with httpx.Client(base_url=url, headers=as_role(world.predict), timeout=30) as http:
            number = 0
            while not over.is_set():
                body = asked(request_id=f"{clients}-{client}-{number}")
                del body["event_time"]
                try:
                    status = http.post("/clicks/v1/predict", json=body).status_code
                except httpx.TransportError:
                    status = LOST
                found[status] += 1
                number += 1

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask, client) for client in range(clients)]
        try:
            yield found
        finally:
            over.set()
            for each in asking:
                each.result()


@pytest.mark.full
@pytest.mark.faults
def test_two_replicas_stand_in_production_and_a_third_comes_and_goes_with_the_load(
    tmp_path: Path,
) -> None:
    world = build(tmp_path / "lake")
    store, replicas = RolloutStore(world.lake.rollouts, "clicks"), Replicas()
    pause = threading.Event()

    def until(count: int) -> int:
        end = time.monotonic() + PATIENCE_S
        while len(replicas.live) != count and time.monotonic() < end:
            pause.wait(0.5)
            replicas.hear(store.reports())
        return len(replicas.live)

    settings = Settings(
        root=world.root, production=True, replicas=2, max_replicas=3, timeout_ms=20_000
    )
    with running(settings) as server:
        assert 2 == until(2)
        with loaded(server.url, world, CLIENTS) as found:
            assert 3 == until(3)
            before = found[200]
            while found[200] < before + 50:
                pause.wait(0.1)
        assert "" == replicas.without_memory()
        with loaded(server.url, world, 1) as later:
            assert 2 == until(2)
    assert {200} == {*found, *later}
    reports = store.reports()
    assert [True] * 3 == [report.body["ended"] for report in reports]
    logged = [read_log(path) for path in world.lake.prediction_log.glob(f"*{SUFFIX}")]
    assert 0 == sum(log.gaps for log in logged)
    answered = sum(report.body["answered"] for report in reports)
    assert found[200] + later[200] == answered == sum(len(log.records) for log in logged)
