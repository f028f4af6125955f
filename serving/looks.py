"""The looks at a release: when the next one is due, what it finds, and whether it finds enough for
the candidate to stay exposed."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from data_contracts.release import Evidence
from data_contracts.rollout import Plan
from data_contracts.rollout_store import Report
from serving.reports import counted

_log = logging.getLogger(__name__)

Look = Callable[[Plan, list[Report]], Evidence]
_AGAIN_S = 10.0


class Looks:
    """Looks at most every `every_s` seconds (sooner after one that failed, and after a new plan).

    Nobody can say of a release whose outcomes cannot be read that it does no harm: `blind_s`
    seconds after the first look that failed, `exposes` is False until one succeeds. It is from the
    beginning, so that a controller that dies of its looks does not expose anyone by starting anew.
    """

    def __init__(
        self,
        look: Look,
        every_s: float,
        blind_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._monotonic = monotonic
        self._every_s = every_s
        self._blind_s = blind_s
        self._last = float("-inf")
        self._blind_since: float | None = float("-inf")
        self._sees = False
        self.failed = 0
        """How many have failed since the last that did not."""

    @property
    def exposes(self) -> bool:
        """Whether the candidate may be exposed."""
        since = self._blind_since
        return since is None or self._monotonic() - since <= self._blind_s

    def due(self, written: float) -> bool:
        """Whether it is time for one; `written`: when the newest plan was (s, monotonic)."""
        every = min(self._every_s, _AGAIN_S) if self.failed else self._every_s
        if self._last > written and self._monotonic() - self._last < every:
            return False
        self._last = self._monotonic()
        return True

    def at(self, plan: Plan, reports: list[Report]) -> Evidence:
        """What is known of a release now: without its outcomes, with the reason, where they cannot
        be read, so that what replicas counted is judged all the same."""
        try:
            seen = self._look(plan, reports)
        except Exception as error:
            # Delta, Arrow and the disk raise many things.
            self.miss()
            _log.exception("rollout: the outcomes of release %d cannot be read", plan.release)
            said = f"they cannot be read ({type(error).__name__}), looks in a row: {self.failed}"
            said += "" if self.exposes else "; the candidate is not exposed"
            return replace(counted(plan, reports), unread=said)
        self.clear()
        return seen

    def clear(self) -> None:
        """A look succeeded, or there is nothing to look at; it counts once it is `settle`d."""
        self._sees = True

    def settle(self) -> None:
        """What the last look led to was done: a look of which nothing follows exposes nobody."""
        if self._sees:
            self.failed, self._blind_since = 0, None

    def miss(self) -> None:
        """A look failed, or what followed from it."""
        self._sees = False
        self.failed += 1
        if self._blind_since is None:
            self._blind_since = self._monotonic()
