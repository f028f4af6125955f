"""Our application under plain uvicorn: `python -m tests.benchmarks.servers.plain ROOT PORT`."""

import sys
from pathlib import Path

import uvicorn

from serving.app import build_app
from serving.settings import Settings


def main(root: str, port: str, *_: str) -> None:
    """Serve until ended."""
    settings = Settings(root=Path(root), engine="plain", auth=False)
    uvicorn.run(build_app(settings), port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
