"""The controller of a rollout as a process: `python -m serving.controller` with its options.

It lives until its stdin closes. Killed, it takes nothing along: the candidate is no longer exposed
once its lease has run out, and whoever starts it again goes on from the stored plan.
"""

import argparse
import logging
import os
import secrets
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from data_contracts.bundle import BundleRefused
from data_contracts.clock import SystemClock
from data_contracts.exposure import Traffic, weights
from data_contracts.lake import Lake
from data_contracts.moves import Moves
from data_contracts.rollout import Plan
from data_contracts.rollout_store import RolloutStore
from data_contracts.stages import MoveRefused
from data_contracts.use_case import UseCase
from serving.evidence import base_rate, gathered
from serving.loader import load
from serving.niceness import step_aside
from serving.registry import Registry
from serving.release import Controller
from serving.server_log import ServerLog
from serving.settings import Settings
from serving.traffic import Unmeasured, expected, measured

_log = logging.getLogger("serving.controller")
"""By its name: under `-m` its `__name__` is another, below none of the server's loggers."""

RATE = 0.05
"""CTR that a release is planned for before there are outcomes to tell another one."""


def controller(settings: Settings) -> Controller:
    """The controller of the use case's rollout, on its tables and its registry."""
    use_case, lake = settings.load(), settings.lake()
    registry, clock = Registry(lake), SystemClock()
    return Controller(
        use_case,
        RolloutStore(lake.rollouts, use_case.name),
        registry,
        Moves(registry, lake, use_case, "headrace rollout"),
        look=lambda plan, reports: gathered(lake, plan, reports),
        tuned=lambda: tuned(use_case, lake),
        expected=lambda: expected(use_case, lake),
        fetch=lambda plan: fetch(use_case, lake, plan),
        clock=clock,
        holder=f"{os.getpid()}-{secrets.token_hex(6)}",
        lease_s=settings.lease_s,
    )


def tuned(use_case: UseCase, lake: Lake) -> dict[str, float]:
    """Check -> weight at which its sequence shall be narrowest, by the outcomes so far."""
    gates = use_case.declared.gates
    try:
        seen = measured(lake)
    except Unmeasured:
        seen = Traffic(1.0, 1.0, 1.0, base_rate(lake) or RATE)
    return weights(gates.rules, seen, gates.alpha)


def fetch(use_case: UseCase, lake: Lake, plan: Plan) -> None:
    """Keep the bundles of a plan: a replica that had to would import MLflow amid its answers."""
    for target in (plan.champion, plan.candidate):
        if target is not None:
            try:
                load(use_case, lake, target)
            except (BundleRefused, OSError):
                # A replica finds the same: it opens its breaker, or tries again.
                _log.exception("rollout: version %s cannot be served", target.version)


def main(arguments: list[str]) -> int:
    """Lead, or stand by, until stdin closes."""
    parser = argparse.ArgumentParser(prog="serving.controller")
    parser.add_argument("--settings", required=True, help="serving.settings.Settings as JSON")
    parser.add_argument("--boot", required=True, help="of the instance, for its server log")
    options = parser.parse_args(arguments)
    settings = Settings.model_validate_json(options.settings)
    # A terminal's Ctrl-C is for the server, which closes this process's stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = ServerLog(settings.lake(), f"controller-{options.boot}")
    try:
        _lead(controller(settings), settings.poll_s)
    except Exception:
        _log.exception("rollout: the controller ends")
        return 1
    finally:
        log.close()
    return 0


def _lead(found: Controller, every_s: float) -> None:
    for target, turn in ((_align, found), (_again, found.keep)):
        threading.Thread(target=target, args=(turn, every_s), daemon=True).start()
    end = select.poll()
    end.register(0, select.POLLIN | select.POLLHUP)
    while not end.poll(every_s * 1000):
        try:
            found.tick()
        except MoveRefused:
            _log.warning("rollout: a move was refused", exc_info=True)
        except Exception:
            # The store cannot be read: the candidate's exposure runs out unless that passes.
            _log.exception("rollout: nothing was decided")


def _align(found: Controller, every_s: float) -> NoReturn:
    # MLflow's moves cost more than all else that a release does, and no answer waits for them.
    step_aside()
    _again(found.align, every_s)


def _again(turn: Callable[[], None], every_s: float) -> NoReturn:
    while True:
        try:
            turn()
        except Exception:
            _log.exception("rollout: tried again in %g s", every_s)
        time.sleep(every_s)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
