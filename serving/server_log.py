"""What goes wrong in a server, as JSON lines that stay: what was done, which error, and where.

Of an error there is its kind and the lines of code, never its text, which may quote inputs.
"""

import errno
import json
import logging
import traceback
from logging.handlers import RotatingFileHandler
from pathlib import Path

from data_contracts.clock import format_time
from data_contracts.lake import Lake

_BYTES, _KEPT = 16 << 20, 3
"""Of one file, and how many older ones of a process stay."""
_HERE = Path(__file__).parents[1]


class ServerLog:
    """Keeps the warnings and errors of this process's loggers below `of` until it is closed, in
    `server_log/{name}.jsonl` of the lake."""

    def __init__(self, lake: Lake, name: str, of: str = "serving") -> None:
        lake.server_log.mkdir(parents=True, exist_ok=True)
        path = lake.server_log / f"{name}.jsonl"
        self._handler = RotatingFileHandler(path, maxBytes=_BYTES, backupCount=_KEPT, delay=True)
        self._handler.setLevel(logging.WARNING)
        self._handler.setFormatter(_Lines())
        self._logger = logging.getLogger(of)
        self._logger.addHandler(self._handler)

    def close(self) -> None:
        """Nothing is written any more."""
        self._logger.removeHandler(self._handler)
        self._handler.close()


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        line = {
            "time": format_time(round(record.created * 1e6)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "error": None if error is None else _kind(error),
            "at": [] if error is None else _places(error),
        }
        return json.dumps(line)


def _kind(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        name = f"{name} {errno.errorcode.get(error.errno, '')}".rstrip()
    cause = error.__cause__ or error.__context__
    return name if cause is None else f"{name} after {_kind(cause)}"


def _places(error: BaseException) -> list[str]:
    """`file:line function`, the innermost last."""
    found: list[str] = []
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        place = path.relative_to(_HERE) if path.is_relative_to(_HERE) else path.name
        found.append(f"{place}:{frame.lineno} {frame.name}")
    return found
