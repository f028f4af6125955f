"""The release page as people see it: signed in, a release led by its buttons, on a phone too."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree

import httpx
import pytest

from data_contracts.clock import MINUTE, format_time
from data_contracts.gate_rules import DEFAULTS
from data_contracts.release import Evidence, judged
from data_contracts.rollout import Plan, bucket, salt
from data_contracts.rollout_store import RolloutStore
from data_contracts.sequences import Split, Sums
from data_contracts.use_case import load_use_case
from serving.running import running
from tests import browser
from tests.integration.releases import build_two
from tests.integration.world import NOW, World, as_role, asked, build, patient

pytestmark = [
    pytest.mark.full,
    pytest.mark.faults,
    pytest.mark.skipif(browser.BINARY is None, reason="needs chromium or google-chrome"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_two(tmp_path_factory.mktemp("page") / "lake")


@pytest.fixture(scope="module")
def url(world: World) -> Iterator[str]:
    settings = patient(world.root, engine="plain", clock="replay", poll_s=0.2, timeout_ms=10_000)
    with running(settings) as server:
        yield server.url


@pytest.fixture(scope="module")
def page(
    world: World, url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[browser.Page]:
    """Signed in; who asks is ada."""
    with signed_in(url, world, tmp_path_factory.mktemp("profile")) as page:
        page.run("document.getElementById('actor').value = 'ada'")
        yield page


@contextmanager
def signed_in(url: str, world: World, profile: Path) -> Generator[browser.Page]:
    with browser.opened(f"{url}/clicks/release", profile) as page:
        page.size(1280, 900)
        page.until("document.getElementById('login') && !document.getElementById('login').hidden")
        page.run(f"document.getElementById('key').value = '{world.operate}'")
        page.run("document.getElementById('login').requestSubmit()")
        page.until("document.getElementById('told').textContent.startsWith('Plan')")
        yield page


def text(page: browser.Page, place: str) -> str:
    return str(page.run(f"document.getElementById('{place}').textContent"))


def ask(page: browser.Page, action: str, reason: str, version: str = "") -> None:
    for name, value in {"reason": reason, "version": version}.items():
        page.run(f"document.getElementById('{name}').value = '{value}'")
    page.run(f"document.querySelector('#ask button[value={action}]').click()")


def until_told(page: browser.Page, place: str, said: str) -> None:
    page.until(f"document.getElementById('{place}').textContent.includes('{said}')")


def now_at(page: browser.Page, step: str) -> None:
    page.until(f"document.querySelector('#steps .now')?.textContent === '{step}'")


def look(plan: Plan, number: int) -> dict[str, object]:
    """The one of so many minutes after the canary began, with more users each time."""
    users, shown = 600 * number, 3_000 * number
    sums = Sums(-0.08 * number, shown / 4, shown / 400, shown / 400, (users, users // 2), shown)
    seen = Evidence(arms=sums, splits=(Split(0.01, users // 100, users),))
    decided = judged(plan, DEFAULTS, 0.05, seen, last=False).as_dict()
    time = format_time(NOW + number * MINUTE)
    return {"time": time, "epoch": plan.epoch, "waits": "", "decision": decided}


def fits_a_phone(page: browser.Page, place: Path) -> None:
    page.size(390, 844)
    assert page.run("document.documentElement.scrollWidth") <= 390, "it scrolls sideways"
    assert page.shot(place).startswith(b"\x89PNG")
    page.size(1280, 900)


def nothing_wrong(page: browser.Page) -> bool:
    """Before the sign-in the page asks, and is refused."""
    return [] == [error for error in page.errors if "status of 401" not in str(error)]


def test_a_release_is_begun_by_its_button_and_told_with_what_it_still_needs(
    page: browser.Page, tmp_path: Path
) -> None:
    assert ("Release of clicks", "clicks") == (page.run("document.title"), text(page, "use_case"))
    assert page.run("document.getElementById('simulated').hidden")
    assert "Plan 1: champion 1" in text(page, "told")
    ask(page, "start", "two more weeks", "2")
    now_at(page, "shadow")
    until_told(page, "gates", "% is there")
    assert "candidate 2 has" in text(page, "told")
    assert "paired log loss" in text(page, "gates") and "cannot judge" in text(page, "gates")
    assert "ada (key replay)" in text(page, "moves") and "two more weeks" in text(page, "requests")
    assert page.shot(tmp_path / "wide.png").startswith(b"\x89PNG")
    fits_a_phone(page, tmp_path / "phone.png")
    assert nothing_wrong(page)


def test_a_canary_is_led_and_ended_by_its_buttons_and_its_sequences_are_drawn(
    page: browser.Page, world: World, url: str, tmp_path: Path
) -> None:
    store = RolloutStore(world.lake.rollouts, world.use_case.name)
    if page.run("document.querySelector('#steps .now').textContent") == "steady":
        ask(page, "start", "two more weeks", "2")
    now_at(page, "shadow")
    ask(page, "advance", "no answer yet")
    until_told(page, "requests", "refused: its gates say cannot judge")
    page.run("document.getElementById('override').checked = true")
    ask(page, "advance", "I know it")
    now_at(page, "canary 1 %")
    plan = store.plan()
    assert plan is not None and plan.candidate is not None
    end = time.monotonic() + 60
    while all(report.body["epoch"] < plan.epoch for report in store.reports()):
        assert time.monotonic() < end, "no replica takes it up"
    mix = salt(world.use_case.name, plan)
    units = [f"u{i}" for i in range(10**4) if bucket(mix, f"u{i}") < plan.canary_bps][:3]
    with httpx.Client(base_url=url, headers=as_role(world.operate)) as client:
        for unit in [*units, "u1"]:
            body = asked(user_id=unit, request_id=f"of {unit}")
            assert 200 == client.post("/clicks/v1/predict", json=body).status_code
    page.until("document.getElementById('arms').rows[2].cells[1].textContent === '3'")
    for number in range(1, 41):
        store.look(plan.release, look(plan, number))
    page.until("document.querySelectorAll('#plots figure').length === 1")
    until_told(page, "plots", "40 looks, 120,000 impressions")
    drawn = "document.querySelector('#plots polyline').getAttribute('points').split(' ').length"
    assert 40 == page.run(drawn)
    assert "CTR so far" in text(page, "gates")
    page.run("document.getElementById('override').checked = false")
    ask(page, "hold", "over the holidays")
    until_told(page, "told", ", held.")
    assert page.shot(tmp_path / "canary.png").startswith(b"\x89PNG")
    fits_a_phone(page, tmp_path / "canary on a phone.png")
    page.run("window.confirm = (question) => { window.question = question; return true; }")
    ask(page, "abort", "enough seen")
    now_at(page, "steady")
    assert "abort: take the version out now?" == page.run("window.question")
    assert "aborted by ada (key replay): enough seen" in text(page, "barred")
    assert page.shot(tmp_path / "ended.png").startswith(b"\x89PNG")
    assert nothing_wrong(page)


def test_of_a_simulated_use_case_it_says_so_on_a_phone_too(tmp_path: Path) -> None:
    folder = tmp_path / "clicks"
    copytree(load_use_case("clicks").folder, folder)
    declared = folder / "use_case.py"
    said = declared.read_text()
    assert 1 == said.count('    owner="growth",\n    start=')
    declared.write_text(said.replace("    start=", "    simulated=True,\n    start=", 1))
    world = build(tmp_path / "lake", folder)
    settings = patient(
        world.root, use_case=str(folder), engine="plain", poll_s=0.2, timeout_ms=10_000
    )
    with (
        running(settings) as server,
        signed_in(server.url, world, tmp_path / "profile") as page,
    ):
        assert "Release of clicks (simulated)" == page.run("document.title")
        assert "clicks (simulated)" == text(page, "use_case")
        for width in (390, 1280):
            page.size(width, 844)
            box = "document.getElementById('simulated').getBoundingClientRect()"
            top, right, height = (page.run(f"{box}.{it}") for it in ("top", "right", "height"))
            assert 0 < top and top + height < 844 and 0 < height and right <= width
        assert page.shot(tmp_path / "wide.png").startswith(b"\x89PNG")
        fits_a_phone(page, tmp_path / "phone.png")
        assert nothing_wrong(page)
