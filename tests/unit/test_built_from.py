"""What a training set says of its declarations, held against those of today."""

from dataclasses import replace

import pytest

from data_contracts.built_from import built_from, read_built_from
from data_contracts.dimension import Dimension
from data_contracts.use_case import UseCase, load_use_case

WORLD = load_use_case("world")
ITEM = WORLD.declared.dimensions[0]


def declaring(*dimensions: Dimension) -> UseCase:
    return replace(WORLD, declared=replace(WORLD.declared, dimensions=dimensions))


@pytest.mark.parametrize("now", [(), (replace(ITEM, key="user_id"),), (ITEM, ITEM)])
def test_rows_whose_attributes_came_from_other_dimensions_are_told(
    now: tuple[Dimension, ...],
) -> None:
    built = read_built_from(built_from(WORLD, {}).to_json())
    assert [] == built.differing(WORLD)
    assert ["dimensions"] == built.differing(declaring(*now))
    assert ["dimensions"] == built_from(declaring(*now), {}).differing(WORLD)
