"""The champion that a rollback returns to, by what lies beside the server: no registry is asked."""

import logging
import sqlite3

from data_contracts.ledger import INTENT, aliases_after
from data_contracts.moves import Moves
from data_contracts.rollout import Plan, Target, followed
from data_contracts.rollout_store import RolloutStore
from data_contracts.stages import PREVIOUS, MoveRefused

_log = logging.getLogger(__name__)
_PATIENCE_S = 2.0
"""How long a ledger that is locked is waited for: plans alone know less."""


def previous(plan: Plan, store: RolloutStore, moves: Moves) -> Target:
    """The one before the plan's, also where the aliases have not followed the plan yet.

    Where the ledger cannot be read, the plans alone tell. MoveRefused where there is none, or where
    its bundle is not known: it was never served by a plan and last moved before there was a ledger.
    """
    try:
        rows = moves.history(_PATIENCE_S)
    except sqlite3.Error:
        _log.exception("rollout: the previous champion is told by the plans, without the ledger")
        return _by_plans(plan, store)
    version = followed(plan, aliases_after(rows)).get(PREVIOUS)
    if version is None:
        raise MoveRefused("there is no previous champion to return to")
    served = [each.champion for each in store.plans() if each.champion.version == version]
    moved = [row.said for row in rows if row.kind == INTENT]
    known = [Target(version, said["bundle"]) for said in moved if said["version"] == version]
    if not served and not known:
        raise MoveRefused(
            f"version {version}: neither a plan nor a move tells its bundle: return to it by "
            f"`headrace models demote {plan.champion.version}`"
        )
    return [*known, *served][-1]


def _by_plans(plan: Plan, store: RolloutStore) -> Target:
    """The last one before the present champion was first served that nobody has barred."""
    served = [each.champion for each in store.plans()]
    first = next(i for i, each in enumerate(served) if each.version == plan.champion.version)
    barred = store.barred()
    found = [target for target in served[:first] if target.version not in barred]
    if not found:
        raise MoveRefused("there is no previous champion to return to, by the plans alone")
    return found[-1]
