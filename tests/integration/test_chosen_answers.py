"""What a use case chooses about its answers, as the server does it and the log keeps it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import write_deltalake
from scipy.stats import binomtest

from dagster_project.deployment import Deployment
from dagster_project.stages.exploration import value_exploration
from data_contracts.exploration import Exploration, drawn, gumbel_noise, seed_of, utilities
from data_contracts.predictions import read_log
from data_contracts.results import read_result
from data_contracts.use_case import load_use_case
from serving.app import build_app
from serving.predict_body import PredictResponse
from spark_jobs.outcomes import prediction_rows
from tests.integration.asgi import Client
from tests.integration.test_serving import last_record
from tests.integration.world import World, as_role, asked, build, patient

ALPHA = 1e-3
"""That any of a record's propensities is called wrong by chance."""
DRAWS = 100_000
ITEMS = [f"i{i}" for i in range(6)]
DECLARED = """
from dataclasses import replace
from data_contracts.clicks.use_case import USE_CASE as CLICKS
from data_contracts.exploration import Exploration
from data_contracts.rules import Rules
USE_CASE = replace(
    CLICKS, log=None, off_policy=None, exploration=Exploration(3, 0.5), rules=Rules({rules})
)
"""
NAMED = "('in_stock', 'colourful', 'not_old'), ('pinned',), reads=('policy',)"
RULES = """
def in_stock(row, q):
    return row["item_id"] != "i2"

def colourful(row, q):
    return row["colour"] != "grey"

def not_old(row, q):
    return row["policy"] != "old"

def pinned(rows, scores, q):
    return [1000.0 * (row["item_id"] == "i4") for row in rows]
"""


@dataclass(frozen=True)
class Shop:
    """A world whose use case chooses, and where it is declared."""

    world: World
    folder: str

    def app(self) -> Any:
        return build_app(patient(self.world.root, clock="replay", use_case=self.folder))

    def records(self) -> list[dict[str, Any]]:
        logs = sorted(self.world.lake.prediction_log.iterdir())
        return [record for log in logs for record in read_log(log).records]

    def with_rules(self) -> "Shop":
        """The same world, and a use case with rules, of which one raises."""
        folder = Path(self.folder).parent / "ruled" / "clicks"
        shutil.copytree(self.folder, folder)
        (folder / "use_case.py").write_text(DECLARED.format(rules=NAMED))
        (folder / "rules.py").write_text(RULES)
        return Shop(self.world, str(folder))

    def ask(self, client: Client, name: str, items: list[str], **changes: Any) -> dict[str, Any]:
        """The answer to a request about these items, each in the page's place."""
        rows = [{"item_id": item, "position": 1 + i % 3} for i, item in enumerate(items)]
        body = asked(request_id=name, candidates=rows) | changes
        answer = client.post("/clicks/v1/predict", json=body, headers=as_role(self.world.operate))
        assert 200 == answer.status_code, answer.text
        PredictResponse.model_validate(answer.json())
        return answer.json()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    world = build(tmp_path_factory.mktemp("lake"))
    folder = tmp_path_factory.mktemp("declared") / "clicks"
    folder.mkdir()
    shutil.copy(world.use_case.folder / "events.odcs.yaml", folder)
    (folder / "use_case.py").write_text(DECLARED.format(rules=""))
    return Shop(world, str(folder))


@pytest.fixture(scope="module")
def client(shop: Shop) -> Iterator[Client]:
    with Client(shop.app()) as client:
        yield client


def ranks(answer: dict[str, Any]) -> list[int]:
    return [row["rank"] for row in answer["predictions"]]


def test_the_answer_says_the_order_and_says_it_again(shop: Shop, client: Client) -> None:
    answers = [shop.ask(client, f"r{i}", ITEMS) for i in range(20)]
    assert {tuple(range(1, 7))} == {tuple(sorted(ranks(answer))) for answer in answers}
    assert len({tuple(ranks(answer)) for answer in answers}) > 1
    again = [shop.ask(client, f"r{i}", ITEMS) for i in range(20)]
    assert [ranks(answer) for answer in answers] == [ranks(answer) for answer in again]
    assert [ranks(a) for a in answers] == [r["choice"]["ranks"] for r in shop.records()[:20]]


def test_every_logged_propensity_follows_from_its_record_and_holds_in_100_000_draws(
    shop: Shop, client: Client
) -> None:
    for i in range(4):
        shop.ask(client, f"many{i}", ITEMS)
    noise = np.array([gumbel_noise(seed_of("clicks", f"draw{i}"), ITEMS) for i in range(DRAWS)])
    for record in shop.records()[-4:]:
        choice, items = record["choice"], [row["item_id"] for row in record["inputs"]]
        slots, temperature = len(choice["slot_propensities"]), choice["temperature"]
        assert (3, ITEMS) == (slots, items)
        slate = sorted(range(6), key=lambda row: choice["ranks"][row])
        odds = [score / (1 - score) for score in record["scores"]]
        left, chances = list(range(6)), []
        for row in slate[:slots]:
            chances.append(odds[row] ** 2 / sum(odds[i] ** 2 for i in left))
            left.remove(row)
        assert temperature == 0.5, "so a weight is the square of the odds"
        assert chances == pytest.approx(choice["slot_propensities"], rel=1e-9)
        assert np.prod(chances) == pytest.approx(choice["slate_propensity"], rel=1e-9)
        keys = [f"{row['user_id']}\x1f{row['item_id']}" for row in record["inputs"]]
        utility = utilities(record["scores"], np.array(choice["boosts"]))
        said = drawn(Exploration(slots, temperature), utility, keys, choice["seed"])
        assert slate == said.order
        orders = np.argsort(-(utility / temperature + noise), axis=1)
        checks = [*choice["slot_propensities"], choice["slate_propensity"]]
        for slot, chance in enumerate(checks[:-1]):
            above = orders[(orders[:, :slot] == slate[:slot]).all(axis=1)]
            hits = int((above[:, slot] == slate[slot]).sum())
            assert binomtest(hits, len(above), chance).pvalue > ALPHA / len(checks)
        hits = int((orders[:, :slots] == slate[:slots]).all(axis=1).sum())
        assert binomtest(hits, DRAWS, checks[-1]).pvalue > ALPHA / len(checks)


def test_what_was_drawn_is_in_the_lake_and_values_other_orders(
    shop: Shop, client: Client, tmp_path: Path
) -> None:
    drawn_answers = [shop.ask(client, f"loaded{i}", ITEMS) for i in range(20)]
    use_case = load_use_case(shop.folder)
    rows = prediction_rows(use_case, shop.records()[-20:])
    first = [row for row in rows.to_pylist() if row["request_id"] == "loaded0"]
    assert ranks(drawn_answers[0]) == [row["rank"] for row in first]
    assert [row["rank"] <= 3 for row in first] == [
        row["slot_propensity"] is not None for row in first
    ]
    deployment = Deployment(root=tmp_path, reference=shop.folder)
    write_deltalake(deployment.lake.predictions, rows)
    shown = rows.filter(np.array(rows["rank"]) <= 3).select(["prediction_id", "q"])
    shown = shown.rename_columns(["prediction_id", "label_q"])
    write_deltalake(
        deployment.lake.outcomes,
        shown.append_column("label", [[i % 2 for i in range(len(shown))]]),
    )
    found = value_exploration(deployment)
    assert {"drawn", "by score"} == set(found)
    assert (20, "cannot judge") == (found["drawn"]["ips"]["n"], found["drawn"]["verdict"])
    written = read_result(deployment.lake, "exploration")
    assert (found, "user_id") == (written["values"], written["intervals_over"])


@pytest.fixture(scope="module")
def ruled(shop: Shop) -> Shop:
    return shop.with_rules()


@pytest.fixture(scope="module")
def ruled_client(ruled: Shop) -> Iterator[Client]:
    with Client(ruled.app()) as client:
        yield client


def test_what_a_rule_drops_is_named_and_not_scored_and_the_rest_is_what_it_was(
    shop: Shop, client: Client, ruled: Shop, ruled_client: Client
) -> None:
    plain = shop.ask(client, "same", ITEMS)["predictions"]
    answer = ruled.ask(ruled_client, "same", ITEMS)
    found, record = answer["predictions"], last_record(ruled_client)
    assert [row["prediction_id"] for row in plain] == [row["prediction_id"] for row in found]
    assert ("in_stock", None) == (found[2]["dropped_by"], found[2]["score"])
    assert "rank" not in found[2]
    others = [i for i in range(6) if i != 2]
    assert [plain[i]["score"] for i in others] == pytest.approx([found[i]["score"] for i in others])
    (dropped,) = record["choice"]["dropped"]
    assert (found[2]["prediction_id"], 2, "in_stock", "i2") == (
        dropped["prediction_id"], dropped["candidate"], dropped["rule"],
        dropped["inputs"]["item_id"],
    )  # fmt: skip
    assert [found[i]["prediction_id"] for i in others] == record["prediction_ids"]
    assert 5 == len(prediction_rows(load_use_case(ruled.folder), [record]))


def test_a_rule_that_raises_is_skipped_and_counted(ruled: Shop, ruled_client: Client) -> None:
    before = ruled_client.get("/readyz").json()["use_cases"]["clicks"]["rule_failures"]
    answer = ruled.ask(ruled_client, "raises", ITEMS)
    assert ["colourful"] == answer["rules_failed"]
    assert {"colourful": "KeyError: 'colour'"} == last_record(ruled_client)["choice"][
        "rules_failed"
    ]
    after = ruled_client.get("/readyz").json()["use_cases"]["clicks"]["rule_failures"]
    assert before + 1 == after


def test_a_boost_moves_the_order_and_the_propensities_know_it(
    ruled: Shop, ruled_client: Client
) -> None:
    for i in range(5):
        answer = ruled.ask(ruled_client, f"boost{i}", ITEMS)
        assert 1 == answer["predictions"][4]["rank"]
        choice = last_record(ruled_client)["choice"]
        assert 1.0 == choice["slot_propensities"][0]
        assert 0 < choice["slot_propensities"][1] < 1
        assert [0.0, 0.0, 0.0, 1000.0, 0.0] == choice["boosts"]


def test_when_rules_drop_all_the_answer_says_so_without_a_model(
    ruled: Shop, ruled_client: Client
) -> None:
    answer = ruled.ask(ruled_client, "none", ITEMS, policy="old")
    assert {"not_old", "in_stock"} == {row["dropped_by"] for row in answer["predictions"]}
    record = last_record(ruled_client)
    assert (6, [], None) == (
        len(record["choice"]["dropped"]), record["prediction_ids"], record["arm"]
    )  # fmt: skip
    assert 0 == len(prediction_rows(load_use_case(ruled.folder), [record]))


def test_the_inference_protocol_tells_the_order_and_has_no_score_for_what_was_dropped(
    ruled: Shop, ruled_client: Client
) -> None:
    body = {
        "id": "tensors",
        "inputs": [
            {"name": "user_id", "datatype": "BYTES", "shape": [3], "data": ["u1"] * 3},
            {"name": "item_id", "datatype": "BYTES", "shape": [3], "data": ITEMS[2:5]},
        ],
        "outputs": [{"name": "score"}, {"name": "rank"}],
    }
    headers = as_role(ruled.world.operate)
    answer = ruled_client.post("/clicks/v2/models/clicks/infer", json=body, headers=headers)
    score, rank = answer.json()["outputs"]
    assert (None, 0, "INT64") == (score["data"][0], rank["data"][0], rank["datatype"])
    assert [2, 1] == rank["data"][1:]
    body["outputs"][0]["parameters"] = {"binary_data": True}
    binary = ruled_client.post("/clicks/v2/models/clicks/infer", json=body, headers=headers)
    assert np.isnan(np.frombuffer(binary.content[-24:], "<f8")).tolist() == [True, False, False]
