"""The Feast repository of a use case: its objects, generated from what is declared."""

import secrets
import warnings
from collections.abc import Sequence
from datetime import timedelta

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
from feast.transformation.python_transformation import PythonTransformation
from feast.transformation.udf_rehydrate import rehydrate_udf_from_source
from feast.types import Bytes, Float64, Int64

from data_contracts.features import FeatureGroup
from data_contracts.finalised import definitions_of
from data_contracts.lake import Lake
from data_contracts.online import QUERY_TIME, state_name, view_name
from data_contracts.use_case import UseCase
from data_contracts.views import Reading, View, digests_of, missing, reading
from spark_jobs.online_store import (
    check_place,
    feast_config,
    feast_project,
    read_beside_writes,
    write_config,
)

WRITER, SEQ = "headrace_writer", "headrace_seq"
"""The view, its entity, its one key and its feature: the mark of how far the store was written."""
_TIME = "event_timestamp"
# Feast runs this text in the client's process, which needs this package and no use case.
_SOURCE = """\
def finalised_features(inputs):
    from data_contracts.finalised import finalised

    return finalised({definitions!r}, inputs)
"""
_VALUE_TYPES = {"string": ValueType.STRING, "integer": ValueType.INT64}


def apply(use_case: UseCase, lake: Lake, views: Sequence[View]) -> FeatureStore:
    """Create or update the Feast repository of a use case and return its store.

    One entity per key field (the view of a pair has two); per view of a definition one with a BYTES
    state, and per declared group that can be read whole one of finalised features. RuntimeError as
    `check_place` raises it: whoever reads this repository would read another store from here on.
    """
    check_place(lake)
    lake.online.mkdir(parents=True, exist_ok=True)
    config = {
        "project": _project(use_case, lake),
        "provider": "local",
        "registry": {"path": str((lake.online / "registry.db").resolve()), "cache_mode": "thread"},
        "online_store": feast_config(lake),
        "offline_store": {"type": "file"},
        "entity_key_serialization_version": 3,
    }
    write_config(lake, config)
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
    entity = Entity(name=WRITER, join_keys=[WRITER], value_type=ValueType.STRING)
    source = FileSource(
        name=f"{WRITER}_rows", path=str(lake.stream.resolve()), timestamp_field=_TIME
    )
    view = FeatureView(
        name=WRITER,
        entities=[entity],
        ttl=timedelta(0),
        schema=[Field(name=SEQ, dtype=Int64)],
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
