"""Where ledgers are kept: one SQL table that takes rows and never changes one."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from data_contracts.ledger import Row
from data_contracts.stages import MoveRefused

_SCHEMA = """
CREATE TABLE IF NOT EXISTS moves (
    model TEXT NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, time TEXT NOT NULL,
    actor TEXT NOT NULL, body TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL,
    PRIMARY KEY (model, seq)
);
CREATE TRIGGER IF NOT EXISTS moves_stay BEFORE UPDATE ON moves
BEGIN SELECT RAISE(ABORT, 'moves: rows are only added'); END;
CREATE TRIGGER IF NOT EXISTS moves_remain BEFORE DELETE ON moves
BEGIN SELECT RAISE(ABORT, 'moves: rows are only added'); END;
"""
PATIENCE_S = 30.0
"""How long a ledger that another process has locked is waited for."""
_FIELDS = ("model", "seq", "kind", "time", "actor", "body", "previous", "hash")


class LedgerStore:
    """The table `moves` in a file of SQLite, made when it is first written to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(
        self, model: str, last: int | None = None, patience_s: float = PATIENCE_S
    ) -> list[Row]:
        """The ledger of a model, or the `last` rows of it, oldest first."""
        if not self._path.exists():
            return []
        fields, most = ", ".join(_FIELDS), -1 if last is None else last
        asked = f"SELECT {fields} FROM moves WHERE model = ? ORDER BY seq DESC LIMIT ?"
        with self._open(patience_s) as connection:
            found = connection.execute(asked, (model, most)).fetchall()
        return [Row(*each) for each in reversed(found)]

    def append(self, row: Row) -> None:
        """Add `row`, durably; MoveRefused when another writer has added one of its seq."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        values = [getattr(row, field) for field in _FIELDS]
        marks = ", ".join("?" for _ in _FIELDS)
        with self._open() as connection:
            try:
                connection.execute(f"INSERT INTO moves VALUES ({marks})", values)
            except sqlite3.IntegrityError:
                raise MoveRefused(
                    f"model {row.model}: another writer made move {row.seq}: look at "
                    "`headrace models history` and try again"
                ) from None

    @contextmanager
    def _open(self, patience_s: float = PATIENCE_S) -> Generator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=patience_s)
        try:
            with connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
                yield connection
        finally:
            connection.close()
