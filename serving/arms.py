"""Who answers in a replica: the champion, and a candidate in a process of its own, by the plan."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from data_contracts.bundle import BundleRefused
from data_contracts.lake import Lake
from data_contracts.rollout import Plan, Target, bucket, salt
from data_contracts.rollout_store import RolloutStore
from data_contracts.use_case import UseCase
from data_contracts.views import joint_digest
from serving.breaker import Breaker
from serving.candidate_process import CandidateProcess
from serving.features import FeatureReader
from serving.forks import Forks
from serving.loader import Bundle, load, registered_champion
from serving.scorer import Model, Scorer
from serving.settings import Device, Settings

_log = logging.getLogger(__name__)

Name = Literal["champion", "candidate"]
_START_S = 60.0


@dataclass(frozen=True)
class Arm:
    """A bundle that scores here, with the features it takes."""

    bundle: Bundle
    reader: FeatureReader
    scorer: Scorer
    definitions: str
    """Digest over its features, by which a record tells what was served."""


@dataclass(frozen=True)
class Candidate:
    """The other arm of a release; without `arm` it could not be started."""

    arm: Arm | None
    engine: CandidateProcess | None
    breaker: Breaker


@dataclass(frozen=True)
class Snapshot:
    """What one request goes by from its beginning to its end."""

    plan: Plan
    champion: Arm
    candidate: Candidate | None
    salt: str

    def assigned(self, unit: str) -> Name:
        """The arm that a unit belongs to, whoever answers."""
        theirs = bucket(self.salt, unit) < self.plan.canary_bps
        return "candidate" if theirs else "champion"


class Arms:
    """The arms of one replica, exchanged as a whole when a later plan says so."""

    def __init__(self, use_case: UseCase, lake: Lake, settings: Settings) -> None:
        self._use_case = use_case
        self._lake = lake
        self._settings = settings
        self._store = RolloutStore(lake.rollouts, use_case.name)
        self._readers: dict[str, FeatureReader] = {}
        """Digest over features -> their reader, of the arms that are warm."""
        self._leaving: list[FeatureReader] = []
        """Those that no arm takes any longer, until they are closed."""
        self._past_failures = 0
        """Of readers that were closed."""
        self._forks = Forks(_START_S)
        self._warm: dict[Target, Arm] = {}
        """Bundle's digest -> champions that were served here, the present one last."""
        self.device: Device = settings.device
        """Where the newest champion runs."""
        plan = self._store.plan() or Plan(0, registered_champion(use_case, lake))
        self._now = self._prepared(plan, None)
        self._seen: int | None = None
        self._renewed = float("-inf")
        self._retiring: list[asyncio.Task[None]] = []
        self.broke = asyncio.Event()
        """Set when a breaker opens, for whoever has to tell of it at once."""
        self.plan_failures = 0
        """Looks for a plan, or at it, that failed; the arms stay as they are."""
        self._see()

    @property
    def now(self) -> Snapshot:
        """What a request that begins now goes by."""
        return self._now

    def exposed(self, snapshot: Snapshot) -> Arm | None:
        """The candidate's arm while it may be used: a controller answers for its exposure, and the
        breaker is closed."""
        candidate = snapshot.candidate
        alone = time.monotonic() - self._renewed > self._settings.lease_s
        if candidate is None or alone or candidate.breaker.reason is not None:
            return None
        return candidate.arm

    def answering(self, snapshot: Snapshot) -> list[Arm]:
        """The arms that may be asked by name: the champion, and the candidate while exposed."""
        candidate = self.exposed(snapshot)
        return [snapshot.champion] if candidate is None else [snapshot.champion, candidate]

    async def look(self) -> bool:
        """Read the newest plan and take it up; whether it is another one than before."""
        try:
            plan = await asyncio.to_thread(self._see)
            if plan is None or plan.epoch <= self._now.plan.epoch:
                return False
            before = self._now
            self._now = await asyncio.to_thread(self._prepared, plan, before)
        except Exception:
            # Whatever the store or a bundle's files raise: what is served goes on being served.
            self.plan_failures += 1
            _log.exception("rollout: serving as before")
            return False
        self._retire(before)
        return True

    @property
    def feature_failures(self) -> int:
        """Reads of features that ended in defaults."""
        readers = (*self._readers.values(), *self._leaving)
        return self._past_failures + sum(reader.failures for reader in readers)

    def broken(self) -> Mapping[str, str]:
        """Step -> why the candidate's breaker has opened here."""
        candidate = self._now.candidate
        if candidate is None or candidate.breaker.reason is None:
            return {}
        return {self._now.plan.step: candidate.breaker.reason}

    async def close(self) -> None:
        """Finish what is being scored and end the candidate."""
        await asyncio.gather(*self._retiring)
        if self._now.candidate is not None:
            await _end(self._now.candidate, 0.0)
        self._forks.close()
        for arm in self._warm.values():
            await arm.scorer.close()
        for reader in self._readers.values():
            await reader.close()

    def _see(self) -> Plan | None:
        beat = self._store.exposure()
        if beat != self._seen:
            # The first beat that is found may be a dead controller's: only a change is a sign.
            if self._seen is not None:
                self._renewed = time.monotonic()
            self._seen = beat
        return self._store.plan()

    def _prepared(self, plan: Plan, before: Snapshot | None) -> Snapshot:
        champion = self._champion(plan.champion)
        candidate = None
        if plan.candidate is not None:
            same = before is not None and before.plan.release == plan.release
            candidate = before.candidate if before is not None and same else None
            candidate = candidate or self._candidate(plan.candidate)
        return Snapshot(plan, champion, candidate, salt(self._use_case.name, plan))

    def _champion(self, target: Target) -> Arm:
        arm = self._warm.pop(target, None)
        if arm is None:
            bundle = load(self._use_case, self._lake, target)
            arm = self._arm(bundle, Scorer(self._model(bundle)))
        self._warm[target] = arm
        return arm

    def _model(self, bundle: Bundle) -> Model:
        model = Model(bundle, self._settings.threads, self._settings.device)
        self.device = model.device
        return model

    def _candidate(self, target: Target) -> Candidate:
        try:
            bundle = load(self._use_case, self._lake, target)
            settings = self._settings
            times = _START_S, settings.candidate_hang_s
            engine = CandidateProcess(
                self._forks, bundle, settings.threads, settings.device, *times
            )
            try:
                arm = self._arm(bundle, Scorer(engine))
                return Candidate(arm, engine, Breaker(opened=self.broke.set))
            except BaseException:
                engine.close()
                raise
        except (BundleRefused, ValueError, OSError) as error:
            _log.exception("rollout: version %s cannot be served", target.version)
            return Candidate(None, None, Breaker(str(error)))

    def _arm(self, bundle: Bundle, scorer: Scorer) -> Arm:
        features = bundle.manifest.feature_digests
        definitions = joint_digest(features)
        if definitions not in self._readers:
            reader = FeatureReader(self._use_case, self._lake, features)
            reader.read_now([dict.fromkeys(self._use_case.entities)], 0)
            self._readers[definitions] = reader
        return Arm(bundle, self._readers[definitions], scorer, definitions)

    def _retire(self, before: Snapshot) -> None:
        """End what no later request uses: an earlier release's candidate, old champions but one,
        readers of features that no arm takes any longer."""
        grace = self._settings.timeout_ms / 1000
        tasks = [arm.scorer.close(grace) for arm in [self._warm.pop(d) for d in [*self._warm][:-2]]]
        if before.candidate is not None and before.candidate is not self._now.candidate:
            tasks.append(_end(before.candidate, grace))
        candidate = self._now.candidate
        arms = [*self._warm.values(), *([candidate.arm] if candidate and candidate.arm else ())]
        unread = self._readers.keys() - {arm.definitions for arm in arms}
        leaving = [self._readers.pop(each) for each in unread]
        self._leaving += leaving
        tasks += [self._close(reader, grace) for reader in leaving]
        self._retiring = [task for task in self._retiring if not task.done()]
        self._retiring += [asyncio.create_task(task) for task in tasks]

    async def _close(self, reader: FeatureReader, grace: float) -> None:
        """Once the requests that began with it have their answers."""
        await asyncio.sleep(grace)
        await reader.close()
        self._leaving.remove(reader)
        self._past_failures += reader.failures


async def _end(candidate: Candidate, grace: float) -> None:
    if candidate.arm is not None and candidate.engine is not None:
        await candidate.arm.scorer.close(grace)
        candidate.engine.close()
