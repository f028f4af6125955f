"""The plan of a rollout: who is served what, how it goes on, and what the aliases must then be.

Pure functions. A plan never changes; another one follows it, with the next epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from typing import Any, Literal, get_args

from data_contracts.stages import (
    CANARY,
    CHAMPION,
    PREVIOUS,
    SHADOW,
    MoveRefused,
    demoted,
    promoted,
    stage_of,
)

Stage = Literal["steady", "shadow", "canary"]
"""Only the champion; the candidate scores copies of requests; it answers a part of them."""
BUCKETS = 10_000
"""Basis points: a share of the traffic is a number of them."""
Action = Literal["start", "advance", "hold", "resume", "abort", "rollback"]
"""What may be asked of a release's controller."""
ACTIONS: tuple[Action, ...] = get_args(Action)
START: Action = "start"
STEPS = (100, 500, 2_500, 5_000)
"""Shares of a canary, one after the other, unless a use case declares others."""


@dataclass(frozen=True)
class Rollout:
    """How a use case's candidates are released."""

    unit: str = ""
    """The input field that is assigned to an arm as a whole; the request where it is empty."""
    steps: tuple[int, ...] = STEPS
    """Shares of the canary in basis points; CTR is judged at the last one."""
    look_s: float = 60.0
    """Least time between two looks at a release (s)."""
    dwell_s: float = 60.0
    """Least time on every step of the canary (s)."""
    blind_s: float = 300.0
    """Without a look whose outcomes could be read for this long (s) the candidate answers nobody,
    and scores no copies, until there is one."""
    staged: bool = False
    """A newly trained version that may follow the champion waits for its release, and is canary and
    champion only by what that release decided, or by an override. Without this its held-out rows
    alone are enough."""

    def check(self) -> None:
        """Raise ValueError naming steps that do not grow, or times below 0."""
        grows = all(a < b for a, b in zip((0, *self.steps), self.steps, strict=False))
        if not self.steps or not grows or self.steps[-1] >= BUCKETS:
            raise ValueError(
                f"rollout: steps {self.steps}: shares in basis points that grow, below {BUCKETS}"
            )
        times = {name: getattr(self, name) for name in ("look_s", "dwell_s", "blind_s")}
        if min(times.values()) < 0:
            told = ", ".join(f"{name} {value}" for name, value in times.items())
            raise ValueError(f"rollout: {told}: 0 or more")


@dataclass(frozen=True)
class Target:
    """A version and the digest of its bundle's manifest, by which it is known for what it is."""

    version: str
    digest: str


@dataclass(frozen=True)
class Plan:
    """What replicas do from the moment they read it until they read a later one."""

    epoch: int
    """1, 2, 3 … without a gap; the fencing token of whoever writes the next."""
    champion: Target
    candidate: Target | None = None
    stage: Stage = "steady"
    canary_bps: int = 0
    """Share of the units that is the candidate's."""
    shadow_bps: int = 0
    """Share of the requests of which the candidate scores a copy."""
    release: int = 0
    """Epoch in which the candidate's release began; 0 in `steady`. With the model's name the salt
    of the assignment: every release draws its units anew, and keeps them while it grows."""
    tuned: Mapping[str, float] = field(default_factory=dict[str, float])
    """Check -> weight at which its sequence is narrowest, fixed before the release's first look."""
    held: bool = False
    """Nothing goes on by itself."""
    time: str = ""
    """When it was written, RFC 3339."""
    actor: str = ""
    reason: str = ""
    decision: Mapping[str, Any] | None = None
    """`Decision.as_dict` of what led to it."""
    override: Mapping[str, str] | None = None
    """`name` and `reason` of who answers for it in place of a gate."""
    ledger_head: str = ""
    """Stamp of the ledger's last row when it was written."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Plan":
        """What `as_dict` gave, also after JSON; ValueError for a stage that does not exist."""
        if raw["stage"] not in get_args(Stage):
            raise ValueError(f"plan {raw['epoch']}: stage {raw['stage']!r}: no such stage")
        said: dict[str, Any] = dict(raw)
        said["champion"] = Target(**raw["champion"])
        said["candidate"] = Target(**raw["candidate"]) if raw["candidate"] else None
        return cls(**said)

    @property
    def step(self) -> str:
        """Names the part of a release whose requests are counted together."""
        return f"{self.release}:{self.stage}:{self.canary_bps}"

    @property
    def share(self) -> str:
        """For people: what the candidate gets."""
        if self.stage == "canary":
            return f"{self.canary_bps / 100:g} % of the units"
        return f"copies of {self.shadow_bps / 100:g} % of the requests" if self.candidate else ""


def check_asked(action: str, version: str | None) -> None:
    """Raise ValueError for no `Action`, and unless a version is named to start with, and only
    then."""
    if action not in ACTIONS:
        raise ValueError(f"action {action!r}: one of {', '.join(ACTIONS)}")
    if (action == START) != (version is not None):
        raise ValueError(f"version: needed for `{START}`, and for nothing else")


def bucket(salt: str, unit: str) -> int:
    """0 … 9 999: where a unit falls; below `canary_bps` it is the candidate's."""
    digest = blake2b(f"{salt}\x1f{unit}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def salt(model: str, plan: Plan) -> str:
    """What the assignment of a release mixes into its units."""
    return f"{model}\x1f{plan.release}"


def began(plan: Plan, candidate: Target, tuned: Mapping[str, float]) -> Plan:
    """The release of `candidate`, whose first stage is the shadow of every request.

    Raises MoveRefused for the champion, and while another release is under way.
    """
    if candidate.version == plan.champion.version:
        raise MoveRefused(f"version {candidate.version}: is the champion already")
    if plan.candidate is not None:
        raise MoveRefused(
            f"version {candidate.version}: version {plan.candidate.version} is being released: "
            "wait for its end, or abort it"
        )
    epoch = plan.epoch + 1
    return Plan(epoch, plan.champion, candidate, "shadow", 0, BUCKETS, epoch, dict(tuned))


def advanced(plan: Plan, steps: Sequence[int]) -> Plan:
    """The next step: shadow, each share of the canary, champion. MoveRefused without a release."""
    candidate = _candidate(plan)
    left = [step for step in steps if step > plan.canary_bps]
    if not left:
        return Plan(plan.epoch + 1, candidate)
    return replace(_next(plan), stage="canary", canary_bps=left[0], shadow_bps=0)


def ended(plan: Plan) -> Plan:
    """The champion alone. MoveRefused without a release."""
    _candidate(plan)
    return Plan(plan.epoch + 1, plan.champion)


def held(plan: Plan, hold: bool) -> Plan:
    """The same step, going on by itself or not. MoveRefused without a release."""
    _candidate(plan)
    return replace(_next(plan), held=hold)


def returned(plan: Plan, champion: Target) -> Plan:
    """`champion` in the place of the present one, at once and without a candidate."""
    return Plan(plan.epoch + 1, champion)


def adopted(
    plan: Plan, aliases: Mapping[str, Target], steps: Sequence[int], tuned: Mapping[str, float]
) -> Plan | None:
    """The plan that moves made outside the rollout lead to; None where they change nothing.

    `aliases`: alias -> version, as the ledger has them. A canary begins at its first share.
    What was seen of a candidate beside another champion is no evidence: that is another release.
    """
    champion = aliases.get(CHAMPION, plan.champion)
    stage: Stage = "steady"
    if CANARY in aliases:
        stage = "canary"
    elif SHADOW in aliases:
        stage = "shadow"
    candidate = aliases.get(stage)
    if (champion, candidate, stage) == (plan.champion, plan.candidate, plan.stage):
        return None
    epoch = plan.epoch + 1
    if candidate is None:
        return Plan(epoch, champion)
    same = (champion, candidate) == (plan.champion, plan.candidate)
    return Plan(
        epoch, champion, candidate, stage,
        canary_bps=steps[0] if stage == "canary" else 0,
        shadow_bps=BUCKETS if stage == "shadow" else 0,
        release=plan.release if same else epoch,
        tuned=plan.tuned if same else dict(tuned),
    )  # fmt: skip


Move = tuple[Literal["promote", "demote"], str, str]
"""(action, version, stage to promote it to; empty where it is demoted)."""


def moves(plan: Plan, aliases: Mapping[str, str]) -> list[Move]:
    """The moves by which the ledger's aliases follow the plan, in their order."""
    champion, candidate = plan.champion.version, plan.candidate and plan.candidate.version
    left = dict.fromkeys(v for a, v in aliases.items() if a in (SHADOW, CANARY))
    found: list[Move] = []
    back = plan.stage == "shadow" and aliases.get(CANARY) == candidate
    for version in left:
        if version not in (champion, candidate) or (back and version == candidate):
            found.append(("demote", version, ""))
    if aliases.get(CHAMPION) != champion:
        if CHAMPION in aliases and aliases.get(PREVIOUS) == champion:
            found.append(("demote", aliases[CHAMPION], ""))
        else:
            found.append(("promote", champion, CHAMPION))
    elif champion in left:
        found.append(("demote", champion, ""))
    if candidate is not None and stage_of(aliases, candidate) != plan.stage:
        found.append(("promote", candidate, plan.stage))
    return found


def standing(plan: Plan, version: str) -> str | None:
    """The stage that a plan gives a version: champion, its release's stage, or none."""
    if plan.champion.version == version:
        return CHAMPION
    return plan.stage if plan.candidate and plan.candidate.version == version else None


def led_to(plans: Sequence[Plan], version: str) -> Plan:
    """Of all plans so far, the one that put `version` where the last one has it: it carries the
    decision, or who answers for it, where later ones only grow, hold or resume."""
    now = standing(plans[-1], version)
    began = len(plans) - 1
    while began and standing(plans[began - 1], version) == now:
        began -= 1
    return plans[began]


def followed(plan: Plan, aliases: Mapping[str, str]) -> dict[str, str]:
    """The ledger's aliases once they have followed the plan."""
    after = dict(aliases)
    for action, version, stage in moves(plan, aliases):
        there = action == "promote"
        after = promoted(after, version, stage) if there else demoted(after, version)
    return after


def _candidate(plan: Plan) -> Target:
    if plan.candidate is None:
        raise MoveRefused("no release is under way: start one")
    return plan.candidate


def _next(plan: Plan) -> Plan:
    return replace(
        plan, epoch=plan.epoch + 1, time="", actor="", reason="", decision=None, override=None
    )
