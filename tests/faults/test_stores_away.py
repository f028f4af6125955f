"""Under steady load what a server stands on goes away, and comes back: Redis, the disk, MLflow."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from data_contracts.moves import Moves
from data_contracts.predictions import SUFFIX, read_log
from serving.registry import Registry
from spark_jobs.online_store import move
from tests.faults.served import Served, serving
from tests.faults.traffic import records
from tests.integration.releases import build_two, registry_away
from tests.integration.world import World, write_states
from tests.redis_server import RedisServer

pytestmark = pytest.mark.faults
FLOWS_S = 40.0
MANY = 100
"""Requests by which a state of the server is told."""


class SmallDisk:
    """A file system of a gibibyte in memory; without root's rights there is none."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(folder)]
        self.mounted = subprocess.run(command, capture_output=True).returncode == 0

    @contextmanager
    def full(self) -> Iterator[None]:
        ballast = self.folder / "ballast"
        with suppress(OSError), ballast.open("xb", buffering=0) as file:
            while file.write(bytes(1 << 20)):
                pass
        yield
        ballast.unlink()

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


def write_in_redis(world: World, redis: RedisServer) -> None:
    lake = replace(world.lake, redis=redis.address)
    move(lake)
    write_states(world.use_case, lake)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, redis: RedisServer) -> World:
    world = build_two(tmp_path_factory.mktemp("away") / "lake")
    write_in_redis(world, redis)
    return world


@pytest.fixture(scope="module")
def disk(world: World) -> Iterator[SmallDisk]:
    """What the prediction log lies on."""
    disk = SmallDisk(world.lake.prediction_log)
    yield disk
    disk.close()


@pytest.fixture(scope="module")
def served(
    world: World, disk: SmallDisk, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with serving(world, tmp_path_factory.mktemp("served")) as served:
        yield served


def test_while_redis_is_away_defaults_are_served_and_afterwards_features_again(
    served: Served, world: World, redis: RedisServer
) -> None:
    boots = {report.boot for report in served.live}
    failures = served.total("feature_failures")
    flowing = served.traffic("open", served.rate, FLOWS_S)

    def reads_now() -> bool:
        """Whether the next requests get what the store holds."""
        answered, failed = served.total("answered"), served.total("feature_failures")
        served.until(lambda: served.total("answered") >= answered + MANY)
        return failed == served.total("feature_failures")

    assert reads_now()
    redis.kill()
    served.until(lambda: served.total("feature_failures") >= failures + MANY)
    assert not reads_now()
    redis.start()
    write_in_redis(world, redis)
    back = served.until(reads_now)
    assert flowing.flows
    found = flowing.said()
    print({"features after": back, "found": found})
    assert {"200"} == {*found["statuses"]}, found
    logged = sorted(records(world.lake), key=lambda record: record["arrival"])
    failed = [record for record in logged if record["store_failed"]]
    assert {True} == {record["defaults_used"] for record in failed}
    assert MANY <= len(failed) <= served.total("feature_failures") - failures
    assert {0} == {seq for record in failed for row in record["seqs"] for seq in row}
    after = [record for record in logged if record["arrival"] > failed[-1]["arrival"]]
    for part in (logged[: logged.index(failed[0])], after):
        assert any(seq for record in part for row in record["seqs"] for seq in row)
    assert boots == {report.boot for report in served.live}


def test_a_full_disk_under_the_prediction_log_costs_records_that_are_counted_and_no_answer(
    served: Served, disk: SmallDisk
) -> None:
    if not disk.mounted:
        pytest.skip("a disk that can be filled takes root's right to mount one")
    served.settle()
    served.release("2", 100)
    rate = served.rate  # it is measured by requests when it is asked for first
    before, lost = served.total("answered"), served.total("log_failures")
    flowing = served.traffic("open", rate, FLOWS_S)
    served.until(lambda: served.total("answered") >= before + MANY)
    with disk.full():
        served.until(lambda: all(report.body["log_refuses"] for report in served.live))
        number = served.asked("advance", override=False)
        served.until(lambda: served.answer(number))
        assert "not judgeable: the prediction log takes no record" in str(served.answer(number))
        served.until(lambda: served.total("log_failures") >= lost + MANY)
    served.until(lambda: not any(report.body["log_refuses"] for report in served.live))
    assert flowing.flows
    found = flowing.said()
    served.until(lambda: served.total("answered") == before + found["requests"])
    print({"lost": served.total("log_failures") - lost, "found": found})
    assert {"200"} == {*found["statuses"]}, found
    for report in served.live:
        log = read_log(disk.folder / f"{report.replica}-{report.boot}{SUFFIX}")
        answers = [record for record in log.records if "shadow" not in record]
        assert (log.gaps, 0) == (report.body["log_failures"], log.torn_bytes)
        assert report.body["answered"] == len(answers) + log.gaps


def test_what_was_rolled_back_while_mlflow_was_away_stays_out_when_it_is_back(
    served: Served, world: World
) -> None:
    served.settle()
    served.release("2", 5_000)
    flowing = served.traffic("open", served.rate, FLOWS_S)

    def champion(version: str) -> bool:
        """Whether the plan and every replica have it in the champion's place."""
        said = {report.body["champion"] for report in served.live}
        return served.plan.champion.version == version and said == {version}

    with registry_away(world.lake):
        served.asked("advance")
        taken = served.until(lambda: champion("2"))
        served.asked("rollback")
        left = served.until(lambda: champion("1"))
        again = served.asked("start", "2", override=False)
    caught_up = served.until(lambda: served.answer(again) and served.taken_up())
    assert "is barred" in str(served.answer(again))
    epoch, beat = served.plan.epoch, served.store.beat()
    assert beat is not None
    served.until(lambda: (served.store.beat() or beat)[1] > beat[1] + 20)
    found = flowing.said()
    print({"promoted": taken, "back": left, "aligned": caught_up, "found": found})
    assert {"200"} == {*found["statuses"]}, found
    assert ["2", "1"] == [plan.champion.version for plan in served.store.plans()[-2:]]
    assert epoch == served.plan.epoch
    moves = Moves(Registry(world.lake), world.lake, world.use_case)
    assert {"champion": "1"} == Registry(world.lake).aliases("clicks")
    assert [] == moves.verify()
