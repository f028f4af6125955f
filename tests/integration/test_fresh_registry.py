"""A registry that nobody has opened yet, opened by several processes at once."""

import subprocess
import sys
from pathlib import Path

OPEN = """
import sys
from pathlib import Path
from data_contracts.lake import Lake
from {plane}.registry import Registry
Registry(Lake(Path(sys.argv[1]), "clicks"))
"""


def test_whoever_opens_a_fresh_registry_at_once_finds_it(tmp_path: Path) -> None:
    opening = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN.format(plane=plane), str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for plane in ("serving", "training", "serving")
    ]
    said = [each.communicate(timeout=120)[1] for each in opening]
    assert [0, 0, 0] == [each.returncode for each in opening], said
