"""Every move of a model version from stage to stage: gated, in the ledger, whole after a crash."""

import json
import os
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from getpass import getuser
from typing import Any

from data_contracts.bundle import BundleRefused
from data_contracts.clearance import check_bar, check_seen, clear
from data_contracts.clock import Clock, SystemClock, format_time
from data_contracts.file_lock import locked
from data_contracts.lake import Lake
from data_contracts.ledger import (
    DONE,
    INTENT,
    Row,
    aliases_after,
    fails,
    faults,
    follow,
    open_intent,
    settled,
    stands,
    written,
)
from data_contracts.ledger_store import PATIENCE_S, LedgerStore
from data_contracts.override import Override
from data_contracts.rollout_store import RolloutStore
from data_contracts.stages import (
    CHALLENGER,
    CHAMPION,
    UNSTAGED,
    MoveRefused,
    RefusedForNow,
    demoted,
    differences,
    following,
    kept,
    promoted,
    stage_of,
)
from data_contracts.use_case import UseCase
from data_contracts.version_registry import NotRegistered, VersionRegistry

_PATIENCE_S = 5.0
"""How long a mover waits for another one to be done."""
_READINGS = 5
"""How often ledger and registry are read for once without a move in between."""


def _user() -> str:
    """Who runs this process: a name, or in a container without one the number."""
    try:
        return getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


class Moves:
    """The moves of one model. One process of a machine moves it at a time."""

    def __init__(
        self,
        registry: VersionRegistry,
        lake: Lake,
        use_case: UseCase,
        actor: str = "",
        clock: Clock | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        """`use_case`: whose model, and by whose gates; `actor`: who moves, for the ledger; the user
        of the process when empty; `patience_s`: how long a move waits for another process's."""
        self._registry = registry
        self._store = LedgerStore(lake.ledger)
        self._rollout = RolloutStore(lake.rollouts, use_case.name)
        self._lock = lake.ledger.with_name(f"{use_case.name}.lock")
        self._model = use_case.name
        self._declared = use_case.declared
        self._actor = actor
        self._clock = clock or SystemClock()
        self._patience_s = patience_s
        self._sound: list[Row] = []
        """The ledger when it was last found without a fault."""

    def promote(
        self,
        version: str,
        to: str | None = None,
        override: Override | None = None,
        decision: Mapping[str, Any] | None = None,
        actor: str | None = None,
        seen: str | None = None,
        lifts: bool = True,
    ) -> Row:
        """Put `version` under the stage `to` (the next one when None); returns the move's row.

        `seen`: the stage that who asks saw it in, or `UNSTAGED`; without it and without `to` the
        one that it is in now. MoveRefused where another move, waited for, has left it in another.

        `decision`: what a release decided (`Decision.as_dict`); the one that the version was
        registered with when None, which is enough for a canary and a champion only where releases
        are not staged or there is no champion. `actor`: who moves it, in place of the one of all
        moves. Raises MoveRefused, before anything changes, where the decision does not promote (a
        challenger needs no gate), is not what its evidence leads to, leaves out a gate that is
        required now, or was made against another champion than today's, or where a release has
        barred the version, and there is no override. One given now lifts the bar that stands now,
        and no other: a version that is barred meanwhile is refused. `lifts`: False where a plan was
        overridden earlier, which answers for no bar.
        """
        bar = self._rollout.barred().get(version) if override and lifts else None
        if seen is None and to is None:
            seen = self.stage(version)
        with self._alone() as rows:
            before = self._aliases(rows)
            check_seen(version, seen, stage_of(before, version) or UNSTAGED)
            stage = to or following(before, version)
            after = promoted(before, version, stage)
            raw = decision or self._registry.decided(self._model, version)
            decided = json.loads(written(raw)) if raw else None
            bundle = self._digest(version)
            if decided is not None and not stands(decided, bundle):
                decided = None
            if stage == CHALLENGER:
                bar = None
            elif lifts or override is None:
                check_bar(version, self._rollout.barred().get(version), bar)
            if stage != CHALLENGER and override is None:
                own = bundle if decision is None else None
                clear(self._declared, version, stage, before.get(CHAMPION), decided, own)
            made = ("promote", version, stage, before, after, decided, override, bar)
            return self._make(rows, actor, *made)

    def demote(
        self,
        version: str,
        override: Override | None = None,
        decision: Mapping[str, Any] | None = None,
        actor: str | None = None,
    ) -> Row:
        """Take `version` from its stage; a champion's place goes to the previous one.

        Raises MoveRefused without an override and without a decision that fails.
        """
        decided = json.loads(written(decision)) if decision else None
        if override is None and not fails(decided):
            raise MoveRefused(f"version {version}: no gate failed: name who takes it back, and why")
        with self._alone() as rows:
            before = self._aliases(rows)
            after = demoted(before, version)
            made = ("demote", version, None, before, after, decided, override, None)
            return self._make(rows, actor, *made)

    def restore(self) -> dict[str, str | None]:
        """Set aliases that were moved beside the ledger back to what it says.

        Returns alias -> the version it was found at, None where it was deleted. Keeps no move
        waiting where there is nothing to do.
        """
        if self._settled():
            return {}
        with self._alone() as rows:
            told, found = self._both(rows)
            for alias, version in differences(found, told).items():
                self._registry.set_alias(self._model, alias, version)
            return differences(told, found)

    def aliases(self) -> dict[str, str]:
        """Alias -> version as the ledger has them; the registry's where there is no ledger yet."""
        rows = self.history()
        return aliases_after(rows) if rows else self._found()

    def stage(self, version: str) -> str:
        """Which alias of `PATH` the version is under, or `UNSTAGED`; before a move that is open."""
        rows = self.history()
        return stage_of(settled(rows) if rows else self._found(), version) or UNSTAGED

    def recover(self) -> bool:
        """Finish the move that a dead process left open; whether there was one."""
        with self._alone(recover=False) as rows:
            return self._recover(rows)

    def history(self, patience_s: float = PATIENCE_S) -> list[Row]:
        """The ledger, oldest row first; `sqlite3.Error` where it cannot be read, or is locked for
        longer than the patience."""
        return self._store.rows(self._model, patience_s=patience_s)

    def verify(self) -> list[str]:
        """What is wrong with the ledger, or between it and the registry; empty when it is sound.

        A move that is under way or was interrupted is no fault, nor is a version that was deleted
        since (`deleted` tells). MoveRefused where moves follow each other too fast to read all of
        it between two.
        """
        stamp, rows, aliases = self._at_once()
        found = faults(rows, stamp)
        if found or not rows:
            return found
        self._sound = rows
        for row, bundle in self._registered(rows):
            if bundle not in (None, row.said["bundle"]):
                other = "another" if bundle else "no"
                found.append(f"row {row.seq}: version {row.said['version']} has {other} bundle now")
        if open_intent(rows) is None:
            told = aliases_after(rows)
            found += [self._beside(told, *each) for each in differences(told, aliases).items()]
        return found

    def deleted(self) -> list[str]:
        """Each row of a sound ledger whose version the registry holds no more."""
        stamp, rows, _ = self._at_once()
        if faults(rows, stamp, self._sound):
            return []
        return [
            f"row {row.seq}: version {row.said['version']} was deleted: its bundle is not compared"
            for row, bundle in self._registered(rows)
            if bundle is None
        ]

    def _registered(self, rows: list[Row]) -> list[tuple[Row, str | None]]:
        """Each move with its version's digest now: "" where it has none, None where it is gone."""
        moves = [row for row in rows if row.kind == INTENT]
        bundles: dict[str, str | None] = {}
        for version in {row.said["version"] for row in moves}:
            try:
                bundles[version] = self._digest(version)
            except NotRegistered:
                bundles[version] = None
            except BundleRefused:
                bundles[version] = ""
        return [(row, bundles[row.said["version"]]) for row in moves]

    @contextmanager
    def _alone(self, recover: bool = True) -> Generator[list[Row]]:
        """The ledger while no other process of this machine moves the model; MoveRefused where one
        does for longer than the patience."""
        with ExitStack() as held:
            try:
                held.enter_context(locked(self._lock, self._patience_s))
            except TimeoutError:
                raise RefusedForNow(
                    f"model {self._model}: another process is moving it: try again"
                ) from None
            rows = self.history()
            if recover:
                self._recover(rows)
            yield rows

    def _settled(self) -> bool:
        """Whether the ledger is sound, its last move done, and the aliases as it says."""
        stamp, rows, aliases = self._at_once()
        if open_intent(rows) or faults(rows, stamp, self._sound):
            return False
        self._sound = rows
        return not rows or (rows[-1].stamp == stamp and aliases_after(rows) == aliases)

    def _at_once(self) -> tuple[str | None, list[Row], dict[str, str]]:
        """(stamp, ledger, the registry's aliases) with nothing moved between the readings."""
        now = self._registry.standing(self._model)
        for _ in range(_READINGS):
            before, rows = now, self.history()
            now = self._registry.standing(self._model)
            if now == before:
                aliases, stamp = now
                return stamp, rows, kept(aliases)
        raise RefusedForNow(f"model {self._model}: is moved while it is read: try again")

    def _recover(self, rows: list[Row]) -> bool:
        stamp = self._registry.stamp(self._model)
        if found := faults(rows, stamp, self._sound):
            raise MoveRefused(
                f"model {self._model}: its ledger is damaged: {found[0]}: "
                "see `headrace models verify`"
            )
        self._sound = [*rows]
        if not rows:
            return False
        if rows[-1].stamp != stamp:
            self._registry.set_stamp(self._model, rows[-1].stamp)
        intent = open_intent(rows)
        if intent is not None:
            self._finish(rows, intent)
        return intent is not None

    def _make(
        self,
        rows: list[Row],
        actor: str | None,
        action: str,
        version: str,
        to: str | None,
        before: Mapping[str, str],
        after: Mapping[str, str],
        decided: Mapping[str, Any] | None,
        override: Override | None,
        bar: str | None,
    ) -> Row:
        body = {
            "action": action, "version": version, "bundle": self._digest(version), "to": to,
            "before": dict(before), "after": dict(after), "decision": decided,
            "override": asdict(override) if override else None, "bar": bar,
        }  # fmt: skip
        intent = self._append(rows, INTENT, body, actor)
        self._finish(rows, intent)
        return intent

    def _finish(self, rows: list[Row], intent: Row) -> None:
        said = intent.said
        for alias, version in differences(said["before"], said["after"]).items():
            self._registry.set_alias(self._model, alias, version)
        # A row from before bars were told lifts none: whoever answered then is asked again.
        if (bar := said.get("bar")) is not None:
            self._rollout.lift(said["version"], bar)
        self._append(rows, DONE, {"intent": intent.seq})

    def _append(
        self, rows: list[Row], kind: str, body: Mapping[str, Any], actor: str | None = None
    ) -> Row:
        now = format_time(self._clock.now())
        row = follow(rows, self._model, kind, now, actor or self._actor or _user(), body)
        self._store.append(row)
        rows.append(row)
        self._registry.set_stamp(self._model, row.stamp)
        return row

    def _aliases(self, rows: list[Row]) -> dict[str, str]:
        """The registry's, which are the ledger's; MoveRefused naming one that is not."""
        told, found = self._both(rows)
        for alias, version in differences(told, found).items():
            raise MoveRefused(self._beside(told, alias, version))
        return found

    def _beside(self, told: Mapping[str, str], alias: str, version: str | None) -> str:
        return (
            f"model {self._model}: alias {alias} is {version or 'gone'}, the ledger says "
            f"{told.get(alias, 'none')}: set it back in MLflow, then move it by `headrace models`"
        )

    def _both(self, rows: list[Row]) -> tuple[dict[str, str], dict[str, str]]:
        """(the ledger's, the registry's)."""
        found = self._found()
        return aliases_after(rows) if rows else found, found

    def _found(self) -> dict[str, str]:
        return kept(self._registry.aliases(self._model))

    def _digest(self, version: str) -> str:
        return self._registry.version(self._model, version).digest
