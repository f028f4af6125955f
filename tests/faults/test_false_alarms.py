"""Simulated releases with all automatic checks on: how many end that should not, or do not."""

import pytest

from tests.benchmarks.releases import SAME, WORSE
from tests.faults.simulated import outcomes
from tests.integration.releases import build_two
from tests.integration.world import World

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_two(tmp_path_factory.mktemp("alarms") / "lake")


def test_of_releases_of_an_equal_model_one_in_twenty_is_rolled_back_at_most(
    world: World,
) -> None:
    found = outcomes(world.root, SAME, 400)
    assert found["rolled back"] <= 20
    assert found["not judged"] == 0


def test_of_models_with_a_fifth_fewer_clicks_nearly_all_are_found_and_one_becomes_champion_at_most(
    world: World,
) -> None:
    found = outcomes(world.root, WORSE, 200)
    assert found["champion"] <= 1
    assert found["rolled back"] >= 190
