"""Few simulated releases through the real controller: the small case of `make test-faults`."""

from collections import Counter
from pathlib import Path

from tests.benchmarks.releases import SAME, WORSE
from tests.faults.simulated import some
from tests.integration.world import World


def test_an_equal_model_is_rolled_back_seldom_and_a_worse_one_does_not_become_champion(
    built: World, tmp_path: Path
) -> None:
    same, worse = (some(0, built.root, tmp_path / kind.name, kind, 2) for kind in (SAME, WORSE))
    assert {"champion", "open"} >= {*same}, same
    assert Counter({"rolled back": 2}) == worse
