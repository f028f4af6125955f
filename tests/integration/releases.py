"""A served world with a second version that may be released, and the controller of its rollout."""

import json
import os
import signal
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any
from unittest.mock import patch

from mlflow import MlflowClient
from starlette.routing import Mount

from data_contracts.bundle import Manifest
from data_contracts.clock import SystemClock
from data_contracts.lake import Lake
from data_contracts.moves import Moves
from data_contracts.predictions import read_log
from data_contracts.release import Evidence
from data_contracts.rollout import Plan, Rollout, bucket, salt
from data_contracts.rollout_store import Report, RolloutStore
from data_contracts.use_case import UseCase
from serving.app import build_app
from serving.controller import fetch
from serving.evidence import gathered
from serving.registry import Registry
from serving.release import Controller, Look
from serving.replica import Replica
from serving.traffic import expected
from tests.decisions import answered
from tests.integration.asgi import Client
from tests.integration.world import World, as_role, asked, build, export, patient

TUNED = {"CTR": 10_000.0, "paired log loss": 10_000.0}
BUSY = 64.0
"""Processors that a replica may keep busy: a test runs in the process of its replica."""
MOST = 1e3
"""Affinity above which version 2 gives NaN."""


def build_two(root: Path) -> World:
    """As `build`, with version 2, another model that passed its offline gates."""
    world = build(root)
    folder = root / "export2"
    register_version(world, folder, export(world.use_case, folder, seed=4, most=MOST))
    return world


def register_version(world: World, folder: Path, manifest: Manifest) -> Path:
    """Register the bundle in `folder`, which goes, as the next version, as one that passed its
    offline gates; returns where it is stored."""
    name, lake = world.use_case.name, world.lake
    client = MlflowClient(tracking_uri=lake.mlflow_uri, registry_uri=lake.mlflow_uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    run = client.create_run(experiment.experiment_id)
    client.log_artifacts(run.info.run_id, str(folder), "bundle")
    rmtree(folder)
    decided = replace(answered("1"), bundle=manifest.digest()).as_dict()
    tags = {"bundle_sha256": manifest.digest(), "decision": json.dumps(decided)}
    client.create_model_version(name, f"{run.info.artifact_uri}/bundle", run.info.run_id, tags=tags)
    return Path(run.info.artifact_uri.removeprefix("file://")) / "bundle"


@contextmanager
def registry_away(lake: Lake) -> Generator[None]:
    """MLflow's database answers nobody."""
    path = lake.root / "mlflow" / "mlflow.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.rollback()


class Release:
    """Both sides of a rollout in this process, a step at a time."""

    def __init__(self, world: World, client: Client, holder: str = "one") -> None:
        self.world, self.client = world, client
        # Nothing is under way when an arm is retired: here one step follows the other.
        arms = self.replica.predictor.arms
        arms._settings = arms._settings.model_copy(update={"timeout_ms": 1})
        self.lake: Lake = world.lake
        self.store = RolloutStore(self.lake.rollouts, world.use_case.name)
        self.evidence: Evidence | None = None
        """What the controller is told instead of what the tables say."""
        self.unreadable: Exception | None = None
        """What reading the tables ends in."""
        self.controller = self.another(holder)
        self.key = as_role(world.operate)

    def another(self, holder: str, lease_s: float = 0.0, look: Look | None = None) -> Controller:
        registry = Registry(self.lake)
        moves = Moves(registry, self.lake, self.world.use_case, "headrace rollout")
        use_case = impatient(self.world.use_case)
        return Controller(
            use_case, self.store, registry, moves, look or self._look,
            lambda: TUNED, lambda: expected(use_case, self.lake),
            lambda plan: fetch(self.world.use_case, self.lake, plan),
            SystemClock(), holder, lease_s,
        )  # fmt: skip

    def _look(self, plan: Plan, reports: list[Report]) -> Evidence:
        if self.unreadable is not None:
            raise self.unreadable
        seen = gathered(self.lake, plan, reports)
        return replace(self.evidence, broken=seen.broken) if self.evidence else seen

    @property
    def replica(self) -> Replica:
        route = next(r for r in self.client.app.routes if getattr(r, "path", "") == "/clicks")
        assert isinstance(route, Mount)
        return route.app.state.replica

    @property
    def plan(self) -> Plan:
        found = self.store.plan()
        assert found is not None
        return found

    @property
    def candidate_pid(self) -> int:
        candidate = self.replica.predictor.arms.now.candidate
        assert candidate is not None and candidate.engine is not None
        return candidate.engine.pid

    def hangs_for(self, seconds: float) -> None:
        """The candidate's process is ended once it has said nothing for so long."""
        candidate = self.replica.predictor.arms.now.candidate
        assert candidate is not None and candidate.engine is not None
        candidate.engine._hang_s = seconds

    @contextmanager
    def candidate_stopped(self) -> Generator[None]:
        """The candidate's process says nothing meanwhile."""
        pid = self.candidate_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def ask(self, action: str, version: str | None = None, override: bool = False) -> str:
        """What the controller answers."""
        self.store.ask("now", "ada", action, version, "a test", override)
        self.settle()
        return str(self.store.requests()[-1].answer)

    def settle(self) -> None:
        """Controller and replica know of each other's last word: a replica is heard at its second,
        and what is begun then it takes up."""
        for _ in range(3):
            self.controller.tick()
            self.controller.align()
            self.client.run(self._heard())
        self.controller.tick()
        self.controller.align()

    async def _heard(self) -> None:
        """The replica looks, starts what it has to, and says so."""
        watch, arms = self.replica.watch, self.replica.predictor.arms
        assert watch is not None
        await watch.once()
        if arms._filling is not None:
            await arms._filling
            await watch._report()

    def canary(self, bps: int = 100) -> None:
        """Version 2 answers this share."""
        assert "epoch" in self.ask("start", "2")
        while self.plan.canary_bps < bps:
            assert "epoch" in self.ask("advance", override=True)

    def unit(self, below: int, start: int = 0) -> str:
        """A user who falls below this bucket."""
        mix = salt(self.world.use_case.name, self.plan)
        return next(f"u{i}" for i in range(start, 10**6) if bucket(mix, f"u{i}") < below)

    def predict(self, unit: str, name: str, **changes: Any) -> Any:
        body = asked(user_id=unit, request_id=name, **changes)
        return self.client.post("/clicks/v1/predict", json=body, headers=self.key)

    def records(self) -> list[dict[str, Any]]:
        return read_log(self.replica.predictor.log.path).records


def impatient(use_case: UseCase) -> UseCase:
    """The use case with releases that wait for nothing but their gates, each for those of its
    stage."""
    rollout = Rollout(unit="user_id", look_s=0.0, dwell_s=0.0, blind_s=0.0, staged=True)
    return replace(use_case, declared=replace(use_case.declared, rollout=rollout))


@contextmanager
def released(built: World, root: Path) -> Generator[Release]:
    """A release of a copy of the world in `root`: aliases, ledger and plans are its own, the
    bundles stay where they were built."""
    copytree(built.root, root)
    world = replace(built, root=root, lake=Lake(root, built.use_case.name))
    # Feast names its files by their whole path.
    store = world.lake.online / "feature_store.yaml"
    store.write_text(store.read_text().replace(str(built.root), str(root)))
    settings = patient(
        root, clock="replay", poll_s=3600.0, lease_s=600.0,
        candidate_timeout_ms=20_000, candidate_hang_s=60.0,
    )  # fmt: skip
    with patch("serving.headroom.BUSY", BUSY), Client(build_app(settings)) as client:
        yield Release(world, client)
