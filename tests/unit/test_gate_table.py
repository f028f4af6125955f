"""How people are shown what was decided: in a terminal, by three commands."""

from dataclasses import replace

import pytest
from rich.console import Console

from dagster_project.commands import model, models, rollout
from dagster_project.gate_table import COLUMNS, gate_rows, gate_table
from data_contracts.gates import Check, Decision

ERRORS = Check("errors", "pass", "[b]0", "<= 0.001", 12_345)
DECIDED = Decision("canary", (ERRORS, replace(ERRORS, name="CTR", mode="dry_run"))).as_dict()
COUNTS = {"errors": "required, enforce", "CTR": "required, dry_run"}


def test_a_check_is_shown_with_level_mode_and_sample_and_its_text_as_it_is() -> None:
    assert [
        (name, counts, "pass", "[b]0", "<= 0.001", "12,345") for name, counts in COUNTS.items()
    ] == gate_rows(DECIDED)
    assert [] == gate_rows(None)
    console = Console(width=120, record=True)
    with console.capture() as shown:
        console.print(gate_table(DECIDED, {"still needs": {"CTR": "40% is there"}}))
    head, errors, ctr = shown.get().splitlines()
    assert [*" ".join(COLUMNS).split(), "still", "needs"] == head.split()
    assert "[b]0" in errors and "40% is there" in ctr and "40%" not in errors


def test_train_show_and_status_print_the_same_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    named = ("version", "aliases", "model", "continued_from", "verdict", "bundle", "run_id")
    found = {
        **dict.fromkeys((*named, "features")), "baselines": {}, "metrics": {}, "decision": DECIDED,
        **dict.fromkeys(("title", "epoch", "stage", "champion", "candidate", "reason", "waits")),
        "arms": {}, "remaining": [], "barred": {}, "slate_value": None,
    }  # fmt: skip
    for present in (model.present_trained, models.present_version, rollout.present_status):
        present(found)
        told = capsys.readouterr().out
        for name, counts in COUNTS.items():
            (line,) = (each for each in told.splitlines() if each.startswith(f"{name} "))
            assert counts in line and "12,345" in line
        assert "evidence" not in told
