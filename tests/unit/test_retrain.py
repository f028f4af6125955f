"""Drift is reason to retrain when k of n windows say so, and not twice within the cooldown."""

import pytest

from data_contracts.clock import DAY, HOUR
from data_contracts.retrain import drift_alarm
from data_contracts.use_case import Retrain

POLICY = Retrain(drift_share=0.5, windows=3, alarms=2, cooldown="1d")


@pytest.mark.parametrize(
    ("shares", "alarmed"),
    [
        ([], False),
        ([0.9], False),
        ([0.9, 0.1, 0.1], False),
        ([0.9, 0.1, 0.5], True),
        ([0.9, 0.9, 0.1, 0.1], False),
        ([0.1, 0.9, 0.9, 0.1], True),
    ],
)
def test_two_of_the_last_three_windows_must_have_drifted(shares: list[float], alarmed: bool):
    windows = [*enumerate(shares)]
    assert alarmed == (drift_alarm(POLICY, windows, now=9, trained=None) is not None)


def test_within_the_cooldown_nothing_is_an_alarm():
    windows = [*enumerate([0.9, 0.9, 0.9], 1)]
    assert drift_alarm(POLICY, windows, now=23 * HOUR, trained=0) is None
    assert drift_alarm(POLICY, windows, now=DAY, trained=0) is not None


def test_windows_from_before_the_last_training_are_no_alarm_after_it():
    before = [(1, 0.9), (2, 0.9)]
    assert drift_alarm(POLICY, before, now=3, trained=None) is not None
    for since in ([], [(9, 0.9)], [(9, 0.1), (10, 0.9)]):
        assert drift_alarm(POLICY, [*before, *since], now=DAY + 5, trained=5) is None
    assert drift_alarm(POLICY, [*before, (9, 0.9), (10, 0.9)], now=DAY + 5, trained=5) is not None


def test_the_reason_names_the_windows():
    reason = drift_alarm(POLICY, [*enumerate([0.1, 0.6, 0.7])], now=9, trained=None)
    assert reason == "2 of the last 3 windows have at least 50% of their inputs drifted"
