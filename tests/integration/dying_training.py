"""`python -m tests.integration.dying_training PLACE ARGUMENTS`: `headrace ARGUMENTS`, whose process
is killed by itself right after the named step.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from dagster_project.cli import main
from data_contracts.ledger_store import LedgerStore
from training.best_epoch import BestEpoch
from training.registry import Registry

PLACES: dict[str, tuple[type, str, int]] = {
    "the second epoch of the model": (BestEpoch, "on_train_epoch_end", 2),
    "its run": (Registry, "log_run", 1),
    "its version": (Registry, "register", 1),
    "the first row of its move": (LedgerStore, "append", 1),
    "its first alias": (Registry, "set_alias", 1),
}
"""Place -> what is called there, and how often before the end."""


def die(owner: type, method: str, times: int) -> None:
    """Have the process die after so many calls."""
    real: Callable[..., Any] = getattr(owner, method)
    done = 0

    def wrapped(*given: Any, **named: Any) -> Any:
        nonlocal done
        found = real(*given, **named)
        done += 1
        if done == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, method, wrapped)


if __name__ == "__main__":
    die(*PLACES[sys.argv.pop(1)])
    main()
