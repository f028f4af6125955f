"""The controller of one model's rollout: requests and evidence become plans, aliases follow."""

import logging
import time
from collections.abc import Callable
from typing import Any

from data_contracts.clock import Clock
from data_contracts.exposure import Exposure
from data_contracts.gates import Decision
from data_contracts.moves import Moves
from data_contracts.override import Override
from data_contracts.release import judged
from data_contracts.rollout import ACTIONS, START, Plan, advanced, ended, held, returned
from data_contracts.rollout_store import Overtaken, Report, Request, RolloutStore
from data_contracts.stages import MoveRefused
from data_contracts.use_case import UseCase
from data_contracts.version_registry import VersionRegistry
from serving.alignment import Alignment, starts_before
from serving.headroom import Replicas
from serving.looks import Look, Looks
from serving.plans import Plans
from serving.previous import previous
from serving.reports import broken, fold

_log = logging.getLogger(__name__)

HUNG_S = 60.0
"""A look that takes longer ends the exposure, with the lease."""


class Controller:
    """Leads a rollout while it holds the lease; of several the others stand by.

    `look` gathers the evidence; `tuned` gives the weights at which a new release's sequences are
    narrowest, `expected` what one needs until its end, None where nothing tells; `fetch` puts a
    plan's bundles where replicas find them.
    """

    def __init__(
        self,
        use_case: UseCase,
        store: RolloutStore,
        registry: VersionRegistry,
        moves: Moves,
        look: Look,
        tuned: Callable[[], dict[str, float]],
        expected: Callable[[], Exposure | None],
        fetch: Callable[[Plan], None],
        clock: Clock,
        holder: str,
        lease_s: float,
    ) -> None:
        self._use_case = use_case
        self._declared = declared = use_case.declared.rollout
        self._store = store
        self._moves = moves
        self._holder = holder
        self._lease_s = lease_s
        self._seen: tuple[str, int] | None = None
        self._since = time.monotonic()
        self._replicas = Replicas()
        self._plans = Plans(store, moves, clock)
        self._looks = Looks(look, declared.look_s, declared.blind_s)
        both = self._plans, self._replicas
        self._alignment = Alignment(use_case, store, registry, moves, *both, tuned, expected, fetch)
        self._ticked = time.monotonic()
        self.leads = False
        self.waits = ""
        """Why the release does not go on, for people."""
        self._refused = ""
        """Why aliases and plan cannot be brought together: told to the log once."""

    def tick(self) -> Plan | None:
        """Answer requests and go by the evidence; the newest plan, None while another controller
        leads or there is no plan yet. It never waits for the registry.

        Outcomes that cannot be read stop no one from being taken out: what replicas counted is
        judged, requests are answered, and in time the candidate is exposed no longer.
        """
        self._ticked = time.monotonic()
        try:
            plan = self._turn()
        except Exception:
            self._looks.miss()
            raise
        self._looks.settle()
        return plan

    def keep(self) -> None:
        """Renew the lease while a `tick` goes on, from another thread: evidence of many rows takes
        longer to read than a lease lasts, and a controller that hangs has to lose it."""
        if self.leads and time.monotonic() - self._ticked < HUNG_S:
            self._store.renew(self._holder, self._looks.exposes)

    def align(self) -> None:
        """Let the registry's aliases follow the plan, or the plan follow moves that were made
        beside it; begin the releases that are asked for.

        What fails on the way is tried again at the next call, traffic goes by the plan.
        It may be called beside `tick`, from one other thread.
        """
        if not self.leads:
            return
        try:
            self._alignment.turn()
            self._refused = ""
        except MoveRefused as refused:
            self.waits = str(refused)
            if self._refused != self.waits:
                _log.warning("rollout: aliases and plan are not aligned", exc_info=True)
            self._refused = self.waits
        except Exception as error:
            # MLflow and its database raise many things when they are away, outcomes a few.
            self.waits = f"the registry cannot be followed ({type(error).__name__}): see the log"
            _log.exception("rollout: the registry could not be followed, which is tried again")

    def _turn(self) -> Plan | None:
        self.leads = self._lead()
        if not self.leads:
            return None
        plan = self._store.plan()
        if plan is None:
            self._looks.clear()
            return None
        reports = self._store.reports()
        self._replicas.hear(reports)
        every = self._store.requests(open_only=True)
        asked = [each for each in every if each.action != START]
        # Whoever takes a version out waits for nobody.
        for request in sorted(asked, key=lambda each: each.action != "abort"):
            if plan.candidate is None and starts_before(request, every):
                continue  # The alignment calls them off, which nobody can while it begins them.
            plan = self._asked(plan, request)
        fold(self._store, reports, plan.step)
        if plan.candidate is None:
            self._looks.clear()
            return plan
        return self._watched(plan, reports)

    def _lead(self) -> bool:
        """Renew the lease, or take one that is free or that nobody renews."""
        if self._store.renew(self._holder, self._looks.exposes):
            return True
        seen = self._store.beat()
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        if seen is not None and time.monotonic() - self._since < self._lease_s:
            return False
        return self._store.take(self._holder, seen)

    def _asked(self, plan: Plan, request: Request, again: bool = True) -> Plan:
        """Do what is asked, and answer; whatever comes in the way of one request, the others and
        the gates have their turn."""
        try:
            return self._done(plan, request)
        except Overtaken as overtaken:
            before, plan = plan, self._store.plan() or plan
            # Whoever goes on or back has to know from which step, or champion.
            unseen = request.action == "rollback" and plan.champion != before.champion
            if again and request.action != "advance" and not unseen:
                return self._asked(plan, request, again=False)
            answer = f"refused: {overtaken}"
        except MoveRefused as refused:
            answer = f"refused: {refused}"
        except Exception as error:
            _log.exception("rollout: request %d, %s", request.id, request.action)
            answer = f"refused: {type(error).__name__}: {error}"
        self._store.answer(request.id, answer)
        return plan

    def _done(self, plan: Plan, request: Request) -> Plan:
        """The plan that the request led to, which has answered it: a controller that is killed then
        has not left it for the next one to do again."""
        actor, reason, asked = request.actor, request.reason, request.id
        answers = Override(actor, reason) if request.override else None
        if request.action == "advance":
            self._demand_seen(plan, request)
            after = advanced(plan, self._declared.steps)
            if answers is None:
                self._replicas.demand_room()
            decision = self._judged(plan, self._store.reports())
            if not decision.promotes and answers is None:
                raise MoveRefused(f"its gates say {decision.verdict}: {_reasons(decision)}")
            if answers is None and (busy := self._busy(plan)):
                raise MoveRefused(busy)
            passed = decision if decision.promotes else None
            return self._plans.write(after, actor, reason, passed, answers, asked=asked)
        if request.action in ("hold", "resume"):
            after = held(plan, request.action == "hold")
            return self._plans.write(after, actor, reason, asked=asked)
        if request.action == "abort":
            said = f"aborted by {actor}: {reason}"
            bad, after = plan.candidate, ended(plan)
            bars = {bad.version: said} if bad is not None else {}
            mine = Override(actor, reason)
            return self._plans.write(after, actor, reason, None, mine, bars, asked)
        if request.action == "rollback":
            after = returned(plan, previous(plan, self._store, self._moves))
            bars = {plan.champion.version: f"rolled back by {actor}: {reason}"}
            mine = Override(actor, reason)
            return self._plans.write(after, actor, reason, None, mine, bars, asked)
        raise MoveRefused(f"action {request.action!r}: one of {', '.join(ACTIONS)}")

    def _demand_seen(self, plan: Plan, request: Request) -> None:
        """MoveRefused where the step was another one when it was asked: who asked twice, or while
        no controller ran, would go as many steps on at once."""
        seen = [each for each in self._store.plans() if each.time <= request.time]
        if not seen or seen[-1].step != plan.step:
            raise MoveRefused(
                f"plan {plan.epoch} leads to another step than there was when it was asked: look "
                "at it and ask again"
            )

    def _watched(self, plan: Plan, reports: list[Report]) -> Plan:
        """End the release on a failed gate, take it a step on when all pass."""
        if not self._looks.due(self._plans.written) and not broken(reports, plan.step):
            return plan
        decision = self._judged(plan, reports)
        failed = decision.verdict == "fail"
        self.waits = "" if failed else self._waiting(plan, decision)
        self._store.look(plan.release, self._seen_at(plan, decision))
        if failed:
            return self._failed(plan, decision)
        if self.waits:
            return plan
        after = advanced(plan, self._declared.steps)
        return self._plans.write(after, "controller", "its gates passed", decision)

    def _failed(self, plan: Plan, decision: Decision) -> Plan:
        assert plan.candidate is not None
        reason = _reasons(decision)
        bars = {plan.candidate.version: reason}
        return self._plans.write(ended(plan), "controller", reason, decision, bars=bars)

    def _waiting(self, plan: Plan, decision: Decision) -> str:
        """Why a release that did no harm stays where it is; empty when it may go on."""
        if unlogged := self._replicas.without_log():
            return unlogged
        if not decision.promotes:
            return f"its gates say {decision.verdict}: {_reasons(decision)}"
        if plan.held:
            return "it is held"
        if time.monotonic() - self._plans.written < self._declared.dwell_s:
            return f"each step takes {self._declared.dwell_s:g} s at least"
        live = self._replicas.live
        late = [each.replica for each in live if each.body["epoch"] != plan.epoch]
        if late or not live:
            return f"replicas that have not taken up plan {plan.epoch}: {', '.join(late) or 'all'}"
        return self._busy(plan) or self._replicas.without_memory()

    def _busy(self, plan: Plan) -> str:
        """Why a canary would not fit if it grew; empty where it does, or there is none yet."""
        return self._replicas.without_processors() if plan.stage == "canary" else ""

    def _judged(self, plan: Plan, reports: list[Report]) -> Decision:
        gates = self._use_case.declared.gates
        last = plan.canary_bps >= self._declared.steps[-1]
        seen = self._looks.at(plan, reports)
        return judged(plan, gates.rules, gates.alpha, seen, last)

    def _seen_at(self, plan: Plan, decision: Decision) -> dict[str, Any]:
        return {
            "time": self._plans.stamp(),
            "epoch": plan.epoch,
            "waits": self.waits,
            "decision": decision.as_dict(),
        }


def _reasons(decision: Decision) -> str:
    """The checks that count and did not pass."""
    failed = (c for c in decision.checks if c.counts and c.verdict != "pass")
    bad = [f"{c.name} ({c.verdict}: {c.value})" for c in failed]
    return "; ".join(bad) or "nothing was judged"
