"""How each kind of gate judges: pure functions of JSON-ready, aggregated evidence.

A decision embeds the evidence, so that it can be made again after the raw rows are gone.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from data_contracts.evidence import LEAST_USERS, Estimate, few_users
from data_contracts.sequences import (
    LEAST_UNITS,
    Failures,
    Split,
    Sums,
    interval,
    more_failures,
    sample_ratio,
)

Verdict = Literal["pass", "fail", "cannot judge"]
Interval = tuple[float, float] | None
"""Of the value; None where there is none."""
Answer = tuple[Verdict, str, str, int, Interval]
"""(verdict, value, limit, rows or units it rests on, interval); value and limit are for people."""
Evidence = Mapping[str, Any]


NO_FIGURE = "no figure"
"""Of what could not be computed."""


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _estimate(raw: Evidence) -> Estimate:
    value, low, high = (_number(raw[name]) for name in ("value", "low", "high"))
    return Estimate(value, low, high, int(raw["n"]))


def _interval(estimate: Estimate) -> Interval:
    low, high = estimate.low, estimate.high
    return (low, high) if abs(low) < float("inf") and abs(high) < float("inf") else None


def _shown(estimate: Estimate, form: str = "+.5f") -> str:
    if estimate.value != estimate.value:
        return NO_FIGURE
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def not_worse(estimate: Estimate, margin: float) -> Verdict:
    """Of a figure that is better when low: pass below the margin, fail above 0, all of it.

    With a margin above 0 something that is worse beyond doubt, yet within the margin, passes.
    """
    if estimate.high < margin:
        return "pass"
    return "fail" if estimate.low > 0 else "cannot judge"


def _too_few(e: Evidence) -> str:
    """Why rows cannot be judged by; empty where they are enough, and of users enough. Decisions of
    before users were counted do not tell them, and are made again without."""
    rows, least = int(e["n"]), int(e.get("least", 0))
    if rows < least:
        return f"{rows} rows, needs {least}"
    return few_users(float(e.get("users", LEAST_USERS)))


def _fact(e: Evidence) -> Answer:
    return "pass" if e["holds"] else "fail", e["value"], e["limit"], int(e["n"]), None


def _itself(e: Evidence) -> Answer:
    return "pass", "is that baseline", "its equal", int(e["n"]), None


def _absent(e: Evidence) -> Answer:
    return "cannot judge", e.get("reason", "no evidence"), "evidence", 0, None


def _same(e: Evidence) -> Answer:
    found, declared = dict(e["found"]), dict(e["declared"])
    differ = sorted(k for k in {*found, *declared} if found.get(k) != declared.get(k))
    value = f"{', '.join(differ[:3])} differ" if differ else "equal"
    return "fail" if differ else "pass", value, e["limit"], int(e["n"]), None


def _at_most(e: Evidence) -> Answer:
    value, limit, unit = _number(e["value"]), float(e["limit"]), e.get("unit", "")
    verdict: Verdict = "pass" if value <= limit else "fail"
    if int(e["n"]) < int(e.get("least", 0)):
        verdict = "cannot judge"
    shown = NO_FIGURE if value != value else f"{value:.4g}{unit}"
    return verdict, shown, f"<= {limit:.4g}{unit}", int(e["n"]), None


def _failures(e: Evidence) -> Answer:
    ours, theirs = Failures(**e["candidate"]), Failures(**e["champion"])
    limit, most = float(e["limit"]), 1 / float(e["alpha"])
    told = f"<= {limit:.4g} or the champion's; evidence < {most:.4g}"
    if not ours.asked:
        return "cannot judge", NO_FIGURE, told, 0, None
    against = more_failures(ours, theirs, limit)
    beside = f"{theirs.share:.4g}" if theirs.asked else NO_FIGURE
    verdict: Verdict = "cannot judge"
    if against >= most:
        verdict = "fail"
    elif ours.asked >= int(e["least"]) and (
        ours.share <= limit or (theirs.asked and ours.share <= theirs.share)
    ):
        verdict = "pass"
    shown = f"{ours.share:.4g}, champion {beside}: evidence {against:.3g}"
    return verdict, shown, told, ours.asked, None


def _difference(e: Evidence) -> Answer:
    margin, limit = float(e["margin"]), f"{e['of']} difference < {e['margin']:g}"
    if reason := e.get("reason") or _too_few(e):
        return "cannot judge", reason, limit, int(e["n"]), None
    estimate = _estimate(e)
    verdict = not_worse(estimate, margin)
    return verdict, _shown(estimate), limit, estimate.n, _interval(estimate)


def _slices(e: Evidence) -> Answer:
    margin = float(e["margin"])
    limit = f"log loss difference < {margin:g} on each part"
    parts = {name: _estimate(raw) for name, raw in e["parts"].items()}
    if not parts:
        return "cannot judge", "no part has rows enough", limit, 0, None
    verdicts = {not_worse(each, margin) for each in parts.values()}
    verdict: Verdict = "pass" if verdicts == {"pass"} else "cannot judge"
    worst = max(parts, key=lambda name: parts[name].value)
    if "fail" in verdicts:
        verdict = "fail"
        worst = max(parts, key=lambda name: parts[name].low)
    found = parts[worst]
    return verdict, f"{worst}: {_shown(found)}", limit, found.n, _interval(found)


def _between(e: Evidence) -> Answer:
    estimate, most = _estimate(e), float(e["limit"])
    limit = f"{1 / most:.3g} … {most:.3g}"
    if reason := _too_few(e):
        return "cannot judge", reason, limit, estimate.n, None
    verdict: Verdict = "cannot judge"
    if 1 / most < estimate.low and estimate.high < most:
        verdict = "pass"
    elif estimate.high < 1 / most or estimate.low > most:
        verdict = "fail"
    return verdict, _shown(estimate, ".3f"), limit, estimate.n, _interval(estimate)


def _sequence(e: Evidence) -> Answer:
    sums = Sums.from_dict(e["sums"])
    margin, better = float(e["margin"]), "> -" if e["higher_is_better"] else "< "
    limit = f"{e['of']} difference {better}{margin:.0%} of the champion's"
    if not sums.judgeable:
        fewest = min(sums.units)
        return "cannot judge", f"{fewest} units in an arm, needs {LEAST_UNITS}", limit, fewest, None
    if sums.impressions < int(e.get("least", 0)):
        told = f"{sums.impressions} impressions, needs {e['least']}"
        return "cannot judge", told, limit, sums.impressions, None
    found = interval(sums, float(e["alpha"]), float(e["tuned_at"]))
    gap = Estimate(-found.value, -found.high, -found.low, found.n)
    verdict = not_worse(gap if e["higher_is_better"] else found, margin * sums.champion)
    shown = f"{_shown(found)}, champion {sums.champion:.5f}"
    return verdict, shown, limit, sums.impressions, _interval(found)


def _ratio(e: Evidence) -> Answer:
    splits = [Split(float(s["share"]), int(s["candidate"]), int(s["units"])) for s in e["splits"]]
    units, candidate = (sum(getattr(s, name) for s in splits) for name in ("units", "candidate"))
    against, most = sample_ratio(splits), 1 / float(e["alpha"])
    planned = sum(s.share * s.units for s in splits)
    told = f"{candidate} of {units} units, {planned:.0f} planned: evidence {against:.3g}"
    verdict: Verdict = "fail" if against >= most else "pass"
    few = min(candidate, units - candidate) < LEAST_UNITS
    if units < int(e.get("least", 0)) or (verdict == "pass" and few):
        verdict = "cannot judge"
    return verdict, told, f"evidence < {most:.3g}", units, None


def _no_harm(e: Evidence) -> Answer:
    verdict, value, limit, n, found = KINDS[e["kind"]](e["evidence"])
    return (
        "fail" if verdict == "fail" else "pass",
        value,
        f"no harm beyond doubt ({limit})",
        n,
        found,
    )


KINDS: dict[str, Callable[[Evidence], Answer]] = {
    "fact": _fact,
    "itself": _itself,
    "absent": _absent,
    "same": _same,
    "at most": _at_most,
    "failures": _failures,
    "difference": _difference,
    "slices": _slices,
    "between": _between,
    "sequence": _sequence,
    "ratio": _ratio,
    "no harm": _no_harm,
}
"""Kind of evidence -> its judge."""
