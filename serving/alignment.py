"""Plans and aliases brought together: the part of a rollout that waits for the registry."""

import logging
from collections.abc import Callable, Sequence

from data_contracts.exposure import Exposure
from data_contracts.ledger import INTENT, fails
from data_contracts.moves import Moves
from data_contracts.override import Override
from data_contracts.rollout import START, Plan, Target, adopted, led_to, moves
from data_contracts.rollout_store import Overtaken, Request, RolloutStore
from data_contracts.stages import CHAMPION, SHADOW, MoveRefused, RefusedForNow
from data_contracts.use_case import UseCase
from data_contracts.version_registry import VersionRegistry
from serving.headroom import Replicas
from serving.plans import Plans

_log = logging.getLogger(__name__)

FOR_NOW = "refused for now: "
"""What the answer to a start begins with that may be asked for again."""


def starts_before(abort: Request, asked: Sequence[Request]) -> list[Request]:
    """The starts among `asked` that came before it; none where it is no abort."""
    if abort.action != "abort":
        return []
    return [each for each in asked if each.action == START and each.id < abort.id]


class Alignment:
    """Aliases and ledger follow the plan, the plan follows moves that were made beside it, and the
    releases that are asked for begin.

    `tuned` gives the weights at which a new release's sequences are narrowest; `expected` what one
    needs until its end, None where nothing can be said of it yet; `fetch` puts a plan's bundles
    where replicas find them. Beside it plans are written by another thread.
    """

    def __init__(
        self,
        use_case: UseCase,
        store: RolloutStore,
        registry: VersionRegistry,
        moves: Moves,
        plans: Plans,
        replicas: Replicas,
        tuned: Callable[[], dict[str, float]],
        expected: Callable[[], Exposure | None],
        fetch: Callable[[Plan], None],
    ) -> None:
        self._name = use_case.name
        self._steps = use_case.declared.rollout.steps
        self._store = store
        self._registry = registry
        self._moves = moves
        self._plans = plans
        self._replicas = replicas
        self._tuned = tuned
        self._expected = expected
        self._fetch = fetch
        self._begun: set[int] = set()
        """Starts that this process has begun with."""

    def turn(self) -> None:
        """Bring them together once. MoveRefused where they are not; whatever MLflow and its
        database raise when they are away comes through."""
        self._call_off()
        self._from_hands()
        plan = self._aligned(self._store.plan() or self._first())
        for request in self._store.requests(open_only=True):
            known = self._replicas.live or request.override
            if request.action == START and known:
                goes_on = request.id in self._begun
                self._begun.add(request.id)
                # A registry that hangs has kept this thread while plans were written.
                plan = self._store.plan() or plan
                if goes_on and plan.candidate and plan.candidate.version == request.version:
                    # The registry went away amid it, and its move was found in the ledger.
                    self._store.answer(request.id, f"epoch {plan.epoch}")
                else:
                    plan = self._started(plan, request)

    def _call_off(self) -> None:
        """Refuse the starts that have not begun and that an abort came after, which is answered by
        that: no other thread begins one. What has begun the abort ends once there is its plan."""
        asked, plan = self._store.requests(open_only=True), self._store.plan()
        for abort in asked:
            off = [each for each in starts_before(abort, asked) if each.id not in self._begun]
            if not off or (plan is not None and plan.candidate is not None):
                continue
            for each in off:
                self._store.answer(each.id, f"refused: aborted by {abort.actor}: {abort.reason}")
            versions = ", ".join(str(each.version) for each in off)
            self._store.answer(abort.id, f"called off before it began: version {versions}")

    def _first(self) -> Plan:
        aliases = self._targets(self._moves.aliases())
        if CHAMPION not in aliases:
            raise MoveRefused(f"model {self._name}: has no champion to begin with")
        said = "controller", "the champion by its alias"
        return self._plans.write(Plan(1, aliases[CHAMPION]), *said)

    def _started(self, plan: Plan, request: Request, again: bool = True) -> Plan:
        """Move the version to the shadow, and take up the plan that this leads to."""
        try:
            plan = self._aligned(plan)
            self._move_to_shadow(plan, request)
            plan = self._aligned(plan)
            answer = f"epoch {plan.epoch}"
        except Overtaken as overtaken:
            plan = self._store.plan() or plan
            if again:
                return self._started(plan, request, again=False)
            answer = f"{FOR_NOW}{overtaken}"
        except RefusedForNow as refused:
            answer = f"{FOR_NOW}{refused}"
        except ValueError as refused:
            # MoveRefused, BundleRefused, or an override without a name: no other has to wait.
            answer = f"refused: {refused}"
        self._store.answer(request.id, answer)
        return plan

    def _move_to_shadow(self, plan: Plan, request: Request) -> None:
        """Begin the release. Without an override RefusedForNow where a replica lacks room or
        the required gates need more than `Gates.max_days` of today's traffic; where there are no
        outcomes yet that tell the traffic, nothing can be said of that, and it begins."""
        version = request.version
        answers = Override(request.actor, request.reason) if request.override else None
        if version is None:
            raise MoveRefused("start: no version: which one shall be released?")
        if plan.candidate is not None:
            raise MoveRefused(f"version {plan.candidate.version} is being released: abort it first")
        if answers is None:
            self._replicas.demand_room()
            self._demand_days()
        self._moves.promote(version, SHADOW, answers, actor=request.actor)

    def _demand_days(self) -> None:
        otherwise = "or begin with --override: `headrace rollout plan` tells of each gate"
        try:
            found = self._expected()
        except ValueError as error:
            raise MoveRefused(f"{error}, {otherwise}") from error
        try:
            if found is not None:
                found.check()
        except ValueError as error:
            raise RefusedForNow(f"{error}, {otherwise}") from error

    def _aligned(self, plan: Plan) -> Plan:
        """Moves that were made beside the plan count only once the aliases have followed it."""
        epoch, seq = self._store.followed()
        history = self._moves.history()
        now = history[-1].seq if history else 0
        if plan.epoch > max(epoch, 1):
            plan = self._follow()
        elif now > seq:
            aliases = self._targets(self._moves.aliases())
            after = adopted(plan, aliases, self._steps, self._tuned())
            if after is not None:
                self._fetch(after)
                last = [row for row in history if row.kind == INTENT][-1]
                plan = self._plans.write(after, last.actor, f"row {last.seq} of the ledger")
        history = self._moves.history()
        self._store.follow(plan.epoch, history[-1].seq if history else 0)
        return plan

    def _from_hands(self) -> None:
        """Aliases that someone moved in MLflow are set back, and taken as a request."""
        for alias, version in self._moves.restore().items():
            if version is not None:
                said = f"alias {alias} was set in MLflow"
                self._store.ask(self._plans.stamp(), "MLflow", START, version, said, False)

    def _follow(self) -> Plan:
        """Let the aliases follow the newest plan, move by move: another may come meanwhile; the
        one that they follow then."""
        while left := moves((plans := self._store.plans())[-1], self._moves.aliases()):
            self._move(plans, *left[0])
        return plans[-1]

    def _move(self, plans: Sequence[Plan], action: str, version: str, stage: str) -> None:
        led = led_to(plans, version)
        override = Override(**led.override) if led.override else None
        if action == "promote":
            # Who answered for the plan knew of no bar that came after it.
            self._moves.promote(version, stage, override, led.decision, led.actor, lifts=False)
        else:
            # A plan that no gate led to takes back what was moved beside it.
            answers = override or (None if fails(led.decision) else Override(led.actor, led.reason))
            self._moves.demote(version, answers, led.decision, led.actor)

    def _targets(self, aliases: dict[str, str]) -> dict[str, Target]:
        digests = {v: self._registry.version(self._name, v).digest for v in {*aliases.values()}}
        return {alias: Target(v, digests[v]) for alias, v in aliases.items()}
