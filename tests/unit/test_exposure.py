import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from dagster_project.commands.plan import register
from data_contracts.exposure import Exposure, Traffic, plan, weights
from data_contracts.gate_rules import DEFAULTS, Rule, effective
from data_contracts.gates import sequence_check
from data_contracts.release import NOTHING, Evidence, judged
from data_contracts.rollout import Plan, Rollout, Target, advanced, began, bucket
from data_contracts.sequences import arm_difference, paired_gap
from data_contracts.splits import splits
from data_contracts.tally import Tally

SHOP = Traffic(
    impressions_per_day=2_000_000,
    requests_per_day=400_000,
    users_per_day=100_000,
    rate=0.07,
    design_effect=1.0,
)


def planned(
    rules: tuple[Rule, ...] = DEFAULTS,
    traffic: Traffic = SHOP,
    steps: tuple[int, ...] = Rollout().steps,
    maturing: float = 0.0,
    power: float = 0.9,
) -> Exposure:
    return plan(rules, traffic, 0.05, 14.0, Rollout(steps=steps), maturing, power)


def test_an_equal_candidate_passes_as_often_as_planned() -> None:
    need = next(n for n in planned(steps=(5_000,), power=0.8).needs if n.check == "CTR")
    rng, users = np.random.default_rng(2), need.impressions // 10
    units = np.arange(users)
    candidate = units % 2 == 0
    passed = 0
    for _ in range(40):
        clicks = rng.binomial(10, 0.07, users)
        sums = arm_difference(units, units % 5, candidate, np.full(users, 10), clicks)
        passed += sequence_check(DEFAULTS, "CTR", sums, need.weight, 0.05).verdict == "pass"
    assert 26 <= passed <= 38


def test_the_plan_names_each_required_gate_of_each_step_and_adds_up_their_longest() -> None:
    found = planned(steps=(100, 5_000))
    service = ("errors", "latency p99", "score shift")
    assert [
        ("paired log loss", "shadow", 1.0),
        *((name, "canary", 0.01) for name in service),
        *((name, "canary", 0.5) for name in service),
        ("sample ratio", "canary", 0.5),
        ("CTR", "canary", 0.5),
    ] == [(need.check, need.stage, need.share) for need in found.needs]
    days = {(need.check, need.share): need.days for need in found.needs}
    assert days["errors", 0.01] == 1_000 / (0.01 * SHOP.requests_per_day) == 0.25
    expected = sum(days[step] for step in (("paired log loss", 1.0), ("errors", 0.01)))
    assert found.days == pytest.approx(expected + days["CTR", 0.5])
    assert json.loads(json.dumps(found.as_dict()))["days"] == found.days
    found.check()


def test_users_who_come_back_are_no_new_ones_and_labels_take_their_time() -> None:
    few = replace(SHOP, users_per_day=300)
    with pytest.raises(ValueError, match="'sample ratio': needs 400 users, 300 a day come and no"):
        planned(traffic=few)
    slow = planned(traffic=replace(few, new_users_per_day=20), maturing=0.5)
    days = {need.check: need.days for need in slow.needs if need.share > 0.25}
    assert (1 + 100 / 20, 1 + 100 / 20 + 0.5) == (days["sample ratio"], days["CTR"])
    assert days["paired log loss"] == pytest.approx(200 / 300 + 0.5)


def test_a_sample_ratio_waits_for_the_units_that_are_declared() -> None:
    rules = effective([Rule("sample ratio", "canary", least=50_000)])
    need = next(n for n in planned(rules, steps=(5_000,)).needs if n.check == "sample ratio")
    assert 50_000 / SHOP.users_per_day == need.days


BUSY = Traffic(
    impressions_per_day=250_000,
    requests_per_day=50_000,
    users_per_day=3_000,
    rate=0.2,
    design_effect=1.0,
)
WIDE = effective([Rule("CTR", "canary", margin=0.06)])
LOOKS = 20
"""A day."""


def ramped(seed: int, steps: tuple[int, ...]) -> Iterator[tuple[str, float]]:
    """(step, day) at which the judging of a release first let an equal candidate go on."""
    rng, users = np.random.default_rng(seed), np.arange(int(BUSY.users_per_day))
    tuned = weights(WIDE, BUSY, 0.05)
    each, requests = BUSY.impressions_per_day / BUSY.requests_per_day, BUSY.requests_per_day
    step = began(Plan(1, Target("1", "1" * 64)), Target("2", "2" * 64), tuned)
    places = np.array([bucket(f"clicks {seed}", f"u{user}") for user in users])
    shown = np.zeros((len(steps) + 1, 2, len(users)))
    clicked, gaps, losses = shown.copy(), np.zeros(len(users)), np.zeros(len(users))
    seen: list[tuple[int, int, bool]] = []
    here = np.zeros(len(users), bool)
    tallies, look, number, last = (Tally(), Tally()), 0, 0, False
    while step.candidate is not None:
        look += 1
        asked = np.bincount(rng.integers(0, len(users), rng.poisson(requests / LOOKS)))
        asked = np.pad(asked, (0, len(users) - len(asked)))
        rows = asked * int(each)
        theirs = places < step.canary_bps
        for arm, tally in enumerate(tallies):
            mine = theirs if arm else ~theirs
            shown[number, arm] += rows * mine
            clicked[number, arm] += rng.binomial(rows, BUSY.rate) * mine
            many = int(asked[mine].sum())
            tally.requests, tally.scores = tally.requests + many, tally.scores + many
            tally.score_sum += many * BUSY.rate
            tally.latency[16] = tally.latency.get(16, 0) + many
        if step.stage == "shadow":
            gaps += rng.normal(0, BUSY.gap * np.sqrt(rows))
            losses += 0.5 * rows
            pairs = paired_gap(users, gaps, shown[0].sum(axis=0), losses)
            evidence = Evidence(pairs=pairs)
        else:
            last = step.canary_bps == steps[-1]
            for user in np.flatnonzero((asked > 0) & ~here):
                seen.append((int(user), step.canary_bps, bool(theirs[user])))
            here |= asked > 0
            strata, arms = np.indices(shown.shape)[:2].reshape(2, -1)[:, 2 * len(users) :]
            counts = shown[1:].ravel(), clicked[1:].ravel()
            arm = arms == 1
            sums = arm_difference(np.tile(users, 2 * len(steps)), strata, arm, *counts)
            split = splits(*map(np.array, zip(*seen, strict=True))) if last else ()
            evidence = Evidence(NOTHING, sums, split, *tallies)
        if judged(step, WIDE, 0.05, evidence, last).promotes:
            yield step.step, look / LOOKS
            step, tallies, number = advanced(step, steps), (Tally(), Tally()), number + 1
            here[:] = False


@pytest.mark.parametrize("steps", [(100, 500, 2_500, 5_000), (1_000, 4_000)])
def test_a_simulated_ramp_takes_as_long_as_its_plan_says(steps: tuple[int, ...]) -> None:
    told = planned(WIDE, BUSY, steps)
    spent = [dict(ramped(seed, steps)) for seed in range(4)]
    assert {len(steps) + 1} == {len(days) for days in spent}
    ends = np.array([max(days.values()) for days in spent])
    between = (len(steps) + 1) / LOOKS
    assert (ends <= told.days + between).sum() >= 3, (ends, told.days)
    assert np.median(ends) > 0.5 * told.days, (ends, told.days)


def test_a_quarter_of_the_margin_takes_sixteen_times_the_impressions() -> None:
    narrow = effective([Rule("CTR", "canary", margin=0.05 / 4)])
    wide, long = (
        next(n for n in planned(rules, steps=(5_000,)).needs if n.check == "CTR")
        for rules in (DEFAULTS, narrow)
    )
    assert long.impressions == pytest.approx(16 * wide.impressions, rel=1e-4)


def test_a_release_that_could_not_end_is_refused_naming_its_longest_gate() -> None:
    slow = replace(SHOP, impressions_per_day=20_000, requests_per_day=20_000, users_per_day=5_000)
    with pytest.raises(ValueError, match=r"max_days is 14: CTR at 50% alone takes .* wider margin"):
        planned(traffic=slow).check()
    advisory = effective([Rule("CTR", "canary", "advisory", margin=0.05)])
    planned(advisory, slow).check()
    with pytest.raises(ValueError, match=r"errors at 1% alone takes .* larger steps"):
        planned(advisory, replace(slow, requests_per_day=5_000)).check()


def test_a_stage_whose_gates_do_not_count_is_refused_since_nothing_ends_it() -> None:
    for changed in ({"mode": "dry_run"}, {"mode": "off"}, {"level": "advisory"}):
        with pytest.raises(ValueError, match="no gate of the shadow is required and enforced"):
            planned(effective([Rule("paired log loss", "shadow", **changed)]))
    canary = ("errors", "latency p99", "score shift", "sample ratio", "CTR")
    with pytest.raises(ValueError, match="no gate of the canary is required and enforced"):
        planned(effective([Rule(name, "canary", "advisory") for name in canary]))


@pytest.mark.parametrize(
    "traffic", [replace(SHOP, rate=1.0), replace(SHOP, impressions_per_day=0.0),
                replace(SHOP, users_per_day=3_000_000.0), replace(SHOP, requests_per_day=3e6),
                replace(SHOP, new_users_per_day=-1.0), replace(SHOP, new_users_per_day=2e5)],
)  # fmt: skip
def test_traffic_that_cannot_be_is_refused(traffic: Traffic) -> None:
    with pytest.raises(ValueError, match="traffic: "):
        planned(traffic=traffic)


def test_the_command_shows_each_gate_and_fails_beyond_max_days(tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    asked = ["--root", str(tmp_path), "--users", "100000", "--requests", "1e5", "--impressions"]
    enough = CliRunner().invoke(app, [*asked, "5e6", "--rate", "0.07", "--json"])
    assert 0 == enough.exit_code
    assert "CTR" == json.loads(enough.stdout)["needs"][-1]["check"]
    table = CliRunner().invoke(app, [*asked, "5e6", "--rate", "0.07"])
    assert "paired log loss" in table.stdout and "of at most 14" in table.stdout
    never = CliRunner().invoke(app, [*asked, "2e5", "--rate", "0.005"])
    assert 1 == never.exit_code and "max_days is 14" in never.stderr
    unknown = CliRunner().invoke(app, [*asked, "5e6"])
    assert 1 == unknown.exit_code and "run `headrace report`" in unknown.stderr
