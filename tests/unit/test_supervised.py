"""A process that is kept running."""

import errno
import subprocess
import sys
import threading
from typing import Any

import pytest

from serving.supervised import Supervised

UNTIL_CLOSED = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def test_a_process_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    popen, begun = subprocess.Popen, threading.Event()
    left = [OSError(errno.EAGAIN, "no process"), OSError(errno.ENOMEM, "no memory")]

    def started(*given: Any, **named: Any) -> Any:
        if left:
            raise left.pop()
        process = popen(*given, **named)
        begun.set()
        return process

    monkeypatch.setattr("serving.supervised._PAUSE_S", 0.0)
    monkeypatch.setattr("serving.supervised.subprocess.Popen", started)
    supervised = Supervised(UNTIL_CLOSED)
    supervised.start()
    assert begun.wait(60)
    supervised.stop()
    assert 2 == sum("was not started" in record.message for record in caplog.records)
    assert {"serving.instance.supervised"} == {record.name for record in caplog.records}
