"""Who is refused: too many at once, too late, too often."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from data_contracts.clock import DAY, ReplayClock
from serving.admission import Admission, deadline_ms
from serving.auth import Caller
from serving.limits import RateLimits
from serving.problem import Problem
from serving.quotas import Quotas


class Watch:
    """A monotonic clock and a processor's, which stand where they are put."""

    def __init__(self) -> None:
        self.now = 100.0
        self.spent = 7.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.spent += seconds


@pytest.fixture
def quotas(tmp_path: Path) -> Quotas:
    return Quotas(tmp_path / "quotas.db", ReplayClock())


def watched(watch: Watch, most: int = 1000) -> Admission:
    return Admission(most, watch, lambda: watch.spent)


def under_way(admission: Admission, number: int) -> ExitStack:
    """That many requests, whose bodies are there, until the stack closes."""
    stack = ExitStack()
    for _ in range(number):
        admission.begin(stack.enter_context(admission.admitted(60_000)))
    return stack


def test_no_more_than_declared_are_under_way() -> None:
    admission = watched(Watch(), 2)
    with (
        under_way(admission, 2),
        pytest.raises(Problem) as refused,
        admission.admitted(1000),
    ):
        pass
    assert (429, "1") == (refused.value.status, dict(refused.value.headers or {})["Retry-After"])
    assert (0, 1) == (admission.under_way, admission.refused)
    with admission.admitted(1000):
        assert 1 == admission.under_way


def learned(watch: Watch, number: int, each: float, beside: float = 0.0) -> Admission:
    """After many rounds of `number` requests at once, each of which took the processor so long, and
    the round so long beside it."""
    admission = watched(watch)
    for _ in range(2_000):
        with under_way(admission, number):
            watch.work(number * each)
            watch.now += beside
    return admission


def test_what_would_come_after_its_deadline_is_refused_and_an_idle_replica_tries() -> None:
    admission = learned(Watch(), 1, 0.1)
    with under_way(admission, 7):
        with pytest.raises(Problem, match="take about 800 ms of 3100"), admission.admitted(3100):
            pass
        with admission.admitted(3300):
            pass
    with admission.admitted(1):
        pass


def test_an_answer_costs_what_the_processor_spent_on_each_of_those_that_shared_it() -> None:
    admission = learned(Watch(), 4, 0.025)
    with (
        under_way(admission, 99),
        pytest.raises(Problem, match=r"take about 25\d\d ms of 60") as refused,
        admission.admitted(60),
    ):
        pass
    assert "3" == dict(refused.value.headers or {})["Retry-After"]


def test_what_the_processor_does_for_no_request_is_no_part_of_an_answer() -> None:
    watch = Watch()
    admission = watched(watch)
    for _ in range(320):
        watch.work(5.0)
        with under_way(admission, 1):
            watch.work(0.01)
    with under_way(admission, 20), admission.admitted(1000):
        pass


def test_after_a_pause_of_the_machine_a_burst_is_taken_on() -> None:
    watch = Watch()
    admission = learned(watch, 2, 0.0025)
    for _ in range(3):
        with under_way(admission, 4):
            watch.now += 1.5
    with under_way(admission, 90):
        with admission.admitted(1000):
            pass
        with under_way(admission, 10), pytest.raises(Problem), admission.admitted(1000):
            pass


def test_a_store_that_is_slow_for_all_leaves_half_of_what_may_be_expected_to_the_queue() -> None:
    admission = learned(Watch(), 4, 0.0025, beside=0.45)
    with under_way(admission, 90):
        with admission.admitted(2000):
            pass
        told = "take about 505 ms of 2000"
        with under_way(admission, 11), pytest.raises(Problem, match=told), admission.admitted(2000):
            pass


def test_a_client_that_sends_its_body_slowly_makes_nobody_else_look_slow() -> None:
    watch = Watch()
    admission = learned(watch, 1, 0.01)
    with admission.admitted(60_000) as slow:
        for _ in range(100):
            watch.now += 10
            with under_way(admission, 1):
                watch.work(0.01)
        admission.begin(slow)
        with admission.admitted(100):
            pass


@pytest.mark.parametrize(("text", "most"), [(None, 2000), ("300", 300), ("99999", 2000)])
def test_a_deadline_is_only_shortened(text: str | None, most: int) -> None:
    assert most == deadline_ms({} if text is None else {"x-deadline-ms": text}, 2000)


def test_a_rate_lets_bursts_through_and_says_when_the_next_is_taken(quotas: Quotas) -> None:
    watch = Watch()
    limits, caller = RateLimits(ReplayClock(), quotas, watch), Caller("shop", frozenset(), rate=4.0)
    for _ in range(4):
        limits.take_rate(caller)
    with pytest.raises(Problem, match="more than 4 requests a second"):
        limits.take_rate(caller)
    watch.now += 0.25
    limits.take_rate(caller)
    with pytest.raises(Problem):
        limits.take_rate(caller)
    limits.take_rate(Caller("other", frozenset(), rate=4.0))


def test_who_has_no_limits_is_never_refused_and_refusals_are_counted(quotas: Quotas) -> None:
    limits, free = RateLimits(ReplayClock(), quotas, Watch()), Caller("free", frozenset())
    strict = Caller("strict", frozenset(), rate=1.0, quota=1)
    for _ in range(3):
        limits.take_rate(free)
        limits.take_quota(free)
    assert 0 == limits.refused
    for take in (limits.take_rate, limits.take_quota):
        take(strict)
        with pytest.raises(Problem):
            take(strict)
    assert 2 == limits.refused


def test_a_quota_is_of_a_day(tmp_path: Path) -> None:
    clock = ReplayClock()
    limits, caller = (
        RateLimits(clock, Quotas(tmp_path / "quotas.db", clock)),
        Caller("shop", frozenset(), quota=2),
    )
    clock.advance(5 * DAY)
    limits.take_quota(caller)
    limits.take_quota(caller)
    with pytest.raises(Problem, match="its 2 requests of this UTC day") as refused:
        limits.take_quota(caller)
    assert str(DAY // 10**6) == dict(refused.value.headers or {})["Retry-After"]
    clock.advance(6 * DAY)
    limits.take_quota(caller)
