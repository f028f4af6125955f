"""Replicas that come with the load, on a real Ray."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from data_contracts.rollout_store import RolloutStore
from serving.headroom import Replicas
from serving.running import running
from serving.settings import Settings
from tests.integration.world import World, as_role, asked, build

PATIENCE_S = 240.0
CLIENTS = 8


@contextmanager
def loaded(url: str, world: World) -> Iterator[Counter[int]]:
    """Clients that ask one request after another; counts of statuses so far."""
    found: Counter[int] = Counter()
    over = threading.Event()

    def ask(client: int) -> None:
        with httpx.Client(base_url=url, headers=as_role(world.predict), timeout=30) as http:
            number = 0
            while not over.is_set():
                body = asked(request_id=f"{client}-{number}")
                del body["event_time"]
                found[http.post("/clicks/v1/predict", json=body).status_code] += 1
                number += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask, client) for client in range(CLIENTS)]
        try:
            yield found
        finally:
            over.set()
            for each in asking:
                each.result()


@pytest.mark.full
def test_two_replicas_stand_in_production_and_a_third_comes_with_the_load(tmp_path: Path) -> None:
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
        root=world.root, production=True, replicas=2, max_replicas=3, target_in_flight=1.0,
        timeout_ms=20_000,
    )  # fmt: skip
    with running(settings) as server:
        assert 2 == until(2)
        with loaded(server.url, world) as found:
            assert 3 == until(3)
            before = found[200]
            while found[200] < before + 50:
                pause.wait(0.1)
    assert {200} == set(found)
    assert "" == replicas.without_memory()
