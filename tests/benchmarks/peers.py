"""Environments of peers whose pins are not ours, made once under `.cache/` of the checkout."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "bench"
SHARED = (
    "feast", "onnxruntime", "numpy", "pydantic", "open-data-contract-standard", "fastapi", "uvicorn"
)  # fmt: skip
"""What the bare function needs; each in our version unless a peer wants another."""
_PATIENCE_S = 1800.0


class NotMade(RuntimeError):
    """An environment could not be made; the message says why."""


@dataclass(frozen=True)
class Environment:
    """What a peer needs: its own distribution, and which pins of others it breaks."""

    peer: str
    """A requirement, e.g. `bentoml>=1.4`."""
    free: tuple[str, ...] = ()
    """Of `shared`, what may be of another version than ours."""
    overrides: tuple[str, ...] = ()
    """Requirements that hold against what the distributions say."""
    shared: tuple[str, ...] = SHARED
    """What it needs in our versions."""

    def requirements(self) -> list[str]:
        """For pip, sorted."""
        pinned = [n if n in self.free else f"{n}=={version(n)}" for n in self.shared]
        return sorted([self.peer, *pinned])


def interpreter(environment: Environment) -> Path:
    """Its Python, made on the first call; NotMade with the end of what uv said."""
    wanted = json.dumps([environment.requirements(), environment.overrides, sys.version])
    folder = CACHE / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    python, done = folder / "bin" / "python", folder / "made"
    if done.exists():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = _uv()
    _run(uv, "venv", "--clear", "--python", sys.executable, str(folder))
    overrides = folder / "overrides.txt"
    overrides.write_text("\n".join(environment.overrides))
    pip = ("pip", "install", "--python", str(python), "--override", str(overrides))
    _run(uv, *pip, *environment.requirements())
    done.touch()
    return python


def versions(python: Path, *names: str) -> dict[str, str]:
    """Distribution -> version, as that Python has them."""
    program = "import json, sys; from importlib.metadata import version as v;" \
        "print(json.dumps({n: v(n) for n in sys.argv[1:]}))"  # fmt: skip
    told = subprocess.run([python, "-c", program, *names], capture_output=True, check=True)
    return json.loads(told.stdout)


def _uv() -> str:
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = shutil.which("uv") or shutil.which(cached / "headrace" / "uv" / "bin" / "uv")
    if found is None:
        raise NotMade("uv: not on the PATH: run `make setup`, or install it")
    return found


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise NotMade(f"{' '.join(command[:3])}: more than {_PATIENCE_S:g} s") from None
    if done.returncode:
        raise NotMade(f"{' '.join(command[:3])}: {' '.join(done.stderr.split())[-600:]}")
