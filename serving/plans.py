"""Where the plans of a rollout are written: each stamped with its time and the ledger's head."""

import logging
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import replace

from data_contracts.clock import Clock, format_time
from data_contracts.gates import Decision
from data_contracts.moves import Moves
from data_contracts.override import Override
from data_contracts.rollout import Plan
from data_contracts.rollout_store import RolloutStore

_log = logging.getLogger(__name__)

_PATIENCE_S = 0.2
"""How long a ledger that is locked is waited for: whoever takes a version out has no time."""


class Plans:
    """Writes the plans of one model; two threads may, and of two that write one epoch the second
    is refused (`Overtaken`)."""

    def __init__(self, store: RolloutStore, moves: Moves, clock: Clock) -> None:
        self._store = store
        self._moves = moves
        self._clock = clock
        self.written = time.monotonic()
        """When the last one was, by this process's own clock."""

    def write(
        self,
        plan: Plan,
        actor: str,
        reason: str,
        decision: Decision | None = None,
        override: Override | None = None,
        bars: Mapping[str, str] | None = None,
        asked: int | None = None,
    ) -> Plan:
        """Add `plan`, bar versions (version -> why) and answer the request `asked`; the plan as it
        was written."""
        written = self._store.add(
            replace(
                plan,
                time=self.stamp(),
                actor=actor,
                reason=reason,
                decision=decision.as_dict() if decision else None,
                override=vars(override) if override else None,
                ledger_head=self._head(),
            ),
            bars,
            asked,
        )
        self.written = time.monotonic()
        # Its reason may be what a person wrote: the plan has it.
        _log.warning("rollout: plan %d: %s", plan.epoch, plan.share or plan.stage)
        return written

    def _head(self) -> str:
        """The ledger's; empty where it cannot be read: whoever takes a version out waits for no
        other store, and the alignment tells of it."""
        try:
            history = self._moves.history(_PATIENCE_S)
        except sqlite3.Error:
            _log.exception("rollout: the plan is written without the head of the ledger")
            return ""
        return history[-1].stamp if history else ""

    def stamp(self) -> str:
        """The time now, RFC 3339."""
        return format_time(self._clock.now())
