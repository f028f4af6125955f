import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from data_contracts.clock import HOUR, MINUTE, SECOND, format_time
from data_contracts.predictions import SUFFIX, prediction_ids, read_log
from data_contracts.rollout_store import Report, RolloutStore
from serving.processes import descendants
from serving.replay import replay
from serving.running import RunningServer, running
from tests.integration.test_autoscaling import loaded
from tests.integration.world import NOW, World, patient

GONE_S = 60
CLIENTS = 4
TIMEOUT_MS = 20_000
"""Below what the proxy waits for a replica."""

PARENT = """
import json, sys
from serving.running import running
from serving.settings import Settings
with running(Settings.model_validate_json(sys.argv[1])) as server:
    print(json.dumps({"url": server.url, "pid": server.pid}), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[RunningServer]:
    with running(patient(world.root, clock="replay", replicas=2, timeout_ms=TIMEOUT_MS)) as server:
        yield server


@pytest.fixture
def client(server: RunningServer, world: World) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {world.operate}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


def asked(request_id: str) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "event_time": format_time(NOW + SECOND),
        "user_id": "u1",
        "candidates": [{"item_id": "i1", "position": 1}],
    }


def impression(number: int, moment: int) -> dict[str, Any]:
    stamp = format_time(moment)
    return {
        "event_id": f"v{number}",
        "event_type": "impression",
        "event_time": stamp,
        "arrived_at": stamp,
        "user_id": f"u{number % 3}",
        "item_id": f"i{number % 5}",
        "request_id": f"page{number // 2}",
        "position": number % 2 + 1,
    }


def wait_until_gone(pids: list[int]) -> None:
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([handle], [], [], GONE_S)[0], f"process {pid} is still there"
        os.close(handle)


def test_it_is_ready_and_answers_through_the_proxy(client: httpx.Client) -> None:
    ready = client.get("/readyz").json()
    assert (True, "1") == (ready["ready"], ready["use_cases"]["clicks"]["version"])
    assert "clicks" == client.get("/v1/use-cases").json()["use_cases"][0]["name"]
    answer = client.post("/clicks/v1/predict", json=asked("r1"))
    assert 200 == answer.status_code
    expected = prediction_ids("clicks", "1", "r1", ["u1\x1fi1"])
    assert expected == [each["prediction_id"] for each in answer.json()["predictions"]]


def test_problems_keep_their_form_behind_the_proxy(server: RunningServer) -> None:
    found = [
        httpx.get(f"{server.url}/nothing"),
        httpx.get(f"{server.url}/clicks/nothing"),
        httpx.post(f"{server.url}/clicks/v1/predict", json={}),
    ]
    assert [(404, "/nothing"), (404, "/clicks/nothing"), (401, "/clicks/v1/predict")] == [
        (answer.status_code, answer.json()["instance"]) for answer in found
    ]


@pytest.mark.parametrize("prefix", ["", "/clicks"])
def test_the_docs_page_and_what_it_loads_answer_through_the_proxy(
    client: httpx.Client, prefix: str
) -> None:
    assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", client.get(f"{prefix}/docs").text)
    assert 3 == len(assets)
    assert {(200, prefix)} == {
        (client.get(path).status_code, path.partition("/static")[0]) for path in assets
    }


def test_the_proxy_listens_on_loopback_only(server: RunningServer) -> None:
    commands = [Path(f"/proc/{p}/cmdline").read_bytes() for p in descendants(server.pid)]
    (proxy,) = [c.decode().split("\0") for c in commands if b"\0-db\0" in c]
    config = Path(proxy[proxy.index("-f") + 1]).read_text()
    binds = [line.split()[1] for line in config.splitlines() if line.strip().startswith("bind ")]
    assert 3 == len(binds)
    assert {"127.0.0.1"} == {bind.split(":")[0] for bind in binds}
    for told in ("timeout client 65s", "timeout http-request 10s"):
        assert 1 == config.count(told)


def test_what_goes_wrong_in_root_and_controller_stays_in_the_server_log(
    client: httpx.Client, world: World
) -> None:
    store = RolloutStore(world.lake.rollouts, "clicks")
    store.report(torn := Report("torn", "b", 1, {"at": "anna"}))
    try:
        assert 500 == client.get("/metrics").status_code
        while not (ours := [*world.lake.server_log.glob("controller-*.jsonl")]) or (
            "nothing was decided" not in ours[0].read_text()
        ):
            assert client.get("/healthz").is_success
    finally:
        store.fold([torn], Report("ended", "b", 1, {"at": 0.0, "ended": True}))
    (root,) = world.lake.server_log.glob("root-*.jsonl")
    told = [json.loads(line) for each in (root, *ours) for line in each.read_text().splitlines()]
    found = {(line["logger"], line["message"], line["error"]) for line in told}
    assert ("serving.problem", "GET /metrics failed", "TypeError") in found
    assert ("serving.controller", "rollout: nothing was decided", "TypeError") in found
    assert "anna" not in json.dumps(told)


def test_a_period_is_replayed_in_steps_predictions_before_their_events(
    server: RunningServer, world: World
) -> None:
    start = NOW // HOUR * HOUR + HOUR
    events = [impression(i, start + i * MINUTE) for i in range(90)]
    ends: list[int] = []
    seen: list[int] = []

    def at_step(end: int) -> None:
        ends.append(end)
        seen.append(len((landed()).splitlines()))

    def landed() -> str:
        return "".join(p.read_text() for p in sorted(world.lake.landing.iterdir()))

    before = len(landed().splitlines())
    found = replay(
        server.url, world.operate, world.use_case, reversed(events), 30 * MINUTE, at_step
    )
    assert (45, 0, None) == (found.requests, found.errors, found.first_error)
    assert (90, 0, 3) == (found.events, found.refused, found.steps)
    assert [start + n * 30 * MINUTE for n in (1, 2, 3)] == ends
    assert [30, 60, 90] == [n - before for n in seen]
    assert found.landing == {
        name: (world.lake.landing / name).stat().st_size for name in found.landing
    }
    logs = [read_log(path) for path in world.lake.prediction_log.glob(f"*{SUFFIX}")]
    records = [record for log in logs for record in log.records]
    pages = {r["request_id"]: r for r in records if r["request_id"].startswith("page")}
    assert {f"page{n}" for n in range(45)} == set(pages)
    assert start + 20 * MINUTE == pages["page10"]["q"]
    assert ["u2", "u0"] == [row["user_id"] for row in pages["page10"]["inputs"]]


def processes(server: RunningServer, part: str) -> list[psutil.Process]:
    """Of the server, those that live and whose command line holds `part`."""
    found: list[psutil.Process] = []
    for each in psutil.Process(server.pid).children(recursive=True):
        with suppress(psutil.Error):
            found += [each] if part in " ".join(each.cmdline()) else []
    return found


def test_a_killed_controller_s_lease_is_its_successor_s_and_no_request_fails(
    server: RunningServer, world: World
) -> None:
    store, pause = RolloutStore(world.lake.rollouts, "clicks"), threading.Event()

    def leads() -> str | None:
        beat = store.beat()
        return beat and beat[0]

    while not (first := leads()):
        pause.wait(0.05)
    with loaded(server.url, world, CLIENTS) as found:
        (controller,) = processes(server, "serving.controller")
        controller.kill()
        controller.wait(GONE_S)
        while leads() == first:
            pause.wait(0.05)
        before = found[200]
        while found[200] < before + 50:
            pause.wait(0.05)
    assert {200} == {*found}


def test_a_killed_replica_costs_a_client_one_answer_at_most(
    server: RunningServer, world: World
) -> None:
    with loaded(server.url, world, CLIENTS) as found:
        pause = threading.Event()
        while found[200] < 50:
            pause.wait(0.05)
        first, second = processes(server, "UseCaseIngress")
        first.kill()
        first.wait(GONE_S)
        before = found[200]
        while found[200] < before + 50:
            pause.wait(0.05)
    failed = found.total() - found[200]
    assert failed <= CLIENTS, found
    assert second.is_running() and server.process.poll() is None


def test_two_instances_stand_side_by_side_and_one_dies_with_its_killed_parent(
    client: httpx.Client, world: World
) -> None:
    settings = patient(world.root, clock="replay", timeout_ms=TIMEOUT_MS)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, settings.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert parent.stdout is not None and parent.stdin is not None
    try:
        other = json.loads(parent.stdout.readline())
        headers = {"authorization": f"Bearer {world.operate}"}
        answer = httpx.post(
            f"{other['url']}/clicks/v1/predict", json=asked("r2"), headers=headers, timeout=30
        )
        assert 200 == answer.status_code
        assert answer.json() == client.post("/clicks/v1/predict", json=asked("r2")).json()
        started = [other["pid"], *descendants(other["pid"])]
        assert len(started) > 5
    finally:
        parent.kill()
        parent.wait()
        parent.stdin.close()
        parent.stdout.close()
    wait_until_gone(started)
    assert 200 == client.post("/clicks/v1/predict", json=asked("r3")).status_code


@pytest.mark.full
def test_the_ui_tells_its_addresses_as_json_once_they_answer(world: World) -> None:
    command = [Path(sys.executable).parent / "headrace", "ui", "--json", "--root", world.root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as ui:
        assert ui.stdout is not None
        said = b""
        try:
            for line in ui.stdout:
                said += line
                if line == b"}\n":
                    break
            told = json.loads(said)
            assert {"dagster", "mlflow", "endpoint", "key"} == set(told)
            pages = [
                httpx.get(told[name], timeout=30) for name in ("dagster", "mlflow", "endpoint")
            ]
            assert [200, 200, 200] == [page.status_code for page in pages]
            answer = httpx.post(
                f"{told['endpoint'].removesuffix('/docs')}/clicks/v1/predict",
                json={k: v for k, v in asked("r-ui").items() if k != "event_time"},
                headers={"authorization": f"Bearer {told['key']}"},
                timeout=30,
            )
            assert 200 == answer.status_code
        finally:
            ui.send_signal(signal.SIGINT)
            rest = ui.stdout.read()
    assert (0, b"") == (ui.returncode, rest)
