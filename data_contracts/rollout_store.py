"""Where the rollouts of a root lie: plans, requests, lease, what replicas say, what is barred.

One file of SQLite. Plans are only added; their epoch is the key, so that of two who write the next
one the second is refused.
"""

import json
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from data_contracts.rollout import Plan
from data_contracts.stages import RefusedForNow

_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS plans (
    model TEXT NOT NULL, epoch INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (model, epoch));
CREATE TRIGGER IF NOT EXISTS plans_stay BEFORE UPDATE ON plans
BEGIN SELECT RAISE(ABORT, 'plans: rows are only added'); END;
CREATE TRIGGER IF NOT EXISTS plans_remain BEFORE DELETE ON plans
BEGIN SELECT RAISE(ABORT, 'plans: rows are only added'); END;
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, time TEXT NOT NULL,
    actor TEXT NOT NULL, action TEXT NOT NULL, version TEXT, reason TEXT NOT NULL,
    override INTEGER NOT NULL, answer TEXT);
CREATE TABLE IF NOT EXISTS leases (
    model TEXT PRIMARY KEY, holder TEXT NOT NULL, beat INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS exposures (model TEXT PRIMARY KEY, beat INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS reports (
    model TEXT NOT NULL, replica TEXT NOT NULL, boot TEXT NOT NULL, beat INTEGER NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (model, replica, boot));
CREATE TABLE IF NOT EXISTS barred (
    model TEXT NOT NULL, version TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (model, version));
CREATE TABLE IF NOT EXISTS followed (
    model TEXT PRIMARY KEY, epoch INTEGER NOT NULL, ledger INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS looks (
    model TEXT NOT NULL, release INTEGER NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (model, release, number));
CREATE INDEX IF NOT EXISTS looks_by_epoch
    ON looks (model, release, json_extract(body, '$.epoch'), number);
"""


_ANSWER = (
    "UPDATE requests SET answer = :answer WHERE model = :model AND id = :id AND answer IS NULL"
)


class Overtaken(RefusedForNow):
    """Another plan took the epoch first."""


@dataclass(frozen=True)
class Request:
    """What someone asks the controller to do."""

    id: int
    time: str
    actor: str
    action: str
    version: str | None
    reason: str
    override: bool
    """Whether the actor answers for it in place of a gate."""
    answer: str | None
    """What the controller did; None before."""


@dataclass(frozen=True)
class Report:
    """What a replica says of itself."""

    replica: str
    boot: str
    beat: int
    """Grows with every report of this boot."""
    body: Mapping[str, Any]


class RolloutStore:
    """The rollout of one model; every call is one transaction."""

    def __init__(self, path: Path, model: str) -> None:
        self._path = path
        self._model = model
        self._made = False

    def plan(self) -> Plan | None:
        """The newest plan."""
        asked = "SELECT body FROM plans WHERE model = :model ORDER BY epoch DESC LIMIT 1"
        found = self._read(asked)
        return Plan.from_dict(json.loads(found[0][0])) if found else None

    def plans(self, last: int | None = None) -> list[Plan]:
        """Every plan, or the `last` ones, oldest first."""
        asked = "SELECT body FROM plans WHERE model = :model ORDER BY epoch DESC LIMIT :most"
        found = self._read(asked, most=-1 if last is None else last)
        return [Plan.from_dict(json.loads(body)) for (body,) in reversed(found)]

    def add(
        self, plan: Plan, bars: Mapping[str, str] | None = None, asked: int | None = None
    ) -> Plan:
        """Write the next plan, bar the versions that it takes out of traffic (version -> why), and
        answer the request that asked for it, all or nothing; Overtaken when its epoch does not
        follow the last one's."""
        added = (
            "INSERT INTO plans SELECT :model, :epoch, :body WHERE :epoch - 1 = "
            "(SELECT coalesce(max(epoch), 0) FROM plans WHERE model = :model)"
        )
        body = json.dumps(plan.as_dict(), allow_nan=False)
        values = {"model": self._model, "epoch": plan.epoch, "body": body}
        with self._open() as connection:
            if not connection.execute(added, values).rowcount:
                raise Overtaken(
                    f"model {self._model}: plan {plan.epoch} does not follow the last one: "
                    "another was written first: look at it and ask again"
                )
            barred = [(self._model, *each) for each in (bars or {}).items()]
            connection.executemany("INSERT OR REPLACE INTO barred VALUES (?, ?, ?)", barred)
            said = {**values, "id": asked, "answer": f"epoch {plan.epoch}"}
            connection.execute(_ANSWER, said)
        return plan

    def ask(
        self, time: str, actor: str, action: str, version: str | None, reason: str, override: bool
    ) -> int:
        """Add a request; returns its number."""
        values = {"time": time, "actor": actor, "action": action, "version": version}
        with self._open() as connection:
            found = connection.execute(
                "INSERT INTO requests (model, time, actor, action, version, reason, override) "
                "VALUES (:model, :time, :actor, :action, :version, :reason, :override)",
                {"model": self._model, **values, "reason": reason, "override": override},
            )
            assert found.lastrowid is not None
            return found.lastrowid

    def requests(self, open_only: bool = False, last: int | None = None) -> list[Request]:
        """All requests, those without an answer, or the `last` ones, oldest first."""
        asked = (
            "SELECT id, time, actor, action, version, reason, override, answer FROM requests "
            f"WHERE model = :model {'AND answer IS NULL ' if open_only else ''}"
            "ORDER BY id DESC LIMIT :most"
        )
        found = reversed(self._read(asked, most=-1 if last is None else last))
        return [Request(*row[:6], override=bool(row[6]), answer=row[7]) for row in found]

    def answer(self, request: int, answer: str) -> None:
        """Say what became of a request; nothing where that was told before."""
        self._write(_ANSWER, answer=answer, id=request)

    def beat(self) -> tuple[str, int] | None:
        """(holder of the lease, how often it was renewed)."""
        found = self._read("SELECT holder, beat FROM leases WHERE model = :model")
        return (str(found[0][0]), int(found[0][1])) if found else None

    def renew(self, holder: str, exposes: bool = True) -> bool:
        """Renew the lease, and with it the candidate's exposure unless the holder cannot answer
        for that now; False where another holds the lease, or nobody."""
        asked = "UPDATE leases SET beat = beat + 1 WHERE model = :model AND holder = :holder"
        exposed = (
            "INSERT INTO exposures VALUES (:model, 1) ON CONFLICT DO UPDATE SET beat = beat + 1"
        )
        with self._open() as connection:
            values = {"model": self._model, "holder": holder}
            held = connection.execute(asked, values).rowcount == 1
            if held and exposes:
                connection.execute(exposed, values)
        return held

    def exposure(self) -> int:
        """How often the candidate's exposure was renewed; 0 before that."""
        found = self._read("SELECT beat FROM exposures WHERE model = :model")
        return int(found[0][0]) if found else 0

    def take(self, holder: str, seen: tuple[str, int] | None) -> bool:
        """Take the lease if it is still as it was `seen`; whether it was taken."""
        if seen is None:
            asked = "INSERT OR IGNORE INTO leases VALUES (:model, :holder, 1)"
            return self._write(asked, holder=holder) == 1
        asked = (
            "UPDATE leases SET holder = :holder, beat = beat + 1 "
            "WHERE model = :model AND holder = :other AND beat = :beat"
        )
        return self._write(asked, holder=holder, other=seen[0], beat=seen[1]) == 1

    def report(self, report: Report) -> None:
        """Replace what a replica's boot said before; nothing where it has said more since, since
        of two that are written at once either may be the last."""
        self._write(
            "INSERT INTO reports VALUES (:model, :replica, :boot, :beat, :body) ON CONFLICT DO "
            "UPDATE SET beat = excluded.beat, body = excluded.body WHERE excluded.beat >= beat",
            replica=report.replica,
            boot=report.boot,
            beat=report.beat,
            body=json.dumps(report.body),
        )

    def reports(self) -> list[Report]:
        """The last words of every replica's boot."""
        asked = "SELECT replica, boot, beat, body FROM reports WHERE model = :model"
        return [Report(*row[:3], body=json.loads(row[3])) for row in self._read(asked)]

    def fold(self, reports: Sequence[Report], into: Report) -> bool:
        """Put one report in the place of several; False, and nothing done, where one of them has
        been renewed meanwhile."""
        gone = "DELETE FROM reports WHERE model = ? AND replica = ? AND boot = ? AND beat = ?"
        with self._open() as connection:
            named = [(self._model, each.replica, each.boot, each.beat) for each in reports]
            if connection.executemany(gone, named).rowcount < len(reports):
                connection.rollback()
                return False
            body = json.dumps(into.body)
            row = (self._model, into.replica, into.boot, into.beat, body)
            connection.execute("INSERT INTO reports VALUES (?, ?, ?, ?, ?)", row)
        return True

    def barred(self) -> dict[str, str]:
        """Version -> why it may not be released again, unless someone answers for it."""
        return dict(self._read("SELECT version, reason FROM barred WHERE model = :model"))

    def lift(self, version: str, reason: str) -> None:
        """Bar a version no longer for this reason, which someone answers for; one that it was
        barred for since then stays."""
        self._write(
            "DELETE FROM barred WHERE model = :model AND version = :version AND reason = :reason",
            version=version,
            reason=reason,
        )

    def followed(self) -> tuple[int, int]:
        """(epoch, seq of the ledger's last row) when the aliases last followed the plan."""
        found = self._read("SELECT epoch, ledger FROM followed WHERE model = :model")
        return (int(found[0][0]), int(found[0][1])) if found else (0, 0)

    def follow(self, epoch: int, ledger: int) -> None:
        """Note that aliases and plan agree."""
        asked = "INSERT OR REPLACE INTO followed VALUES (:model, :epoch, :ledger)"
        self._write(asked, epoch=epoch, ledger=ledger)

    def look(self, release: int, body: Mapping[str, Any]) -> None:
        """Keep what was seen at a look of the release that began in epoch `release`."""
        self._write(
            "INSERT INTO looks SELECT :model, :release, count(*) + 1, :body FROM looks "
            "WHERE model = :model AND release = :release",
            release=release,
            body=json.dumps(body),
        )

    def every_look(self, release: int) -> Iterator[dict[str, Any]]:
        """All of them, oldest first, one at a time."""
        asked = "SELECT body FROM looks WHERE model = ? AND release = ? ORDER BY number"
        if self._path.exists():
            with self._open() as connection:
                for (body,) in connection.execute(asked, (self._model, release)):
                    yield json.loads(body)

    def looks(self, release: int, many: int | None = None) -> list[dict[str, Any]]:
        """The looks of the release that began in epoch `release`, oldest first: all, or `many`
        of them evenly over its course, the last one among them."""
        step = 1 if many is None else max(1, ceil(self.looked(release) / many))
        asked = (
            "SELECT body FROM looks WHERE model = :model AND release = :release AND "
            "(number % :step = 1 % :step OR number = (SELECT max(number) FROM looks "
            "WHERE model = :model AND release = :release)) ORDER BY number"
        )
        found = self._read(asked, release=release, step=step)
        return [json.loads(body) for (body,) in found]

    def looked(self, release: int) -> int:
        """How many looks there were at a release."""
        asked = "SELECT max(number) FROM looks WHERE model = :model AND release = :release"
        found = self._read(asked, release=release)
        return int(found[0][0] or 0) if found else 0

    def ends(self, release: int) -> list[dict[str, Any]]:
        """Of a release's last epoch that was looked at the first look and the last, which may be
        the same; none before there is one."""
        of = "FROM looks WHERE model = :model AND release = :release"
        last = f"SELECT body {of} ORDER BY number DESC LIMIT 1"
        epoch = "json_extract(body, '$.epoch')"
        first = f"SELECT body {of} AND {epoch} = :epoch ORDER BY number LIMIT 1"
        found = [json.loads(body) for (body,) in self._read(last, release=release)]
        for look in found[:1]:
            begun = self._read(first, release=release, epoch=look["epoch"])
            found = [json.loads(begun[0][0]), look]
        return found

    def released(self) -> int:
        """Epoch in which the last release began that was looked at; 0 before there is one."""
        found = self._read("SELECT max(release) FROM looks WHERE model = :model")
        return int(found[0][0] or 0) if found else 0

    def _read(self, asked: str, **values: Any) -> list[Any]:
        if not self._path.exists():
            return []
        with self._open() as connection:
            return connection.execute(asked, {"model": self._model, **values}).fetchall()

    def _write(self, asked: str, **values: Any) -> int:
        """How many rows were written."""
        with self._open() as connection:
            return connection.execute(asked, {"model": self._model, **values}).rowcount

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=30, isolation_level="IMMEDIATE")
        try:
            if not self._made:
                connection.executescript(_SCHEMA)
                self._made = True
            with connection:
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        finally:
            connection.close()
