"""Our server as it is started: `python -m tests.benchmarks.servers.one_hop ROOT PORT`."""

import sys
from pathlib import Path

from serving.instance import main as instance
from serving.settings import Settings


def main(root: str, port: str, *_: str) -> int:
    """Serve until ended."""
    settings = Settings(root=Path(root), auth=False, port=int(port))
    return instance(["--settings", settings.model_dump_json()])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
