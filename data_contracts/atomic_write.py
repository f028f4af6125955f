"""A file replaced whole: after a crash or power failure it holds the old text or the new one."""

import os
from pathlib import Path

_READABLE, _PRIVATE = 0o666, 0o600


def write_atomically(path: Path, text: str, private: bool = False) -> None:
    """Put `text` (UTF-8) in place of what the file holds; its folder is made where it lacks.

    It is on the disk when this returns. `private`: for its owner only. Writers of one file exclude
    each other. OSError as the file system raises it; the old text stays then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT, _PRIVATE if private else _READABLE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    os.replace(part, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
