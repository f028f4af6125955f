"""What a tile is shown to hold is what the state holds, each entry in one tile."""

from dataclasses import replace

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_schema

from data_contracts.aggregates import Last, LastK
from data_contracts.clock import MINUTE
from data_contracts.entries import Entries
from data_contracts.features import FeatureGroup
from data_contracts.tiles import STATE
from data_contracts.use_case import load_use_case
from data_contracts.windows import Session
from spark_jobs.explain import explained, tiles_of
from spark_jobs.schemas import events_schema
from tests.engines import stream
from tests.spark.lakes import NOON, impression, typed
from tests.strategies import FULL, batches, events, groups, times


@given(st.data())
def test_every_entry_of_a_state_is_in_one_of_its_tiles(data: st.DataObject) -> None:
    group, log = data.draw(groups() | st.just(FULL)), data.draw(events())
    cut = data.draw(batches(log))
    as_ofs = sorted(data.draw(st.lists(times(), min_size=len(cut), max_size=len(cut))))
    for state in stream(group, cut, as_ofs).values():
        shown = tiles_of(group, state.rows)
        for name, agg in group.aggregates.items():
            for i, part in enumerate(agg.parts):
                if isinstance(part, Entries):
                    held = [row for tile in shown for row in tile["holds"][name][i]]
                    table = state.rows.entries[group.places[part]]
                    assert sorted(table[:, STATE:].tolist()) == sorted(held)


def test_a_session_is_explained_with_its_last_values() -> None:
    clicks = load_use_case("clicks")
    aggregates = {"last": Last("position"), "lately": LastK("position", k=2)}
    group = FeatureGroup("user", "user_id", aggregates, (Session("30m"),))
    use_case = replace(clicks, declared=replace(clicks.declared, groups=(group,)))
    log = [impression(f"e{i}", NOON + i * 10 * MINUTE, position=1 + i) for i in range(3)]
    schema = to_arrow_schema(events_schema(use_case.contract), timezone="UTC")
    table = pa.Table.from_pylist(typed(use_case, log), schema=schema)
    found = explained(group, "u1", table, NOON + 25 * MINUTE)
    (tile,) = found.windows[group.windows[0].label]["tiles"]
    held = {name: [row[0] for row in parts[0]] for name, parts in tile["holds"].items()}
    second, third = NOON + 10 * MINUTE, NOON + 20 * MINUTE
    assert {"last": [third], "lately": [second, third]} == held
