"""The champion that a rollback returns to, by what lies beside the server: no registry is asked."""

from data_contracts.ledger import INTENT, aliases_after
from data_contracts.moves import Moves
from data_contracts.rollout import Plan, Target, followed
from data_contracts.rollout_store import RolloutStore
from data_contracts.stages import PREVIOUS, MoveRefused


def previous(plan: Plan, store: RolloutStore, moves: Moves) -> Target:
    """The one before the plan's, also where the aliases have not followed the plan yet.

    MoveRefused where there is none, or where its bundle is not known: it was never served by a plan
    and last moved before there was a ledger.
    """
    rows = moves.history()
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
