"""A Redis of a test's own, on a free loopback port, that keeps nothing on disk."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from data_contracts.redis_address import RedisAddress

PASSWORD = 'p,ä"s $HOME=\\:/@#?'
"""Everything that a URL, a list of options or a configuration file could trip over."""


class RedisServer:
    """A running server; skips the test that asks for one where there is no `redis-server`."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("no redis-server on the PATH: sudo apt-get install redis-server")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._folder = folder
        self.start()

    @property
    def address(self) -> RedisAddress:
        return RedisAddress("127.0.0.1", self.port, 3, password=PASSWORD)

    def start(self) -> None:
        """Start it, empty, at the port that it has from its first start on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {
            "port": f"{self.port}", "bind": "127.0.0.1", "save": "", "appendonly": "no",
            "requirepass": PASSWORD, "dir": f"{self._folder}",
        }  # fmt: skip
        command = ["redis-server", *(t for k, v in options.items() for t in (f"--{k}", v))]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said: list[str] = []
        for line in self._process.stdout:
            said.append(line)
            if "Ready to accept connections" in line:
                return
        raise AssertionError(f"redis-server ended: {''.join(said)}")

    def pause(self) -> None:
        """It keeps its connections, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `pause`."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it by kill -9; everything that it held is lost."""
        self._process.kill()
        self._process.communicate()
