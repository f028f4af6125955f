"""The generated click world: the same bytes for a seed, and a truth that its log agrees with."""

import hashlib
import json
import tracemalloc
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.clock import HOUR, MINUTE
from data_contracts.record import Event, Refused, parse_record, payload_digest
from data_contracts.use_case import load_use_case
from data_contracts.world.behaviour import CLICKS, IMPRESSIONS, Behaviour
from data_contracts.world.draws import logistic, triangle
from data_contracts.world.generator import KINDS, ORIGINAL, records
from data_contracts.world.log import write_world
from data_contracts.world.parameters import Parameters
from data_contracts.world.population import DEVICES, Population

PARAMETERS = Parameters(20_000, seed=11)
CONTRACT = load_use_case("world").contract
PINNED = "add3e8d06de6319a6c388be2b90a07cc101a3cde479a51131b0924db8abb6e9c"
"""sha256 over the files of `Parameters(5_000, seed=1)`: another machine must find it too."""


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "out"
    write_world(PARAMETERS, out)
    return out


@pytest.fixture(scope="module")
def arrived(log: Path) -> list[tuple[str, int, Event]]:
    """(file, line, event) of every record of the log that can be imported."""
    return [
        (path.name, number, parse_record(CONTRACT, line))
        for path in sorted(log.glob("*.jsonl"))
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
    ]


@pytest.fixture(scope="module")
def events(arrived: list[tuple[str, int, Event]]) -> dict[str, Event]:
    """The first record of each id."""
    first: dict[str, Event] = {}
    for _, _, event in arrived:
        first.setdefault(event["event_id"], event)
    return first


@pytest.fixture(scope="module")
def truth(log: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.stem: rows(path) for path in (log / "truth").iterdir()}


def test_the_bytes_of_a_seed_are_pinned(tmp_path: Path) -> None:
    write_world(Parameters(5_000, seed=1), tmp_path / "out")
    digest = hashlib.sha256()
    for name, data in files(tmp_path / "out").items():
        digest.update(f"{name} {len(data)}\n".encode() + data)
    assert PINNED == digest.hexdigest()


def test_the_same_parameters_are_the_same_files(log: Path, tmp_path: Path) -> None:
    write_world(PARAMETERS, tmp_path / "again")
    assert files(log) == files(tmp_path / "again")


def test_another_seed_is_another_world(log: Path, tmp_path: Path) -> None:
    write_world(Parameters(20_000, seed=12), tmp_path / "other")
    assert files(log)["2024-01-01.jsonl"] != files(tmp_path / "other")["2024-01-01.jsonl"]


@pytest.mark.parametrize("slice_sessions", [1, 37, 2_000])
def test_no_record_depends_on_where_slices_end(slice_sessions: int) -> None:
    small = Parameters(3_000, seed=5)
    expected = np.concatenate(list(records(small)))
    assert expected.tobytes() == np.concatenate(list(records(small, slice_sessions))).tobytes()


def test_blocks_are_in_order_of_arrival_and_hold_as_many_records_as_asked_for() -> None:
    blocks = list(records(PARAMETERS))
    assert PARAMETERS.events == sum(map(len, blocks))
    times = np.concatenate(blocks)["arrived"]
    assert bool((np.diff(times) >= 0).all())


def test_the_log_holds_as_many_records_as_asked_for(log: Path) -> None:
    lines = [len(path.read_bytes().splitlines()) for path in log.glob("**/20*.jsonl")]
    summary = json.loads((log / "world.json").read_text())
    assert PARAMETERS.events == sum(lines)
    assert PARAMETERS.events == summary["records"]
    assert summary["simulated"] is True


def test_records_stand_in_order_of_arrival_and_not_of_time(
    arrived: list[tuple[str, int, Event]],
) -> None:
    arrivals = [event["arrived_at"] for _, _, event in arrived]
    assert sorted(arrivals) == arrivals
    times = [event["event_time"] for _, _, event in arrived]
    assert sorted(times) != times
    assert all(event["event_time"] < event["arrived_at"] for _, _, event in arrived)


def test_each_listed_copy_is_one_and_none_is_missing(
    arrived: list[tuple[str, int, Event]], truth: dict[str, list[dict[str, Any]]]
) -> None:
    seen: dict[str, str] = {}
    expected: list[dict[str, Any]] = []
    for file, line, event in arrived:
        name, digest = event["event_id"], payload_digest(event)
        if name in seen:
            verdict = "duplicate" if seen[name] == digest else "conflict"
            expected.append({"file": file, "line": line, "event_id": name, "verdict": verdict})
        seen.setdefault(name, digest)
    assert expected == truth["copies"]
    assert {"duplicate", "conflict"} == {row["verdict"] for row in expected}


def test_each_late_record_is_listed_with_how_late_it_is(
    arrived: list[tuple[str, int, Event]], truth: dict[str, list[dict[str, Any]]]
) -> None:
    expected = [
        {"file": file, "line": line, "event_id": event["event_id"], "late_us": late}
        for file, line, event in arrived
        if (late := event["arrived_at"] - event["event_time"]) > MINUTE
    ]
    assert expected == truth["late"]
    assert max(row["late_us"] for row in expected) > HOUR


def test_every_malformed_line_is_refused_for_the_stated_field(
    log: Path, truth: dict[str, list[dict[str, Any]]]
) -> None:
    broken = {
        (f"malformed/{path.name}", number): line
        for path in (log / "malformed").iterdir()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
    }
    assert set(broken) == {(row["file"], row["line"]) for row in truth["malformed"]}
    for row in truth["malformed"]:
        with pytest.raises(Refused) as refused:
            parse_record(CONTRACT, broken[row["file"], row["line"]])
        (reason,) = refused.value.reasons
        assert row["field"] == reason.partition(":")[0].strip("'")
    assert len({row["field"] for row in truth["malformed"]}) > 5


def test_the_funnel_has_the_stated_delays(
    events: dict[str, Event], truth: dict[str, list[dict[str, Any]]]
) -> None:
    before = {"click": "", "cart": "-click", "purchase": "-cart"}
    listed = {row["event_id"]: row for row in truth["funnel"]}
    assert set(listed) == {n for n, e in events.items() if e["event_type"] != "impression"}
    checked = Counter[str]()
    for name, row in listed.items():
        cause = events.get(row["impression_id"] + before[row["event_type"]])
        if cause is not None:
            assert row["delay_us"] == events[name]["event_time"] - cause["event_time"]
            assert cause["item_id"] == events[name]["item_id"]
            checked[row["event_type"]] += 1
    assert {"click", "cart", "purchase"} == set(checked)


def test_a_click_is_in_the_log_as_soon_as_it_could_arrive(
    events: dict[str, Event], truth: dict[str, list[dict[str, Any]]]
) -> None:
    within = load_use_case("world").label.window
    end = max(event["arrived_at"] for event in events.values())
    for row in truth["impressions"]:
        shown, click = events[row["event_id"]], events.get(f"{row['event_id']}-click")
        if shown["event_time"] + within + 7 * HOUR < end:
            assert row["clicked"] == (click is not None)
        if click is not None:
            assert click["event_time"] - shown["event_time"] < within


def deviations(clicked: np.ndarray, p: np.ndarray) -> float:
    return float((clicked.sum() - p.sum()) / np.sqrt((p * (1 - p)).sum()))


def shown(parameters: Parameters) -> np.ndarray:
    log = np.concatenate(list(records(parameters)))
    return log[(log["kind"] == 0) & (log["copy"] == ORIGINAL)]


def test_p_true_is_the_share_that_clicks() -> None:
    rows = shown(Parameters(200_000, seed=4))
    for part in (rows, rows[rows["p"] < 0.05], rows[rows["p"] > 0.3], rows[rows["clicks"] > 1]):
        assert abs(deviations(part["clicked"], part["p"])) < 4
    assert len(rows) / 30 < rows["clicked"].sum() < len(rows) / 3


def naive(times: list[int], window: Any, q: int) -> int:
    low, high = window.bounds(q)
    return sum(low <= t < high for t in times)


def test_p_true_is_the_stated_formula_of_the_history_in_the_log(
    events: dict[str, Event], truth: dict[str, list[dict[str, Any]]]
) -> None:
    """Far enough from the log's end all of the history has arrived, so the counts are exact."""
    people = Population(PARAMETERS)
    done: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events.values():
        done[event["user_id"], event["event_type"]].append(event["event_time"])
    end = max(event["arrived_at"] for event in events.values()) - 7 * HOUR
    histories = Counter[tuple[bool, bool]]()
    for row in truth["impressions"][::5]:
        event = events[row["event_id"]]
        if event["event_time"] >= end:
            continue
        q, user = event["event_time"], event["user_id"]
        clicks = naive(done[user, "click"], CLICKS, q)
        impressions = naive(done[user, "impression"], IMPRESSIONS, q)
        assert (row["clicks_1h"], row["impressions_10m"]) == (clicks, impressions)
        p = Behaviour(people).p_true(
            np.array([int(user[1:])]), np.array([int(event["item_id"][1:])]),
            np.array([event["position"]]), np.array([DEVICES.index(event["device"])]),
            np.array([q]), np.array([clicks]), np.array([impressions]),
        )  # fmt: skip
        assert row["p_true"] == float(p[0])
        histories[clicks > 0, impressions > 0] += 1
    assert min(histories[pair] for pair in ((True, True), (False, True), (False, False))) > 50


def test_each_term_of_the_formula_moves_the_logit_by_its_coefficient() -> None:
    people = Population(PARAMETERS)
    before, drifted = PARAMETERS.drift_at - HOUR, PARAMETERS.drift_at + 71 * HOUR
    steady = int(np.flatnonzero(people.category >= PARAMETERS.drift_categories)[0])
    at = {"users": 3, "items": steady, "positions": 1, "devices": 2, "times": before}
    ask = partial(_logit, people, at | {"clicks": 0, "impressions": 0})
    c = PARAMETERS
    assert c.appetite * 2 == pytest.approx(ask(clicks=2) - ask())
    assert c.appetite * c.most_appetite == pytest.approx(ask(clicks=9) - ask())
    assert -c.fatigue * 5 == pytest.approx(ask(impressions=5) - ask())
    assert -c.fatigue * c.most_fatigue == pytest.approx(ask(impressions=99) - ask())
    assert -c.position_decay * 3 == pytest.approx(ask(positions=4) - ask())
    assert c.device[0] - c.device[2] == pytest.approx(ask(devices=0) - ask())
    assert c.drift_base == pytest.approx(ask(times=drifted) - ask())
    low = PARAMETERS.trend_period - int(people.phase[steady])
    half = PARAMETERS.trend_period // 2
    by_day = c.evening * (triangle(np.array(low + half - 8 * HOUR), 24 * HOUR)
                          - triangle(np.array(low - 8 * HOUR), 24 * HOUR))  # fmt: skip
    assert 2 * c.trend + float(by_day) == pytest.approx(ask(times=low + half) - ask(times=low))


def test_a_triangle_wave_rises_from_low_to_high_and_falls_back() -> None:
    times = np.array([0, 5, 10, 15, 20, -10, 25])
    assert [-1, 0, 1, 0, -1, 1, 0] == triangle(times, 20).tolist()


def _logit(people: Population, given: dict[str, int], **changes: int) -> float:
    asked = {name: np.array([value]) for name, value in (given | changes).items()}
    p = float(Behaviour(people).p_true(**asked)[0])
    return float(np.log(p / (1 - p)))


def test_the_logistic_is_the_logistic() -> None:
    x = np.linspace(-20, 20, 4001)
    np.testing.assert_allclose(logistic(x), 1 / (1 + np.exp(-x)), rtol=1e-10)


def test_the_drift_sets_in_at_the_chosen_day() -> None:
    steady, drifting = (shown(Parameters(60_000, seed=2, drift_day=day)) for day in (99, 5))
    at = Parameters(60_000, drift_day=5).drift_at
    early = [rows[rows["time"] < at] for rows in (steady, drifting)]
    assert early[0].tobytes() == early[1].tobytes()
    ctr = [rows[rows["time"] >= at]["clicked"].mean() for rows in (steady, drifting)]
    assert ctr[1] < 0.9 * ctr[0]


def test_a_world_without_mess_holds_each_event_once_and_in_time() -> None:
    clean = Parameters(5_000, seed=3, late=0, duplicates=0, conflicts=0, malformed=0)
    log = np.concatenate(list(records(clean)))
    assert {ORIGINAL} == set(log["copy"].tolist())
    assert int((log["arrived"] - log["time"]).max()) < MINUTE


def test_activity_is_uneven() -> None:
    log = shown(PARAMETERS)
    visits = np.sort(np.bincount(log["user"], minlength=PARAMETERS.users))[::-1]
    assert visits[: len(visits) // 10].sum() > 0.25 * visits.sum()


@pytest.mark.full
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    peaks: list[int] = []
    for events in (50_000, 200_000):
        tracemalloc.start()
        write_world(Parameters(events, seed=1), tmp_path / str(events))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"events": 0}, "events 0"),
        ({"seed": -1}, "seed -1"),
        ({"events": 10**9}, "at most 41943040 events"),
        ({"late": 1.5}, "late 1.5"),
        ({"drift_day": -1}, "drift_day -1"),
        ({"slots": 301}, "slots 301"),
        ({"days": 400.0}, "days 400"),
    ],
)
def test_parameters_that_make_no_world_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Parameters(**{"events": 1_000, **changes})


def test_a_folder_that_holds_something_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(ValueError, match="name a new folder"):
        write_world(PARAMETERS, tmp_path)
    assert ["mine"] == [path.name for path in tmp_path.iterdir()]


def test_the_kinds_of_events_are_those_of_the_contract() -> None:
    assert CONTRACT.event_types == KINDS
    assert DEVICES == CONTRACT.fields["device"].values
    assert "simulated" in load_use_case("world").declared.description.lower()
