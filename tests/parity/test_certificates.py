"""The proofs that README tells of: their certificates are of today's definitions, and hold."""

import json
from pathlib import Path
from typing import get_args

import pytest

from data_contracts.aggregates import Aggregate, DecayedCount, DecayedSum
from data_contracts.derived import Derived
from data_contracts.use_case import load_use_case
from data_contracts.views import digests_of
from data_contracts.windows import Sliding, Window
from spark_jobs.proof import ENGINES

HERE = Path(__file__).parent
KINDS = str(HERE.parent / "usecases/kinds")
README = (HERE.parents[1] / "README.md").read_text()
AT_LEAST = {
    "non_default_share": 0.3, "boundary_share": 0.5, "spark_schedules": 20, "kill_signals": 5
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("clicks", "clicks"),
        ("deskdrop", str(HERE.parent / "usecases/deskdrop")),
        ("kinds", KINDS),
        ("world", "world"),
    ],
)
def test_a_certificate_is_of_these_definitions_and_holds(name: str, reference: str) -> None:
    found = json.loads((HERE / "certificates" / f"{name}.json").read_text())
    use_case = load_use_case(reference)
    assert (use_case.name, use_case.declared.simulated) == (found["use_case"], found["simulated"])
    declared = digests_of(use_case.groups)
    assert declared == found["feature_digests"], "prove these definitions: `headrace parity`"
    assert (200, 0, True, None) == tuple(
        found[name] for name in ("schedules", "mismatches", "holds", "counterexample")
    )
    assert ({*declared}, [*ENGINES]) == ({*found["features"]}, found["engines"])
    assert "false" == found["code"]["dirty"], "prove it anew on a commit"
    assert (
        100_000 <= found["compared"] == sum(each["compared"] for each in found["features"].values())
    )
    reached = {name: found["thresholds"][name]["value"] for name in AT_LEAST}
    assert {} == {name: got for name, got in reached.items() if got < AT_LEAST[name]}
    often = {name: each["non_default"] for name, each in found["features"].items()}
    assert round(sum(often.values()) / found["compared"], 4) == reached["non_default_share"]
    assert {} == {name: times for name, times in often.items() if times < 500}
    assert f"0 of {found['compared']:,}" in " ".join(README.split())


def test_one_of_them_is_of_every_aggregate_over_every_kind_of_window_that_takes_it() -> None:
    groups = load_use_case(KINDS).groups
    fading = {DecayedCount, DecayedSum}
    pairs = {(of, window) for of in get_args(Aggregate) for window in get_args(Window)}
    taken = {(of, window) for of, window in pairs if of not in fading or window is Sliding}
    declared = {
        (type(of), type(window))
        for group in groups
        for of in group.aggregates.values()
        for window in group.windows
    }
    assert taken == declared
    assert {*get_args(Derived)} == {type(of) for each in groups for of in each.derived.values()}
