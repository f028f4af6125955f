"""Who is refused: too many at once, too late, too often."""

from contextlib import ExitStack

import pytest

from data_contracts.clock import DAY, ReplayClock
from serving.admission import Admission, deadline_ms
from serving.auth import Caller
from serving.limits import RateLimits
from serving.problem import Problem


class Watch:
    """A monotonic clock that stands where it is put."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def under_way(admission: Admission, number: int) -> ExitStack:
    """That many requests, whose bodies are there, until the stack closes."""
    stack = ExitStack()
    for _ in range(number):
        admission.begin(stack.enter_context(admission.admitted(60_000)))
    return stack


def test_no_more_than_declared_are_under_way() -> None:
    admission = Admission(2, Watch())
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


def learned(watch: Watch, number: int, seconds: float) -> Admission:
    """After many rounds of `number` requests at once that took `seconds` each."""
    admission = Admission(1000, watch)
    for _ in range(300):
        with under_way(admission, number):
            watch.now += seconds
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


def test_a_wait_is_told_in_proportion_to_those_that_shared_the_replica() -> None:
    admission = learned(Watch(), 4, 0.1)
    with (
        under_way(admission, 99),
        pytest.raises(Problem, match=r"take about 4\d\d\d ms of 60") as refused,
        admission.admitted(60),
    ):
        pass
    assert "5" == dict(refused.value.headers or {})["Retry-After"]


def test_a_client_that_sends_its_body_slowly_makes_nobody_else_look_slow() -> None:
    watch = Watch()
    admission = learned(watch, 1, 0.01)
    with admission.admitted(60_000) as slow:
        for _ in range(100):
            watch.now += 10
            with under_way(admission, 1):
                watch.now += 0.01
        admission.begin(slow)
        with admission.admitted(100):
            pass


@pytest.mark.parametrize(("text", "most"), [(None, 2000), ("300", 300), ("99999", 2000)])
def test_a_deadline_is_only_shortened(text: str | None, most: int) -> None:
    assert most == deadline_ms({} if text is None else {"x-deadline-ms": text}, 2000)


def test_a_rate_lets_bursts_through_and_says_when_the_next_is_taken() -> None:
    watch = Watch()
    limits, caller = RateLimits(ReplayClock(), watch), Caller("shop", frozenset(), rate=4.0)
    for _ in range(4):
        limits.take_rate(caller)
    with pytest.raises(Problem, match="more than 4 requests a second"):
        limits.take_rate(caller)
    watch.now += 0.25
    limits.take_rate(caller)
    with pytest.raises(Problem):
        limits.take_rate(caller)
    limits.take_rate(Caller("other", frozenset(), rate=4.0))


def test_who_has_no_limits_is_never_refused_and_refusals_are_counted() -> None:
    limits, free = RateLimits(ReplayClock(), Watch()), Caller("free", frozenset())
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


def test_a_quota_is_of_a_day() -> None:
    clock = ReplayClock()
    limits, caller = RateLimits(clock), Caller("shop", frozenset(), quota=2)
    clock.advance(5 * DAY)
    limits.take_quota(caller)
    limits.take_quota(caller)
    with pytest.raises(Problem, match="its 2 requests of this UTC day") as refused:
        limits.take_quota(caller)
    assert str(DAY // 10**6) == dict(refused.value.headers or {})["Retry-After"]
    clock.advance(6 * DAY)
    limits.take_quota(caller)
