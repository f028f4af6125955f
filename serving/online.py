"""Packed states as Feast's online store holds them, kept for as long as the store is unchanged."""

import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_contracts.contract import Field
from data_contracts.features import FeatureGroup
from data_contracts.keys import parts_of
from data_contracts.lake import Lake
from data_contracts.online import state_name, view_name

if TYPE_CHECKING:
    from feast import FeatureStore

KEPT_BYTES = 32 << 20
"""Of keys and states at most; with more, what was kept is dropped as a whole."""
_BUSY_MS = 20


class NotKept(Exception):
    """A state that was not read since the store changed."""


class StateReader:
    """The states of one lake's online store; `packed` is for one thread at a time.

    A state that was read is not read again before the store changes. SQLite tells that with a
    counter (`PRAGMA data_version`), Redis does not: its states are read each time.
    """

    def __init__(self, lake: Lake, fields: Mapping[str, Field]) -> None:
        store = _open_store(lake.online)
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        self._store = store
        self._fields = fields
        online: Any = store.config.online_store
        self._changes = _Changes(Path(online.path)) if online.type == "sqlite" else None
        self._provider = self._provided()
        self._file: int | None = None
        """Inode of the store's file."""
        self._views: dict[str, Any] = {}
        self._key, self._value = EntityKey, Value
        self._kept: dict[str, dict[str, bytes]] = {}
        self._bytes = 0
        self._at: object = None
        """What the store's counter said before the oldest state that is kept was read."""

    def kept(self, group: FeatureGroup, keys: Sequence[str]) -> Mapping[str, bytes]:
        """As `packed`, without a word to the store; NotKept where one would have to be read."""
        at = self._changes and self._changes.now()
        held = self._kept.get(view_name(group), {})
        if at is None or at != self._at or not held.keys() >= {*keys}:
            raise NotKept
        return held

    def packed(self, group: FeatureGroup, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Key -> its state, empty where there is none; of other keys there may be some too."""
        at = self._changes and self._changes.now()
        if at is not None and at[0] != self._file:
            # Feast goes on reading a file that another one has taken the place of.
            self._file, self._provider = at[0], self._provided()
        if at is None or at != self._at or self._bytes > KEPT_BYTES:
            self._kept, self._bytes, self._at = {}, 0, at
        view = view_name(group)
        kept = self._kept.setdefault(view, {})
        lacking = [key for key in keys if key not in kept]
        if lacking:
            found = self._read(group, view, lacking)
            kept.update(zip(lacking, found, strict=True))
            self._bytes += sum(100 + len(key) for key in lacking) + sum(map(len, found))
        return kept

    def _read(self, group: FeatureGroup, view: str, keys: Sequence[str]) -> list[bytes]:
        if view not in self._views:
            self._views[view] = self._store.get_feature_view(view)
        name = state_name(group)
        asked = [
            self._key(join_keys=group.key_fields, entity_values=self._values(group, key))
            for key in keys
        ]
        # What `get_online_features` does around this call takes longer than the call.
        rows = self._provider.online_read(self._store.config, self._views[view], asked, [name])
        return [held[name].bytes_val if held else b"" for _, held in rows]

    def _provided(self) -> Any:
        """What reads the store. Of SQLite its connection writes nothing, and waits for a lock no
        longer than a request has time for: Feast's own would for five seconds."""
        from feast.infra.provider import get_provider

        provider: Any = get_provider(self._store.config)
        if self._changes is not None:
            connection: sqlite3.Connection = provider.online_store._get_conn(self._store.config)
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return provider

    def _values(self, group: FeatureGroup, key: str) -> list[Any]:
        parts = zip(group.key_fields, parts_of(key, len(group.key_fields)), strict=True)
        return [
            self._value(int64_val=int(part))
            if self._fields[name].type == "integer"
            else self._value(string_val=part)
            for name, part in parts
        ]


class _Changes:
    """The counter of changes of the SQLite file at a path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: sqlite3.Connection | None = None
        self._inode = 0

    def now(self) -> tuple[int, int] | None:
        """(inode of the file, another value after each change); None where it cannot be told."""
        try:
            inode = self._path.stat().st_ino
            if self._file is None or inode != self._inode:
                if self._file is not None:
                    self._file.close()
                uri = f"{self._path.as_uri()}?mode=ro"
                self._file = sqlite3.connect(uri, uri=True, timeout=0, check_same_thread=False)
                self._inode = inode
            (version,) = self._file.execute("PRAGMA data_version").fetchone()
            return inode, version
        except (sqlite3.Error, OSError):
            return None


def _open_store(folder: Path) -> "FeatureStore":
    # Feast imports torch where there is one, for tensors that nobody asks for here: 500 MB and
    # seconds in every replica. Hidden during the import, it counts as not installed.
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    try:
        from feast import FeatureStore
    finally:
        if hidden:
            del sys.modules["torch"]
    return FeatureStore(repo_path=str(folder))
