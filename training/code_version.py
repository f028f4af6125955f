"""Which code and which libraries made a version."""

import hashlib
import json
import platform
import re
import subprocess
from importlib.metadata import requires, version
from pathlib import Path

PACKAGE = "headrace"
CHECKOUT = Path(__file__).parents[1]


def code_version(checkout: Path = CHECKOUT) -> dict[str, str]:
    """`package`, and in a checkout `commit` and whether its tracked files are changed (`dirty`)."""
    found = {"package": version(PACKAGE)}
    top = _git(checkout, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != checkout.resolve():
        return found
    commit = _git(checkout, "rev-parse", "HEAD")
    if commit is None:
        return found
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return {**found, "commit": commit, "dirty": str(changed != "").lower()}


def environment() -> dict[str, str]:
    """Python, platform and the version of every library that the package asks for."""
    asked = [line for line in requires(PACKAGE) or () if "extra ==" not in line]
    names = sorted(re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in asked)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in names},
    }


def environment_digest(environment: dict[str, str]) -> str:
    """SHA-256 of an environment."""
    return hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()


def _git(folder: Path, *command: str) -> str | None:
    """What git says; None where there is no git or it fails."""
    try:
        done = subprocess.run(("git", *command), cwd=folder, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
