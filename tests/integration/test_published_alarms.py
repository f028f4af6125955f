"""False and true alarms that were published of the release checks, reached again."""

import pytest

from tests.benchmarks.gates import ALPHA
from tests.benchmarks.releases import ANY, FAILING, SAME, WORSE, Scenario, Shop, watch

SEED = 1


def alarms(scenario: Scenario, releases: int) -> int:
    """How many of so many simulated releases any check ends, all of them on."""
    looks = watch(Shop(), scenario, range(releases), SEED, ALPHA)
    return sum(each[ANY] >= 0 for each in looks)


@pytest.mark.full
def test_of_a_thousand_equal_releases_a_twentieth_at_most_is_alarmed() -> None:
    assert alarms(SAME, 1_000) <= 50


@pytest.mark.full
def test_of_releases_with_a_fifth_fewer_clicks_nineteen_in_twenty_are_found() -> None:
    assert alarms(WORSE, 400) >= 380


@pytest.mark.full
def test_of_releases_that_fail_one_request_in_fifty_nineteen_in_twenty_are_found() -> None:
    assert alarms(FAILING, 400) >= 380
