"""Where the plans of a rollout are written: each stamped with its time and the ledger's head."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace

from data_contracts.clock import Clock, format_time
from data_contracts.gates import Decision
from data_contracts.moves import Moves, Override
from data_contracts.rollout import Plan
from data_contracts.rollout_store import RolloutStore

_log = logging.getLogger(__name__)


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
    ) -> Plan:
        """Add `plan` and bar versions (version -> why); the plan as it was written."""
        head = self._moves.history()
        written = self._store.add(
            replace(
                plan,
                time=self.stamp(),
                actor=actor,
                reason=reason,
                decision=decision.as_dict() if decision else None,
                override=vars(override) if override else None,
                ledger_head=head[-1].stamp if head else "",
            ),
            bars,
        )
        self.written = time.monotonic()
        # Its reason may be what a person wrote: the plan has it.
        _log.warning("rollout: plan %d: %s", plan.epoch, plan.share or plan.stage)
        return written

    def stamp(self) -> str:
        """The time now, RFC 3339."""
        return format_time(self._clock.now())
