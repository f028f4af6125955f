"""Business rules: which candidates may be shown, and which are put forward, by functions of the use
case's own.

A rule that raises, or answers with something else than it has to, is skipped for that request: it
drops and moves nothing, and is named. Rules are asked between receiving and answering a request:
they read what they are given, and wait for nothing.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import numpy as np

Row = Mapping[str, Any]
"""A candidate's `UseCase.request_fields`, and what dimensions add; None where nothing is known."""
Keep = Callable[[Row, int], bool]
"""(a candidate, query time µs) to whether it may be shown."""
Boost = Callable[[Sequence[Row], Sequence[float], int], Iterable[float]]
"""(candidates, their scores, query time µs) to the log-odds added to each score in the order."""

FILE = "rules"
"""The Python file of a use case's folder that holds its rules."""
MOST_BOOST = 1000.0
"""Log-odds, more than any two scores are apart: enough to pin a row or to send it to the end."""


@dataclass(frozen=True)
class Rules:
    """Names of functions in `rules.py` of the use case's folder, in the order of asking."""

    keep: tuple[str, ...] = ()
    """Each of kind `Keep`; the first that says no drops the candidate."""
    boost: tuple[str, ...] = ()
    """Each of kind `Boost`; their sum counts. Scores stay what the model says."""
    reads: tuple[str, ...] = ()
    """Event fields that a request may carry for the rules, beside the model's inputs."""

    def check(self, fields: Collection[str]) -> None:
        """Raise ValueError naming a rule that stands twice, or what is read and no event field."""
        names = [*self.keep, *self.boost]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rules: {', '.join(twice)}: stands twice: take one away")
        if unknown := sorted({*self.reads} - {*fields}):
            raise ValueError(f"rules: reads {', '.join(unknown)}: not in the contract")


@dataclass(frozen=True)
class Sifted:
    """What rules of kind `Keep` left of a request's candidates."""

    kept: list[int]
    """Candidates that may be shown, in their order."""
    dropped: dict[int, str]
    """Candidate -> the first rule that said no."""
    failed: dict[str, str]
    """Rule that was skipped -> why."""


def sifted(rules: Mapping[str, Keep], rows: Sequence[Row], q: int) -> Sifted:
    """The candidates that every rule keeps at query time `q` (µs)."""
    kept, dropped, failed = list(range(len(rows))), dict[int, str](), dict[str, str]()
    shown = [MappingProxyType(row) for row in rows] if rules else []
    for name, rule in rules.items():
        try:
            said = {i: _said(rule(shown[i], q)) for i in kept}
        except Exception as error:
            # Whatever a rule raises, the request is answered.
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        dropped |= {i: name for i in kept if not said[i]}
        kept = [i for i in kept if said[i]]
    return Sifted(kept, dropped, failed)


def boosted(
    rules: Mapping[str, Boost], rows: Sequence[Row], scores: Sequence[float], q: int
) -> tuple[np.ndarray, dict[str, str]]:
    """(float64[rows]: log-odds that all rules add at `q`, rule that was skipped -> why)."""
    total, failed = np.zeros(len(rows)), dict[str, str]()
    shown = [MappingProxyType(row) for row in rows] if rules else []
    for name, rule in rules.items():
        try:
            added = [float(each) for each in rule(tuple(shown), tuple(scores), q)]
            if len(added) != len(rows):
                raise ValueError(f"{len(added)} boosts for {len(rows)} rows")
            if wrong := [each for each in added if not abs(each) <= MOST_BOOST]:
                raise ValueError(f"a boost of {wrong[0]}: at most {MOST_BOOST:g} log-odds")
        except Exception as error:
            # As above; the order is the other rules'.
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        total += added
    return np.clip(total, -MOST_BOOST, MOST_BOOST), failed


def _said(answer: object) -> bool:
    if not isinstance(answer, bool | np.bool_):
        raise TypeError(f"{answer!r:.40} is neither True nor False")
    return bool(cast(bool, answer))
