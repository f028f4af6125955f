"""The champion that a rollback returns to, whether or not the registry can be reached."""

from data_contracts.moves import Moves
from data_contracts.registered import Registry
from data_contracts.rollout import Plan, Target, followed
from data_contracts.rollout_store import RolloutStore
from data_contracts.stages import PREVIOUS, MoveRefused


def previous(
    plan: Plan, store: RolloutStore, moves: Moves, registry: Registry, model: str
) -> Target:
    """The one before the plan's, also where the aliases have not followed the plan yet.

    MoveRefused where there is none, or where it was never served by a plan and the registry, which
    then alone knows it, cannot be reached.
    """
    plans = store.plans()
    try:
        version = followed(plan, moves.aliases()).get(PREVIOUS)
        served = [each.champion for each in plans if each.champion.version == version]
        if served:
            return served[-1]
        if version is not None:
            return Target(version, registry.version(model, version).digest)
    except MoveRefused:
        raise
    except Exception as error:
        # MLflow and its database raise many things when they are away.
        raise MoveRefused(
            f"model {model}: the previous champion is not known without the registry, which "
            f"cannot be reached ({type(error).__name__}): try again"
        ) from error
    raise MoveRefused("there is no previous champion to return to")
