"""The Feast side of the writer: objects generated from the use case, packed state by key."""

import secrets
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from feast import (
    Entity,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
    ValueType,
)
from feast.infra.key_encoding_utils import (
    deserialize_entity_key,
    serialize_entity_key,
    serialize_entity_key_prefix,
)
from feast.infra.online_stores.helpers import _mmh3, _redis_key, compute_table_id
from feast.infra.provider import Provider, get_provider
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.transformation.python_transformation import PythonTransformation
from feast.transformation.udf_rehydrate import rehydrate_udf_from_source
from feast.types import Bytes, Float64, Int64

from data_contracts.features import FeatureGroup
from data_contracts.finalised import definitions_of
from data_contracts.keys import key_of, parts_of
from data_contracts.lake import Lake
from data_contracts.online import QUERY_TIME, state_name, view_name
from data_contracts.states import State, decode_all, encode
from data_contracts.use_case import UseCase
from data_contracts.views import Reading, View, ViewRegistry, digests_of, missing, reading
from spark_jobs.lake_lease import check_rows
from spark_jobs.online_store import (
    check_place,
    configure,
    delete_from_file,
    delete_from_redis,
    feast_project,
    named_errors,
    place,
    read_beside_writes,
    stored_keys,
)
from spark_jobs.write_clock import WriteClock

_CLOCK = "write_clock.json"
_WRITER, _SEQ = "headrace_writer", "headrace_seq"
"""The view, its entity, its one key and its feature: the mark of how far the store was written."""
_TIME = "event_timestamp"
# Feast runs this text in the client's process, which needs this package and no use case.
_SOURCE = """\
def finalised_features(inputs):
    from data_contracts.finalised import finalised

    return finalised({definitions!r}, inputs)
"""
_VALUE_TYPES = {"string": ValueType.STRING, "integer": ValueType.INT64}

READ_AT_ONCE = 10_000
"""Keys that one read asks for; a statement of SQLite takes 32,766 variables as it is built."""

JoinKeys = Mapping[str, str | int]
"""Of one row of a view, by name."""


def apply(use_case: UseCase, lake: Lake, views: Sequence[View]) -> FeatureStore:
    """Create or update the Feast repository of a use case and return its store.

    One entity per key field (the view of a pair has two); per view of a definition one with a BYTES
    state, and per declared group that can be read whole one of finalised features. RuntimeError as
    `check_place` raises it: whoever reads this repository would read another store from here on.
    """
    check_place(lake)
    configure(lake, _project(use_case, lake))
    store = FeatureStore(repo_path=str(lake.online))
    entities = {
        name: Entity(name=name, join_keys=[name], value_type=kind)
        for name in dict.fromkeys(name for view in views for name in view.group.key_fields)
        for kind in (_VALUE_TYPES[use_case.contract.fields[name].type],)
    }
    states = {
        view.name: _view(view.group, [entities[name] for name in view.group.key_fields], lake)
        for view in views
    }
    finalised: list[OnDemandFeatureView] = []
    for group in use_case.groups:
        if missing(group, [view.group for view in views if view.status == "ready"]) is None:
            read = reading(digests_of([group]), views)
            finalised.append(
                _finalised_view(group, read, [states[view_name(g)] for g in read.groups])
            )
    with warnings.catch_warnings():
        # Said at every start of a writer; what it warns of is offline retrieval.
        warnings.filterwarnings("ignore", "On demand feature view", RuntimeWarning)
        store.apply([*entities.values(), *states.values(), *finalised, *_writer_view(lake)])
    read_beside_writes(lake)
    return store


def _project(use_case: UseCase, lake: Lake) -> str:
    """The name under which this lake's rows lie: no other lake's, in a store that several share."""
    return feast_project(lake) or f"{use_case.name}_{secrets.token_hex(4)}"


def _writer_view(lake: Lake) -> tuple[Entity, FeatureView]:
    entity = Entity(name=_WRITER, join_keys=[_WRITER], value_type=ValueType.STRING)
    source = FileSource(
        name=f"{_WRITER}_rows", path=str(lake.stream.resolve()), timestamp_field=_TIME
    )
    view = FeatureView(
        name=_WRITER,
        entities=[entity],
        ttl=timedelta(0),
        schema=[Field(name=_SEQ, dtype=Int64)],
        source=source,
        description="The last micro-batch that this store holds",
    )
    return entity, view


def _view(group: FeatureGroup, entities: list[Entity], lake: Lake) -> FeatureView:
    source = FileSource(
        name=f"{view_name(group)}_tiles",
        path=str(lake.tiles.resolve()),
        timestamp_field=_TIME,
    )
    return FeatureView(
        name=view_name(group),
        entities=entities,
        ttl=timedelta(0),
        schema=[Field(name=state_name(group), dtype=Bytes)],
        source=source,
        description=group.description,
        owner=group.owner,
        tags={"digest": group.digest},
    )


class _FinalisedView(OnDemandFeatureView):
    """An on-demand view whose schema is declared: from made-up bytes Feast could infer none."""

    def infer_features(self) -> None:
        """Nothing is left to infer."""


def _finalised_view(
    group: FeatureGroup, read: Reading, states: Sequence[FeatureView]
) -> OnDemandFeatureView:
    """The view called as the group, over the views of packed states that it is `read` from and *q*
    of the request."""
    text = _SOURCE.format(definitions=definitions_of(group, read.groups))
    function = rehydrate_udf_from_source(text)
    assert function is not None
    asked = RequestSource(
        name=f"{group.name}_request", schema=[Field(name=QUERY_TIME, dtype=Int64)]
    )
    return _FinalisedView(
        name=group.name,
        sources=[*states, asked],
        schema=[Field(name=name, dtype=Float64) for name in group.feature_names],
        feature_transformation=PythonTransformation(udf=function, udf_string=text),
        mode="python",
        description=group.description,
        owner=group.owner,
        tags={"digest": group.digest},
    )


class OnlineStates:
    """Packed states by key in Feast's online store; the only writer of it.

    What the store refuses is raised as RuntimeError naming its file or address.
    """

    def __init__(self, use_case: UseCase, lake: Lake) -> None:
        self._use_case = use_case
        self._lake = lake
        self._reached = 0
        self._clock = WriteClock(lake.stream / _CLOCK)
        views = [view for view in ViewRegistry(lake).views().values() if view.live]
        self.serve(views or [View(group, "ready") for group in use_case.groups])

    def serve(self, views: Sequence[View]) -> None:
        """Have these views in the store, and the finalised features of those that are ready."""
        with named_errors(self._lake):
            self._store = apply(self._use_case, self._lake, views)
            self._provider: Provider = get_provider(self._store.config)
            self._views = {view.name: view for view in self._store.list_feature_views()}

    def drop(self, group: FeatureGroup) -> None:
        """Delete a definition's view, every state in it, and the finalised features over it, as far
        as they are there."""
        check_rows(self._lake)
        name = view_name(group)
        with named_errors(self._lake):
            over = [
                view
                for view in self._store.list_on_demand_feature_views()
                if name in view.source_feature_view_projections
            ]
            own = [view for view in self._store.list_feature_views() if view.name == name]
            self._store.apply([], objects_to_delete=[*over, *own], partial=False)

    def require(self, seq: int) -> int:
        """The last micro-batch that the store itself says it holds.

        RuntimeError where that is below `seq`, or below what this writer has written to it.
        """
        self._reached = max(self._reached, seq)
        [mark] = self._get(_WRITER, _SEQ, [{_WRITER: _WRITER}])
        held = mark.int64_val if mark else 0
        if held < self._reached:
            raise RuntimeError(
                f"{place(self._lake)}: holds micro-batches up to {held}, but {self._reached} were "
                "written: it was emptied, set back or is another store: run `headrace materialize`"
            )
        return held

    def check_planned(self, seq: int) -> None:
        """RuntimeError where the store holds a later micro-batch than `seq`, the last that the lake
        planned: its next ones would be taken for merged."""
        if (held := self.require(0)) > seq:
            raise RuntimeError(
                f"{place(self._lake)}: holds micro-batches up to {held}, but this root has planned "
                f"no more than {seq}: the root was set back, or the store is of another one: run "
                "`headrace materialize`, which empties it first"
            )

    def empty(self, views: Sequence[View]) -> None:
        """Remove every state of these views, which stay, and the mark of what was written."""
        for view in views:
            self.drop(view.group)
        with named_errors(self._lake):
            self._remove(self._views[_WRITER], _SEQ, [{_WRITER: _WRITER}])
        self._reached = 0
        self.serve(views)

    def reach(self, seq: int) -> None:
        """Say in the store itself that it holds micro-batch `seq`, unless it lost earlier ones."""
        reached = max(self.require(0), seq)
        self._put(_WRITER, _SEQ, [{_WRITER: _WRITER}], [Value(int64_val=reached)])
        self._reached = reached

    def read(self, group: FeatureGroup, keys: Iterable[str]) -> dict[str, State]:
        """The states of those keys that have one; ValueError for one that cannot be decoded."""
        return decode_all(group, self.packed(group, keys))

    def packed(self, group: FeatureGroup, keys: Iterable[str]) -> dict[str, bytes]:
        """The packed states of those keys that have one."""
        wanted = list(keys)
        if not wanted:
            return {}
        rows = [self._join_keys(group, key) for key in wanted]
        found = zip(wanted, self._get(view_name(group), state_name(group), rows), strict=True)
        return {key: value.bytes_val for key, value in found if value is not None}

    def write(self, group: FeatureGroup, states: Mapping[str, State]) -> None:
        """Write the states, all at one write time that is later than any before."""
        if not states:
            return
        packed = [Value(bytes_val=encode(group, state)) for state in states.values()]
        rows = [self._join_keys(group, key) for key in states]
        self._put(view_name(group), state_name(group), rows, packed)

    def keys(self, group: FeatureGroup) -> Iterator[str]:
        """The keys that have a state, as `stored_keys` finds them."""
        project, view = self._store.config.project, self._views[view_name(group)]
        prefix = serialize_entity_key_prefix([*group.key_fields])
        table, end = compute_table_id(project, view), project.encode()
        with named_errors(self._lake):
            for key in stored_keys(self._lake, table, view.name, prefix, end):
                yield _key_text(group, deserialize_entity_key(key))

    def remove(self, group: FeatureGroup, keys: Sequence[str]) -> None:
        """Remove the rows of those keys, all or none; Feast itself removes whole views only."""
        view = self._views[view_name(group)]
        rows = [self._join_keys(group, key) for key in keys]
        with named_errors(self._lake):
            self._remove(view, state_name(group), rows)

    def _remove(self, view: FeatureView, feature: str, rows: Sequence[JoinKeys]) -> None:
        check_rows(self._lake)
        project = self._store.config.project
        version = self._store.config.entity_key_serialization_version
        keys = [_entity_key(row) for row in rows]
        if self._lake.redis is None:
            table = compute_table_id(project, view)
            delete_from_file(self._lake, table, [serialize_entity_key(k, version) for k in keys])
        else:
            fields = [_mmh3(f"{view.name}:{feature}"), f"_ts:{view.name}".encode()]
            delete_from_redis(
                self._lake.redis, [_redis_key(project, k, version) for k in keys], fields
            )

    def _join_keys(self, group: FeatureGroup, key: str) -> JoinKeys:
        fields = self._use_case.contract.fields
        parts = zip(group.key_fields, parts_of(key, len(group.key_fields)), strict=True)
        return {n: int(p) if fields[n].type == "integer" else p for n, p in parts}

    # What Feast's own `get_online_features` and `write_to_online_store` do around these two calls
    # takes longer than the calls: a third of a micro-batch's time.

    def _get(self, view: str, feature: str, rows: Sequence[JoinKeys]) -> list[Value | None]:
        asked = [_entity_key(row) for row in rows]
        with named_errors(self._lake):
            config, table, read = self._store.config, self._views[view], self._provider.online_read
            parts = [asked[i : i + READ_AT_ONCE] for i in range(0, len(asked), READ_AT_ONCE)]
            found = [row for part in parts for row in read(config, table, part, [feature])]
        # Of what it does not hold SQLite says nothing, Redis a value that is none.
        values = [held[feature] if held else None for _, held in found]
        return [value if value and value.WhichOneof("val") else None for value in values]

    def _put(
        self, view: str, feature: str, rows: Sequence[JoinKeys], values: Sequence[Value]
    ) -> None:
        check_rows(self._lake)
        at = self._clock.tick()
        written: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]] = [
            (_entity_key(row), {feature: value}, at, None)
            for row, value in zip(rows, values, strict=True)
        ]
        with named_errors(self._lake):
            self._provider.online_write_batch(
                self._store.config, self._views[view], written, progress=None
            )


def _entity_key(row: JoinKeys) -> EntityKey:
    return EntityKey(join_keys=list(row), entity_values=[_value(part) for part in row.values()])


def _key_text(group: FeatureGroup, key: EntityKey) -> str:
    parts = [getattr(value, str(value.WhichOneof("val"))) for value in key.entity_values]
    return str(key_of(group.key_fields, dict(zip(key.join_keys, parts, strict=True))))


def _value(part: str | int) -> Value:
    return Value(int64_val=part) if isinstance(part, int) else Value(string_val=part)
