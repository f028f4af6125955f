"""Where a bundle takes other inputs than its use case declares: the first of them, by its place."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from data_contracts.bundle import Inputs, Manifest
from data_contracts.declared_inputs import Difference, Kind, differing_input, inputs_of
from data_contracts.use_case import load_use_case

CLICKS = load_use_case("clicks")
FEATURES = CLICKS.feature_names
KINDS: tuple[Kind, ...] = ("features", "categorical", "numeric")


def manifest_of(inputs: Inputs) -> Manifest:
    return Manifest(
        3, "clicks", "dcn_v2", inputs.features, inputs.categorical, inputs.numeric,
        inputs.feature_digests, "1", "c", 1, 0, {}, {},
    )  # fmt: skip


def listed(inputs: Inputs, kind: Kind) -> list[Any]:
    return [*(inputs.feature_digests.items() if kind == "features" else getattr(inputs, kind))]


def with_listed(inputs: Inputs, kind: Kind, held: list[Any]) -> Inputs:
    name = "feature_digests" if kind == "features" else kind
    return replace(inputs, **{name: dict(held) if kind == "features" else tuple(held)})


def test_what_is_declared_is_what_the_model_and_the_groups_say() -> None:
    inputs = inputs_of(CLICKS)
    assert FEATURES == inputs.features
    for group in CLICKS.groups:
        assert group.feature_digests.items() <= inputs.feature_digests.items()
    assert [(c.field, c.buckets) for c in CLICKS.model.categorical] == [*inputs.categorical]
    assert [(n.field, n.default) for n in CLICKS.model.numeric] == [*inputs.numeric]
    assert differing_input(manifest_of(inputs), inputs) is None
    assert differing_input(manifest_of(inputs), manifest_of(inputs)) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        lambda held: [*held, ("new", 9)],
        lambda held: held[:-1],
        lambda held: [(held[0][0], "another"), *held[1:]],
        lambda held: [("renamed", held[0][1]), *held[1:]],
    ],
)
def test_the_first_input_that_differs_is_told(
    kind: Kind, change: Callable[[list[Any]], list[Any]]
) -> None:
    own = inputs_of(CLICKS)
    before = listed(own, kind)
    after = change(before)
    longer = max(len(before), len(after))
    padded = [each + [None] * (longer - len(each)) for each in (after, before)]
    first = next(pair for pair in zip(*padded, strict=True) if pair[0] != pair[1])
    theirs = manifest_of(with_listed(own, kind, after))
    assert Difference(kind, *first) == differing_input(theirs, own)


@pytest.mark.parametrize("kind", ["features", "categorical"])
def test_the_same_inputs_in_another_order_differ(kind: Kind) -> None:
    own = inputs_of(CLICKS)
    held = listed(own, kind)
    theirs = manifest_of(with_listed(own, kind, held[::-1]))
    assert Difference(kind, held[-1], held[0]) == differing_input(theirs, own)
