"""Who is refused before the body is read: too many at once, too late, too often."""

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


def test_no_more_than_declared_are_under_way() -> None:
    admission = Admission(2, Watch())
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(admission.admitted(1000))
        with pytest.raises(Problem) as refused, admission.admitted(1000):
            pass
    assert (429, "1") == (refused.value.status, dict(refused.value.headers or {})["Retry-After"])
    assert (0, 1) == (admission.under_way, admission.refused)
    with admission.admitted(1000):
        assert 1 == admission.under_way


def test_what_the_queue_would_take_too_long_for_is_refused_and_an_idle_server_tries() -> None:
    watch = Watch()
    admission = Admission(1000, watch)
    for _ in range(200):
        with admission.admitted(1000):
            watch.now += 0.1
    with ExitStack() as stack:
        for _ in range(7):
            stack.enter_context(admission.admitted(1000))
        with (
            pytest.raises(Problem, match="would take about 800 ms of 900"),
            admission.admitted(900),
        ):
            pass
        stack.enter_context(admission.admitted(1100))
    with admission.admitted(1):
        pass


@pytest.mark.parametrize(("text", "most"), [(None, 2000), ("300", 300), ("99999", 2000)])
def test_a_deadline_is_only_shortened(text: str | None, most: int) -> None:
    assert most == deadline_ms({} if text is None else {"x-deadline-ms": text}, 2000)


def test_a_rate_lets_bursts_through_and_says_when_the_next_is_taken() -> None:
    watch = Watch()
    limits, caller = RateLimits(ReplayClock(), watch), Caller("shop", frozenset(), rate=4.0)
    for _ in range(4):
        limits.take(caller)
    with pytest.raises(Problem, match="more than 4 requests a second"):
        limits.take(caller)
    watch.now += 0.25
    limits.take(caller)
    with pytest.raises(Problem):
        limits.take(caller)
    limits.take(Caller("other", frozenset(), rate=4.0))


def test_a_quota_is_of_a_day() -> None:
    clock = ReplayClock()
    limits, caller = RateLimits(clock), Caller("shop", frozenset(), quota=2)
    clock.advance(5 * DAY)
    limits.take(caller)
    limits.take(caller)
    with pytest.raises(Problem, match="its 2 requests of this UTC day") as refused:
        limits.take(caller)
    assert str(DAY // 10**6) == dict(refused.value.headers or {})["Retry-After"]
    clock.advance(6 * DAY)
    limits.take(caller)
