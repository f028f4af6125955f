"""`fetch_uv.py TARGET`: uv's program from the package index, for a Python without venv or pip.

The index and its certificates are those that pip or uv would use: PIP_INDEX_URL, UV_DEFAULT_INDEX,
UV_INDEX_URL, PIP_CERT, pip.conf, else PyPI. Standard library only.
"""

import configparser
import hashlib
import io
import os
import platform
import re
import ssl
import sys
import urllib.parse
import urllib.request
import zipfile
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path

PYPI = "https://pypi.org/simple"
TIMEOUT_S = 60


class Wheels(HTMLParser):
    """The links of an index page that are not yanked: (file name, address as written)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        address = said.get("href")
        if tag == "a" and address and "data-yanked" not in said:
            path = urllib.parse.urlsplit(address).path
            self.found.append((urllib.parse.unquote(path.rsplit("/", 1)[-1]), address))


def configured(option: str, *variables: str) -> str:
    """What the environment, else pip's configuration files say; empty where none does."""
    home = Path.home()
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = ["/etc/pip.conf", home / ".pip/pip.conf", folder / "pip/pip.conf"]
    config = configparser.RawConfigParser()
    config.read([*files, os.environ.get("PIP_CONFIG_FILE") or os.devnull])
    said = [os.environ.get(name) for name in variables]
    return next(filter(None, [*said, config.get("global", option, fallback="")]), "")


def newest(links: list[tuple[str, str]], machine: str) -> str:
    """The address of the newest released wheel for glibc Linux on `machine`."""
    wheel = re.compile(rf"uv-([\d.]+)-py3-none-\S*manylinux\S*_{machine}\b\S*\.whl")
    known = [(wheel.fullmatch(name), address) for name, address in links]
    dated = [(tuple(map(int, m[1].split("."))), address) for m, address in known if m]
    if not dated:
        raise ValueError(f"no wheel of uv for Linux on {machine}")
    return max(dated)[1]


def fetch(target: Path) -> None:
    """Write uv to `target`, executable; OSError or ValueError when it cannot be had or trusted."""
    index = configured("index-url", "UV_DEFAULT_INDEX", "PIP_INDEX_URL", "UV_INDEX_URL") or PYPI
    index = re.sub(r"^[\w-]+=", "", index)  # uv's may have a name
    if "@" in urllib.parse.urlsplit(index).netloc:
        raise ValueError("it asks for a password, which only pip and uv know how to give")
    trusted = ssl.create_default_context(cafile=configured("cert", "PIP_CERT") or None)

    def read(address: str) -> tuple[bytes, str]:
        request = urllib.request.Request(address, headers={"Accept": "text/html, */*;q=0.1"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=trusted) as answer:
            return answer.read(), answer.url

    page, base = read(f"{index.rstrip('/')}/uv/")
    wheels = Wheels()
    wheels.feed(page.decode())
    address, _, digest = newest(wheels.found, platform.machine()).partition("#sha256=")
    if not digest:
        raise ValueError(f"{address}: the index gives no sha256")
    data, _ = read(urllib.parse.urljoin(base, address))
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{address}: its sha256 is not the {digest} of the index")
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        program = f"{address.rsplit('/', 1)[-1].split('-py3-')[0]}.data/scripts/uv"
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        part.write_bytes(wheel.read(program))
    part.chmod(0o755)
    part.replace(target)


if __name__ == "__main__":
    try:
        fetch(Path(sys.argv[1]))
    except (OSError, ValueError, KeyError, HTTPException, zipfile.BadZipFile) as error:
        sys.exit(f"uv could not be fetched from the package index: {error}")
