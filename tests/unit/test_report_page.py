from typing import Any

import pytest

from dagster_project.stages.report_page import page

SUMMARY: dict[str, Any] = {"use_case": "clicks", "sound": True, "problems": [], "rows": []}


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
