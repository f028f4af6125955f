"""A use case that stages its releases: Dagster asks, the controller answers, commands tell."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser

import pytest
import typer

from dagster_project.command import command
from dagster_project.commands import rollout as commands
from dagster_project.deployment import Deployment
from dagster_project.stages.rollout import propose, waiting
from data_contracts.moves import Moves
from serving.app import build_app
from serving.registry import Registry
from tests.integration.asgi import Client
from tests.integration.releases import Release, build_two
from tests.integration.world import patient


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    world = build_two(tmp_path_factory.mktemp("staged"))
    Moves(Registry(world.lake), world.lake, world.use_case, "headrace train").promote(
        "2", "challenger"
    )
    settings = patient(world.root, clock="replay", poll_s=3600.0)
    with Client(build_app(settings)) as client:
        yield Release(world, client)


@contextmanager
def crowded(release: Release) -> Iterator[None]:
    """There is no memory for a candidate."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("serving.watch.memory.left", lambda: 1 << 20)
        release.settle()
        yield
    release.settle()


def test_a_challenger_is_asked_for_once_there_is_room_and_its_release_is_told(
    release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = Deployment("clicks", release.world.root)
    assert waiting(deployment) is None
    assert "no plan yet" in str(propose(deployment, "Dagster")["stage"])
    release.settle()
    assert "2" == waiting(deployment)
    with crowded(release):
        assert "2" == propose(deployment, "Dagster")["asked_for"]
        assert waiting(deployment) is None
        release.settle()
        refused = str(release.store.requests()[-1].answer)
        assert refused.startswith("refused for now: no headroom: the candidate may take")
    assert ("steady", "2") == (release.plan.stage, waiting(deployment))
    assert "2" == propose(deployment, "Dagster")["asked_for"]
    assert waiting(deployment) is None
    release.settle()
    told = propose(deployment, "Dagster")
    assert ("nothing", "shadow", "2") == (told["asked_for"], told["stage"], told["candidate"])
    command(commands.status, commands.present_status)(root=release.world.root)
    said = capsys.readouterr().out
    assert "copies of 100 % of the requests" in said and "errors" in said
    asked = threading.Thread(
        target=command(commands.advance), kwargs={"root": release.world.root, "override": True}
    )
    asked.start()
    while asked.is_alive():
        release.settle()
        asked.join(0.05)
    assert ("canary", 100) == (release.plan.stage, release.plan.canary_bps)
    command(commands.history, commands.present_history)(root=release.world.root)
    command(commands.replay)(root=release.world.root, json=True)
    assert '"faults": []' in capsys.readouterr().out
    assert ["controller", "Dagster", getuser()] == [p.actor for p in release.store.plans()]


def test_what_the_controller_refuses_fails_the_command(
    release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    failed: list[int] = []

    def start() -> None:
        try:
            command(commands.start)(version="2", root=release.world.root)
        except typer.Exit as left:
            failed.append(left.exit_code)

    asked = threading.Thread(target=start)
    asked.start()
    while asked.is_alive():
        release.settle()
        asked.join(0.05)
    assert [1] == failed
    assert "refused: version 2 is being released" in capsys.readouterr().err.replace("\n", " ")
