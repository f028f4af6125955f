import json
from pathlib import Path
from typing import Any

import pytest

from dagster_project.commands.demo import closing_table
from dagster_project.commands.rollout import history, status
from dagster_project.deployment import Deployment
from dagster_project.stages.report import OPTIONAL, STAGES, stage_results
from dagster_project.stages.report_page import page
from data_contracts.lake import Lake
from data_contracts.results import write_result
from data_contracts.rollout import Plan, Target
from data_contracts.rollout_store import RolloutStore
from data_contracts.use_case import load_use_case
from data_contracts.views import digests_of

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
    status(use_case, tmp_path)
    assert f"{title}: plan 1: steady" in capsys.readouterr().out
    history(use_case, tmp_path)
    assert title in [line.strip() for line in capsys.readouterr().out.splitlines()]
    for command in (status, history):
        command(use_case, tmp_path, json=True)
        told = json.loads(capsys.readouterr().out)
        assert (use_case, title, simulated) == (
            told["use_case"], told["title"], told["simulated"]
        )  # fmt: skip


@pytest.mark.parametrize("current", [True, False])
def test_a_certificate_is_reported_for_the_definitions_that_it_is_of(
    tmp_path: Path, current: bool
) -> None:
    deployment = Deployment("clicks", tmp_path)
    for stage in STAGES:
        if stage not in OPTIONAL:
            write_result(deployment.lake, stage, {})
    digests = digests_of(deployment.use_case.groups)
    if not current:
        digests |= {"user_clicks_1h": "0" * 32}
    write_result(deployment.lake, "parity_certificate", {"feature_digests": digests})
    assert current == ("parity_certificate" in stage_results(deployment))
