"""Rows and ratios of the serving benchmark, from what the rounds found."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

COLUMNS = ("server", "start_s", "rps_1", "rps", "rps_spread", "cpu_ms", "cpu_spread", "rest_ms",
           "p99_ms", "half_rps", "half_cpu_ms", "half_p50_ms", "half_p99_ms", "half_p99_spread",
           "scored", "errors", "gave_up")  # fmt: skip
PARTS = ("features_ms", "kept_features_ms", "encoding_ms", "model_ms")
_SPENT = PARTS[1:]
"""What a server under the benchmark's load spends: its store stands still."""
_HALF_P99_MS, _FEATURES_MS = 40, 2.5
_PLAIN, _RAY, _ONNX = "headrace, plain", "headrace, Ray Serve", "uvicorn, ONNX"
_STEADY, _SHADOW, _CANARY = (
    f"{_PLAIN}, {phase}" for phase in ("no release", "shadow of every request", "canary of 5 %")
)


def parts_row(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median processor ms a request of each part, as one process does one request after another."""
    return {name: round(median(each[name] for each in rounds), 3) for name in PARTS if rounds}


def row(
    server: str, rounds: Sequence[Mapping[str, Any]], parts: Mapping[str, Any]
) -> dict[str, Any]:
    """Medians of the rounds, with spreads.

    `rest_ms`: what is left of `cpu_ms` without kept features, encoding and model, as `parts` has
    them: a server that joins requests into one run of the model has less of that, and so more of
    the rest.
    """

    def middle(name: str, digits: int) -> float:
        return round(median(each[name] for each in rounds), digits)

    def spread(name: str, digits: int) -> list[float]:
        found = [each[name] for each in rounds]
        return [round(min(found), digits), round(max(found), digits)]

    scored = [each["scored"] for each in rounds if "scored" in each]
    return {
        "server": server,
        "start_s": middle("start_s", 1),
        "rps_1": middle("rps_1", 1),
        "rps": middle("rps", 1),
        "rps_spread": spread("rps", 1),
        "cpu_ms": middle("cpu_ms", 2),
        "cpu_spread": spread("cpu_ms", 2),
        "rest_ms": round(middle("cpu_ms", 3) - sum(parts[each] for each in _SPENT), 2),
        "p99_ms": middle("p99_ms", 1),
        "half_rps": middle("half_rps", 1),
        "half_cpu_ms": middle("half_cpu_ms", 2),
        "half_p50_ms": middle("half_p50_ms", 1),
        "half_p99_ms": middle("half_p99_ms", 1),
        "half_p99_spread": spread("half_p99_ms", 1),
        "scored": min(scored) if scored else None,
        "errors": sum(each["errors"] for each in rounds),
        "rounds": [dict(each) for each in rounds],
    }


def verdicts(rows: Sequence[Mapping[str, Any]], parts: Mapping[str, Any]) -> list[str]:
    """The ratios that the targets name, round by round and then their median, as far as both sides
    were measured; and what features cost."""
    found = {each["server"]: each["rounds"] for each in rows if "rounds" in each}
    pairs = (
        (_PLAIN, _ONNX, "rps", "at least 0.5"),
        (_RAY, _ONNX, "rps", "at least 0.5"),
        (_PLAIN, "uvicorn, eager", "rps", "at least 1"),
        (_RAY, "uvicorn, eager", "rps", "at least 1"),
        (_RAY, "Ray Serve, two deployments", "rps", "at least 2"),
        (_SHADOW, _STEADY, "half_cpu_ms", "at most 1.15"),
        (_SHADOW, _STEADY, "cpu_ms", "at most 1.15"),
        (_SHADOW, _STEADY, "half_p99_ms", "at most 1.2"),
        (_CANARY, _STEADY, "rps", "at least 0.9"),
    )
    ratios = [
        f"{name} of {a} / {b} = {_ratio(found[a], found[b], name):.2f} ({target})"
        for a, b, name, target in pairs
        if a in found and b in found
    ]
    told = [f"features_ms = {parts['features_ms']:.2f} (at most {_FEATURES_MS})"] if parts else []
    return (
        told
        + ratios
        + [
            f"half_p99_ms of {each} = {median(one['half_p99_ms'] for one in found[each]):.1f} "
            f"(at most {_HALF_P99_MS})"
            for each in (_PLAIN, _RAY)
            if each in found
        ]
    )


def _ratio(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], name: str) -> float:
    return median(x[name] / y[name] for x, y in zip(a, b, strict=False))
