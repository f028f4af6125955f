"""The pure parts of a rollout: assignment, plans, what aliases must follow, tallies, splits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.clearance import clear
from data_contracts.gate_rules import DEFAULTS
from data_contracts.ledger import stands
from data_contracts.release import NOTHING, Evidence, judged
from data_contracts.rollout import (
    ACTIONS,
    BUCKETS,
    STEPS,
    Plan,
    Rollout,
    Target,
    adopted,
    advanced,
    began,
    bucket,
    check_asked,
    ended,
    followed,
    held,
    led_to,
    moves,
    returned,
)
from data_contracts.rollout_store import RolloutStore
from data_contracts.sequences import Split, Sums
from data_contracts.stages import MoveRefused, demoted, promoted
from data_contracts.tally import LATE, UNEXPOSED, Tally, edge_ms, summed
from data_contracts.use_case import load_use_case

ONE, TWO, THREE = (Target(str(n), f"{n}" * 64) for n in (1, 2, 3))
TUNED = {"CTR": 10_000.0, "paired log loss": 10_000.0}
FIRST = Plan(1, ONE)
ALIKE = Sums(0.0, 1e6, 1.0, 7e4, (5_000, 5_000), 1_000_000)


def canary(share: int) -> Plan:
    plan = began(FIRST, TWO, TUNED)
    while plan.canary_bps < share:
        plan = advanced(plan, STEPS)
    return plan


@given(st.text(max_size=8), st.integers(0, BUCKETS), st.integers(0, BUCKETS))
def test_a_unit_that_a_share_has_is_kept_by_every_larger_one(unit: str, a: int, b: int) -> None:
    small, large = sorted((a, b))
    place = bucket("clicks\x1f3", unit)
    assert 0 <= place < BUCKETS
    assert not place < small or place < large


@pytest.mark.parametrize("action", ACTIONS)
def test_a_version_is_named_to_start_with_and_only_then(action: str) -> None:
    fitting, wrong = ("2", None) if action == "start" else (None, "2")
    check_asked(action, fitting)
    with pytest.raises(ValueError, match=r"^version: needed for `start`, and for nothing else$"):
        check_asked(action, wrong)


def test_an_action_that_does_not_exist_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match=r"^action 'explode': one of start, advance, hold, "):
        check_asked("explode", None)


def test_a_version_stands_where_it_does_by_the_plan_that_put_it_there() -> None:
    plans = [FIRST, began(FIRST, TWO, TUNED)]
    for _ in STEPS:
        plans.append(advanced(plans[-1], STEPS))
        plans += [held(plans[-1], True), held(plans[-1], False)]
    assert (1, 3) == (led_to(plans, "1").epoch, led_to(plans, "2").epoch)
    assert 2 == led_to(plans[:2], "2").epoch
    lost = [*plans, ended(plans[-1])]
    assert (1, lost[-1].epoch) == (led_to(lost, "1").epoch, led_to(lost, "2").epoch)
    won = [*plans, advanced(plans[-1], STEPS)]
    won.append(began(won[-1], THREE, TUNED))
    assert {won[-2].epoch} == {led_to(won, version).epoch for version in ("1", "2")}


def test_a_release_goes_through_every_share_and_ends_as_champion_alone() -> None:
    plan, seen = began(FIRST, TWO, TUNED), []
    while plan.candidate is not None:
        seen.append((plan.epoch, plan.stage, plan.canary_bps, plan.shadow_bps))
        plan = advanced(plan, STEPS)
    assert [
        (2, "shadow", 0, BUCKETS),
        (3, "canary", 100, 0),
        (4, "canary", 500, 0),
        (5, "canary", 2_500, 0),
        (6, "canary", 5_000, 0),
    ] == seen
    assert Plan(7, TWO) == plan


def test_what_needs_a_release_is_refused_without_one_and_a_second_one_beside_it() -> None:
    for act in (lambda: advanced(FIRST, STEPS), lambda: ended(FIRST), lambda: held(FIRST, True)):
        with pytest.raises(MoveRefused, match="no release is under way"):
            act()
    with pytest.raises(MoveRefused, match="version 2 is being released"):
        began(canary(100), THREE, TUNED)
    with pytest.raises(MoveRefused, match="is the champion already"):
        began(FIRST, ONE, TUNED)


def test_a_plan_survives_json() -> None:
    plan = replace(held(canary(500), True), override={"name": "ada", "reason": "lunch"})
    assert plan == Plan.from_dict(json.loads(json.dumps(plan.as_dict())))


@given(st.lists(st.sampled_from(["start", "advance", "end", "return", "hold"]), max_size=12))
def test_after_the_moves_the_aliases_are_what_the_plan_says(acts: list[str]) -> None:
    plan, aliases = FIRST, {"champion": "1", "challenger": "2"}
    others = {"1": ONE, "2": TWO, "3": THREE}
    for act in acts:
        previous = aliases.get("previous_champion")
        try:
            match act:
                case "start":
                    free = next(n for n in ("2", "3", "1") if n != plan.champion.version)
                    plan = began(plan, others[free], TUNED)
                case "advance":
                    plan = advanced(plan, STEPS)
                case "end":
                    plan = ended(plan)
                case "return" if previous is not None:
                    plan = returned(plan, others[previous])
                case _:
                    plan = held(plan, True)
        except MoveRefused:
            continue
        expected = followed(plan, aliases)
        for action, version, stage in moves(plan, aliases):
            after = promoted(aliases, version, stage) if stage else demoted(aliases, version)
            assert (action == "promote") == (stage != "")
            aliases = after
        assert expected == aliases
        assert [] == moves(plan, aliases)
        assert plan.champion.version == aliases["champion"]
        stages = {a: v for a, v in aliases.items() if a in ("shadow", "canary")}
        expected = {plan.stage: plan.candidate.version} if plan.candidate else {}
        assert expected == stages
        told = {alias: others[version] for alias, version in aliases.items()}
        assert adopted(plan, told, STEPS, TUNED) is None


@pytest.mark.parametrize("plan", [FIRST, began(FIRST, TWO, TUNED), canary(100)])
@given(st.permutations(["1", "2", "3", "", ""]))
def test_the_aliases_can_follow_a_plan_from_wherever_they_are(plan: Plan, held: list[str]) -> None:
    alone = zip(("challenger", "shadow", "canary", "champion"), held, strict=False)
    after = followed(plan, {alias: version for alias, version in alone if version})
    assert [] == moves(plan, after)
    expected = {"champion": "1"} | ({plan.stage: "2"} if plan.candidate else {})
    stages = ("champion", "shadow", "canary")
    assert expected == {alias: after[alias] for alias in stages if alias in after}


@pytest.mark.parametrize("plan", [FIRST, began(FIRST, TWO, TUNED), canary(100)])
@given(st.permutations(["1", "2", "3", "", ""]))
def test_a_move_leaves_those_that_came_after_it(plan: Plan, held: list[str]) -> None:
    alone = zip(("challenger", "shadow", "canary", "champion"), held, strict=False)
    aliases = {alias: version for alias, version in alone if version}
    while left := moves(plan, aliases):
        _, version, stage = left[0]
        aliases = promoted(aliases, version, stage) if stage else demoted(aliases, version)
        assert left[1:] == moves(plan, aliases)


def test_moves_made_beside_the_plan_become_one_and_keep_the_units_of_the_same_candidate() -> None:
    shadow = began(FIRST, TWO, TUNED)
    after = adopted(shadow, {"champion": ONE, "canary": TWO}, STEPS, TUNED)
    assert after is not None
    assert (3, "canary", 100, 2) == (after.epoch, after.stage, after.canary_bps, after.release)
    other = adopted(shadow, {"champion": ONE, "canary": THREE}, STEPS, TUNED)
    assert other is not None and (3, 3) == (other.epoch, other.release)
    beside = adopted(shadow, {"champion": THREE, "shadow": TWO}, STEPS, TUNED)
    assert beside is not None and (3, 3) == (beside.epoch, beside.release), "another comparison"
    assert Plan(3, THREE) == adopted(shadow, {"champion": THREE}, STEPS, TUNED)


@pytest.mark.parametrize("name", ["look_s", "dwell_s", "blind_s"])
def test_times_below_zero_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} -1.0"):
        replace(Rollout(), **{name: -1.0}).check()


@pytest.mark.parametrize("steps", [(), (0, 100), (100, 100), (500, 100), (100, BUCKETS)])
def test_steps_that_do_not_grow_below_the_whole_are_refused(steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shares in basis points that grow"):
        Rollout(steps=steps).check()


@given(st.lists(st.floats(0.01, 1e5), min_size=1, max_size=200))
def test_a_quantile_of_a_tally_is_above_the_true_one_by_a_bucket_at_most(
    times: list[float],
) -> None:
    tally = Tally()
    for each in times:
        tally.answered(each, 2, 0.5)
    for share in (0.5, 0.99):
        true = float(np.quantile(times, share, method="inverted_cdf"))
        assert true <= tally.quantile_ms(share) * (1 + 1e-9) and tally.quantile_ms(
            share
        ) <= true * (2 ** (1 / 8) + 1e-9)
    assert edge_ms(0) == 2 ** (1 / 8)


def test_tallies_of_replicas_add_up_also_after_json() -> None:
    one, other = Tally(), Tally()
    one.answered(1.0, 3, 0.6)
    other.failed("timeout", 250.0)
    other.failed("timeout", 250.0)
    both = summed(Tally.from_dict(json.loads(json.dumps(t.as_dict()))) for t in (one, other))
    assert (3, 2, 3) == (both.requests, both.failed_requests, both.scores)
    assert one == Tally.from_dict(one.as_dict())


def tally(failures: int = 0, ms: float = 5.0, mean: float = 0.1, why: str = "timeout") -> Tally:
    found = Tally()
    for _ in range(5_000 - failures):
        found.answered(ms, 1, mean)
    for _ in range(failures):
        found.failed(why, ms)
    return found


def dimmed(asked: int, ms: float, unexposed: int) -> Tally:
    """Of a slow model that was asked for few of its arm's requests."""
    found = Tally()
    for _ in range(asked):
        found.answered(ms, 1, 0.1)
    for _ in range(unexposed):
        found.failed(UNEXPOSED, 5.0)
    return found


SOUND = Evidence(
    arms=ALIKE, splits=(Split(0.5, 5_000, 10_000),), champion=tally(), candidate=tally()
)


@pytest.mark.parametrize(
    ("changed", "name", "verdict"),
    [
        ({}, None, "pass"),
        ({"candidate": tally(failures=50)}, "errors", "fail"),
        ({"candidate": tally(failures=8)}, "errors", "cannot judge"),
        ({"candidate": tally(failures=10), "champion": tally(failures=250)}, "errors", "pass"),
        ({"candidate": tally(failures=4_000, why=UNEXPOSED)}, None, "pass"),
        ({"candidate": tally(failures=250, why=LATE)}, None, "pass"),
        ({"candidate": tally(failures=251, why=LATE)}, "errors", "cannot judge"),
        ({"candidate": tally(failures=4_500, mean=0.9, why=LATE)}, "score shift", "cannot judge"),
        ({"candidate": dimmed(1_000, 50.0, 4_000)}, "latency p99", "fail"),
        ({"candidate": tally(ms=50.0)}, "latency p99", "fail"),
        ({"candidate": tally(mean=0.3)}, "score shift", "fail"),
        ({"candidate": tally(mean=0.02)}, "score shift", "fail"),
        ({"candidate": tally(mean=0.0)}, "score shift", "fail"),
        ({"champion": Tally()}, "latency p99", "cannot judge"),
        ({"champion": Tally()}, "score shift", "cannot judge"),
        ({"champion": tally(mean=0.0)}, "score shift", "cannot judge"),
        ({"arms": Sums(-2e4, 1e6, 1e6, 7e4, (5_000, 5_000), 1_000_000)}, "CTR", "fail"),
        ({"splits": (Split(0.5, 4_000, 10_000),)}, "sample ratio", "fail"),
        ({"arms": NOTHING}, "CTR", "cannot judge"),
        ({"candidate": Tally()}, "errors", "cannot judge"),
        ({"broken": {"r1": "NaN"}}, "breaker", "fail"),
        ({"unread": "gone"}, "outcomes", "cannot judge"),
        ({"unread": "gone", "candidate": tally(failures=50)}, "errors", "fail"),
    ],
)
def test_every_check_of_a_canary_can_end_it(
    changed: dict[str, object], name: str | None, verdict: str
) -> None:
    seen = replace(SOUND, **changed)  # pyright: ignore[reportArgumentType]
    decision = judged(canary(5_000), DEFAULTS, 0.05, seen, last=True)
    assert verdict == decision.verdict
    assert stands(json.loads(json.dumps(decision.as_dict())))
    told = {check.name: check.verdict for check in decision.checks}
    assert name is None or verdict == told[name]


def test_hours_whose_records_were_lost_are_told_and_stand_in_no_move_s_way() -> None:
    seen = replace(SOUND, lost=(7,))
    decided = judged(canary(5_000), DEFAULTS, 0.05, seen, last=True).as_dict()
    assert decided["stage"].endswith(", without 1 h whose records were lost")
    clear(load_use_case("clicks").declared, "2", "champion", "1", decided, own=None)


def test_before_the_last_share_users_only_need_to_show_no_harm() -> None:
    seen = replace(SOUND, arms=NOTHING, splits=())
    assert judged(canary(100), DEFAULTS, 0.05, seen, last=False).promotes
    assert not judged(canary(5_000), DEFAULTS, 0.05, seen, last=True).promotes
    unread = replace(seen, unread="gone")
    assert not judged(canary(100), DEFAULTS, 0.05, unread, last=False).promotes


def test_plans_are_only_added_each_by_its_epoch(tmp_path: Path) -> None:
    store, other = (RolloutStore(tmp_path / "rollouts.db", name) for name in ("clicks", "fraud"))
    assert store.plan() is None and [] == store.requests()
    store.add(FIRST)
    second = began(FIRST, TWO, TUNED)
    store.add(second)
    for late in (FIRST, second, replace(second, epoch=4)):
        with pytest.raises(MoveRefused, match="does not follow the last one"):
            store.add(late, {TWO.version: "not this plan's"})
    assert [FIRST, second] == store.plans() and {} == store.barred()
    store.add(ended(second), {TWO.version: "bad"})
    assert {TWO.version: "bad"} == store.barred() and {} == other.barred()
    assert other.plan() is None
    assert store.take("a", None) and not store.take("b", None)
    assert store.renew("a") and not store.renew("b")
    assert store.take("b", store.beat()) and not store.renew("a")
