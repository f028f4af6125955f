import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from data_contracts.evidence import Estimate
from data_contracts.gate_rules import (
    DEFAULTS,
    SEQUENTIAL,
    Rule,
    RuleInForce,
    Stage,
    alpha_of,
    check_rules,
    effective,
)
from data_contracts.gates import (
    Check,
    Decision,
    better_than,
    decision,
    failures_check,
    limit_check,
    made,
    ratio_check,
    recompute,
    sequence_check,
    worst_part,
)
from data_contracts.judging import Verdict, not_worse
from data_contracts.sequences import Failures, Split, Sums, arm_difference, paired_gap

GOOD = Check("a", "pass", "1", "<= 2", 10)
BAD = Check("b", "fail", "3", "<= 2", 10)
UNSURE = Check("c", "cannot judge", "?", "<= 2", 10)
RULE = RuleInForce("better than constant", "offline")
LATENCY = RuleInForce("latency p99", "offline", limit=2.0)


def rows(n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    scores = rng.beta(1, 5, n)
    return (rng.random(n) < scores).astype(np.int32), scores


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ((GOOD,), "pass"),
        ((GOOD, UNSURE), "cannot judge"),
        ((GOOD, UNSURE, BAD), "fail"),
        ((UNSURE,), "cannot judge"),
        ((), "cannot judge"),
    ],
)
def test_a_move_needs_every_required_check_passed_and_at_least_one(
    checks: tuple[Check, ...], verdict: Verdict
) -> None:
    decided = Decision("first version", checks)
    assert verdict == decided.verdict
    assert (verdict == "pass") == decided.promotes == decided.as_dict()["promotes"]


@pytest.mark.parametrize("change", [{"level": "advisory"}, {"mode": "dry_run"}])
def test_an_advisory_check_and_a_dry_run_are_told_and_stop_nothing(change: dict[str, Any]) -> None:
    decided = Decision("s", (GOOD, replace(BAD, **change)))
    assert (decided.verdict, decided.advice, decided.promotes) == ("pass", "fail", True)
    assert "fail" == decided.checks[1].verdict
    alone = Decision("s", (replace(GOOD, **change),))
    assert (alone.verdict, alone.promotes) == ("cannot judge", False)
    assert Decision("s", (GOOD,)).advice == "pass"


@pytest.mark.parametrize(("value", "verdict"), [(1.9, "pass"), (2.0, "pass"), (2.1, "fail")])
def test_a_limit_may_be_reached_but_not_passed(value: float, verdict: Verdict) -> None:
    check = limit_check(LATENCY, "latency p99", value, 200, " ms")
    assert check.verdict == verdict
    assert check.limit == "<= 2 ms"


def test_not_a_number_is_over_every_limit_and_too_few_requests_are_under_none() -> None:
    unknown = limit_check(LATENCY, "latency p99", float("nan"), 200)
    assert ("fail", "no figure") == (unknown.verdict, unknown.value)
    rule = replace(LATENCY, least=1000)
    assert limit_check(rule, "latency p99", 9.0, 999).verdict == "cannot judge"


def test_the_true_probabilities_beat_the_constant_and_the_constant_loses() -> None:
    labels, scores = rows()
    constant = np.full(len(labels), labels.mean())
    assert better_than(RULE, "x", labels, scores, constant, 0.95).verdict == "pass"
    assert better_than(RULE, "x", labels, constant, scores, 0.95).verdict == "fail"


def test_the_same_scores_cannot_be_told_apart_but_are_within_any_margin() -> None:
    labels, scores = rows()
    assert better_than(RULE, "x", labels, scores, scores, 0.95).verdict == "cannot judge"
    within = replace(RULE, margin=1e-9)
    assert better_than(within, "x", labels, scores, scores, 0.95).verdict == "pass"


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        (-2.0, -1.0, 0.0, "pass"),
        (-1.0, 1.0, 0.0, "cannot judge"),
        (-1.0, 1.0, 1.5, "pass"),
        (0.5, 1.0, 1.5, "pass"),
        (0.5, 2.0, 1.5, "fail"),
        (float("nan"), float("nan"), 1.0, "cannot judge"),
    ],
)
def test_worse_beyond_doubt_fails_unless_all_of_it_is_within_the_margin(
    low: float, high: float, margin: float, verdict: Verdict
) -> None:
    assert verdict == not_worse(Estimate((low + high) / 2, low, high, 9), margin)


def test_few_clicks_cannot_rank_two_models() -> None:
    rng = np.random.default_rng(5)
    labels = np.zeros(3000)
    labels[:6] = 1
    scores = np.clip(rng.normal(0.002, 0.0004, 3000), 1e-4, 1)
    check = better_than(RULE, "x", labels, scores, np.full(3000, 0.002), 0.95)
    assert (check.verdict, check.n) == ("cannot judge", 3000)


def test_one_class_cannot_judge() -> None:
    labels, scores = rows()
    check = better_than(RULE, "x", np.zeros(len(labels)), scores, scores / 2, 0.95)
    assert (check.verdict, check.value) == ("cannot judge", "one class only")


def test_the_worst_slice_is_the_part_that_loses_and_small_parts_are_not_judged() -> None:
    labels, scores = rows()
    part = np.arange(3000) % 3
    broken = np.where(part == 1, 0.9, scores)
    parts = {f"p = {i}": part == i for i in range(3)} | {"few": np.arange(3000) < 5}
    check = worst_part(RULE, labels, broken, scores, parts, 0.95, 200)
    assert check.verdict == "fail" and check.value.startswith("p = 1: +")
    assert {"p = 0", "p = 1", "p = 2"} == set(check.evidence["parts"])
    nothing = worst_part(RULE, labels, broken, scores, {}, 0.95, 200)
    assert nothing.verdict == "cannot judge"


def release(drop: float, units: int = 20_000) -> Sums:
    rng = np.random.default_rng(3)
    candidate = np.arange(units) % 2 == 1
    clicks = rng.binomial(10, np.where(candidate, 0.07 * (1 - drop), 0.07))
    return arm_difference(
        np.arange(units), np.arange(units) % 7, candidate, np.full(units, 10), clicks
    )


@pytest.mark.parametrize(
    ("drop", "units", "verdict"),
    [(0.0, 20_000, "pass"), (0.2, 20_000, "fail"), (0.0, 1_000, "cannot judge"),
     (0.2, 300, "cannot judge")],
)  # fmt: skip
def test_ctr_passes_within_its_margin_and_fails_when_it_fell(
    drop: float, units: int, verdict: Verdict
) -> None:
    rules = effective([Rule("CTR", "canary", margin=0.08)])
    assert verdict == sequence_check(rules, "CTR", release(drop, units), 40_000, 0.05).verdict


def test_alpha_is_split_over_the_sequences_that_are_on() -> None:
    assert alpha_of("CTR", DEFAULTS, 0.06) == pytest.approx(0.02)
    without = effective([Rule("sample ratio", "canary", mode="off")])
    assert alpha_of("CTR", without, 0.06) == pytest.approx(0.03)
    for name, rules in (("sample ratio", without), ("latency p99", DEFAULTS)):
        with pytest.raises(ValueError, match="no part of alpha"):
            alpha_of(name, rules, 0.06)
    assert {*SEQUENTIAL} <= {rule.check for rule in DEFAULTS}


@pytest.mark.parametrize(
    ("candidate", "verdict"), [(5_000, "pass"), (4_000, "fail"), (150, "fail")]
)
def test_the_split_of_users_passes_or_fails(candidate: int, verdict: Verdict) -> None:
    assert verdict == ratio_check(DEFAULTS, [Split(0.5, candidate, 10_000)], 0.05).verdict


def test_a_split_of_few_users_cannot_be_judged() -> None:
    assert ratio_check(DEFAULTS, [Split(0.5, 100, 200)], 0.05).verdict == "cannot judge"


def every_kind() -> list[Check]:
    """A check of each kind of evidence, undecided ones among them."""
    rules = {(rule.stage, rule.check): rule for rule in DEFAULTS}
    labels, scores = rows(2000)
    rng = np.random.default_rng(1)
    gaps = paired_gap(np.arange(2000) % 500, rng.normal(0, 0.1, 2000), np.ones(2000), scores)

    def rule(check: str, stage: Stage = "offline") -> RuleInForce:
        return rules[stage, check]

    same = {"found": {"a": "1"}, "declared": {"a": "2"}, "n": 1, "limit": "equal"}
    fact = {"holds": True, "value": "3 rows equal", "limit": "equal", "n": 3}
    between = {**Estimate(1.0, 0.9, 1.1, 50).as_dict(), "limit": 1.25}
    return [
        made(rule("definitions"), "definitions", "same", same),
        made(rule("golden rows"), "golden rows", "fact", fact),
        made(rule("calibration"), "calibration", "between", between),
        limit_check(rule("latency p99"), "latency p99", float("nan"), 200, " ms"),
        failures_check(rule("errors", "canary"), Failures(0, 0), Failures(3, 4_000)),
        failures_check(rule("errors", "canary"), Failures(9, 90), Failures(0, 9_000)),
        better_than(rule("better than logistic"), "better than logistic", labels, scores,
                    scores**2, 0.9),
        better_than(rule("better than champion"), "better than champion 7", labels * 0, scores,
                    scores, 0.9),
        worst_part(rule("worst slice"), labels, scores, scores**2, {"p": labels >= 0}, 0.9, 9),
        sequence_check(DEFAULTS, "paired log loss", gaps, 1000, 0.05),
        sequence_check(DEFAULTS, "CTR", release(0.2), 40_000, 0.05),
        sequence_check(DEFAULTS, "CTR", release(0.2, 200), 40_000, 0.05),
        ratio_check(DEFAULTS, [Split(0.01, 9, 800), Split(0.05, 900, 20_000)], 0.05),
    ]  # fmt: skip


def test_a_decision_is_made_again_from_its_json_to_the_letter() -> None:
    decided = Decision("later version", tuple(every_kind()), "7")
    written = json.dumps(decided.as_dict(), allow_nan=False)
    again = recompute(json.loads(written))
    assert decided.as_dict() == json.loads(written) == again.as_dict()
    shown = {check.name: check.interval is not None for check in again.checks}
    assert shown["CTR"] is False and shown["paired log loss"] and shown["worst slice"]


def test_an_edited_verdict_or_figure_does_not_survive_being_made_again() -> None:
    decided = Decision("s", tuple(every_kind())).as_dict()
    for place, check in enumerate(decided["checks"]):
        for edit in ({"verdict": "nonsense"}, {"value": "0"}, {"n": -1}):
            checks = [*decided["checks"]]
            checks[place] = {**check, **edit}
            edited = {**decided, "checks": checks}
            assert edited != recompute(edited).as_dict()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"evidence": {}}, "no evidence of kind 'same'"),
        ({"kind": "guess"}, "no evidence of kind 'guess'"),
        ({"evidence": {"found": 3}}, "its evidence is damaged"),
        (
            {"kind": "slices", "evidence": {"margin": 0, "parts": [1], "least": 0}},
            "its evidence is damaged",
        ),
    ],
)
def test_a_check_without_its_evidence_cannot_be_made_again(edit: dict[str, Any], said: str) -> None:
    decided = Decision("s", tuple(every_kind()[:1])).as_dict()
    decided["checks"][0] |= edit
    with pytest.raises(ValueError, match=f"check 'definitions': {said}"):
        recompute(decided)


def test_a_stage_asks_for_every_required_check_and_leaves_out_what_is_off() -> None:
    off = [Rule(n, "canary", mode="off") for n in ("errors", "latency p99", "score shift")]
    rules = effective([*off, Rule("CTR", "canary", "advisory")])
    ratio = ratio_check(rules, [Split(0.5, 5_000, 10_000)], 0.05)
    decided = decision("canary", "to champion", rules, [ratio])
    assert [check.name for check in decided.checks] == ["sample ratio"]
    assert decided.promotes
    missing = decision("canary", "to champion", DEFAULTS, [ratio])
    told = {check.name: check.verdict for check in missing.checks}
    absent = dict.fromkeys(("errors", "latency p99", "score shift", "CTR"), "cannot judge")
    assert {**absent, "sample ratio": "pass"} == told
    assert not missing.promotes
    assert recompute(missing.as_dict()) == missing


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([Rule("beauty", "canary")], "'beauty' of stage 'canary': unknown"),
        ([Rule("CTR", "offline")], "'CTR' of stage 'offline': unknown"),
        ([Rule("off-policy value", "offline")], "'off-policy value' of stage 'offline': unknown"),
        ([Rule("CTR", "canary"), Rule("CTR", "canary", "advisory")], "declared twice"),
        ([Rule("CTR", "canary", margin=-0.1)], "must not be below 0"),
        ([Rule("CTR", "canary", mode="maybe")], "no such words"),  # pyright: ignore
        ([Rule("calibration", "offline", limit=1.0)], "limit 1: must be above 1, or nothing pass"),
        ([Rule("score shift", "canary", limit=0.9)], "limit 0.9: must be above 1"),
        ([Rule("latency p99", "canary", limit=0.0)], "'latency p99' .* limit 0: must be above 0"),
        ([Rule("errors", "canary", limit=float("nan"))], "limit nan: must not be below 0"),
        (
            [Rule("golden rows", "offline", least=9)],
            "least 9: is judged by no number: leave it out",
        ),
        ([Rule("latency p99", "offline", least=9)], "least 9: is measured by calls of its own"),
        ([Rule("CTR", "canary", "advisory", margin=0.0)], "margin 0: a candidate that is as good"),
        ([Rule("CTR", "canary", limit=0.1)], "limit 0.1: is judged by margin and least: leave"),
        ([Rule("errors", "canary", margin=0.1)], "margin 0.1: is judged by limit and least: leave"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_name(rules: list[Rule], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_rules(rules)


def test_numbers_that_a_rule_does_not_give_are_those_of_the_default() -> None:
    declared = [
        Rule("latency p99", "canary", least=5_000),
        Rule("score shift", "canary", "advisory", "dry_run"),
        Rule("errors", "canary", limit=0.0),
    ]
    check_rules(declared)
    rules = {(rule.stage, rule.check): rule for rule in effective(declared)}
    assert [
        RuleInForce("latency p99", "canary", limit=1.5, least=5_000),
        RuleInForce("score shift", "canary", "advisory", "dry_run", limit=2.0, least=1_000),
        RuleInForce("errors", "canary", limit=0.0, least=1_000),
    ] == [rules["canary", rule.check] for rule in declared]
    assert DEFAULTS == effective([])


def test_every_check_with_a_sample_is_judged_from_least_on() -> None:
    def declared(rule: Rule) -> RuleInForce:
        check_rules([rule])
        return next(r for r in effective([rule]) if (r.stage, r.check) == (rule.stage, rule.check))

    def verdicts(least: int) -> dict[str, Verdict]:
        better = declared(Rule("better than champion", "offline", margin=0.01, least=least))
        calibration = declared(Rule("calibration", "offline", least=least))
        slices = declared(Rule("worst slice", "offline", margin=0.01, least=least))
        latency = declared(Rule("latency p99", "canary", least=least))
        ratio = declared(Rule("sample ratio", "canary", least=least))
        labels, scores = rows(3000)
        whole = np.ones(3000, bool)
        between = {**Estimate(1.0, 0.9, 1.1, 3000).as_dict(), "limit": 1.25, "least": least}
        checks = (
            better_than(better, "better than champion 1", labels, scores, scores, 0.95),
            made(calibration, "calibration", "between", between),
            worst_part(slices, labels, scores, scores, {"all": whole}, 0.95, 200),
            limit_check(latency, "latency p99", 1.0, 3000),
            ratio_check([ratio, *DEFAULTS[-1:]], [Split(0.5, 1_500, 3_000)], 0.05),
            ratio_check([ratio, *DEFAULTS[-1:]], [Split(0.5, 500, 3_000)], 0.05),
        )
        assert Decision("s", checks) == recompute(json.loads(json.dumps(
            Decision("s", checks).as_dict()
        )))  # fmt: skip
        return {f"{check.name} {check.value[:3]}": check.verdict for check in checks}

    assert ["pass"] * 5 + ["fail"] == [*verdicts(3000).values()]
    assert ["cannot judge"] * 6 == [*verdicts(3001).values()]
