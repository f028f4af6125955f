"""The reader of the online store: packed state by key, finalised at the query time."""

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.online import state_name, view_name
from data_contracts.states import State, decode, read
from data_contracts.use_case import UseCase
from data_contracts.views import ViewRegistry, reading

if TYPE_CHECKING:
    from feast import FeatureStore

_log = logging.getLogger(__name__)

NO_STATE = 0
"""The seq of a key without state."""

Keys = Sequence[Mapping[str, str | None]]
"""Per row: entity field -> key; None where the row has none."""


@dataclass(frozen=True)
class Served:
    """The features of one request's rows, all at one query time."""

    values: np.ndarray
    """float64[rows, features] in the model's order."""
    seqs: np.ndarray
    """int64[rows, views]: the seq stamped on the state that was read, 0 where none was."""
    as_ofs: list[list[int | None]]
    """Per row and view: the state's as-of (µs), None where there was none."""
    q: int
    """The query time (µs): the one asked for, or the newest as-of read where that is later."""
    store_failed: bool
    """The store could not be read: every value is the declared default."""

    @property
    def defaults_used(self) -> bool:
        """Whether any value is a declared default because there was no state to read."""
        return bool((self.seqs == NO_STATE).any())


class FeatureReader:
    """Reads the features of one model (name -> digest) from the views that hold them.

    `failures` counts reads that ended in defaults. ValueError where no view has a feature ready.
    """

    def __init__(self, use_case: UseCase, lake: Lake, features: Mapping[str, str]) -> None:
        if not (lake.online / "feature_store.yaml").is_file():
            raise ValueError(
                f"{lake.online}: no Feast repository: run `headrace materialize` first"
            )
        self._use_case = use_case
        self._store = _open_store(lake.online)
        self.reading = reading(features, ViewRegistry(lake).views().values())
        self._names = [f"{view_name(g)}:{state_name(g)}" for g in self.reading.groups]
        self._thread = ThreadPoolExecutor(1, "features")
        self.failures = 0

    async def read(self, keys: Keys, q: int) -> Served:
        """The features of the rows with these keys at `q` (µs); a failing store gives defaults."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.read_now, keys, q)

    def read_now(self, keys: Keys, q: int) -> Served:
        """As `read`, in the caller's thread."""
        try:
            return self._finalized(keys, self._fetch(keys), q)
        except Exception:
            # Whatever the store or its client raises, the answer is the declared defaults.
            self.failures += 1
            _log.exception("online store of %s: serving defaults", self._use_case.name)
            return self._defaults(len(keys), q)

    def close(self) -> None:
        """Wait for the read under way."""
        self._thread.shutdown()

    def _fetch(self, keys: Keys) -> list[dict[str, State]]:
        """Per view: the states of those keys that have one."""
        wanted = dict.fromkeys(group.entity for group in self.reading.groups)
        rows: list[dict[str, Any]] = [{name: row[name] or "" for name in wanted} for row in keys]
        answer = self._store.get_online_features(self._names, entity_rows=rows).to_dict()
        states: list[dict[str, State]] = []
        for group in self.reading.groups:
            found = dict(zip(answer[group.entity], answer[state_name(group)], strict=True))
            states.append({k: decode(group, v) for k, v in found.items() if k and v is not None})
        return states

    def _finalized(self, keys: Keys, states: list[dict[str, State]], q: int) -> Served:
        q = max([q, *(state.as_of for found in states for state in found.values())])
        parts: list[np.ndarray] = []
        seqs = np.full((len(keys), len(states)), NO_STATE, np.int64)
        as_ofs: list[list[int | None]] = [[None] * len(states) for _ in keys]
        for g, (group, found) in enumerate(zip(self.reading.groups, states, strict=True)):
            parts.append(_rows(group, keys, found, q))
            for i, row in enumerate(keys):
                if state := found.get(row[group.entity] or ""):
                    seqs[i, g], as_ofs[i][g] = state.seq, state.as_of
        return Served(self.reading.vector(parts), seqs, as_ofs, q, store_failed=False)

    def _defaults(self, rows: int, q: int) -> Served:
        groups = self.reading.groups
        values = self.reading.vector([group.default_values()[None] for group in groups])
        seqs = np.full((rows, len(groups)), NO_STATE, np.int64)
        nothing: list[list[int | None]] = [[None] * len(groups) for _ in range(rows)]
        return Served(np.tile(values, (rows, 1)), seqs, nothing, q, store_failed=True)


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


def _rows(group: FeatureGroup, keys: Keys, states: Mapping[str, State], q: int) -> np.ndarray:
    """float64[rows, features of the group]; each distinct key is finalised once."""
    wanted = [row[group.entity] or "" for row in keys]
    index = {key: i for i, key in enumerate(dict.fromkeys(wanted))}
    values = read(group, [states.get(key) for key in index], q)
    return values[[index[key] for key in wanted]]
