"""Whether a decision clears a version for a stage, by what its use case demands now. Pure."""

from collections.abc import Mapping
from typing import Any

from data_contracts.gate_rules import BETTER, Stage, counts
from data_contracts.gates import unanswered
from data_contracts.stages import CANARY, CHAMPION, SHADOW, MoveRefused
from data_contracts.use_case import Declaration

_BEFORE: dict[str, Stage] = {SHADOW: "offline", CANARY: "shadow", CHAMPION: "canary"}
"""Stage of a version -> where the evidence comes from that its release has gathered by then."""


def clear(
    declared: Declaration,
    version: str,
    stage: str,
    champion: str | None,
    decided: Mapping[str, Any] | None,
    own: str | None,
) -> None:
    """Raise MoveRefused where a version must not be put under `stage` beside today's `champion`.

    `decided`: a decision as read from JSON that its own evidence leads to; None where there is
    none. `own`: digest of the version's bundle where it was registered with that decision, on
    held-out rows; None where its release has decided so. The former is enough for a canary and a
    champion only where releases are not staged, or where there is no champion yet.
    """
    registered = own is not None
    if declared.rollout.staged and champion is not None and registered and stage != SHADOW:
        raise MoveRefused(
            f"version {version}: releases are staged: {stage} needs what its {_BEFORE[stage]} "
            f"decided: `headrace rollout start {version}`, or name who moves it without and why"
        )
    if decided is None:
        raise MoveRefused(
            f"version {version}: has no decision of its bundle that its evidence leads to: train "
            "again, or name who overrides that and why"
        )
    if not decided["promotes"]:
        raise MoveRefused(
            f"version {version}: its gates do not allow it: {_not_passed(decided)}: train a better "
            "one, or name who overrides them and why"
        )
    rival = decided.get("rival")
    if rival != champion:
        raise MoveRefused(
            f"version {version}: was judged against {rival or 'no champion'}, the champion is "
            f"{champion or 'none'} now: train again, or name who overrides that and why"
        )
    evidence = "offline" if registered else _BEFORE[stage]
    lacking = unanswered(decided, declared.gates.rules, evidence)
    # A first version has nobody to be better than.
    lacking = [name for name in lacking if champion is not None or name != BETTER]
    if lacking:
        raise MoveRefused(
            f"version {version}: its decision lacks what the use case requires: "
            f"{', '.join(lacking)}: train again, or name who overrides that and why"
        )
    if registered and decided.get("bundle") != own:
        raise MoveRefused(
            f"version {version}: its decision names no bundle: train again, or name who overrides "
            "that and why"
        )


def _not_passed(decided: Mapping[str, Any]) -> str:
    checks = ", ".join(
        f"{check['name']} ({check['verdict']})"
        for check in decided["checks"]
        if check["verdict"] != "pass" and counts(check["level"], check["mode"])
    )
    return checks or "nothing was judged"


def check_seen(version: str, seen: str | None, found: str) -> None:
    """Raise MoveRefused where a version is `found` in another stage than it was `seen` in."""
    if seen not in (None, found):
        raise MoveRefused(
            f"version {version}: its stage is {found} by now, and was {seen} when this was asked: "
            "look at it and ask again"
        )


def check_bar(version: str, reason: str | None, answered: str | None = None) -> None:
    """Raise MoveRefused where there is a `reason` for which a version is barred, other than the
    one that someone has `answered` for."""
    if reason not in (None, answered):
        raise MoveRefused(
            f"version {version}: is barred ({reason}): name who overrides that and why"
        )
