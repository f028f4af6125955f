"""`POST /{use_case}/v1/predict`: candidates in, scores out, and a record of how they came about."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import numpy as np

from data_contracts.clock import HOUR, Clock, ReplayClock, parse_time
from data_contracts.encoding import encode_dense, encode_ids
from data_contracts.online import view_name
from data_contracts.predictions import PredictionLog, digest, off_policy_id, prediction_id
from data_contracts.tally import UNEXPOSED, Tally
from data_contracts.use_case import UseCase
from serving.answer import response
from serving.arms import Arm, Arms, Name, Snapshot
from serving.asked import query_time, rows_of
from serving.auth import Role
from serving.budget import Budget
from serving.candidate_process import CandidateDied
from serving.choices import Choices
from serving.dimensions import DimensionReader
from serving.explain import explanation
from serving.features import Served
from serving.predict_body import PredictRequest
from serving.problem import Problem
from serving.scorer import ScoreFailed, Scores
from serving.shadow import Copy, Shadow
from serving.spans import Untraced

_log = logging.getLogger(__name__)

_STEPS_KEPT = 8
_SLACK_S = 0.005


@dataclass(frozen=True)
class _Asked:
    """What one arm is asked for a request."""

    arm: Arm
    served: Served
    ids: np.ndarray
    dense: np.ndarray
    features_ms: float


@dataclass(frozen=True)
class _Answer(_Asked):
    """What it made of that."""

    scores: Scores


@dataclass
class Predictor:
    """Answers predict requests of one use case, by the arm that a request's unit is assigned to."""

    use_case: UseCase
    clock: Clock
    dimensions: DimensionReader
    arms: Arms
    choices: Choices
    shadow: Shadow
    log: PredictionLog
    timeout_ms: int
    candidate_timeout_ms: int
    answered: int = 0
    alone: Callable[[], bool] = lambda: False
    """Whether one request is under way: it needs no other thread, whose turns cost more than its
    work."""
    traces: Untraced = field(default_factory=Untraced)
    lost: Counter[str] = field(default_factory=Counter[str])
    """Hour (of the query time, since 1970) -> answers whose record the prediction log refused."""
    tallies: dict[str, dict[Name, Tally]] = field(default_factory=dict[str, dict[Name, Tally]])
    """Step of a release (`Plan.step`) -> arm -> what was counted."""
    spent_ms: Counter[str] = field(default_factory=Counter[str])
    """Part of an answer -> time of all of them."""
    totals: dict[Name, Tally] = field(default_factory=dict[Name, Tally])
    """Arm -> what was counted since the start."""

    async def answer(
        self,
        request: PredictRequest,
        roles: Collection[Role],
        until: float | None = None,
        version: str | None = None,
        explain: bool = False,
    ) -> dict[str, Any]:
        """The response to one request (shape: PredictResponse); Problem where there is none.

        `until`: when it has to be there (s, on the monotonic clock), after `timeout_ms` when None.
        `version`: who answers, whatever the plan says; such a request is off policy: it belongs to
        no arm, and its predictions are others than those of traffic. One whose candidates rules
        drop belongs to no arm either. `explain`: with the features and the attributions of its
        scores.
        """
        arrival, started = time.time_ns() // 1000, time.monotonic()
        until = started + self.timeout_ms / 1000 if until is None else until
        asked = query_time(self.clock, request, roles)
        rows = await self.dimensions.filled(rows_of(self.use_case, request), asked)
        if isinstance(self.clock, ReplayClock):
            self.clock.advance(asked)
        snapshot = self.arms.now
        unit = self._unit(request, rows)
        choice = self.choices.of(request.request_id, rows, asked)
        rows = choice.rows if choice else rows
        assigned = snapshot.assigned(unit) if version is None and rows else None
        budget = Budget(started, until - started)
        found, failure, given = None, None, None
        try:
            if assigned == "candidate":
                found, failure, given = await self._by_candidate(snapshot, rows, asked, budget)
                budget = budget.rest()
            if found is None:
                arm = snapshot.champion if version is None else self._named(snapshot, version)
                found = await self._by_one(arm, rows, asked, budget, given)
        except (Exception, asyncio.CancelledError) as error:
            failure = failure or _unanswered(error, budget)
            if assigned is not None and failure is not None:
                self._count(snapshot, assigned, None, failure, _ms_since(started))
            raise
        total_ms = _ms_since(started)
        if assigned is not None:
            self._count(snapshot, assigned, found.scores.values, failure, total_ms)
        bundle, served = found.arm.bundle, found.served
        make = prediction_id if version is None else off_policy_id
        every = [
            make(self.use_case.name, bundle.version, request.request_id, i)
            for i in range(len(request.candidates))
        ]
        names = choice.kept(every) if choice else every
        scores = found.scores.values.tolist()
        self.answered += 1
        latency = {
            "features": round(found.features_ms, 3),
            "queue": round(found.scores.queue_ms, 3),
            "model": round(found.scores.model_ms, 3),
        }
        self.spent_ms.update(latency)
        latency["total"] = round(total_ms, 3)
        groups = found.arm.reader.reading
        self._record(
            {
                "use_case": self.use_case.name,
                "request_id": request.request_id,
                "prediction_ids": names,
                "arrival": arrival,
                "event_time": parse_time(request.event_time) if request.event_time else None,
                "q_asked": asked,
                "q": served.q,
                "inputs": rows,
                "feature_names": bundle.manifest.features,
                "definitions": found.arm.definitions,
                "features": served.values.tolist(),
                "views": [view_name(group) for group in groups.groups],
                "view_of": groups.view_of(),
                "seqs": served.seqs.tolist(),
                "as_ofs": served.as_ofs,
                "defaults_used": served.defaults_used,
                "store_failed": served.store_failed,
                "scores": scores,
                "model": bundle.name,
                "version": bundle.version,
                "bundle": bundle.digest,
                "latency_ms": latency,
                "epoch": snapshot.plan.epoch,
                "release": snapshot.plan.release if assigned else 0,
                "canary_bps": snapshot.plan.canary_bps if assigned else 0,
                "unit": unit,
                "arm": assigned,
                "off_policy": version is not None,
                "fallback": failure,
                "choice": choice and choice.ordered(scores, every),
            }
        )
        if assigned and snapshot.plan.shadow_bps and (candidate := self.arms.exposed(snapshot)):
            copy = Copy(snapshot, candidate, request.request_id, names, rows, served.q)
            same = candidate.definitions == found.arm.definitions
            self.shadow.offer(copy, (found.ids, found.dense) if same else None)
        answer = response(request.request_id, names, found.arm, served, scores)
        if explain:
            given, said = (found.ids, found.dense), answer["predictions"]
            told = explanation(self.use_case, found.arm, served, rows, given, said, budget.until)
            answer["explanation"] = await told
        return choice.stamped(answer, every) if choice else answer

    def _unit(self, request: PredictRequest, rows: Sequence[Mapping[str, Any]]) -> str:
        """What is assigned to an arm as a whole: the declared field, else the request."""
        declared = self.use_case.declared.rollout.unit
        value = rows[0].get(declared) if declared else None
        return request.request_id if value is None else str(value)

    def _named(self, snapshot: Snapshot, version: str) -> Arm:
        """The arm of a version that is loaded here; Problem 404 for another one."""
        arms = self.arms.answering(snapshot)
        for arm in arms:
            if arm.bundle.version == version:
                return arm
        served = ", ".join(arm.bundle.version for arm in arms)
        detail = f"version {version[:20]!r}: is not served here: name one of {served}"
        raise Problem(HTTPStatus.NOT_FOUND, detail)

    async def _by_candidate(
        self, snapshot: Snapshot, rows: Sequence[Mapping[str, Any]], asked: int, budget: Budget
    ) -> tuple[_Answer | None, str | None, _Asked | None]:
        """The candidate's answer, or why the champion has to give one; and what it was asked."""
        arm, candidate, given = self.arms.exposed(snapshot), snapshot.candidate, None
        if arm is None or candidate is None:
            return None, UNEXPOSED, None
        within = budget.candidate_s(self.candidate_timeout_ms)
        try:
            # The store's time is not the candidate's: both arms wait for features as long.
            given = await self._asked(arm, rows, asked, budget)
            async with asyncio.timeout(within):
                found = await self._scored(given, time.monotonic() + within)
        except TimeoutError:
            # Of a machine that is overloaded the candidate is not to blame, but the gate counts it.
            if candidate.engine is not None and candidate.engine.owes_for() > within / 2:
                said = f"no answer within {within * 1000:.0f} ms"
                candidate.breaker.failed(said, fatal=False)
            return None, "timeout", given
        except Exception as error:
            # Whatever a bad model raises, the champion answers.
            candidate.breaker.failed(str(error), fatal=True)
            _log.exception("rollout: version %s gave no answer", arm.bundle.version)
            return None, type(error).__name__, given
        candidate.breaker.answered(found.ids, found.dense, found.scores.values)
        return found, None, given

    async def _by_one(
        self,
        arm: Arm,
        rows: Sequence[Mapping[str, Any]],
        asked: int,
        budget: Budget,
        given: _Asked | None = None,
    ) -> _Answer:
        """What this arm answers; Problem where it does not, for no other one is asked then.

        `given`: what another arm was asked; of the same features it is not read again.
        """
        if not rows:
            return _unasked(arm, asked)
        try:
            if given is not None and given.arm.definitions == arm.definitions:
                given = replace(given, arm=arm)
            else:
                given = await self._asked(arm, rows, asked, budget)
            return await self._scored(given, budget.until, self.alone() and arm.scorer.local)
        except TimeoutError as error:
            detail = f"{error}: send less at once, allow more time, or try again"
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"}
            ) from error
        except CandidateDied as error:
            detail = f"version {arm.bundle.version}: its process {error}: name another version"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail) from error
        except ScoreFailed as error:
            raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error

    async def _asked(
        self, arm: Arm, rows: Sequence[Mapping[str, Any]], asked: int, budget: Budget
    ) -> _Asked:
        started = time.monotonic()
        keys = [{name: row[name] for name in self.use_case.entities} for row in rows]
        with self.traces.span("features", arm.bundle.version):
            served = await arm.reader.within(keys, asked, budget.features_until, self.alone())
        features_ms = (time.monotonic() - started) * 1000
        spec = self.use_case.model
        ids = encode_ids(spec.categorical, rows, [served.q] * len(rows))
        dense = encode_dense(spec.numeric, rows, served.values)
        return _Asked(arm, served, ids, dense, features_ms)

    async def _scored(self, given: _Asked, deadline: float, here: bool = False) -> _Answer:
        version = given.arm.bundle.version
        scores = await given.arm.scorer.score(given.ids, given.dense, deadline, here)
        self.traces.spent("queue", version, scores.model_ms, scores.queue_ms)
        self.traces.spent("model", version, 0.0, scores.model_ms)
        return _Answer(**vars(given), scores=scores)

    def _count(
        self,
        snapshot: Snapshot,
        arm: Name,
        scores: np.ndarray | None,
        failure: str | None,
        ms: float,
    ) -> None:
        """Add the request to its arm's tallies; only the last few steps' are kept."""
        for arms in (self.tallies.setdefault(snapshot.plan.step, {}), self.totals):
            tally = arms.setdefault(arm, Tally())
            if failure is not None:
                tally.failed(failure, ms)
            elif scores is not None:
                tally.answered(ms, len(scores), float(scores.sum()))
        for step in [*self.tallies][:-_STEPS_KEPT]:
            del self.tallies[step]

    def _record(self, record: Mapping[str, Any]) -> None:
        refused = self.log.refuses
        try:
            self.log.append(record)
        except OSError:
            # The answer stands without its record; the next record's number shows the gap.
            self.lost[str(record["q"] // HOUR)] += 1
            if not refused:
                _log.exception("prediction log: %s is not recorded", digest(record["request_id"]))


def _unanswered(error: BaseException, budget: Budget) -> str | None:
    """Why a request has no answer; None where its client left, which is nobody's failure."""
    if isinstance(error, asyncio.CancelledError):
        # The entrance cuts an answer off with its own timer, which may be early by its resolution.
        return "timeout" if time.monotonic() >= budget.until - _SLACK_S else None
    cause = error.__cause__ or error
    return "timeout" if isinstance(cause, TimeoutError) else type(cause).__name__


def _ms_since(started: float) -> float:
    return (time.monotonic() - started) * 1000


def _unasked(arm: Arm, q: int) -> _Answer:
    """What is said of no rows at all."""
    nothing = np.zeros((0, 0), np.int64)
    served = Served(nothing, nothing, [], q, store_failed=False)
    return _Answer(arm, served, nothing, nothing, 0.0, Scores(np.zeros(0), 0.0, 0.0))
