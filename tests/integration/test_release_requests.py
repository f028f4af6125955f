"""What is asked of a release while the ledger, the store or the replicas are not there."""

import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from data_contracts.rollout import Plan
from serving.features import FeatureReader
from serving.registry import Registry
from tests.integration.releases import Release


@pytest.mark.parametrize(("action", "stages"), [("abort", 1), ("rollback", 9)])
def test_a_ledger_that_another_process_has_locked_keeps_no_version_in(
    release: Release, action: str, stages: int
) -> None:
    """A backup, or a writer that was stopped in its commit."""
    assert "epoch" in release.ask("start", "2")
    while release.plan.candidate is not None and (stages := stages - 1) >= 0:
        assert "epoch" in release.ask("advance", override=True)
    with closing(sqlite3.connect(release.lake.ledger, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        release.store.ask("now", "ada", action, None, "it is bad", True)
        began = time.monotonic()
        release.controller.tick()
        took = time.monotonic() - began
        other.rollback()
    assert f"epoch {release.plan.epoch}" == release.store.requests()[-1].answer
    assert ("steady", "1", {"2"}) == (
        release.plan.stage, release.plan.champion.version, release.store.barred().keys()
    )  # fmt: skip
    assert took < 5


def test_a_start_that_waits_is_called_off_by_an_abort(release: Release) -> None:
    release.settle()
    for action, version in (("start", "2"), ("abort", None)):
        release.store.ask("now", "ada", action, version, "wrong labels", False)
    release.settle()
    start, abort = release.store.requests()
    assert "refused: aborted by ada: wrong labels" == start.answer
    assert "called off before it began: version 2" == abort.answer
    assert "steady" == release.plan.stage
    assert "no release is under way" in release.ask("abort")
    assert "epoch" in release.ask("start", "2")


@pytest.mark.parametrize("aborted", [False, True])
def test_a_start_amid_which_the_registry_went_away_goes_on_and_an_abort_ends_it(
    release: Release, monkeypatch: pytest.MonkeyPatch, aborted: bool
) -> None:
    """Once the version is in the shadow; and comes back."""
    release.settle()
    release.store.ask("now", "ada", "start", "2", "a test", False)
    alignment = release.controller._alignment
    aligned, away = alignment._aligned, [False, True]

    def breaks(plan: Plan) -> Plan:
        if away and away.pop(0):
            raise OSError("the registry is away")
        return aligned(plan)

    monkeypatch.setattr(alignment, "_aligned", breaks)
    # Of a turn the first brings plan and aliases together, the next begins the start.
    away.insert(0, False)
    release.controller.align()
    assert "the registry cannot be followed" in release.controller.waits
    if aborted:
        release.store.ask("now", "bob", "abort", None, "wrong labels", False)
    release.settle()
    start, *others = release.store.requests()
    assert "epoch 2" == start.answer
    if not aborted:
        assert ("shadow", []) == (release.plan.stage, others)
        return
    assert "epoch 3" == others[0].answer
    assert ("steady", {"2"}) == (release.plan.stage, release.store.barred().keys())
    assert {"champion": "1"} == Registry(release.lake).aliases("clicks")


def test_a_release_begins_once_a_replica_has_been_heard(release: Release) -> None:
    release.store.ask("now", "ada", "start", "2", "a test", False)
    release.controller.tick()
    release.controller.align()
    assert (None, "steady") == (release.store.requests()[-1].answer, release.plan.stage)
    release.settle()
    assert ("epoch 2", "shadow") == (release.store.requests()[-1].answer, release.plan.stage)


def test_what_a_failing_store_was_answered_by_is_no_evidence_of_a_shadow(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both models would be judged by the declared defaults."""
    assert "epoch" in release.ask("start", "2")

    def away(self: FeatureReader, *asked: Any) -> None:
        raise OSError("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(FeatureReader, "_read", away)
        assert release.predict("u1", "blind").json()["flags"]["store_failed"]
    shadow = release.replica.predictor.shadow
    release.client.run(shadow.close())
    assert (0, 1) == (shadow.scored, shadow.dropped)
    assert not release.predict("u1", "seen").json()["flags"]["store_failed"]
    release.client.run(shadow.close())
    assert (1, 1) == (shadow.scored, shadow.dropped)
