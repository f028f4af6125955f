"""`/metrics`: the counts of every replica as one, as a Prometheus server reads them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from data_contracts.rollout import Plan
from data_contracts.rollout_store import RolloutStore
from serving.app import build_app
from serving.auth import create_key
from serving.replica import Replica, open_replica
from tests.integration.asgi import Client
from tests.integration.world import World, as_role, asked, patient

Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Booted:
    """A replica in this process, from its start to its end."""

    def __init__(self, client: Client, replica: Replica, world: World) -> None:
        self._client, self._replica, self._world = client, replica, world

    def ask(self, body: object, key: str | None) -> int:
        headers = as_role(key) if key else {}
        return self._client.post("/clicks/v1/predict", json=body, headers=headers).status_code

    def plan(self) -> Plan:
        """What the replica goes by."""
        return self._replica.predictor.arms.now.plan

    def until(self, holds: Callable[[], object]) -> None:
        """Let the replica's own turns come until it holds."""

        async def wait() -> None:
            async with asyncio.timeout(60):
                while not holds():
                    self._replica.predictor.arms.news.set()
                    await asyncio.to_thread(bytes)

        self._client.run(wait())

    def metrics(self, headers: dict[str, str]) -> httpx.Response:
        return self._client.get("/metrics", headers=headers)

    def scraped(self) -> Found:
        """Sample and labels -> value, once the replica has reported."""
        assert self._replica.watch is not None
        self._client.run(self._replica.watch.once())
        answer = self.metrics(as_role(self._world.operate))
        assert (200, "text/plain; version=0.0.4; charset=utf-8") == (
            answer.status_code,
            answer.headers["content-type"],
        )
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }


@contextmanager
def booted(world: World, name: str) -> Iterator[Booted]:
    settings = patient(world.root, clock="replay", poll_s=3600)
    replica = open_replica(settings, name)
    with Client(build_app(settings, lambda: replica)) as client:
        yield Booted(client, replica, world)


def of(found: Found, name: str, **labels: str) -> float:
    return found[(f"headrace_{name}", frozenset({"use_case": "clicks", **labels}.items()))]


def test_counts_add_up_over_replicas_and_none_goes_back(world: World) -> None:
    with booted(world, "one") as one:
        rows = len(asked()["candidates"])
        given = [one.ask(asked(), world.operate) for _ in range(3)]
        given += [one.ask({}, world.operate), one.ask(asked(), None)]
        assert [200, 200, 200, 422, 401] == given
        first = one.scraped()
        for status, times in {"200": 3, "422": 1, "401": 1}.items():
            assert times == of(first, "http_requests_total", status=status)
        assert 3 == of(first, "arm_requests_total", arm="champion", outcome="answered")
        assert 3 * rows == of(first, "score_count", arm="champion")
        assert 3 == of(first, "request_duration_seconds_bucket", arm="champion", le="+Inf")
        assert 0 < of(first, "request_duration_seconds_sum", arm="champion")
        assert 1 == of(first, "replicas")
        with booted(world, "two") as two:
            assert [200, 200] == [two.ask(asked(), world.operate) for _ in range(2)]
            both = two.scraped()
            assert 5 == of(both, "http_requests_total", status="200")
            assert 2 == of(both, "replicas")
    with booted(world, "one") as again:
        assert 200 == again.ask(asked(), world.operate)
        last = again.scraped()
        assert 6 == of(last, "http_requests_total", status="200")
        assert 1 == of(last, "replicas"), "those that ended are not there"
    kept = [sample for sample in first if sample[0].endswith(("_total", "_count", "_bucket"))]
    assert len(kept) > 30
    assert [] == [sample for sample in kept if not first[sample] <= both[sample] <= last[sample]]


def test_an_answer_to_a_key_without_state_is_counted(world: World) -> None:
    with booted(world, "new") as one:
        before = one.scraped()
        for user in ("newcomer", "u1"):
            assert 200 == one.ask(asked(user_id=user), world.operate)
        after = one.scraped()
    counted = [of(found, "answers_by_defaults_total") for found in (before, after)]
    failures = [of(found, "feature_failures_total") for found in (before, after)]
    assert (1, 0) == (counted[1] - counted[0], failures[1] - failures[0])


def test_a_scraper_needs_a_key_for_metrics(world: World) -> None:
    scraper = create_key(world.lake.keys, ["metrics"], "scraper")
    answers = {world.operate: 200, scraper: 200, world.predict: 403, world.events: 403}
    with booted(world, "asked") as one:
        assert answers == {key: one.metrics(as_role(key)).status_code for key in answers}
        assert 401 == one.metrics({}).status_code


def test_a_report_that_cannot_be_made_keeps_no_plan_from_being_taken_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[int] = []

    def left() -> int:
        failed.append(1)
        raise ValueError("no such unit of memory")

    store = RolloutStore(world.lake.rollouts, "clicks")
    with booted(world, "odd") as one:
        monkeypatch.setattr("serving.watch.memory.left", left)
        one.until(lambda: len(failed) > 2)
        plan = store.add(Plan(1, one.plan().champion))
        one.until(lambda: one.plan() == plan)
