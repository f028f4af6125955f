"""Looks at a release: how often, and what follows when one finds nothing to read."""

from data_contracts.release import Evidence
from data_contracts.rollout import Plan, Target
from data_contracts.rollout_store import Report
from data_contracts.tally import Tally
from serving.looks import Looks

PLAN = Plan(2, Target("1", "a"), Target("2", "b"), "canary", 100, release=2)
TALLY = Tally(requests=3)
REPORTS = [
    Report("r", "b", 1, {"tallies": {PLAN.step: {"candidate": TALLY.as_dict()}}, "broken": {}})
]


class Table:
    """What there is to look at, and the time."""

    def __init__(self) -> None:
        self.gone = False
        self.now = 1_000.0

    def look(self, plan: Plan, reports: list[Report]) -> Evidence:
        if self.gone:
            raise OSError("no such file")
        return Evidence()

    def looks(self) -> Looks:
        return Looks(self.look, 60.0, 300.0, lambda: self.now)


def test_a_candidate_is_exposed_so_long_without_a_look_and_again_with_the_next_one() -> None:
    table = Table()
    looks = table.looks()
    assert not looks.exposes, "nobody has looked yet"
    looks.at(PLAN, REPORTS)
    assert not looks.exposes, "nor is it known what follows"
    looks.settle()
    assert looks.exposes
    table.gone = True
    told = [looks.at(PLAN, REPORTS) for _ in range(3)]
    assert looks.exposes and 3 == looks.failed
    assert [TALLY] * 3 == [seen.candidate for seen in told]
    assert "they cannot be read (OSError), looks in a row: 3" == told[-1].unread
    table.now += 301.0
    assert not looks.exposes
    assert "the candidate is not exposed" in looks.at(PLAN, REPORTS).unread
    table.gone = False
    assert "" == looks.at(PLAN, REPORTS).unread
    looks.settle()
    assert looks.exposes and 0 == looks.failed


def test_looks_of_which_nothing_can_follow_expose_nobody_in_the_end() -> None:
    table = Table()
    looks = table.looks()
    looks.at(PLAN, REPORTS)
    looks.settle()
    told: list[bool] = []
    for _ in range(5):
        looks.at(PLAN, REPORTS)
        looks.miss()
        told.append(looks.exposes)
        table.now += 100.0
    assert [True, True, True, True, False] == told
    looks.settle()
    assert not looks.exposes, "the last one failed"


def test_a_look_that_failed_and_a_new_plan_are_looked_at_sooner() -> None:
    table = Table()
    looks = table.looks()
    assert looks.due(written=0.0) and not looks.due(written=0.0)
    table.now += 59.0
    assert not looks.due(written=0.0)
    assert looks.due(written=table.now - 1.0)
    looks.miss()
    table.now += 11.0
    assert looks.due(written=0.0)
    looks.clear()
    looks.settle()
    table.now += 11.0
    assert not looks.due(written=0.0)
