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

from data_contracts.clock import HOUR, Clock, ReplayClock
from data_contracts.encoding import encode_dense, encode_ids
from data_contracts.exploration import candidate_key
from data_contracts.predictions import PredictionLog, digest
from data_contracts.tally import LATE, TIMEOUT, UNEXPOSED, Tally
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
from serving.prediction_record import record_of
from serving.problem import Problem
from serving.query import ArmInput, Query, Scored
from serving.scorer import ScoreFailed, Scores
from serving.shadow import Copy, Shadow
from serving.spans import Untraced

_log = logging.getLogger(__name__)

_STEPS_KEPT = 8
_SLACK_S = 0.005


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
    by_defaults: int = 0
    """Answers in which a key had no state, as a new one or in an emptied store, or no read."""
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
        started = time.monotonic()
        until = started + self.timeout_ms / 1000 if until is None else until
        query = await self._query(request, roles, version)
        scored, failure = await self._by_arms(query, Budget(started, until - started))
        total_ms = _ms_since(started)
        if query.assigned is not None:
            values = scored.scores.values
            self._count(query.snapshot, query.assigned, values, failure, total_ms)
        choice, every = query.choice, query.prediction_ids(scored.arm.bundle.version)
        names = choice.kept(every) if choice else every
        scores = scored.scores.values.tolist()
        self.answered += 1
        self.by_defaults += scored.served.defaults_used
        self.spent_ms.update(scored.spent_ms)
        chosen = choice.ordered(scores, every) if choice else None
        self._log_record(record_of(query, scored, names, failure, chosen, total_ms))
        self._mirror(query, scored, names)
        answer = response(request.request_id, names, scored.arm, scored.served, scores)
        if explain:
            answer["explanation"] = await explanation(
                self.use_case, scored.arm, scored.served, query.rows, (scored.ids, scored.dense),
                answer["predictions"], until,
            )  # fmt: skip
        return choice.stamped(answer, every) if choice else answer

    async def _query(
        self, request: PredictRequest, roles: Collection[Role], version: str | None
    ) -> Query:
        arrival = time.time_ns() // 1000
        q_asked = query_time(self.clock, request, roles)
        rows = await self.dimensions.filled(rows_of(self.use_case, request), q_asked)
        if isinstance(self.clock, ReplayClock):
            self.clock.advance(q_asked)
        snapshot = self.arms.now
        unit = self._unit(request, rows)
        keys = [candidate_key(self.use_case.identity, row) for row in rows]
        choice = self.choices.of(request.request_id, rows, q_asked)
        rows = choice.rows if choice else rows
        assigned = snapshot.assigned(unit) if version is None and rows else None
        return Query(
            self.use_case.name, request, arrival, q_asked, keys, rows, choice, snapshot, unit,
            assigned, version,
        )  # fmt: skip

    def _unit(self, request: PredictRequest, rows: Sequence[Mapping[str, Any]]) -> str:
        """What is assigned to an arm as a whole: the declared field, else the request."""
        declared = self.use_case.declared.rollout.unit
        value = rows[0].get(declared) if declared else None
        return request.request_id if value is None else str(value)

    async def _by_arms(self, query: Query, budget: Budget) -> tuple[Scored, str | None]:
        """What one of the arms answers, and why that of the query's unit did not; Problem where
        none does."""
        started = budget.began
        scored, failure, arm_input = None, None, None
        try:
            if query.assigned == "candidate":
                scored, failure, arm_input = await self._by_candidate(query, budget)
                budget = budget.rest()
            if scored is None:
                scored = await self._by_one(self._arm_of(query), query, budget, arm_input)
        except (Exception, asyncio.CancelledError) as error:
            failure = _unanswered(error, budget) if failure in (None, LATE) else failure
            if query.assigned is not None and failure is not None:
                self._count(query.snapshot, query.assigned, None, failure, _ms_since(started))
            raise
        return scored, failure

    def _arm_of(self, query: Query) -> Arm:
        """The champion, or the arm of the version that is asked by name; Problem 404 where that is
        not loaded here."""
        if query.version is None:
            return query.snapshot.champion
        arms = self.arms.answering(query.snapshot)
        for arm in arms:
            if arm.bundle.version == query.version:
                return arm
        served = ", ".join(arm.bundle.version for arm in arms)
        detail = f"version {query.version[:20]!r}: is not served here: name one of {served}"
        raise Problem(HTTPStatus.NOT_FOUND, detail)

    async def _by_candidate(
        self, query: Query, budget: Budget
    ) -> tuple[Scored | None, str | None, ArmInput | None]:
        """The candidate's answer, or why the champion has to give one; and what it was given."""
        arm, candidate = self.arms.exposed(query.snapshot), query.snapshot.candidate
        if arm is None or candidate is None:
            return None, UNEXPOSED, None
        arm_input: ArmInput | None = None
        within = budget.candidate_s(self.candidate_timeout_ms)
        try:
            # The store's time is not the candidate's: both arms wait for features as long.
            arm_input = await self._input(arm, query, budget)
            async with asyncio.timeout(within):
                scored = await self._score(arm_input, time.monotonic() + within)
        except TimeoutError:
            limit = self.candidate_timeout_ms
            if candidate.engine is None or not candidate.engine.overdue(limit / 1000):
                return None, LATE, arm_input
            candidate.breaker.failed(f"no answer within {limit} ms", fatal=False)
            return None, TIMEOUT, arm_input
        except Exception as error:
            # Whatever a bad model raises, the champion answers.
            candidate.breaker.failed(str(error), fatal=True)
            _log.exception("rollout: version %s gave no answer", arm.bundle.version)
            return None, type(error).__name__, arm_input
        candidate.breaker.answered(scored.ids, scored.dense, scored.scores.values)
        return scored, None, arm_input

    async def _by_one(
        self, arm: Arm, query: Query, budget: Budget, theirs: ArmInput | None
    ) -> Scored:
        """What this arm answers; Problem where it does not, for no other one is asked then.

        `theirs`: what another arm was given; of the same features it is not read again.
        """
        if not query.rows:
            return _of_no_rows(arm, query.q_asked)
        try:
            if theirs is not None and theirs.arm.definitions == arm.definitions:
                arm_input = replace(theirs, arm=arm)
            else:
                arm_input = await self._input(arm, query, budget)
            return await self._score(arm_input, budget.until, self.alone() and arm.scorer.local)
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

    async def _input(self, arm: Arm, query: Query, budget: Budget) -> ArmInput:
        started = time.monotonic()
        rows = query.rows
        keys = [{name: row[name] for name in self.use_case.entities} for row in rows]
        with self.traces.span("features", arm.bundle.version):
            until = budget.features_until
            served = await arm.reader.within(keys, query.q_asked, until, self.alone())
        features_ms = _ms_since(started)
        spec = self.use_case.model
        ids = encode_ids(spec.categorical, rows, [served.q] * len(rows))
        dense = encode_dense(spec.numeric, rows, served.values)
        return ArmInput(arm, served, ids, dense, features_ms)

    async def _score(self, arm_input: ArmInput, deadline: float, here: bool = False) -> Scored:
        arm, version = arm_input.arm, arm_input.arm.bundle.version
        scores = await arm.scorer.score(arm_input.ids, arm_input.dense, deadline, here)
        self.traces.spent("queue", version, scores.model_ms, scores.queue_ms)
        self.traces.spent("model", version, 0.0, scores.model_ms)
        return Scored(**vars(arm_input), scores=scores)

    def _mirror(self, query: Query, scored: Scored, names: Sequence[str]) -> None:
        """Offer a copy to the candidate in the shadow, if there is one."""
        snapshot = query.snapshot
        if not query.assigned or not snapshot.plan.shadow_bps:
            return
        if candidate := self.arms.exposed(snapshot):
            if scored.served.store_failed:
                # By defaults both models would be judged for the store.
                self.shadow.dropped += 1
                return
            request_id, q = query.request.request_id, scored.served.q
            copy = Copy(snapshot, candidate, request_id, names, query.rows, q)
            same = candidate.definitions == scored.arm.definitions
            self.shadow.offer(copy, (scored.ids, scored.dense) if same else None)

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

    def _log_record(self, record: Mapping[str, Any]) -> None:
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
        return TIMEOUT if time.monotonic() >= budget.until - _SLACK_S else None
    cause = error.__cause__ or error
    return TIMEOUT if isinstance(cause, TimeoutError) else type(cause).__name__


def _ms_since(started: float) -> float:
    return (time.monotonic() - started) * 1000


def _of_no_rows(arm: Arm, q: int) -> Scored:
    nothing = np.zeros((0, 0), np.int64)
    served = Served(nothing, nothing, [], q, store_failed=False)
    return Scored(arm, served, nothing, nothing, 0.0, Scores(np.zeros(0), 0.0, 0.0))
