import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_plane_imports_what_its_layer_forbids() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    told = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert 0 == told.returncode, told.stdout + told.stderr
