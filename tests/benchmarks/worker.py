"""One engine in a process of its own: tells when it is up, then runs each task it is given.

Tasks and answers are JSON objects, a line each, on standard input and output.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main(name: str, scratch: str) -> None:
    """Serve `name`, a module of `tests.benchmarks.engines`, until standard input ends."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what libraries print is no answer

        def tell(answer: dict[str, Any]) -> None:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()

        began = time.monotonic()
        engine = importlib.import_module(f"tests.benchmarks.engines.{name}")
        engine.start(Path(scratch))
        tell({"seconds": time.monotonic() - began})
        for line in sys.stdin:
            task = json.loads(line)
            began = time.monotonic()
            try:
                engine.training_set(Path(task["log"]), Path(task["out"]))
                tell({"seconds": time.monotonic() - began})
            except Exception as error:
                tell({"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]})


if __name__ == "__main__":
    main(*sys.argv[1:])
