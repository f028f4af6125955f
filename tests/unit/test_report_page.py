import json
from pathlib import Path
from typing import Any

import pytest
import typer

from dagster_project.command import command, run
from dagster_project.commands.demo import closing_table
from dagster_project.commands.rollout import history, present_history, present_status, status
from dagster_project.deployment import Deployment
from dagster_project.stages.report import NEEDED, stage_results, write_report
from dagster_project.stages.report_page import page
from data_contracts.lake import Lake
from data_contracts.off_policy import no_value
from data_contracts.results import write_result
from data_contracts.rollout import Plan, Target
from data_contracts.rollout_store import RolloutStore
from data_contracts.use_case import load_use_case
from data_contracts.views import digests_of
from training.registry import Registry

SUMMARY: dict[str, Any] = {"title": "clicks", "sound": True, "problems": [], "rows": []}


def found(offline: float, live: float) -> dict[str, Any]:
    """Results of the stages, cut down to what the page reads."""
    return {
        "model": {
            "decision": {"checks": []},
            "model": "fm",
            "metrics": {},
            "slices": {},
            "worst_slice": None,
            "confidence": offline,
        },
        "outcomes": {"positives": 3, "confidence": live},
        "drift": {"drifted": {}, "compared": 4, "skipped": [], "html": "drift.html"},
    }


@pytest.mark.parametrize(
    ("offline", "live", "said"),
    [
        (0.95, 0.95, "Intervals are 95 % intervals"),
        (0.999, 0.999, "Intervals are 99.9 % intervals"),
        (0.95, 0.9, "Intervals are 90 % and 95 % intervals"),
    ],
)
def test_the_page_says_with_what_confidence_the_intervals_were_made(
    offline: float, live: float, said: str
) -> None:
    assert said in page(SUMMARY, found(offline, live))


def test_what_is_shown_of_a_generated_log_says_that_it_is_simulated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    title = load_use_case("world").title
    assert ("world (simulated)", "clicks") == (title, load_use_case("clicks").title)
    html = page({**SUMMARY, "title": title}, found(0.95, 0.95))
    assert "<h1>Headrace: world (simulated)</h1>" in html
    assert "<title>Headrace: world (simulated)</title>" in html
    closing_table({**SUMMARY, "title": title, "html": "report.html"})
    assert "Headrace: world (simulated)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("use_case", "title", "simulated"),
    [("world", "world (simulated)", True), ("clicks", "clicks", False)],
)
def test_what_is_told_of_a_rollout_says_whether_it_is_simulated(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    use_case: str,
    title: str,
    simulated: bool,
) -> None:
    RolloutStore(Lake(tmp_path, use_case).rollouts, use_case).add(Plan(1, Target("1", "a")))
    statuses, plans = command(status, present_status), command(history, present_history)
    statuses(use_case=use_case, root=tmp_path)
    assert f"{title}: plan 1: steady" in capsys.readouterr().out
    plans(use_case=use_case, root=tmp_path)
    assert title in [line.strip() for line in capsys.readouterr().out.splitlines()]
    for each in (statuses, plans):
        each(use_case=use_case, root=tmp_path, json=True)
        told = json.loads(capsys.readouterr().out)
        assert (use_case, title, simulated) == (
            told["use_case"], told["title"], told["simulated"]
        )  # fmt: skip


def test_what_a_person_wrote_is_told_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = Plan(1, Target("1", "a"), reason="see [docs] and [/tmp/x]")
    RolloutStore(Lake(tmp_path, "clicks").rollouts, "clicks").add(written)
    command(history, present_history)(use_case="clicks", root=tmp_path)
    told = " ".join(capsys.readouterr().out.split())
    assert "[docs]" in told and "[/tmp/x]" in told


@pytest.mark.parametrize("current", [True, False])
def test_a_certificate_is_reported_for_the_definitions_that_it_is_of(
    tmp_path: Path, current: bool
) -> None:
    deployment = Deployment("clicks", tmp_path)
    for stage in NEEDED:
        write_result(deployment.lake, stage, {})
    digests = digests_of(deployment.use_case.groups)
    if not current:
        digests |= {"user_clicks_1h": "0" * 32}
    write_result(deployment.lake, "parity_certificate", {"feature_digests": digests})
    assert current == ("parity_certificate" in stage_results(deployment))


def test_a_lake_that_others_feed_and_ask_is_reported_without_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registry, "aliases", lambda *_: {"canary": "1"})
    deployment = Deployment("clicks", tmp_path)
    figures = {"value": 0.5, "low": None, "high": None, "n": 9}
    metrics = dict.fromkeys(("log_loss", "auc", "calibration_error"), figures)
    results = found(0.95, 0.95)
    results["model"] |= {
        "name": "clicks", "version": "1", "alias": "champion", "metrics": {"fm": metrics},
        "decision": {"checks": [], "verdict": "pass", "advice": "pass"},
    }  # fmt: skip
    results["outcomes"] |= {
        "metrics": metrics, "versions": {"1": 3}, "last_version": "1", "late": 0, "gaps": 0,
        "requests": 3, "store_failures": 0,
        "parity": {"mismatches": 0, "compared": 7, "non_default": 5, "lagging": 0},
    }  # fmt: skip
    results["drift"] |= {"share": 0.25}
    results["conservation"] = {
        "records": 9, "events": 9, "duplicates": 0, "conflicts": 0, "quarantined": 0,
        "expired": 0, "waiting": 0, "holds": True,
    }  # fmt: skip
    unserved = no_value("no slate is left: 3 logged without inputs").as_dict()
    unserved |= {"left_out": {"logged without inputs": 3}}
    results["exploration"] = {"values": {"version 2": unserved}}
    for stage, result in results.items():
        write_result(deployment.lake, stage, result)
    assert ([], True) == tuple(write_report(deployment)[name] for name in ("problems", "sound"))
    shown = (tmp_path / "report.html").read_text()
    # It was the champion when it was trained.
    assert "canary: pass" in shown
    assert "above the logged order, cannot judge: no slate is left: 3 logged without" in shown
    assert "left out: 3 logged without inputs" in shown
    assert "Everything checked holds." in shown and "stream == backfill" not in shown
    write_result(deployment.lake, "predictions", {"requests": 4, "errors": 0, "p50_ms": 1.0,
                                                  "p99_ms": 2.0})  # fmt: skip
    write_result(deployment.lake, "online_state", {"mismatches": 0, "compared": 0})
    missing = ["nothing of stream and backfill was compared", "predictions missing from the log"]
    assert missing == write_report(deployment)["problems"]
    results["outcomes"] |= {"store_failures": 2}
    write_result(deployment.lake, "outcomes", results["outcomes"])
    for told in (["the online store failed while serving"], []):
        problems = write_report(deployment)["problems"]
        assert told == [each for each in problems if each not in missing]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_result_that_is_not_sound_is_shown_and_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    summary = {**SUMMARY, "html": "report.html", "problems": ["served features differ"]}
    with pytest.raises(typer.Exit) as ended:
        run(lambda _: summary, Deployment("clicks", tmp_path), as_json, False, closing_table)
    said = capsys.readouterr()
    assert 1 == ended.value.exit_code and "clicks" in said.out
    assert "headrace: not sound: served features differ\n" == said.err.splitlines(True)[-1]
