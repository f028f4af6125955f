"""One writer per lake: its folder's lease and, in a Redis that several share, its rows' as well.

A root that was copied has a lease of its own, and the Feast project, so the rows, of the other.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname
from typing import cast
from urllib.parse import quote, unquote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from data_contracts.lake import Lake
from data_contracts.redis_address import RedisAddress
from spark_jobs.lease import LeaseHeld, writer_lease
from spark_jobs.online_store import ANSWER_S, feast_project, named_errors, place


class RowsHeld(LeaseHeld):
    """Another process writes the lake's rows from another folder, so it never writes this lake."""


@contextmanager
def lake_lease(lake: Lake) -> Iterator[None]:
    """Hold both as `writer_lease` does; LeaseHeld, at once, naming who writes."""
    with writer_lease(lake.stream):
        home = lake.home.resolve()
        if lake.redis is None or home in _held:
            yield
            return
        _held[home] = _RowsLease(lake, lake.redis)
        try:
            check_rows(lake)
            yield
        finally:
            _held.pop(home).close()


def check_rows(lake: Lake) -> None:
    """RowsHeld where another process took this lake's rows from the one that holds its lease here,
    as one may while Redis is away. To be asked before each write."""
    if lease := _held.get(lake.home.resolve()):
        lease.check()


class _RowsLease:
    """A connection to Redis that bears the name of the lake's project, this folder and process.

    The server drops it when its process dies, as the kernel does the lock of a file. Whoever
    connects first sets the name and then looks who else bears it; who holds only asks whether the
    connection lives, so that a refused one cannot disturb it.
    """

    def __init__(self, lake: Lake, address: RedisAddress) -> None:
        self._lake = lake
        self._address = address
        self._connection: redis.Redis | None = None
        lock = lake.stream.stat()
        self._folder = f"{quote(gethostname(), safe='')}:{lock.st_dev}-{lock.st_ino}"

    def check(self) -> None:
        project = feast_project(self._lake)
        if project is None:
            return  # nothing was written yet, so that no copy can have these rows
        with named_errors(self._lake):
            if not self._lives():
                self._acquire(f"headrace:{self._address.db}:{project}:")

    def _lives(self) -> bool:
        if self._connection is None:
            return False
        with suppress(redis.ConnectionError, redis.TimeoutError):
            return bool(self._connection.ping())
        self.close()
        return False

    def _acquire(self, prefix: str) -> None:
        self._connection = redis.Redis.from_url(
            self._address.url,
            client_name=f"{prefix}{self._folder}:{os.getpid()}",
            single_connection_client=True,
            socket_timeout=ANSWER_S,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        clients = cast("list[dict[str, str]]", self._connection.client_list("normal"))
        for name in (client["name"] for client in clients if client["name"].startswith(prefix)):
            folder, process = name.removeprefix(prefix).rsplit(":", 1)
            # Another process of this folder is dead, or it would hold the folder's own lease.
            if folder != self._folder:
                self.close()
                host = unquote(folder.split(":")[0])
                raise RowsHeld(
                    f"{place(self._lake)}: the lease of these rows is held by process {process} on "
                    f"{host}, from another folder of which this is a copy or which is one of this: "
                    "stop it (where its host died, wait until Redis drops it), or give one of them "
                    "a database of its own and run `headrace materialize` there"
                )

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


_held: dict[Path, _RowsLease] = {}
"""Of this process, by the lake's folder: a micro-batch runs in another thread than its stream."""
