"""The proofs that README tells of: their certificates are of today's definitions, and hold."""

import json
from pathlib import Path

import pytest

from data_contracts.use_case import load_use_case
from data_contracts.views import digests_of

HERE = Path(__file__).parent
README = (HERE.parents[1] / "README.md").read_text()
AT_LEAST = {
    "non_default_share": 0.3, "boundary_share": 0.5, "spark_schedules": 20, "kill_signals": 5
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("clicks", "clicks"),
        ("deskdrop", str(HERE.parent / "usecases/deskdrop")),
        ("world", "world"),
    ],
)
def test_a_certificate_is_of_these_definitions_and_holds(name: str, reference: str) -> None:
    found = json.loads((HERE / "certificates" / f"{name}.json").read_text())
    use_case = load_use_case(reference)
    assert (use_case.name, use_case.declared.simulated) == (found["use_case"], found["simulated"])
    declared = digests_of(use_case.groups)
    assert declared == found["feature_digests"], "prove these definitions: `headrace parity`"
    assert (200, 0, True) == (found["schedules"], found["mismatches"], found["holds"])
    assert (
        100_000 <= found["compared"] == sum(each["compared"] for each in found["features"].values())
    )
    reached = {name: found["thresholds"][name]["value"] for name in AT_LEAST}
    assert {} == {name: got for name, got in reached.items() if got < AT_LEAST[name]}
    moved = {name: each for name, each in found["features"].items() if name not in found["unmoved"]}
    assert {} == {name: each for name, each in moved.items() if each["non_default"] < 500}
    assert f"0 of {found['compared']:,}" in " ".join(README.split())
