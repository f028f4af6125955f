"""The aliases that a model version goes through, and what a move makes of them: pure functions."""

from collections.abc import Mapping

CHALLENGER = "challenger"
SHADOW = "shadow"
CANARY = "canary"
CHAMPION = "champion"
PREVIOUS = "previous_champion"
"""The version that a demoted champion gives way to."""
PATH = (CHALLENGER, SHADOW, CANARY, CHAMPION)
"""From registered to served; a version is under one of them at most."""
UNSTAGED = "none"
"""What a version under none of them is told to be in."""
ALIASES = (*PATH, PREVIOUS)
"""All that the ledger keeps; others are the user's own."""


class MoveRefused(ValueError):
    """A move that was not made: nothing has changed."""


class RefusedForNow(MoveRefused):
    """One that may be made later: whoever asked may ask again."""


def kept(aliases: Mapping[str, str]) -> dict[str, str]:
    """Those of `ALIASES` among alias -> version."""
    return {alias: aliases[alias] for alias in ALIASES if alias in aliases}


def stage_of(aliases: Mapping[str, str], version: str) -> str | None:
    """Which alias of `PATH` the version is under."""
    return next((alias for alias in PATH if aliases.get(alias) == version), None)


def following(aliases: Mapping[str, str], version: str) -> str:
    """The stage after the version's own; MoveRefused for the champion."""
    own = stage_of(aliases, version)
    if own == CHAMPION:
        raise MoveRefused(f"version {version}: is the champion already")
    return PATH[PATH.index(own) + 1] if own else CHALLENGER


def promoted(aliases: Mapping[str, str], version: str, to: str) -> dict[str, str]:
    """The aliases once `version` is under `to`.

    It leaves its earlier stage; a champion that it takes the place of is the previous one then.
    Raises MoveRefused for no stage of `PATH`, the version's own, and those below it.
    """
    own = stage_of(aliases, version)
    if to not in PATH:
        raise MoveRefused(f"stage {to!r}: one of {', '.join(PATH)}")
    if own == to:
        raise MoveRefused(f"version {version}: is {to} already")
    if own is not None and PATH.index(to) < PATH.index(own):
        raise MoveRefused(f"version {version}: is the {own}: demote it")
    after = kept({alias: held for alias, held in aliases.items() if held != version})
    if to == CHAMPION and CHAMPION in after:
        after[PREVIOUS] = after[CHAMPION]
    return kept({**after, to: version})


def demoted(aliases: Mapping[str, str], version: str) -> dict[str, str]:
    """The aliases once `version` is under no stage; the previous champion follows a champion.

    Raises MoveRefused for a version under none, and for a champion without a previous one.
    """
    own = stage_of(aliases, version)
    if own is None:
        raise MoveRefused(f"version {version}: is under none of {', '.join(PATH)}")
    after = kept({alias: held for alias, held in aliases.items() if held != version})
    if own == CHAMPION:
        if PREVIOUS not in after:
            raise MoveRefused(
                f"version {version}: there is no {PREVIOUS} to restore: promote another version"
            )
        after[CHAMPION] = after.pop(PREVIOUS)
    return kept(after)


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    """Alias -> the version to set it to, None to delete it; the served one is set last."""
    changed = [alias for alias in ALIASES if before.get(alias) != after.get(alias)]
    changed.sort(key=lambda alias: alias == CHAMPION)
    return {alias: after.get(alias) for alias in changed}
