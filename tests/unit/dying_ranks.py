"""A fit on two devices that is there to be killed: `python -m tests.unit.dying_ranks PATH`.

Says each epoch's number when it is done.
"""

import sys
from dataclasses import replace
from pathlib import Path

from tests.unit.test_ranks import KEY, LONG, MODEL, long_rows
from training.best_epoch import Checkpoint
from training.fit import fit

if __name__ == "__main__":
    spec = replace(LONG, max_epochs=100, patience=100)
    say = lambda done, _: print(done, flush=True)  # noqa: E731
    fit(MODEL, spec, long_rows(spec), say, Checkpoint(Path(sys.argv[1]), key=KEY))
