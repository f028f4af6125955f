"""Few simulated releases through the real controller: the small case of `make test-faults`."""

from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks.releases import SAME, WORSE
from tests.faults.simulated import some
from tests.integration.releases import register_second
from tests.integration.world import World, build


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = build(tmp_path_factory.mktemp("alarms") / "lake")
    register_second(world)
    return world


def test_an_equal_model_is_rolled_back_seldom_and_a_worse_one_does_not_become_champion(
    world: World, tmp_path: Path
) -> None:
    same, worse = (some(0, world.root, tmp_path / kind.name, kind, 2) for kind in (SAME, WORSE))
    assert 0 == same["rolled back"], same
    assert Counter({"rolled back": 2}) == worse
