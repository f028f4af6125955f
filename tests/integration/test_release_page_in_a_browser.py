"""The release page as people see it: signed in, a release begun by its button, on a phone too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.running import running
from serving.settings import Settings
from tests import browser
from tests.integration.releases import register_second
from tests.integration.world import World, build

pytestmark = [
    pytest.mark.full,
    pytest.mark.faults,
    pytest.mark.skipif(browser.BINARY is None, reason="needs chromium or google-chrome"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = build(tmp_path_factory.mktemp("page") / "lake")
    register_second(world)
    return world


@pytest.fixture(scope="module")
def page(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    settings = Settings(root=world.root, engine="plain", clock="replay", poll_s=0.2)
    profile = tmp_path_factory.mktemp("profile")
    with (
        running(settings) as server,
        browser.opened(f"{server.url}/clicks/release", profile) as page,
    ):
        yield page


def text(page: browser.Page, place: str) -> str:
    return str(page.run(f"document.getElementById('{place}').textContent"))


def test_a_release_is_begun_by_its_button_and_told_with_what_it_still_needs(
    page: browser.Page, world: World, tmp_path: Path
) -> None:
    page.size(1280, 900)
    page.until("document.getElementById('login') && !document.getElementById('login').hidden")
    page.run(f"document.getElementById('key').value = '{world.operate}'")
    page.run("document.getElementById('login').requestSubmit()")
    page.until("document.getElementById('told').textContent.startsWith('Plan 1: champion 1')")
    filled = {"actor": "ada", "reason": "two more weeks", "version": "2"}
    for name, value in filled.items():
        page.run(f"document.getElementById('{name}').value = '{value}'")
    page.run("document.querySelector('#ask button[value=start]').click()")
    page.until("document.querySelector('#steps .now')?.textContent === 'shadow'")
    page.until("document.getElementById('gates').textContent.includes('% is there')")
    assert "candidate 2 has" in text(page, "told")
    assert "paired log loss" in text(page, "gates") and "cannot judge" in text(page, "gates")
    assert "ada" in text(page, "moves") and "two more weeks" in text(page, "requests")
    assert page.shot(tmp_path / "wide.png").startswith(b"\x89PNG")
    page.size(390, 844)
    assert page.run("document.documentElement.scrollWidth") <= 390, "it scrolls sideways"
    page.shot(tmp_path / "phone.png")
    # Before the sign-in the page asks, and is refused.
    assert [] == [error for error in page.errors if "status of 401" not in str(error)]
