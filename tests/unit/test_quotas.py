"""A key's day is counted for all replicas and boots together."""

import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.clock import DAY, ReplayClock
from serving.quotas import BLOCKS, Quotas


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quotas.db"


def let_in(replica: Quotas, quota: int, key: str = "shop") -> int:
    """Requests until the first that is refused."""
    return next(n for n in count() if not replica.take(key, quota))


@given(
    quota=st.integers(1, 4 * BLOCKS),
    asked=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 2000), st.booleans()), max_size=12),
)
def test_replicas_and_boots_never_let_in_more_together_and_hardly_less(
    quota: int, asked: list[tuple[int, int, bool]]
) -> None:
    with TemporaryDirectory() as folder:
        path, clock = Path(folder) / "quotas.db", ReplayClock()
        replicas = [Quotas(path, clock) for _ in range(3)]
        taken = boots = 0
        for which, requests, dies in asked:
            taken += sum(replicas[which].take("shop", quota) for _ in range(requests))
            if dies:
                replicas[which], boots = Quotas(path, clock), boots + 1
        taken += sum(let_in(each, quota) for each in replicas)
        assert 0 == sum(each.failures for each in replicas)
        block = -(-quota // BLOCKS)
        assert quota - boots * (block - 1) <= taken <= quota


def test_a_key_has_its_own_and_the_next_day_begins_anew(path: Path) -> None:
    clock = ReplayClock()
    clock.advance(5 * DAY)
    first, second = Quotas(path, clock), Quotas(path, clock)
    assert 2 == let_in(first, 2)
    assert 0 == let_in(second, 2)
    assert 3 == let_in(second, 3, "other")
    clock.advance(6 * DAY)
    assert 2 == let_in(second, 2)
    assert 0 == let_in(first, 2)
    clock.advance(7 * DAY)
    first.take("shop", 2)
    with closing(sqlite3.connect(path)) as file:
        kept = file.execute("SELECT DISTINCT day FROM taken ORDER BY day").fetchall()
    assert [(6,), (7,)] == kept


def test_a_quota_that_is_raised_counts_at_once(path: Path) -> None:
    first, second = (Quotas(path, ReplayClock()) for _ in range(2))
    assert 2 == let_in(first, 2)
    assert 3 == let_in(first, 5)
    assert 0 == let_in(second, 5)


def test_a_quota_that_is_lowered_counts_at_once(path: Path) -> None:
    replica = Quotas(path, ReplayClock())
    assert replica.take("shop", 10 * BLOCKS)
    assert 0 == let_in(replica, 5)


def test_without_its_file_a_replica_goes_by_its_own_count(path: Path) -> None:
    clock = ReplayClock()
    first, second = Quotas(path, clock), Quotas(path, clock)
    assert first.take("shop", 3)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert 2 == let_in(first, 3)
        assert 3 == let_in(second, 3)
    assert (3, 4) == (first.failures, second.failures)
    assert 0 == let_in(first, 3)
    assert 0 == let_in(second, 3)
    assert 2 == let_in(Quotas(path, clock), 3)


def test_a_refusal_does_not_write(path: Path) -> None:
    replica = Quotas(path, ReplayClock())
    assert 1 == let_in(replica, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert not any(replica.take("shop", 1) for _ in range(5))
    assert 0 == replica.failures
