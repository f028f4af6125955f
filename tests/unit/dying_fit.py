"""A fit in a process of its own that is there to be killed: `python -m tests.unit.dying_fit PATH`.

Says each epoch's number when it is done; with the third it waits for a word that never comes.
"""

import sys
from pathlib import Path

from tests.unit.test_resume import KEY, MODEL, SPEC, training
from training.best_epoch import Checkpoint
from training.fit import fit


def tell(done: int, most: int) -> None:
    """Say it and, at the third epoch, wait."""
    print(done, flush=True)
    if done == 3:
        sys.stdin.read()


if __name__ == "__main__":
    fit(MODEL, SPEC, training(), tell, Checkpoint(Path(sys.argv[1]), key=KEY))
