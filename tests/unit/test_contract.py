from pathlib import Path
from typing import Any

import pytest
import yaml

from data_contracts.clock import DAY
from data_contracts.contract import read_contract
from data_contracts.use_case import CONTRACT, load_use_case

CLICKS = load_use_case("clicks").folder / CONTRACT


def field(document: Any, name: str) -> Any:
    return next(p for p in document["schema"][0]["properties"] if p["name"] == name)


def drop(document: Any, name: str) -> None:
    properties = document["schema"][0]["properties"]
    properties.remove(field(document, name))


BREACHES: dict[str, tuple[Any, str]] = {
    "another kind": (lambda d: d.update(kind="DataProduct"), "kind DataContract"),
    "version 2 of the standard": (lambda d: d.update(apiVersion="v2.2.0"), "apiVersion v3"),
    "no schema": (lambda d: d.pop("schema"), "exactly one schema object"),
    "two schemas": (lambda d: d["schema"].append(d["schema"][0]), "exactly one schema object"),
    "no event_id": (lambda d: drop(d, "event_id"), "required field event_id"),
    "an optional event_time": (
        lambda d: field(d, "event_time").update(required=False),
        "required field event_time",
    ),
    "event_time as a string": (
        lambda d: field(d, "event_time").update(logicalType="string"),
        "event_time of logicalType timestamp",
    ),
    "no arrived_at": (lambda d: drop(d, "arrived_at"), "field arrived_at"),
    "no event types": (lambda d: field(d, "event_type").pop("enum"), "must declare its enum"),
    "an unknown type": (
        lambda d: field(d, "policy").update(logicalType="varchar"),
        "policy: logicalType 'varchar'",
    ),
    "an unknown rule": (
        lambda d: field(d, "affinity").update(logicalTypeOptions={"multipleOf": 2}),
        "affinity: logicalTypeOptions multipleOf",
    ),
    "a rule of another type": (
        lambda d: field(d, "user_id").update(logicalTypeOptions={"minimum": 2}),
        "user_id: logicalTypeOptions minimum is not supported for string",
    ),
    "a limit that is no number": (
        lambda d: field(d, "affinity").update(logicalTypeOptions={"minimum": "0"}),
        "affinity: minimum '0' has the wrong type",
    ),
    "a broken pattern": (
        lambda d: field(d, "policy").update(logicalTypeOptions={"pattern": "["}),
        "policy: pattern",
    ),
    "an enum of integers": (
        lambda d: field(d, "position").update(enum=[{"value": 1}]),
        "position: an enum needs logicalType string",
    ),
    "a field required for no event type": (
        lambda d: field(d, "policy").update(
            customProperties=[{"property": "requiredFor", "value": ["purchase"]}]
        ),
        "policy: requiredFor names .'purchase'.",
    ),
    "two fields that differ in case": (
        lambda d: d["schema"][0]["properties"].append({**field(d, "policy"), "name": "Policy"}),
        "two properties share a name: tables do not tell case apart",
    ),
    "a field with a dot": (
        lambda d: d["schema"][0]["properties"].append({**field(d, "policy"), "name": "user.tier"}),
        r".'user.tier'.: a name is letters, digits and _: rename the field",
    ),
    "a field named like ours": (
        lambda d: d["schema"][0]["properties"].append({**field(d, "policy"), "name": "_known_at"}),
        "._known_at.*: a name is letters",
    ),
    "a field twice": (
        lambda d: d["schema"][0]["properties"].append(field(d, "policy")),
        "two properties share a name",
    ),
    "no future skew": (lambda d: d.pop("customProperties"), "maxFutureSkewSeconds"),
    "a negative future skew": (
        lambda d: d["customProperties"][0].update(value=-1),
        "maxFutureSkewSeconds",
    ),
    "a future skew that is no number": (
        lambda d: d["customProperties"][0].update(value=float("nan")),
        "maxFutureSkewSeconds",
    ),
    "a retention that is no duration": (
        lambda d: d["customProperties"].append({"property": "retention", "value": "1 year"}),
        "customProperties retention: not a duration like .*'1 year'",
    ),
    "an unknown top-level word": (lambda d: d.update(colour="red"), "not an Open Data Contract"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_contract_that_breaks_a_rule_is_refused_by_file_and_rule(
    tmp_path: Path, name: str
) -> None:
    breach, reason = BREACHES[name]
    document = yaml.safe_load(CLICKS.read_text())
    breach(document)
    path = tmp_path / CONTRACT
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ValueError, match=reason) as refused:
        read_contract(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"- 1", b"kind: [", b"\xff\xfe", b"text"])
def test_a_file_that_is_no_contract_at_all_is_refused_by_name(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / CONTRACT
    path.write_bytes(content)
    with pytest.raises(ValueError, match=CONTRACT):
        read_contract(path)


def test_the_contract_of_clicks_says_what_its_file_says() -> None:
    contract = read_contract(CLICKS)
    position = contract.fields["position"]
    assert ("clicks", "1.0.0", 60_000_000) == (
        contract.name,
        contract.version,
        contract.max_future_skew,
    )
    assert ("impression", "click") == contract.event_types
    assert contract.retention is None
    assert ("integer", False, ("impression",), 1, 100) == (
        position.type,
        position.required,
        position.required_for,
        position.minimum,
        position.maximum,
    )


def test_a_retention_is_a_duration(tmp_path: Path) -> None:
    document = yaml.safe_load(CLICKS.read_text())
    document["customProperties"].append({"property": "retention", "value": "400d"})
    path = tmp_path / CONTRACT
    path.write_text(yaml.safe_dump(document))
    assert 400 * DAY == read_contract(path).retention


@pytest.mark.parametrize("name", ["seq", "q", "label", "verdict"])
def test_a_field_named_like_a_column_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / CONTRACT
    path.write_text(CLICKS.read_text().replace("name: affinity", f"name: {name}"))
    with pytest.raises(ValueError, match=f"{name}: names of columns of ours"):
        read_contract(path)


def test_the_digest_is_of_what_is_taken_not_of_words_or_order(tmp_path: Path) -> None:
    same, wider = (yaml.safe_load(CLICKS.read_text()) for _ in range(2))
    field(same, "affinity")["description"] = "told in other words"
    same["version"] = "9.9.9"
    same["schema"][0]["properties"].reverse()
    field(wider, "position")["logicalTypeOptions"]["maximum"] = 99
    digests: list[str] = []
    for number, document in enumerate((same, wider)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(document))
        digests.append(read_contract(path).digest)
    now = read_contract(CLICKS).digest
    assert [True, False] == [now == each for each in digests]
