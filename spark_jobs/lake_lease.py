"""One writer per lake: its folder's lease and, in a Redis that several share, its rows' as well.

A root that was copied has a lease of its own, and the Feast project, so the rows, of the other.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname
from typing import cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from data_contracts.lake import Lake
from data_contracts.redis_address import RedisAddress
from spark_jobs.lease import LeaseHeld, writer_lease
from spark_jobs.online_store import ANSWER_S, feast_project, named_errors, place


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
    """LeaseHeld naming a process that writes this lake's rows from another folder, where this one
    holds the lake's lease. To be asked before each write: Redis may have been away meanwhile."""
    if lease := _held.get(lake.home.resolve()):
        lease.check()


class _RowsLease:
    """A connection to Redis that bears the name of the lake's project and of this process.

    The server drops it when its process dies, as the kernel does the lock of a file.
    """

    def __init__(self, lake: Lake, address: RedisAddress) -> None:
        self._lake = lake
        self._address = address
        self._connection: redis.Redis | None = None
        self._own = f"{gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    def check(self) -> None:
        project = feast_project(self._lake)
        if project is None:
            return  # nothing was written yet, so that no copy can have these rows
        prefix = f"headrace:{project}:"
        with named_errors(self._lake):
            self._connection = self._connection or self._connect(prefix + self._own)
            clients = cast("list[dict[str, str]]", self._connection.client_list("normal"))
        for client in clients:
            holder = client["name"].removeprefix(prefix)
            if holder not in (client["name"], self._own):
                host, process, _ = holder.split(":")
                raise LeaseHeld(
                    f"{place(self._lake)}: the lease of these rows is held by process {process} on "
                    f"{host}, from another folder of which this is a copy or which is one of this: "
                    "stop it, or give one of them a database of its own and run `headrace "
                    "materialize` there"
                )

    def _connect(self, name: str) -> redis.Redis:
        return redis.Redis.from_url(
            self._address.url,
            client_name=name,
            single_connection_client=True,
            socket_timeout=ANSWER_S,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 1),
        )

    def close(self) -> None:
        if self._connection:
            self._connection.close()


_held: dict[Path, _RowsLease] = {}
"""Of this process, by the lake's folder: a micro-batch runs in another thread than its stream."""
