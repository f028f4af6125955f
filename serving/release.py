"""The controller of one model's rollout: requests and evidence become plans, aliases follow."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from data_contracts.clock import Clock, format_time
from data_contracts.gates import Decision
from data_contracts.ledger import INTENT
from data_contracts.moves import Moves, Override, Registry
from data_contracts.release import Evidence, judged
from data_contracts.rollout import (
    Plan,
    Target,
    adopted,
    advanced,
    ended,
    held,
    led_to,
    moves,
    returned,
)
from data_contracts.rollout_store import Report, Request, RolloutStore
from data_contracts.stages import CHAMPION, SHADOW, MoveRefused
from data_contracts.use_case import UseCase
from serving.headroom import Replicas
from serving.previous import previous
from serving.reports import fold

_log = logging.getLogger(__name__)

START = "start"
ACTIONS = (START, "advance", "hold", "resume", "abort", "rollback")
"""What may be asked of a controller."""
HUNG_S = 60.0
"""A look that takes longer ends the exposure, with the lease."""

Look = Callable[[Plan, list[Report]], Evidence]


class Controller:
    """Leads a rollout while it holds the lease; of several the others stand by.

    `look` gathers the evidence; `tuned` gives the weights at which a new release's sequences are
    narrowest; `fetch` puts a plan's bundles where replicas find them.
    """

    def __init__(
        self,
        use_case: UseCase,
        store: RolloutStore,
        registry: Registry,
        moves: Moves,
        look: Look,
        tuned: Callable[[], dict[str, float]],
        fetch: Callable[[Plan], None],
        clock: Clock,
        holder: str,
        lease_s: float,
    ) -> None:
        self._use_case = use_case
        self._declared = use_case.declared.rollout
        self._store = store
        self._registry = registry
        self._moves = moves
        self._look = look
        self._tuned = tuned
        self._fetch = fetch
        self._clock = clock
        self._holder = holder
        self._lease_s = lease_s
        self._seen: tuple[str, int] | None = None
        self._since = time.monotonic()
        self._replicas = Replicas()
        self._looked = float("-inf")
        self._stepped = self._ticked = time.monotonic()
        self.leads = False
        self.waits = ""
        """Why the release does not go on, for people."""
        self.registry_failures = 0

    def tick(self) -> Plan | None:
        """Answer requests and go by the evidence; the newest plan, None while another controller
        leads or there is no plan yet. It never waits for the registry."""
        self._ticked = time.monotonic()
        self.leads = self._lead()
        plan = self._store.plan() if self.leads else None
        if plan is None:
            return None
        reports = self._store.reports()
        self._replicas.hear(reports)
        fold(self._store, reports, plan.step)
        for request in self._store.requests(open_only=True):
            if request.action != START:
                plan = self._asked(plan, request)
        return self._watched(plan, reports) if plan.candidate is not None else plan

    def keep(self) -> None:
        """Renew the lease while a `tick` goes on, from another thread: evidence of many rows takes
        longer to read than a lease lasts, and a controller that hangs has to lose it."""
        if self.leads and time.monotonic() - self._ticked < HUNG_S:
            self._store.renew(self._holder)

    def align(self) -> None:
        """Let the registry's aliases follow the plan, or the plan follow moves that were made
        beside it; begin the releases that are asked for.

        A registry that cannot be reached is tried again at the next call, traffic goes by the plan.
        It may be called beside `tick`, from one other thread.
        """
        if not self.leads:
            return
        try:
            plan = self._store.plan() or self._first()
            self._from_hands()
            plan = self._aligned(plan)
            for request in self._store.requests(open_only=True):
                if request.action == START:
                    # A registry that hangs has kept this thread while plans were written.
                    plan = self._started(self._store.plan() or plan, request)
        except MoveRefused as refused:
            self.waits = str(refused)
            _log.warning("rollout: aliases and plan are not aligned: %s", refused)
        except Exception:
            # MLflow and its database raise many things when they are away.
            self.registry_failures += 1
            _log.exception("rollout: the registry cannot be reached")

    def _lead(self) -> bool:
        """Renew the lease, or take one that is free or that nobody renews."""
        if self._store.renew(self._holder):
            return True
        seen = self._store.beat()
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        if seen is not None and time.monotonic() - self._since < self._lease_s:
            return False
        return self._store.take(self._holder, seen)

    def _first(self) -> Plan:
        aliases = self._targets(self._moves.aliases())
        if CHAMPION not in aliases:
            raise MoveRefused(f"model {self._use_case.name}: has no champion to begin with")
        return self._write(Plan(1, aliases[CHAMPION]), "controller", "the champion by its alias")

    def _asked(self, plan: Plan, request: Request) -> Plan:
        try:
            plan, answer = self._done(plan, request)
        except MoveRefused as refused:
            answer = f"refused: {refused}"
        self._store.answer(request.id, answer)
        return plan

    def _done(self, plan: Plan, request: Request) -> tuple[Plan, str]:
        actor, reason, name = request.actor, request.reason, self._use_case.name
        answers = Override(actor, reason) if request.override else None
        if request.action == "advance":
            after = advanced(plan, self._declared.steps)
            if answers is None:
                self._demand_room()
            decision = self._judged(plan, self._evidence(plan))
            if not decision.promotes and answers is None:
                raise MoveRefused(f"its gates say {decision.verdict}: {_reasons(decision)}")
            passed = decision if decision.promotes else None
            return self._write(after, actor, reason, passed, answers), f"epoch {after.epoch}"
        if request.action in ("hold", "resume"):
            after = held(plan, request.action == "hold")
            return self._write(after, actor, reason), f"epoch {after.epoch}"
        if request.action == "abort":
            bad, after = plan.candidate, ended(plan)
            bars = {bad.version: f"aborted by {actor}: {reason}"} if bad is not None else {}
            plan = self._write(after, actor, reason, None, Override(actor, reason), bars)
            return plan, f"epoch {after.epoch}"
        if request.action == "rollback":
            after = returned(plan, previous(plan, self._store, self._moves, self._registry, name))
            bars = {plan.champion.version: f"rolled back by {actor}: {reason}"}
            plan = self._write(after, actor, reason, None, Override(actor, reason), bars)
            return plan, f"epoch {after.epoch}"
        raise MoveRefused(f"action {request.action!r}: one of {', '.join(ACTIONS)}")

    def _started(self, plan: Plan, request: Request) -> Plan:
        """Move the version to the shadow, and take up the plan that this leads to."""
        try:
            self._move_to_shadow(plan, request)
            plan = self._aligned(plan)
            answer = f"epoch {plan.epoch}"
        except MoveRefused as refused:
            answer = f"refused: {refused}"
        self._store.answer(request.id, answer)
        return plan

    def _move_to_shadow(self, plan: Plan, request: Request) -> None:
        version = request.version
        answers = Override(request.actor, request.reason) if request.override else None
        if version is None:
            raise MoveRefused("start: no version: which one shall be released?")
        if plan.candidate is not None:
            raise MoveRefused(f"version {plan.candidate.version} is being released: abort it first")
        barred = self._store.barred().get(version)
        if barred is not None and answers is None:
            raise MoveRefused(f"version {version}: is barred ({barred}): name who overrides that")
        if answers is None:
            self._demand_room()
        self._moves.promote(version, SHADOW, answers, actor=request.actor)

    def _demand_room(self) -> None:
        if short := self._replicas.without_log() or self._replicas.without_memory():
            raise MoveRefused(short)

    def _aligned(self, plan: Plan) -> Plan:
        """Moves that were made beside the plan count only once the aliases have followed it."""
        epoch, seq = self._store.followed()
        history = self._moves.history()
        now = history[-1].seq if history else 0
        if plan.epoch > max(epoch, 1):
            self._follow(plan)
        elif now > seq:
            aliases = self._targets(self._moves.aliases())
            after = adopted(plan, aliases, self._declared.steps, self._tuned())
            if after is not None:
                self._fetch(after)
                last = [row for row in history if row.kind == INTENT][-1]
                plan = self._write(after, last.actor, f"row {last.seq} of the ledger")
        history = self._moves.history()
        self._store.follow(plan.epoch, history[-1].seq if history else 0)
        return plan

    def _from_hands(self) -> None:
        """Aliases that someone moved in MLflow are set back, and taken as a request."""
        for alias, version in self._moves.restore().items():
            if version is not None:
                said = f"alias {alias} was set in MLflow"
                self._store.ask(self._stamp(), "MLflow", "start", version, said, False)

    def _follow(self, plan: Plan) -> None:
        plans = [each for each in self._store.plans() if each.epoch <= plan.epoch]
        for action, version, stage in moves(plan, self._moves.aliases()):
            led = led_to(plans, version)
            override = Override(**led.override) if led.override else None
            if action == "promote":
                self._moves.promote(version, stage, override, led.decision, led.actor)
            else:
                self._moves.demote(version, override, led.decision, led.actor)

    def _watched(self, plan: Plan, reports: list[Report]) -> Plan:
        """End the release on a failed gate, take it a step on when all pass."""
        evidence = self._evidence(plan, reports) if self._due() else None
        if evidence is None and not any(plan.step in each.body["broken"] for each in reports):
            return plan
        evidence = evidence or self._evidence(plan, reports)
        decision = self._judged(plan, evidence)
        failed = decision.verdict == "fail"
        self.waits = "" if failed else self._waiting(plan, decision)
        self._store.look(plan.release, self._seen_at(plan, decision))
        if failed:
            return self._failed(plan, decision)
        if self.waits:
            return plan
        after = advanced(plan, self._declared.steps)
        return self._write(after, "controller", "its gates passed", decision)

    def _failed(self, plan: Plan, decision: Decision) -> Plan:
        assert plan.candidate is not None
        reason = _reasons(decision)
        bars = {plan.candidate.version: reason}
        return self._write(ended(plan), "controller", reason, decision, bars=bars)

    def _waiting(self, plan: Plan, decision: Decision) -> str:
        """Why a release that did no harm stays where it is; empty when it may go on."""
        if unlogged := self._replicas.without_log():
            return unlogged
        if not decision.promotes:
            return f"its gates say {decision.verdict}: {_reasons(decision)}"
        if plan.held:
            return "it is held"
        if time.monotonic() - self._stepped < self._declared.dwell_s:
            return f"each step takes {self._declared.dwell_s:g} s at least"
        live = self._replicas.live
        late = [each.replica for each in live if each.body["epoch"] != plan.epoch]
        if late or not live:
            return f"replicas that have not taken up plan {plan.epoch}: {', '.join(late) or 'all'}"
        busy = self._replicas.without_processors() if plan.stage == "canary" else ""
        return busy or self._replicas.without_memory()

    def _due(self) -> bool:
        if time.monotonic() - self._looked < self._declared.look_s:
            return False
        self._looked = time.monotonic()
        return True

    def _evidence(self, plan: Plan, reports: list[Report] | None = None) -> Evidence:
        return self._look(plan, self._store.reports() if reports is None else reports)

    def _judged(self, plan: Plan, evidence: Evidence) -> Decision:
        gates = self._use_case.declared.gates
        last = plan.canary_bps >= self._declared.steps[-1]
        return judged(plan, gates.rules, gates.alpha, evidence, last)

    def _seen_at(self, plan: Plan, decision: Decision) -> dict[str, Any]:
        return {
            "time": self._stamp(),
            "epoch": plan.epoch,
            "waits": self.waits,
            "decision": decision.as_dict(),
        }

    def _targets(self, aliases: dict[str, str]) -> dict[str, Target]:
        name = self._use_case.name
        digests = {v: self._registry.version(name, v).digest for v in {*aliases.values()}}
        return {alias: Target(v, digests[v]) for alias, v in aliases.items()}

    def _write(
        self,
        plan: Plan,
        actor: str,
        reason: str,
        decision: Decision | None = None,
        override: Override | None = None,
        bars: Mapping[str, str] | None = None,
    ) -> Plan:
        head = self._moves.history()
        written = self._store.add(
            replace(
                plan,
                time=self._stamp(),
                actor=actor,
                reason=reason,
                decision=decision.as_dict() if decision else None,
                override=vars(override) if override else None,
                ledger_head=head[-1].stamp if head else "",
            ),
            bars,
        )
        self._stepped, self._looked = time.monotonic(), float("-inf")
        _log.warning("rollout: plan %d: %s %s: %s", plan.epoch, plan.stage, plan.share, reason)
        return written

    def _stamp(self) -> str:
        return format_time(self._clock.now())


def _reasons(decision: Decision) -> str:
    """The checks that count and did not pass."""
    failed = (c for c in decision.checks if c.counts and c.verdict != "pass")
    bad = [f"{c.name} ({c.verdict}: {c.value})" for c in failed]
    return "; ".join(bad) or "nothing was judged"
