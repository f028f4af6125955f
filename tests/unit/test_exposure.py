import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from dagster_project.commands.plan import plan as command
from data_contracts.exposure import Traffic, plan
from data_contracts.gate_rules import DEFAULTS, Rule, effective
from data_contracts.gates import sequence_check
from data_contracts.sequences import arm_difference

SHOP = Traffic(impressions_per_day=2_000_000, users_per_day=100_000, rate=0.07, design_effect=1.0)


def test_an_equal_candidate_passes_as_often_as_planned() -> None:
    need = next(n for n in plan(DEFAULTS, SHOP, 0.05, 14.0, power=0.8).needs if n.check == "CTR")
    rng, users = np.random.default_rng(2), need.impressions // 10
    units = np.arange(users)
    candidate = units % 2 == 0
    passed = 0
    for _ in range(40):
        clicks = rng.binomial(10, 0.07, users)
        sums = arm_difference(units, units % 5, candidate, np.full(users, 10), clicks)
        passed += sequence_check(DEFAULTS, "CTR", sums, need.weight, 0.05).verdict == "pass"
    assert 26 <= passed <= 38


def test_the_plan_names_each_required_gate_and_adds_up_the_longest_of_each_stage() -> None:
    found = plan(DEFAULTS, SHOP, 0.05, 14.0)
    stages = [(need.check, need.stage, need.share) for need in found.needs]
    assert [
        ("paired log loss", "shadow", 1.0),
        ("errors", "canary", 0.5),
        ("latency p99", "canary", 0.5),
        ("score shift", "canary", 0.5),
        ("sample ratio", "canary", 0.5),
        ("CTR", "canary", 0.5),
    ] == stages
    days = {need.check: need.days for need in found.needs}
    assert found.days == pytest.approx(days["paired log loss"] + days["CTR"])
    assert all(need.impressions >= 4 * 200 for need in found.needs if need.stage == "canary")
    assert json.loads(json.dumps(found.as_dict()))["days"] == found.days
    found.check()


def test_a_quarter_of_the_margin_takes_sixteen_times_the_impressions() -> None:
    narrow = effective([Rule("CTR", "canary", margin=0.05 / 4)])
    wide, long = (
        next(n for n in plan(rules, SHOP, 0.05, 14.0).needs if n.check == "CTR")
        for rules in (DEFAULTS, narrow)
    )
    assert long.impressions == pytest.approx(16 * wide.impressions, rel=1e-4)


def test_a_release_that_could_not_end_is_refused_naming_its_longest_gate() -> None:
    slow = replace(SHOP, impressions_per_day=20_000, users_per_day=5_000)
    with pytest.raises(ValueError, match=r"max_days is 14: CTR alone takes .* wider margin"):
        plan(DEFAULTS, slow, 0.05, 14.0).check()
    advisory = effective([Rule("CTR", "canary", "advisory", margin=0.05)])
    plan(advisory, slow, 0.05, 14.0).check()


def test_a_required_sequence_without_a_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="'CTR': required without a margin"):
        plan(effective([Rule("CTR", "canary")]), SHOP, 0.05, 14.0)


@pytest.mark.parametrize(
    "traffic", [replace(SHOP, rate=1.0), replace(SHOP, impressions_per_day=0.0),
                replace(SHOP, users_per_day=3_000_000.0)],
)  # fmt: skip
def test_traffic_that_cannot_be_is_refused(traffic: Traffic) -> None:
    with pytest.raises(ValueError, match="traffic: "):
        plan(DEFAULTS, traffic, 0.05, 14.0)


def test_the_command_shows_each_gate_and_fails_beyond_max_days(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    asked = ["--root", str(tmp_path), "--users", "100000", "--impressions"]
    enough = CliRunner().invoke(app, [*asked, "5e6", "--rate", "0.07", "--json"])
    assert 0 == enough.exit_code
    assert "CTR" == json.loads(enough.stdout)["needs"][-1]["check"]
    table = CliRunner().invoke(app, [*asked, "5e6", "--rate", "0.07"])
    assert "paired log loss" in table.stdout and "of at most 14" in table.stdout
    never = CliRunner().invoke(app, [*asked, "2e5", "--rate", "0.005"])
    assert 1 == never.exit_code and "max_days is 14" in never.stderr
    unknown = CliRunner().invoke(app, [*asked, "5e6"])
    assert 1 == unknown.exit_code and "run `headrace report`" in unknown.stderr
