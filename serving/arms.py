"""Who answers in a replica: the champion, and a candidate in a process of its own, by the plan."""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from data_contracts.lake import Lake
from data_contracts.rollout import Plan, Target, bucket, salt
from data_contracts.rollout_store import RolloutStore
from data_contracts.use_case import UseCase
from data_contracts.views import joint_digest
from serving.breaker import Breaker
from serving.candidate_process import CandidateProcess
from serving.exposure_watch import ExposureWatch
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
    """None also where the plan has one that is being started."""
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
        self._reading = threading.Lock()
        """Held while a reader is made: arms of one definition have one reader."""
        self._forks = Forks(_START_S)
        self._starting: tuple[int, CandidateProcess] | None = None
        """The process that is not ready yet, and its release."""
        self._filling: asyncio.Task[None] | None = None
        """Starts what is missing; a candidate at a time, so that two never load at once."""
        self._changing = asyncio.Lock()
        """Held by whoever exchanges the arms."""
        self._ends = False
        self._warm: dict[Target, Arm] = {}
        """Bundle's digest -> champions that were served here, the present one last."""
        self.device: Device = settings.device
        """Where the newest champion runs."""
        self._retiring: list[asyncio.Task[None]] = []
        self.news = asyncio.Event()
        """Set when there is something to tell at once: a breaker has opened, or a candidate that
        was being started is there."""
        self.plan_failures = 0
        """Looks for a plan, or at it, that failed; the arms stay as they are."""
        self.exposure = ExposureWatch(self._store, settings.lease_s)
        plan = self._store.plan() or Plan(0, registered_champion(use_case, lake))
        self.taken_up = 0 if plan.candidate else plan.epoch
        """Epoch of the newest plan all of whose arms were there."""
        self._now = self._snapshot(plan, self._champion(plan.champion), None)
        if plan.candidate is not None:
            # Before the first request: what the champion answers in its place is no evidence.
            try:
                self._take(replace(self._now, candidate=self._candidate(plan)))
            except OSError:
                self._not_started()
        self.exposure.look()
        candidate = self._now.candidate
        if candidate is not None and candidate.arm is not None:
            # Until it is known that a controller answers for it the champion would, too.
            self.exposure.await_beat()

    @property
    def now(self) -> Snapshot:
        """What a request that begins now goes by."""
        return self._now

    def exposed(self, snapshot: Snapshot) -> Arm | None:
        """The candidate's arm while it may be used: a controller answers for its exposure, and the
        breaker is closed."""
        candidate = snapshot.candidate
        if candidate is None or self.exposure.over or candidate.breaker.reason is not None:
            return None
        return candidate.arm

    def answering(self, snapshot: Snapshot) -> list[Arm]:
        """The arms that may be asked by name: the champion, and the candidate while exposed."""
        candidate = self.exposed(snapshot)
        return [snapshot.champion] if candidate is None else [snapshot.champion, candidate]

    async def look(self) -> bool:
        """Read the newest plan and take it up; whether it is another one than before.

        Nobody waits for a candidate to start: the champion answers alone until it is there.
        """
        try:
            plan = await asyncio.to_thread(self._look)
            newer = plan is not None and plan.epoch > self._now.plan.epoch
            if plan is not None and newer:
                async with self._changing:
                    load = asyncio.to_thread(self._champion, plan.champion)
                    champion = await self.exposure.meanwhile(load)
                    before = self._now
                    same = before.plan.release == plan.release
                    candidate = before.candidate if same else None
                    self._take(self._snapshot(plan, champion, candidate))
                    self._retire(before)
                    if not self._fills:
                        self._leave()
        except Exception:
            # Whatever the store or a bundle's files raise: what is served goes on being served.
            self.plan_failures += 1
            _log.exception("rollout: serving as before")
            return False
        if self._missing() and not self._fills:
            self._filling = asyncio.create_task(self._fill())
        return newer

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
        """Finish what is being scored, end the candidate, and give up one that is being started."""
        self._ends = True
        self._give_up()
        if self._fills and self._starting is None:
            # It may wait for the process that it shall be a fork of.
            self._forks.close()
        if self._filling is not None:
            await self._filling
        await asyncio.gather(*self._retiring)
        if self._now.candidate is not None:
            await _end(self._now.candidate, 0.0)
        self._forks.close()
        for arm in self._warm.values():
            await arm.scorer.close()
        for reader in self._readers.values():
            await reader.close()

    def _look(self) -> Plan | None:
        self.exposure.look()
        return self._store.plan()

    def _snapshot(self, plan: Plan, champion: Arm, candidate: Candidate | None) -> Snapshot:
        return Snapshot(plan, champion, candidate, salt(self._use_case.name, plan))

    def _take(self, snapshot: Snapshot) -> None:
        self._now = snapshot
        if not self._missing():
            self.taken_up = snapshot.plan.epoch
        self._give_up()

    def _missing(self) -> bool:
        """Whether the plan has a candidate that is not there, started or refused."""
        return self._now.plan.candidate is not None and self._now.candidate is None

    @property
    def _fills(self) -> bool:
        """Whether a candidate is being started, which may take any reader."""
        return self._filling is not None and not self._filling.done()

    def _wanted(self, release: int) -> bool:
        return not self._ends and self._now.plan.release == release

    def _give_up(self) -> None:
        """End a process that is not ready yet and is not wanted any more."""
        if (starting := self._starting) is not None and not self._wanted(starting[0]):
            starting[1].kill()

    async def _fill(self) -> None:
        """Start the candidate that is missing, and the next one if another is by then."""
        while self._missing() and not self._ends:
            plan = self._now.plan
            candidate = None
            try:
                candidate = await asyncio.to_thread(self._candidate, plan)
            except Exception:
                # As in `look`: it is tried again at the next one.
                if self._wanted(plan.release):
                    self._not_started()
            async with self._changing:
                wanted = self._wanted(plan.release)
                if wanted and candidate is not None:
                    self._take(replace(self._now, candidate=candidate))
                    self.news.set()
                if not self._ends:
                    self._leave()
            if wanted and candidate is None:
                break
            if not wanted and candidate is not None:
                await _end(candidate, 0.0)

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

    def _not_started(self) -> None:
        self.plan_failures += 1
        _log.exception("rollout: the candidate was not started")

    def _candidate(self, plan: Plan) -> Candidate:
        """What the plan asks for, or why its bundle cannot be served, which bars the version.

        OSError of this machine, which does not: it is tried again.
        """
        assert plan.candidate is not None
        try:
            bundle = load(self._use_case, self._lake, plan.candidate)
            engine = self._started(bundle, plan.release)
            try:
                arm = self._arm(bundle, Scorer(engine))
                return Candidate(arm, engine, Breaker(opened=self.news.set))
            except BaseException:
                engine.close()
                raise
        except ValueError as error:
            if self._wanted(plan.release):
                _log.exception("rollout: version %s cannot be served", plan.candidate.version)
            return Candidate(None, None, Breaker(str(error)))

    def _started(self, bundle: Bundle, release: int) -> CandidateProcess:
        settings = self._settings
        served = bundle, settings.threads, settings.device, settings.candidate_hang_s
        engine = CandidateProcess(self._forks, *served)
        self._starting = release, engine
        try:
            # Whoever wanted it no more before it could be seen here has not ended it.
            self._give_up()
            engine.until_ready(_START_S)
        finally:
            self._starting = None
        return engine

    def _arm(self, bundle: Bundle, scorer: Scorer) -> Arm:
        features = bundle.manifest.feature_digests
        definitions = joint_digest(features)
        with self._reading:
            if definitions not in self._readers:
                reader = FeatureReader(self._use_case, self._lake, features)
                reader.read_now([dict.fromkeys(self._use_case.entities)], 0)
                self._readers[definitions] = reader
            return Arm(bundle, self._readers[definitions], scorer, definitions)

    def _retire(self, before: Snapshot) -> None:
        """End what no later request uses: an earlier release's candidate, old champions but one."""
        grace = self._settings.timeout_ms / 1000
        tasks = [arm.scorer.close(grace) for arm in [self._warm.pop(d) for d in [*self._warm][:-2]]]
        if before.candidate is not None and before.candidate is not self._now.candidate:
            tasks.append(_end(before.candidate, grace))
        self._later(tasks)

    def _leave(self) -> None:
        """Close the readers of features that no arm takes any longer."""
        candidate = self._now.candidate
        arms = [*self._warm.values(), *([candidate.arm] if candidate and candidate.arm else ())]
        unread = self._readers.keys() - {arm.definitions for arm in arms}
        leaving = [self._readers.pop(each) for each in unread]
        self._leaving += leaving
        self._later([self._close(reader) for reader in leaving])

    def _later(self, tasks: Iterable[Coroutine[Any, Any, None]]) -> None:
        self._retiring = [task for task in self._retiring if not task.done()]
        self._retiring += [asyncio.create_task(task) for task in tasks]

    async def _close(self, reader: FeatureReader) -> None:
        """Once the requests that began with it have their answers."""
        await asyncio.sleep(self._settings.timeout_ms / 1000)
        await reader.close()
        self._leaving.remove(reader)
        self._past_failures += reader.failures


async def _end(candidate: Candidate, grace: float) -> None:
    if candidate.arm is not None and candidate.engine is not None:
        await candidate.arm.scorer.close(grace)
        await asyncio.to_thread(candidate.engine.close)
