"""Ctrl-C, and `kill`, where a library's handler has calls of the system go on."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import signal, subprocess, sys
from dagster_project.interrupts import hear
hear()
import polars
if sys.argv[1] == "SIGTERM":
    signal.siginterrupt(signal.SIGTERM, False)
with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
    try:
        print("waits", flush=True)
        child.wait()
    except KeyboardInterrupt:
        print("ended", flush=True)
        child.kill()
"""


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_wait_that_would_go_on(number: signal.Signals, ignored: bool) -> None:
    command = [sys.executable, "-c", PROGRAM, number.name]
    if ignored:
        command = ["bash", "-c", "trap '' INT; exec \"$@\"", "shell", *command]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        try:
            assert "waits\n" == waiting.stdout.readline()
            waiting.send_signal(number)
            said, _ = waiting.communicate(timeout=60)
        finally:
            waiting.kill()
    assert ("ended\n", 0) == (said, waiting.returncode)
