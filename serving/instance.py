"""A serving instance as a process of its own: `python -m serving.instance --settings JSON`.

It prints one JSON line `{"url": …, "ready": true}` once it answers, and takes everything that it
started with it when it goes: on SIGTERM, on SIGINT and, if told so, when its stdin closes.
"""

import argparse
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from data_contracts.ledger_store import LedgerStore
from data_contracts.rollout_store import RolloutStore
from serving.isolation import FOLDERS, HARD_STOP_S, choose_ports, environment, write_proxy
from serving.processes import adopt_orphans, kill_descendants
from serving.server_log import ServerLog
from serving.settings import Settings
from serving.supervised import Supervised, controller_command

NAME = "serving.instance"
"""Of its logger: under `-m` its `__name__` is another, below none of the server's loggers."""
FAILED = f"{NAME}: "
"""What the line on stderr begins with that says why there is no instance."""
_POLL_S = 0.1
_ALIGN_S = 60.0
_BESIDE_S = 1.0
"""What a request may take beside its deadline before a proxy that stops is waited for no longer."""

_log = logging.getLogger(NAME)


def main(arguments: list[str]) -> int:
    """Run an instance until it is told to stop; 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="serving.instance")
    parser.add_argument("--settings", required=True, help="serving.settings.Settings as JSON")
    parser.add_argument("--until-stdin-closes", action="store_true")
    options = parser.parse_args(arguments)
    settings = Settings.model_validate_json(options.settings)
    answer, parent = _own_streams()
    _on_signals(_interrupt)
    adopt_orphans()
    if options.until_stdin_closes:
        threading.Thread(target=_stop_at_end, args=(parent,), daemon=True).start()
    folder = Path(tempfile.mkdtemp(prefix="hr-", dir=FOLDERS))

    def ready(url: str) -> None:
        told = {"url": url, "ready": True, "pid": os.getpid()}
        print(json.dumps(told), file=answer, flush=True)

    boot = secrets.token_hex(6)
    controller = Supervised(controller_command(settings, boot))
    try:
        # Under the plain engine the replica, which has a log of its own, is in this process.
        with closing(ServerLog(settings.lake(), f"instance-{boot}", NAME)):
            controller.start()
            _serve(settings, folder, ready)
        return 0
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        print(f"{FAILED}{error}", file=sys.stderr)
        return 1
    finally:
        _on_signals(signal.SIG_IGN)
        controller.stop()
        _stop(folder, min(HARD_STOP_S, settings.timeout_ms / 1000 + _BESIDE_S))


def _serve(settings: Settings, folder: Path, ready: Callable[[str], None]) -> None:
    """Serve until a signal ends it."""
    try:
        if settings.engine == "plain":
            _until_current(settings)
            from serving.plain import serve

            serve(settings, choose_ports(settings.host, settings.port).http, ready)
            return
        ready(_start(settings, folder))
        while True:
            signal.pause()
    except Exception:
        _log.exception("the server ends")
        raise


def _start(settings: Settings, folder: Path) -> str:
    ports = choose_ports(settings.host, settings.port)
    write_proxy(folder)
    os.environ.update(environment(folder, ports))
    # Ray reads its environment when it is imported.
    from serving.cluster import start

    _until_current(settings)
    start(settings, folder, ports.http)
    _on_signals(_interrupt)
    url = f"http://{settings.host}:{ports.http}"
    _until_ready(url)
    return url


def _until_current(settings: Settings) -> None:
    """Wait until the plan knows of every move in the ledger, so that no replica answers with a
    champion of yesterday. Not for longer than `_ALIGN_S`: a registry may be away."""
    lake, name = settings.lake(), settings.load().name
    store, ledger = RolloutStore(lake.rollouts, name), LedgerStore(lake.ledger)
    pause, end = threading.Event(), time.monotonic() + _ALIGN_S
    while (rows := ledger.rows(name)) and store.followed()[1] != rows[-1].seq:
        if time.monotonic() > end:
            _log.warning("rollout: the plan may not know of the last moves: serving by it")
            return
        pause.wait(_POLL_S)


def _stop(folder: Path, within_s: float) -> None:
    try:
        if "serving.cluster" in sys.modules:
            from serving.cluster import stop

            stop(within_s)
    finally:
        kill_descendants()
        shutil.rmtree(folder, ignore_errors=True)


def _until_ready(url: str) -> None:
    pause = threading.Event()
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=10):
                return
        except (urllib.error.URLError, OSError):
            pause.wait(_POLL_S)


def _own_streams() -> tuple[IO[str], IO[bytes]]:
    """This process's stdout and stdin for itself alone: what it starts inherits others."""
    answer, parent = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(0), "rb", buffering=0)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return answer, parent


def _stop_at_end(parent: IO[bytes]) -> None:
    while parent.read(1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _on_signals(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
