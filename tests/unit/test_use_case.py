import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_contracts.aggregates import Count, Max, Mean, Sum
from data_contracts.batch_table import BatchTable
from data_contracts.derived import Rate
from data_contracts.encoding import HOUR_OF_DAY, Categorical, Numeric
from data_contracts.exploration import Exploration
from data_contracts.policies import OffPolicy
from data_contracts.rules import Rules
from data_contracts.use_case import CONTRACT, load_use_case
from data_contracts.windows import Sliding

CLICKS = load_use_case("clicks")
USER, ITEM = CLICKS.groups
LABEL, MODEL = CLICKS.label, CLICKS.model

PRICES = BatchTable(
    "prices", "click", "at", {"item_id": "item", "user_id": "user"}, key=("item_id",)
)

DECLARATION = """
from data_contracts.use_case import load_use_case
USE_CASE = load_use_case("clicks").declared
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A use case of its own in a folder outside the package, with the contract of clicks."""
    folder = tmp_path / "my_shop"
    folder.mkdir()
    shutil.copy(CLICKS.folder / CONTRACT, folder)
    return folder


def declare(folder: Path, text: str) -> str:
    (folder / "use_case.py").write_text(text)
    return str(folder)


def user(**changes: Any) -> dict[str, Any]:
    return {"groups": (replace(USER, **changes), ITEM)}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no group": ({"groups": ()}, "needs feature groups"),
    "two groups of one name": (user(name="item"), "each with its own name"),
    "an unknown key": (user(entity="visitor"), "group user: entity 'visitor'"),
    "a key that is no text": (user(entity="affinity"), "entity 'affinity' is a number: name a"),
    "a key named like a column of predictions": (
        user(entity="rank"),
        "entities .'rank'.: names of columns of predictions: rename the fields",
    ),
    "groups that are no list": ({"groups": USER}, "'FeatureGroup' object is not iterable"),
    "a pair of the same": (user(entity=("user_id",) * 2), "name one field, or two different ones"),
    "a pair with an unknown part": (
        user(entity=("user_id", "visitor")),
        "group user: entity 'visitor' is not in clicks",
    ),
    "no aggregate": (user(aggregates={}, derived={}, defaults={}), "at least one aggregate"),
    "no window": (user(windows=()), "at least one aggregate and one window"),
    "a narrow window": (user(windows=(Sliding("90s"),)), "group user: .* at least 100 s"),
    "a window in weeks": (user(windows=(Sliding("1w"),)), "group user: not a duration .* '1w'"),
    "a window twice": (user(windows=(Sliding("1h"),) * 2), "two share a name: leave one out"),
    "a rate named like an aggregate": (
        user(derived={"clicks": Rate("clicks", "impressions", 0.1, 10.0)}),
        "derived clicks: an aggregate has this name: rename one",
    ),
    "an unknown event type": (
        user(aggregates={"n": Count(where=("purchase",))}, derived={}, defaults={}),
        "group user: aggregate n: event types .'purchase'. are not declared",
    ),
    "an unknown field": (
        user(aggregates={"n": Sum("price")}, derived={}, defaults={}),
        "group user: aggregate n: field 'price' is not in the contract",
    ),
    "a sum of strings": (
        user(aggregates={"n": Sum("policy")}, derived={}, defaults={}),
        "field 'policy' is string, not a number",
    ),
    "a float sum": (
        user(aggregates={"n": Mean("affinity")}, derived={}, defaults={}),
        "number 'affinity' needs a scale",
    ),
    "a scale of nothing": (
        user(aggregates={"n": Max("affinity", scale=0)}, derived={}, defaults={}),
        "'affinity': scale 0: give a whole number",
    ),
    "a scale that overflows": (
        user(aggregates={"n": Max("affinity", scale=10**10)}, derived={}, defaults={}),
        "'affinity': its range x scale 10000000000 reaches 2.53",
    ),
    "a rate of nothing": (
        user(derived={"r": Rate("buys", "clicks", 0.1, 1.0)}),
        "derived r: 'buys' is no aggregate of the group",
    ),
    "a rate of means": (
        user(derived={"r": Rate("clicks", "position", 0.1, 1.0)}),
        "derived r: 'position' is no count",
    ),
    "a rate without strength": (
        user(derived={"r": Rate("clicks", "impressions", 0.1, 0.0)}),
        "derived r: strength must be above 0",
    ),
    "a default of nothing": (user(defaults={"price": 1.0}), "defaults for unknown .'price'."),
    "a batch table of an unknown type": (
        {"batch_tables": (replace(PRICES, event_type="price"),)},
        "batch table prices: event type 'price' is not declared",
    ),
    "a batch table of an unknown field": (
        {"batch_tables": (replace(PRICES, fields={"price": "p"}),)},
        "batch table prices: fields .'price'. are not in clicks",
    ),
    "a batch table that names its events": (
        {"batch_tables": (replace(PRICES, fields={"event_id": "id"}),)},
        "batch table prices: fields .'event_id'. are made from its name, key and time",
    ),
    "a batch table without a key": (
        {"batch_tables": (replace(PRICES, key=("position",)),)},
        "batch table prices: key .'position',.: name some of its fields",
    ),
    "a batch table that lacks a required field": (
        {"batch_tables": (replace(PRICES, fields={"item_id": "item"}),)},
        "batch table prices: field 'user_id' is required for click: map a column",
    ),
    "a batch table twice": ({"batch_tables": (PRICES,) * 2}, "batch tables .*: two share a name"),
    "a label of an unknown type": (
        {"label": replace(LABEL, on="view")},
        "label: event types .'view'. are not declared",
    ),
    "a label complete by an unknown type": (
        {"label": replace(LABEL, complete_by=("heartbeat",))},
        "label: event types .'heartbeat'. are not declared",
    ),
    "a label complete by its own rows": (
        {"label": replace(LABEL, complete_by=("impression",))},
        "label: complete_by: 'impression' are the rows",
    ),
    "a label of unknown fields": (
        {"label": replace(LABEL, first_per=("session",))},
        "label: fields .'session'. are not in clicks",
    ),
    "a label that nothing makes positive": (
        {"label": replace(LABEL, positive=())},
        "label: `positive`",
    ),
    "a label matched by nothing": ({"label": replace(LABEL, match={})}, "label: .*`match`"),
    "a label matched across types": (
        {"label": replace(LABEL, match={"position": "impression_id"})},
        "label: 'position' and 'impression_id' differ in type",
    ),
    "a label within no time": (
        {"label": replace(LABEL, within="soon")},
        "label: within: not a duration .* 'soon'",
    ),
    "an unknown input": (
        {"model": replace(MODEL, categorical=(Categorical("colour", 8),))},
        "inputs .'colour'. are not in the contract",
    ),
    "one bucket": (
        {"model": replace(MODEL, categorical=(Categorical("user_id", 1),))},
        "input 'user_id': 1 buckets, needs 2",
    ),
    "a short day": (
        {"model": replace(MODEL, categorical=(Categorical(HOUR_OF_DAY, 24),))},
        "input 'hour_of_day': 24 buckets, needs 25",
    ),
    "a categorical input of times": (
        {"model": replace(MODEL, categorical=(Categorical("event_time", 8),))},
        "categorical input 'event_time' is a timestamp in the contract: name a string",
    ),
    "a categorical input of numbers": (
        {"model": replace(MODEL, categorical=(Categorical("affinity", 8),))},
        "categorical input 'affinity' is a number in the contract: name a string",
    ),
    "a numeric input of strings": (
        {"model": replace(MODEL, numeric=(Numeric("policy", 0.0),))},
        "numeric input 'policy' is no number",
    ),
    "an unknown request field": ({"request_field": "page"}, "request_field 'page'"),
    "a start that is no day": ({"start": "24.11.2019"}, "start '24.11.2019' is no day"),
    "a start on no day": ({"start": "2019-02-30"}, "day is out of range|day .*2019-02-30"),
    "a split without a test": (
        {"split": replace(CLICKS.declared.split, train=0.9)},
        "split: train and validation",
    ),
    "alarms that never ring": (
        {"retrain": replace(CLICKS.declared.retrain, alarms=4)},
        "retrain: 4 alarms of 3 windows",
    ),
    "a share of drift that never comes": (
        {"retrain": replace(CLICKS.declared.retrain, drift_share=50)},
        "retrain: drift_share 50 is not above 0 and up to 1",
    ),
    "a time that is no cron": (
        {"retrain": replace(CLICKS.declared.retrain, cron="daily")},
        "retrain: cron 'daily': give five fields",
    ),
    "an action that no event has": (
        {"off_policy": OffPolicy("random", "bts", "actions.csv", action=("shelf",))},
        "off_policy: action .'shelf'.: not in the contract",
    ),
    "a distribution without its columns": (
        {"off_policy": OffPolicy("random", "bts", "use_case.py")},
        "off_policy: use_case.py: no column .'item_id', 'position', 'probability'.",
    ),
    "a cooldown in weeks": (
        {"retrain": replace(CLICKS.declared.retrain, cooldown="1w")},
        "retrain: cooldown: not a duration .* '1w'",
    ),
    "a policy without its distribution": (
        {"off_policy": OffPolicy("random", "bts", "actions.csv")},
        "off_policy: actions.csv is missing",
    ),
    "a log that is closed on no day": (
        {"off_policy": OffPolicy("random", "bts", "actions.csv", closed="2019-12-01")},
        "off_policy: closed: not an RFC 3339 time .*2019-12-01",
    ),
    "more slots to explore than a log can value": (
        {"exploration": Exploration(6, 1.0)},
        "exploration: 6 slots: take 1 to 5",
    ),
    "a rule that stands twice": (
        {"rules": Rules(keep=("in_stock", "in_stock"))},
        "rules: in_stock: stands twice",
    ),
    "a rule's field that no event has": (
        {"rules": Rules(reads=("stock",))},
        "rules: reads stock: not in the contract",
    ),
    "rules without their file": ({"rules": Rules(boost=("fresh",))}, "rules.py is missing"),
    "a log that is not there": ({"log": "log.parquet"}, "log .*log.parquet is missing"),
}


WRONG_FILE = """
from dataclasses import replace
from {module} import CLICKS, WRONG
USE_CASE = replace(CLICKS.declared, **({{"log": None, "off_policy": None}} | WRONG[{name!r}][0]))
"""


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_declaration_is_refused_by_use_case_and_fault(folder: Path, name: str) -> None:
    reference = declare(folder, WRONG_FILE.format(module=__name__, name=name))
    with pytest.raises(ValueError, match=WRONG[name][1]) as refused:
        load_use_case(reference)
    assert str(refused.value).startswith("use case my_shop: ")


BROKEN = {
    "nothing": ("", "must assign a Declaration to USE_CASE"),
    "another value": ("USE_CASE = {}", "must assign a Declaration to USE_CASE"),
    "a syntax error": ("USE_CASE = (", "use_case.py cannot be loaded: SyntaxError"),
    "a missing module": ("import no_such_module", "use_case.py cannot be loaded: ModuleNotFound"),
    "a word too many": (
        "from data_contracts.windows import Sliding\nSliding('1h', hop='1m')",
        "use_case.py cannot be loaded: TypeError",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_by_name(folder: Path, name: str) -> None:
    text, reason = BROKEN[name]
    with pytest.raises(ValueError, match=reason):
        load_use_case(declare(folder, text))


def test_an_unknown_use_case_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"use case 'klicks': no folder .* one of clicks"):
        load_use_case("klicks")


def test_a_folder_without_its_declarations_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"use case my_shop: .*use_case.py is missing"):
        load_use_case(str(folder))


def test_a_folder_whose_name_cannot_name_tables_is_refused(folder: Path) -> None:
    other = folder.rename(folder.with_name("My-Shop"))
    with pytest.raises(ValueError, match="use case My-Shop: its folder's name"):
        load_use_case(declare(other, DECLARATION))


def test_a_folder_outside_the_package_is_a_use_case_like_any_other(folder: Path) -> None:
    shutil.copytree(CLICKS.folder / "sample", folder / "sample")
    mine = load_use_case(declare(folder, DECLARATION))
    assert ("my_shop", CLICKS.feature_names) == (mine.name, mine.feature_names)
    assert ("user_id", "item_id") == mine.entities
    assert ("user_id", "item_id", "position", "affinity") == mine.inputs


def test_two_folders_of_like_names_are_two_use_cases(tmp_path: Path) -> None:
    bare = "log=None, off_policy=None"
    for nested in ("a_b/shop", "a/b_shop/shop"):
        folder = tmp_path / nested
        folder.mkdir(parents=True)
        shutil.copy(CLICKS.folder / CONTRACT, folder)
        text = f"{DECLARATION}\nfrom dataclasses import replace\n"
        declare(folder, f"{text}USE_CASE = replace(USE_CASE, {bare}, owner={nested!r})")
    owners = [
        load_use_case(str(tmp_path / nested)).declared.owner
        for nested in ("a_b/shop", "a/b_shop/shop")
    ]
    assert ["a_b/shop", "a/b_shop/shop"] == owners


def test_the_clicks_log_lies_in_its_folder_and_its_rows_become_events() -> None:
    assert CLICKS.log is not None
    assert CLICKS.log.exists()
    assert callable(CLICKS.canonical)
