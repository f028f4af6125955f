"""Where trainings leave the state of their fits: a folder each, so that two at once do not meet."""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from data_contracts.file_lock import locked, try_lock

STATE = ".ckpt"
"""What the name of a fit's state ends with, in the folder of its training."""
_LOCK = "lock"


@contextmanager
def state_folder(home: Path, key: str, resume: bool) -> Generator[Path]:
    """The folder `key` below `home`, this training's alone while it runs.

    It stays when the training is ended, to go on from; one that is done takes it away, with what
    trainings that were ended have left. ValueError where the same training is under way, and where
    there is something to `resume`, but of other data or choices.
    """
    folder = home / key
    with locked(_moves(home)):
        others = [each for each in _folders(home) if each != folder and _free(each)]
        if resume and others and not folder.exists():
            raise ValueError(f"{others[0]}: left by other data or choices: train without --resume")
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("a")
        if not try_lock(lock):
            lock.close()
            raise ValueError(f"{folder}: the same training is under way: wait for its version")
    with lock:
        yield folder
        with locked(_moves(home)):
            for each in _folders(home):
                if each == folder or _free(each):
                    rmtree(each)
            with suppress(OSError):
                home.rmdir()


def _moves(home: Path) -> Path:
    """Held while folders come and go."""
    return home.with_suffix(".lock")


def _folders(home: Path) -> list[Path]:
    return sorted(path for path in home.glob("*") if path.is_dir())


def _free(folder: Path) -> bool:
    """Whether no living training holds it."""
    with (folder / _LOCK).open("a") as lock:
        return try_lock(lock)
