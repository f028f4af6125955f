"""The two stores of online state behind Feast, SQLite and Redis: where one lies, and its errors."""

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from data_contracts.atomic_write import write_atomically
from data_contracts.lake import Lake
from data_contracts.redis_address import RedisAddress

CONFIG = "feature_store.yaml"
ANSWER_S = 5
"""How long Redis may take to answer, and half of it to let a connection in."""
LISTED_AT_ONCE = 10_000
"""Keys that are asked for in one query when all are listed."""


def place(lake: Lake) -> str:
    """The store's file or address, for messages: it holds no credentials."""
    return str(lake.redis or lake.online_file)


def feast_project(lake: Lake) -> str | None:
    """The name under which the lake's rows lie in the store; None before anything was written."""
    config = lake.online / CONFIG
    return json.loads(config.read_text())["project"] if config.exists() else None


def check_place(lake: Lake) -> None:
    """RuntimeError where the lake's states lie in another store than the one that is named now."""
    path = lake.online / CONFIG
    held = _named_in(json.loads(path.read_text())["online_store"]) if path.exists() else None
    if held not in (None, named := _named_in(feast_config(lake))):
        raise RuntimeError(
            f"{lake.online}: its states lie in {held}, and {named} is named: name the former "
            "(HEADRACE_REDIS; SQLite without it), or move them by `headrace materialize`"
        )


def move(lake: Lake) -> None:
    """Have the lake's states lie in the store that is named now; who writes to it next is told to
    rebuild it first."""
    path = lake.online / CONFIG
    if path.exists():
        _write_config(lake, {**json.loads(path.read_text()), "online_store": feast_config(lake)})


def configure(lake: Lake, project: str) -> None:
    """Write the configuration of the lake's Feast repository, whose rows are those of `project`."""
    lake.online.mkdir(parents=True, exist_ok=True)
    registry = {"path": str((lake.online / "registry.db").resolve()), "cache_mode": "thread"}
    config = {
        "project": project,
        "provider": "local",
        "registry": registry,
        "online_store": feast_config(lake),
        "offline_store": {"type": "file"},
        "entity_key_serialization_version": 3,
    }
    _write_config(lake, config)


def _write_config(lake: Lake, config: dict[str, Any]) -> None:
    # It may hold a password.
    write_atomically(lake.online / CONFIG, json.dumps(config, indent=1), private=True)


def _named_in(config: dict[str, Any]) -> str:
    """The store of an `online_store` entry; each lake has its own file, wherever its root is."""
    if config["type"] == "sqlite":
        return "SQLite"
    server, db = config["connection_string"].split(",")[:2]
    return f"redis://{server}/{db.removeprefix('db=')}"


def feast_config(lake: Lake) -> dict[str, Any]:
    """The `online_store` entry of Feast's configuration; it holds the password of Redis."""
    if lake.redis is None:
        return {"type": "sqlite", "path": str(lake.online_file)}
    return {"type": "redis", "connection_string": _connection(lake.redis)}


def _connection(address: RedisAddress) -> str:
    options: dict[str, Any] = {
        "db": address.db,
        "socket_timeout": ANSWER_S,
        "socket_connect_timeout": ANSWER_S / 2,
        # With its own retries the client waits for seconds, where a server answers with defaults.
        "retry": None,
    }
    if address.username:
        options["username"] = address.username
    if address.password:
        options["password"] = address.password
    # Feast cuts the text at commas and puts environment variables in place of $names.
    texts = (f"{name}={json.dumps(value)}" for name, value in options.items())
    safe = [text.replace(",", "\\u002c").replace("$", "\\u0024") for text in texts]
    return ",".join([f"{address.host}:{address.port}", *safe])


@contextmanager
def named_errors(lake: Lake) -> Iterator[None]:
    """What either store refuses as RuntimeError of one line: the place, the error, the mend."""
    try:
        yield
    except sqlite3.Error as error:
        raise RuntimeError(
            f"{place(lake)}: {error}: end what holds the file, see that its disk has room, and "
            "run this again"
        ) from error
    except redis.RedisError as error:
        raise RuntimeError(
            f"{place(lake)}: {' '.join(str(error).split())}: see that Redis runs there, takes this "
            "login and has memory left, and run this again"
        ) from error


def ask(lake: Lake) -> str:
    """What the store answers in a few words; RuntimeError, named, where it does not, may lose
    states, or is not the one in which they lie."""
    check_place(lake)
    with named_errors(lake):
        if lake.redis is not None:
            once = Retry(NoBackoff(), 0)
            client = redis.Redis.from_url(lake.redis.url, socket_timeout=ANSWER_S, retry=once)
            with closing(client):
                return f"{client.dbsize():,} keys, {_keeps(lake, client)}"
        if not lake.online_file.exists():
            return "not written yet"
        with closing(sqlite3.connect(f"{lake.online_file.as_uri()}?mode=ro", uri=True)) as found:
            tables = found.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'")
            return f"{tables.fetchone()[0]} tables"


def refuse_eviction(lake: Lake) -> None:
    """RuntimeError, named, where the store may drop states while somebody writes it."""
    if lake.redis is not None:
        ask(lake)


def _keeps(lake: Lake, client: redis.Redis) -> str:
    """What Redis does when its memory is full; RuntimeError where it evicts keys of any kind."""
    try:
        memory = cast("dict[str, Any]", client.info("memory"))
    except NoPermissionError:
        return "maxmemory-policy not shown to this login"
    said = f"maxmemory-policy {memory['maxmemory_policy']}"
    if memory["maxmemory_policy"].startswith("allkeys"):
        raise RuntimeError(
            f"{place(lake)}: {said}: it drops states when its memory is full, and their features "
            "are wrong from then on: set noeviction"
        )
    return said


def read_beside_writes(lake: Lake) -> None:
    """Keep the file's journal as a write-ahead log (sqlite.org/wal.html): who reads never waits for
    who writes, as in Redis. A file stays as it was set once."""
    if lake.redis is None:
        with named_errors(lake), closing(sqlite3.connect(lake.online_file)) as file:
            file.execute("PRAGMA journal_mode = WAL")


def stored_keys(lake: Lake, table: str, view: str, prefix: bytes, end: bytes) -> Iterator[bytes]:
    """The entity keys that have a row of a view: in SQLite of its `table`, in Redis of the hashes
    whose keys begin with `prefix` and end with `end`, without that end.

    Of keys that come or go meanwhile some are among them; one may come twice.
    """
    if lake.redis is None:
        query = f'SELECT entity_key FROM "{table}" WHERE entity_key > ? ORDER BY 1 LIMIT ?'
        last: bytes | None = b""
        while last is not None:
            with closing(sqlite3.connect(lake.online_file)) as file:
                keys = [row[0] for row in file.execute(query, (last, LISTED_AT_ONCE))]
            yield from keys
            last = keys[-1] if keys else None
        return
    pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", prefix) + b"*" + end
    with closing(redis.Redis.from_url(lake.redis.url, socket_timeout=ANSWER_S)) as client:
        found = client.scan_iter(match=pattern, count=LISTED_AT_ONCE)
        while hashes := list(islice(found, LISTED_AT_ONCE)):
            asked = client.pipeline(transaction=False)
            for name in hashes:
                asked.hexists(name, f"_ts:{view}")
            held = zip(hashes, asked.execute(), strict=True)
            yield from (name.removesuffix(end) for name, has in held if has)


def delete_from_file(lake: Lake, table: str, keys: Sequence[bytes]) -> None:
    """Delete the rows of those entity keys from a table of SQLite, all or none."""
    with closing(sqlite3.connect(lake.online_file)) as file, file:
        file.executemany(f'DELETE FROM "{table}" WHERE entity_key = ?', [(key,) for key in keys])


def delete_from_redis(
    address: RedisAddress, keys: Sequence[bytes], fields: Sequence[bytes]
) -> None:
    """Delete these fields of the hashes under those keys, all or none."""
    with closing(redis.Redis.from_url(address.url, socket_timeout=ANSWER_S)) as client:
        steps = client.pipeline(transaction=True)
        for key in keys:
            steps.execute_command("HDEL", key, *fields)
        steps.execute()
