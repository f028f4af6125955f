"""Any Feast client, in a process of its own, reads the finalised features that our server reads."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
from feast import FeatureStore

from data_contracts.clock import HOUR, MINUTE
from data_contracts.finalised import definitions_of, finalised
from data_contracts.lake import Lake
from data_contracts.online import state_name, view_name
from data_contracts.use_case import load_use_case
from data_contracts.views import View, digests_of, missing
from data_contracts.windows import Sliding
from serving.features import FeatureReader
from spark_jobs.feature_store import OnlineStates, apply
from tests.integration.world import NOW, write_states
from tests.redis_server import RedisServer

REPOSITORY = Path(__file__).parents[2]
CLIENT = """\
import json, sys

sys.modules["torch"] = None  # seconds to import, and a client needs none
from feast import FeatureStore

asked = json.loads(sys.argv[1])
for folder in asked["folders"]:
    store = FeatureStore(repo_path=folder)
    views = store.list_on_demand_feature_views()
    names = [f"{view.name}:{feature.name}" for view in views for feature in view.features]
    for rows in asked["requests"]:
        print(json.dumps(store.get_online_features(names, entity_rows=rows).to_dict()))
"""
ROWS = [("u1", "i1"), ("u1", "nothing"), ("nobody", "i1"), ("nobody", "nothing"), ("u1", "i1")]


def test_a_feast_client_reads_by_name_what_the_server_reads(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    use_case = load_use_case(str(_copied(tmp_path)))
    lakes = [
        Lake(tmp_path / "sqlite", use_case.name),
        Lake(tmp_path / "redis", use_case.name, redis=redis_server.address),
    ]
    moments = [NOW - HOUR, NOW, NOW + 1, NOW + 30 * MINUTE, NOW + 25 * HOUR]
    requests = [[{"user_id": u, "item_id": i, "q": q} for u, i in ROWS] for q in moments]
    for lake in lakes:
        write_states(use_case, lake)
    asked = json.dumps({"folders": [str(lake.online) for lake in lakes], "requests": requests})
    told = subprocess.run(
        [sys.executable, "-c", CLIENT, asked],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert 0 == told.returncode, told.stderr
    answers = iter(told.stdout.splitlines())
    for lake in lakes:
        reader = FeatureReader(use_case, lake, digests_of(use_case.groups))
        for q in moments:
            served = reader.read_now([{"user_id": u, "item_id": i} for u, i in ROWS], q)
            answer = json.loads(next(answers))
            columns = {"user_id", "item_id", *use_case.feature_names}
            assert columns == set(answer), "neither q nor packed states are in the answer"
            found = [[answer[name][i] for name in use_case.feature_names] for i in range(len(ROWS))]
            assert served.values.tolist() == found
        assert 0 == reader.failures


def test_every_row_is_finalised_at_its_own_q(tmp_path: Path) -> None:
    use_case = load_use_case("clicks")
    lake = Lake(tmp_path / "root", use_case.name)
    write_states(use_case, lake)
    group = use_case.groups[0]
    state = OnlineStates(use_case, lake).packed(group, ["u1"])["u1"]
    moments = [NOW + 25 * HOUR, NOW, NOW + 25 * HOUR, NOW + 1]
    inputs = {state_name(group): [state, state, None, b""], "q": moments}
    found = finalised(definitions_of(group, [group]), inputs)
    assert [0.0, 5.0, 0.0, 0.0] == found["user_impressions_24h"]


def test_a_group_spread_over_two_views_is_put_together() -> None:
    group = load_use_case("clicks").groups[0]
    held = group.only([name for name in group.feature_names if "ctr" in name])
    rest = missing(group, [held])
    assert rest is not None
    inputs = {state_name(held): [None], state_name(rest): [None], "q": [NOW]}
    found = finalised(definitions_of(group, [held, rest]), inputs)
    defaults = dict(zip(group.feature_names, group.default_values().tolist(), strict=True))
    assert {name: [value] for name, value in defaults.items()} == found


def test_a_changed_group_takes_over_the_view_that_clients_name(tmp_path: Path) -> None:
    use_case = load_use_case("clicks")
    lake = Lake(tmp_path / "root", use_case.name)
    group = replace(use_case.groups[0], windows=(Sliding("3h"),))
    changed = replace(use_case.declared, groups=(group, *use_case.groups[1:]))
    for groups in (use_case, replace(use_case, declared=changed)):
        store = apply(groups, lake, [View(each, "ready") for each in groups.groups])
    view = FeatureStore(repo_path=str(lake.online)).get_on_demand_feature_view("user")
    assert [*group.feature_names] == [feature.name for feature in view.features]
    assert [view_name(group)] == [*view.source_feature_view_projections]
    assert '"3h"' in view.feature_transformation.udf_string
    assert store.project == FeatureStore(repo_path=str(lake.online)).project


@pytest.mark.parametrize("q", [1.5, "2019-11-30", None, True])
def test_a_query_time_that_is_no_integer_is_refused(q: object) -> None:
    group = load_use_case("clicks").groups[0]
    inputs = {state_name(group): [None, None], "q": [NOW, q]}
    with pytest.raises(ValueError, match="is no query time: give whole microseconds"):
        finalised(definitions_of(group, [group]), inputs)


def _copied(folder: Path) -> Path:
    """The use case `clicks` as a user's own: in a folder of its own."""
    return copytree(load_use_case("clicks").folder, folder / "clicks")
