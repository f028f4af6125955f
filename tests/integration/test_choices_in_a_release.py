"""What a use case chooses, and reasons, while a candidate is beside the champion."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from serving.app import build_app
from tests.integration.asgi import Client
from tests.integration.releases import Release, build_two
from tests.integration.test_chosen_answers import DECLARED, ITEMS, NAMED, RULES
from tests.integration.world import patient

pytestmark = [pytest.mark.full, pytest.mark.faults]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    world = build_two(tmp_path_factory.mktemp("released") / "lake")
    folder = tmp_path_factory.mktemp("declared") / "clicks"
    folder.mkdir()
    shutil.copy(world.use_case.folder / "events.odcs.yaml", folder)
    rollout = "rollout=Rollout(unit='user_id'), exploration="
    declared = DECLARED.format(rules=NAMED).replace("exploration=", rollout)
    (folder / "use_case.py").write_text(f"from data_contracts.rollout import Rollout\n{declared}")
    (folder / "rules.py").write_text(RULES)
    settings = patient(
        world.root, clock="replay", use_case=str(folder), poll_s=3600.0, lease_s=600.0,
        candidate_timeout_ms=20_000,
    )  # fmt: skip
    with Client(build_app(settings)) as client:
        yield Release(world, client)


def ask(release: Release, unit: str, name: str) -> dict[str, Any]:
    """The answer with its reasons; the third of the six candidates is dropped by a rule."""
    rows = [{"item_id": item, "position": 1 + i % 3} for i, item in enumerate(ITEMS)]
    body = {"user_id": unit, "request_id": name, "candidates": rows}
    path = "/clicks/v1/predict?explain=1"
    answer = release.client.post(path, json=body, headers=release.key)
    assert 200 == answer.status_code, answer.text
    return answer.json()


def test_copies_hold_what_was_asked_of_the_champion_whatever_order_was_shown(
    release: Release,
) -> None:
    assert "epoch" in release.ask("start", "2")
    answers = [ask(release, f"u{i}", f"shadow{i}") for i in range(4)]
    release.client.run(release.replica.predictor.shadow.close())
    blocks = [record["shadow"] for record in release.records() if "shadow" in record]
    kept = [
        row["prediction_id"]
        for answer in answers
        for row in answer["predictions"]
        if row["score"] is not None
    ]
    assert (20, kept) == (len(kept), [name for block in blocks for name in block["prediction_ids"]])


def test_the_candidate_s_own_scores_give_order_propensities_and_reasons(release: Release) -> None:
    while release.plan.canary_bps < 5_000:
        assert "epoch" in release.ask("advance", override=True)
    ours = release.unit(5_000)
    others = (f"x{i}" for i in range(100))
    theirs = next(unit for unit in others if ask(release, unit, unit)["version"] == "1")
    told = {"2": ask(release, ours, "candidate"), "1": ask(release, theirs, "champion")}
    assert ["2", "1"] == [answer["version"] for answer in told.values()]
    for record in release.records()[-2:]:
        answer = told[record["version"]]
        assert record["arm"] == ("candidate" if record["version"] == "2" else "champion")
        assert record["scores"] == [
            row["score"] for row in answer["predictions"] if row["score"] is not None
        ]
        assert 1 == answer["predictions"][4]["rank"], "pinned, whoever answers"
        assert 3 == len(record["choice"]["slot_propensities"])
        reasons = [row["attributions"] for row in answer["explanation"]["candidates"]]
        assert None is answer["explanation"]["failed"] and 5 == len(reasons)
        assert all(any(each.values()) for each in reasons)
    weighed = [
        answer["explanation"]["candidates"][0]["attributions"]["item_id"]
        for answer in told.values()
    ]
    assert weighed[0] != pytest.approx(weighed[1]), "each by the model that answered"
