"""A page in headless Chromium, spoken to over the DevTools protocol."""

import base64
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

PATIENCE_S = 30.0
BINARY = shutil.which("chromium") or shutil.which("google-chrome")


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.errors: list[Any] = []
        """What the page threw, or the browser found to be wrong with it."""
        for domain in ("Runtime", "Log", "Page"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **arguments: Any) -> Any:
        self._number += 1
        said = {"id": self._number, "method": method, "params": arguments}
        self._socket.send(json.dumps(said))
        while True:
            heard = json.loads(self._socket.recv(PATIENCE_S))
            if heard.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(heard["params"])
            if heard.get("id") == self._number:
                assert "error" not in heard, heard
                return heard["result"]

    def size(self, width: int, height: int) -> None:
        """As a phone where it is narrow."""
        shape = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.tell("Emulation.setDeviceMetricsOverride", **shape, mobile=width < 600)

    def run(self, script: str) -> Any:
        """What an expression, or the promise that it gives, comes to."""
        asked = {"expression": script, "awaitPromise": True, "returnByValue": True}
        found = self.tell("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        poll = "new Promise(done => { const look = () => (%s) ? done(true) : setTimeout(look, 50);"
        self.run(f"{poll % condition} look(); }})")

    def shot(self, path: Path) -> bytes:
        """The whole page as PNG."""
        found = self.tell("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))
        return path.read_bytes()


@contextmanager
def opened(url: str, folder: Path) -> Generator[Page]:
    """A new browser at `url`; its profile lies in `folder`."""
    assert BINARY is not None
    command = [
        BINARY, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--remote-debugging-port=0",
        f"--user-data-dir={folder}", "about:blank",
    ]  # fmt: skip
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as browser:
        try:
            tabs = httpx.get(f"http://127.0.0.1:{_port(folder, browser)}/json").json()
            address = next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"]
            with connect(address, max_size=None, proxy=None) as socket:
                page = Page(socket)
                page.tell("Page.navigate", url=url)
                yield page
        finally:
            browser.terminate()


def _port(folder: Path, browser: subprocess.Popen[bytes]) -> str:
    """Where it listens, once it does."""
    told, pause, began = folder / "DevToolsActivePort", threading.Event(), time.monotonic()
    while not told.exists() or not told.read_text():
        assert browser.poll() is None, "the browser ended"
        assert time.monotonic() - began < PATIENCE_S, "the browser did not start"
        pause.wait(0.05)
    return told.read_text().split()[0]
