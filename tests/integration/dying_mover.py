"""`python -m tests.integration.dying_mover LAKE`: moves that are killed, or stand still, half-way.

Each line of standard input, `STEP kill` or `STEP stop`, copies the lake, bars version 2 there,
begins to promote it all the same in a process of its own, ends or halts that after so many writes,
and answers with the copy's folder. `go on` lets the halted move end.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

from data_contracts.lake import Lake
from data_contracts.ledger_store import LedgerStore
from data_contracts.moves import Moves
from data_contracts.override import Override
from data_contracts.rollout import Plan, Target
from data_contracts.rollout_store import RolloutStore
from data_contracts.use_case import load_use_case
from training.registry import Registry

NAME = "clicks"
CLICKS = load_use_case(NAME)
BARRED = {"2": "its gates say fail"}
ADA = Override("ada", "the gate was wrong")
STEPS = (
    "append",
    "set_stamp",
    "set_alias",
    "set_alias",
    "set_alias",
    "lift",
    "append",
    "set_stamp",
)
"""What a move of a barred challenger to champion, over another one, writes, in its order."""


def interrupt(step: int, how: signal.Signals) -> None:
    """Send this process `how` right after its `step`-th write; before any of them at 0."""
    done = 0

    def counted(write: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*given: Any) -> None:
            nonlocal done
            write(*given)
            done += 1
            if done == step:
                os.kill(os.getpid(), how)

        return wrapped

    LedgerStore.append = counted(LedgerStore.append)
    Registry.set_stamp = counted(Registry.set_stamp)
    Registry.set_alias = counted(Registry.set_alias)
    RolloutStore.lift = counted(RolloutStore.lift)
    if not step:
        os.kill(os.getpid(), how)


def begin(lake: Lake, step: int, how: signal.Signals) -> int:
    """The process that promotes version 2, once it has been sent `how`."""
    child = os.fork()
    if not child:
        ended = 1
        try:
            interrupt(step, how)
            Moves(Registry(lake), lake, CLICKS, "ada").promote("2", "champion", ADA)
            ended = 0
        finally:
            os._exit(ended)
    _, status = os.waitpid(child, os.WUNTRACED)
    assert how == (os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.WTERMSIG(status))
    return child


def main(folder: Path) -> None:
    """Answer each line."""
    # Loaded once, before the forks: it takes seconds.
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    child = 0
    for line in sys.stdin:
        if line == "go on\n":
            os.kill(child, signal.SIGCONT)
            _, status = os.waitpid(child, 0)
            print("failed" if status else "done", flush=True)
            continue
        step, how = line.split()
        copy = folder.with_name(f"{folder.name}-{step}-{how}")
        copytree(folder, copy)
        lake = Lake(copy, NAME)
        RolloutStore(lake.rollouts, NAME).add(Plan(1, Target("1", "ab12")), BARRED)
        child = begin(lake, int(step), signal.Signals[f"SIG{how.upper()}"])
        print(copy, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
