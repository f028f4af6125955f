"""The Feast side of the writer: objects generated from the use case, packed state by key."""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Bytes

from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.online import project_name, service_name, state_name, view_name
from data_contracts.states import State, decode, encode
from data_contracts.use_case import UseCase
from data_contracts.views import ViewRegistry, missing

_CONFIG = "feature_store.yaml"
_CLOCK = "write_clock.json"
_STORE = "online.db"
_TIME = "event_timestamp"


def apply(use_case: UseCase, lake: Lake, groups: Sequence[FeatureGroup]) -> FeatureStore:
    """Create or update the Feast repository of a use case and return its store.

    One entity per key field, one view with a BYTES state per group, one service over all.
    """
    lake.online.mkdir(parents=True, exist_ok=True)
    config = {
        "project": project_name(use_case),
        "provider": "local",
        "registry": {"path": str((lake.online / "registry.db").resolve()), "cache_mode": "thread"},
        "online_store": {"type": "sqlite", "path": str((lake.online / _STORE).resolve())},
        "offline_store": {"type": "file"},
        "entity_key_serialization_version": 3,
    }
    _write(lake.online / _CONFIG, json.dumps(config, indent=1))
    store = FeatureStore(repo_path=str(lake.online))
    entities = {
        name: Entity(name=name, join_keys=[name], value_type=ValueType.STRING)
        for name in dict.fromkeys(group.entity for group in groups)
    }
    views = [_view(group, entities[group.entity], lake) for group in groups]
    service = FeatureService(name=service_name(use_case), features=list(views))
    store.apply([*entities.values(), *views, service])
    return store


def _view(group: FeatureGroup, entity: Entity, lake: Lake) -> FeatureView:
    source = FileSource(
        name=f"{view_name(group)}_tiles",
        path=str(lake.tiles.resolve()),
        timestamp_field=_TIME,
    )
    return FeatureView(
        name=view_name(group),
        entities=[entity],
        ttl=timedelta(0),
        schema=[Field(name=state_name(group), dtype=Bytes)],
        source=source,
        description=group.description,
        owner=group.owner,
        tags={"digest": group.digest},
    )


def unfilled(use_case: UseCase, lake: Lake) -> list[FeatureGroup]:
    """What of the declared groups the store holds in no view that was filled from the first event
    on; all of them where the store is gone."""
    held = ViewRegistry(lake).live() if (lake.online / _STORE).exists() else []
    lacking = [missing(group, held) for group in use_case.groups]
    return [group for group in lacking if group is not None]


class OnlineStates:
    """Packed states by key in Feast's online store; the only writer of it.

    What the store refuses is raised as RuntimeError naming its file.
    """

    def __init__(self, use_case: UseCase, lake: Lake) -> None:
        self._use_case = use_case
        self._lake = lake
        self._clock = WriteClock(lake.stream / _CLOCK)
        self.serve(ViewRegistry(lake).live() or use_case.groups)

    def serve(self, groups: Sequence[FeatureGroup]) -> None:
        """Have a view in the store for each of these definitions; other views stay."""
        with self._named():
            self._store = apply(self._use_case, self._lake, groups)

    def drop(self, group: FeatureGroup) -> None:
        """Delete the view of a definition and every state in it."""
        with self._named():
            view = self._store.get_feature_view(view_name(group))
            self._store.apply([], objects_to_delete=[view], partial=False)

    def read(self, group: FeatureGroup, keys: Iterable[str]) -> dict[str, State]:
        """The states of those keys that have one; ValueError for one that cannot be decoded."""
        return {key: decode(group, state) for key, state in self.packed(group, keys).items()}

    def packed(self, group: FeatureGroup, keys: Iterable[str]) -> dict[str, bytes]:
        """The packed states of those keys that have one."""
        wanted = list(keys)
        if not wanted:
            return {}
        with self._named():
            answer = self._store.get_online_features(
                features=[f"{view_name(group)}:{state_name(group)}"],
                entity_rows=[{group.entity: key} for key in wanted],
            ).to_dict()
        found = zip(answer[group.entity], answer[state_name(group)], strict=True)
        return {key: packed for key, packed in found if packed is not None}

    def write(self, group: FeatureGroup, states: Mapping[str, State]) -> None:
        """Write the states, all at one write time that is later than any before."""
        if not states:
            return
        packed = [encode(group, state) for state in states.values()]
        moment = self._clock.tick()
        frame = pd.DataFrame({group.entity: list(states), state_name(group): packed, _TIME: moment})
        with self._named():
            self._store.write_to_online_store(view_name(group), frame)

    def remove(self, group: FeatureGroup, keys: Sequence[str]) -> None:
        """Remove the rows of those keys, all or none; Feast itself removes whole views only."""
        config, view = self._store.config, self._store.get_feature_view(view_name(group))
        packed = [
            serialize_entity_key(
                EntityKey(join_keys=[group.entity], entity_values=[Value(string_val=key)]),
                config.entity_key_serialization_version,
            )
            for key in keys
        ]
        table = compute_table_id(config.project, view)
        with self._named(), closing(sqlite3.connect(self._lake.online / _STORE)) as store, store:
            rows = [(key,) for key in packed]
            store.executemany(f'DELETE FROM "{table}" WHERE entity_key = ?', rows)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise RuntimeError(
                f"{self._lake.online / _STORE}: {error}: end what holds the file, see that its "
                "disk has room, and run this again"
            ) from error


class WriteClock:
    """max(wall, last + 1 µs), kept beside the checkpoint: a store may drop older writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = json.loads(path.read_text())["last"] if path.exists() else 0

    def tick(self) -> datetime:
        """The next write time, strictly later than the last, also after a restart."""
        self._last = max(time.time_ns() // 1000, self._last + 1)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _write(self._path, json.dumps({"last": self._last}))
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._last)


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text)
    os.replace(part, path)
