"""A promotion and a rollback while requests come: the small case of `make test-faults`."""

from pathlib import Path

from tests.faults.served import serving
from tests.faults.traffic import records, repeated_ids, strays
from tests.integration.releases import build_two

MANY = 40
"""Requests by which a state of the server is told."""


def test_swaps_fail_no_request_repeat_no_id_and_move_no_unit(tmp_path: Path) -> None:
    world = build_two(tmp_path / "lake")
    steps = 'unit="user_id", look_s=1e9, steps=(5_000,)'
    # Other tests run beside this one: nothing is refused because that takes longer.
    patient = {"timeout_ms": 20_000, "candidate_timeout_ms": 5_000, "candidate_hang_s": 60.0}
    with serving(world, tmp_path, steps, engine="plain", replicas=1, **patient) as served:
        flowing = served.traffic("closed", 4, 120.0)
        served.until(lambda: served.total("answered") > MANY)
        served.release("2")
        assert "2" == served.plan.champion.version
        served.ask("rollback")
        assert flowing.flows
        before = served.total("answered")
        served.until(lambda: served.total("answered") > before + MANY)
        flowing.stop()
        found = flowing.said()
    logged = records(world.lake)
    assert {"200"} == {*found["statuses"]}, found
    assert found["requests"] == len(logged)
    assert ([], []) == (repeated_ids(logged), strays(logged))
    # A request that began before a swap may end after one that began behind it.
    by_plan = sorted(logged, key=lambda record: record["epoch"])
    champions = [record["version"] for record in by_plan if record["arm"] == "champion"]
    assert ["1", "2", "1"] == [
        version for i, version in enumerate(champions) if version != (champions[i - 1] if i else "")
    ]
