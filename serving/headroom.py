"""Which replicas are there, and whether they have room for the next step of a release."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from data_contracts.rollout_store import Report
from data_contracts.stages import RefusedForNow

_SILENT_S = 10.0
_MISSED = 3
BUSY = 0.85
"""Processors of a replica's process above which the canary does not grow."""


class NoRoom(RefusedForNow):
    """A step that does not fit now, and may later."""


def silent_s(body: Mapping[str, Any]) -> float:
    """After so long without a report (s) a replica is taken for one that has ended: ten seconds,
    or three reports in a row."""
    return max(_SILENT_S, _MISSED * float(body.get("every_s", 0.0)))


def lives(body: Mapping[str, Any], now: float) -> bool:
    """Whether the replica that said this last is there at `now` (s since 1970)."""
    return not body.get("ended") and now - body.get("at", 0.0) < silent_s(body)


class Replicas:
    """Those that still report, by their beats and this process's own clock."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], tuple[int, float]] = {}
        self.live: list[Report] = []
        """Their last words."""

    def hear(self, reports: Iterable[Report]) -> None:
        """Take note of what all replicas ever said last."""
        now = time.monotonic()
        live: list[Report] = []
        for each in reports:
            name = (each.replica, each.boot)
            beat, since = self._heard.get(name, (each.beat, float("-inf")))
            if beat != each.beat:
                since = now
            self._heard[name] = each.beat, since
            if now - since < silent_s(each.body):
                live.append(each)
        self.live = live

    def demand_room(self) -> None:
        """NoRoom where no replica has reported yet, or the next step could not be judged or would
        not fit into memory."""
        if not self.live:
            raise NoRoom("no replica has reported yet, so that nothing tells whether there is room")
        if short := self.without_log() or self.without_memory():
            raise NoRoom(short)

    def without_memory(self) -> str:
        """Why one more load of the candidate in each replica would not fit into memory; empty where
        it does, or the system does not tell.

        A load takes what the candidate's process, a fork, has for itself by now. Before there is
        one it is taken for what the replica holds: the candidate has the same engine, and no
        feature store.
        """
        told = [each.body["memory"] for each in self.live]
        needed = sum(each["candidate"] or each["own"] for each in told)
        left = min((each["left"] for each in told if each["left"] is not None), default=None)
        if left is None or needed <= left:
            return ""
        return (
            f"no headroom: the candidate may take {needed >> 20} MiB in {len(told)} replicas, "
            f"{left >> 20} MiB of memory are left: free some, or serve fewer replicas"
        )

    def without_log(self) -> str:
        """Why nothing can be judged now: replicas whose prediction log takes no record, so that
        outcomes are lost; empty where all do."""
        silent = sorted(each.replica for each in self.live if each.body["log_refuses"])
        if not silent:
            return ""
        return (
            "not judgeable: the prediction log takes no record of the answers of "
            f"{', '.join(silent)}: free disk space"
        )

    def without_processors(self) -> str:
        """Why a canary would not fit into the replicas' processors; empty where it does."""
        busy = max((float(each.body["busy"]) for each in self.live), default=0.0)
        if busy <= BUSY:
            return ""
        return f"no headroom: a replica keeps {busy:.2f} processors busy, at most {BUSY:g}"
