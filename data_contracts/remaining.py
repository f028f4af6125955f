"""How long the gates of a release still need at the traffic of its present step. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, sqrt
from statistics import NormalDist
from typing import Any

from data_contracts.clock import parse_time
from data_contracts.exposure import POWER
from data_contracts.gate_rules import counts
from data_contracts.sequences import LEAST_UNITS, Sums, boundary

_FAR = 1e6
"""Times what is there: a sequence that would need more does not end."""


@dataclass(frozen=True)
class Remaining:
    """What one gate that cannot be judged yet still needs."""

    check: str
    done: float
    """Share of what it needs that is there, 0 … 1."""
    seconds: float | None
    """At the traffic since the step's first look; None where that tells none, where it never ends,
    and where all is there, so that an equal candidate had passed by now."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def remaining(looks: Sequence[Mapping[str, Any]]) -> list[Remaining]:
    """Of the checks that count and could not be judged at the last of a release's looks.

    A sequence is taken to need what passes a candidate that is equal with the probability that
    `exposure.plan` supposes, at the variance that was seen.
    """
    if not looks:
        return []
    last = looks[-1]
    first = next(look for look in looks if look["epoch"] == last["epoch"])
    passed = (parse_time(last["time"]) - parse_time(first["time"])) / 1e6
    before = {check["name"]: check for check in first["decision"]["checks"]}
    found: list[Remaining] = []
    for check in last["decision"]["checks"]:
        if not counts(check["level"], check["mode"]) or check["verdict"] != "cannot judge":
            continue
        if check.get("kind") == "absent":
            # More traffic does not bring what is missing.
            found.append(Remaining(check["name"], 0.0, None))
            continue
        done, then = _done(check), _done(before.get(check["name"], {}))
        needed = {name: most for name, most in _needed(check).items() if done[name] < most}
        if not needed:
            found.append(Remaining(check["name"], 1.0, None))
            continue
        seconds = max(
            (most - done[name]) / rate if (rate := done[name] - then.get(name, 0.0)) > 0 else inf
            for name, most in needed.items()
        ) * passed  # fmt: skip
        share = min(done[name] / most for name, most in needed.items())
        known = passed > 0 and seconds < inf
        found.append(Remaining(check["name"], share, seconds if known else None))
    return found


def _done(check: Mapping[str, Any]) -> dict[str, float]:
    """What grows with traffic, by name."""
    kind, evidence = check.get("kind"), check.get("evidence", {})
    if kind == "at most":
        return {"rows": float(evidence["n"])}
    if kind == "failures":
        return {"rows": float(evidence["candidate"]["asked"])}
    if kind == "ratio":
        units, ours = (
            sum(split[name] for split in evidence["splits"]) for name in ("units", "candidate")
        )
        return {"units": float(min(ours, units - ours)), "both": float(units)}
    if kind == "sequence":
        sums = Sums.from_dict(evidence["sums"])
        rows = float(sums.impressions)
        return {"units": float(min(sums.units)), "rows": rows, "weight": sums.weight}
    return {}


def _needed(check: Mapping[str, Any]) -> dict[str, float]:
    """As much of it as the check asks for."""
    kind, evidence = check["kind"], check["evidence"]
    if kind in ("at most", "failures"):
        return {"rows": float(evidence.get("least", 0))}
    if kind == "ratio":
        return {"units": float(LEAST_UNITS), "both": float(evidence.get("least", 0))}
    if kind == "sequence":
        sums = Sums.from_dict(evidence["sums"])
        found = {"units": float(LEAST_UNITS), "rows": float(evidence.get("least", 0))}
        return found | ({"weight": _weight(sums, evidence)} if sums.judgeable else {})
    return {}


def _weight(sums: Sums, evidence: Mapping[str, Any]) -> float:
    """At which the sequence's end and the noise of the estimate fit into the margin; infinite
    where they never do."""
    margin = float(evidence["margin"]) * sums.champion
    deviation = sqrt(sums.variance / sums.weight)
    noise = NormalDist().inv_cdf(POWER)

    def fits(weight: float) -> bool:
        errors = boundary(weight, float(evidence["alpha"]), float(evidence["tuned_at"])) + noise
        return errors * deviation / sqrt(weight) <= margin

    low, high = sums.weight, sums.weight * _FAR
    if fits(low) or not fits(high):
        return low if fits(low) else inf
    while high / low > 1.001:
        middle = sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
