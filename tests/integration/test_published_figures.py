"""Figures that were published for a world whose truth is known, reached again."""

from argparse import Namespace
from pathlib import Path

import pytest

from tests.benchmarks.models import judge, world


@pytest.mark.full
def test_dcn_v2_gets_its_share_of_the_achievable_gain_on_the_generated_world(
    tmp_path: Path,
) -> None:
    shares = {
        (task.name, row["model"]): row["gain_share"]
        for task in world(tmp_path, Namespace(events=200_000))
        for row, _ in judge(task, ["dcn_v2"])
    }
    assert {("world, static", "truth"): 1.0, ("world, windows", "truth"): 1.0}.items() <= (
        shares.items()
    )
    assert shares["world, static", "dcn_v2"] >= 0.60
    assert shares["world, windows", "dcn_v2"] >= 0.72
