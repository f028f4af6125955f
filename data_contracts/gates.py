"""Gates: checks with value, limit and verdict, and the decision they add up to. Pure functions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from data_contracts.evidence import Estimate, paired_difference

Verdict = Literal["pass", "fail", "cannot judge"]


@dataclass(frozen=True)
class Check:
    """One gate's answer."""

    name: str
    verdict: Verdict
    value: str
    limit: str
    n: int


@dataclass(frozen=True)
class Decision:
    """All checks of a move; it fails with any failed check, and says when the data cannot tell.

    Without any check there is nothing to judge by, and no move.
    """

    stage: str
    checks: tuple[Check, ...]
    decisive: str | None = None
    """Name of the check that must pass; of every other it is enough that it does not fail."""

    @property
    def verdict(self) -> Verdict:
        verdicts = {check.verdict for check in self.checks}
        if "fail" in verdicts:
            return "fail"
        return "pass" if verdicts == {"pass"} else "cannot judge"

    @property
    def promotes(self) -> bool:
        """Whether the move is made: there are checks, none fails, and the decisive one passes."""
        passed = {check.name for check in self.checks if check.verdict == "pass"}
        decided = self.decisive is None or self.decisive in passed
        return bool(self.checks) and self.verdict != "fail" and decided

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        checks = [asdict(check) for check in self.checks]
        return {
            "stage": self.stage,
            "verdict": self.verdict,
            "promotes": self.promotes,
            "checks": checks,
        }


def limit_check(name: str, value: float, limit: float, n: int, unit: str = "") -> Check:
    """Pass when `value` is at most `limit`."""
    verdict: Verdict = "pass" if value <= limit else "fail"
    return Check(name, verdict, f"{value:.4g}{unit}", f"<= {limit:.4g}{unit}", n)


def better_than(
    name: str,
    labels: np.ndarray,
    candidate: np.ndarray,
    baseline: np.ndarray,
    confidence: float,
) -> Check:
    """Pass when the paired log-loss difference is below 0 with its whole interval.

    Fail when it is above 0 with its whole interval; else the data cannot tell.
    """
    if len(set(np.asarray(labels).tolist())) < 2:
        return Check(name, "cannot judge", "one class only", "log loss difference < 0", len(labels))
    gap: Estimate = paired_difference(labels, candidate, baseline, confidence)
    verdict: Verdict = "pass" if gap.high < 0 else "fail" if gap.low > 0 else "cannot judge"
    shown = f"{gap.value:+.5f} [{gap.low:+.5f}, {gap.high:+.5f}]"
    return Check(name, verdict, shown, "log loss difference < 0", gap.n)


def first_version(checks: Sequence[Check]) -> Decision:
    """The decision about a version where no champion stands to compare with."""
    return Decision("first version", tuple(checks))
