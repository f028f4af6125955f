"""The ledger of moves: rows that each name the one before by its hash, and what must hold of them.

A move is an `intent` row before anything changes and a `done` row after it. Pure functions.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_contracts.gates import recompute
from data_contracts.stages import CHALLENGER, MoveRefused, demoted, promoted

GENESIS = "0" * 64
"""What the first row names as the one before it."""
INTENT = "intent"
DONE = "done"


@dataclass(frozen=True)
class Row:
    """One row of a model's ledger."""

    model: str
    seq: int
    """1, 2, 3 … without a gap."""
    kind: str
    """`intent` or `done`."""
    time: str
    """UTC, RFC 3339."""
    actor: str
    body: str
    """JSON: of an intent its action, version, bundle, the aliases before and after,
    decision, override, and the reason of the bar that this lifts; of a done row the seq of its
    intent."""
    previous: str
    hash: str
    """sha256 over all the other fields."""

    @property
    def said(self) -> dict[str, Any]:
        """The body, read."""
        return json.loads(self.body)

    def told(self) -> dict[str, Any]:
        """An intent for people: who moved which version where, and what allowed it; JSON-ready."""
        said = self.said
        decided = said["decision"]
        return {
            "row": self.seq,
            "time": self.time,
            "actor": self.actor,
            "action": said["action"],
            "version": said["version"],
            "to": said["to"],
            "verdict": decided["verdict"] if decided else None,
            "override": said["override"],
        }

    @property
    def stamp(self) -> str:
        """`seq:hash`, as the registered model carries it of its ledger's last row."""
        return f"{self.seq}:{self.hash}"


def written(body: Mapping[str, Any]) -> str:
    """Strict JSON, in the order of `body`, on which the evidence of a decision may rest.

    Raises ValueError for a number that JSON does not have.
    """
    return json.dumps(body, separators=(",", ":"), allow_nan=False)


def follow(
    rows: Sequence[Row], model: str, kind: str, time: str, actor: str, body: Mapping[str, Any]
) -> Row:
    """The row that comes after `rows`."""
    previous = rows[-1].hash if rows else GENESIS
    fields = (model, len(rows) + 1, kind, time, actor, written(body), previous)
    return Row(*fields, hash=_hash(*fields))


def _hash(*fields: str | int) -> str:
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def stands(decided: Mapping[str, Any], bundle: str | None = None) -> bool:
    """Whether a decision, as read from JSON, is what its own evidence leads to, and of no other
    bundle than `bundle` where it names one, as those of registered versions do."""
    try:
        if bundle is not None and decided.get("bundle") not in (None, bundle):
            return False
        return json.loads(written(recompute(decided).as_dict())) == decided
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def fails(decided: Mapping[str, Any] | None) -> bool:
    """Whether a decision, as read from JSON, stands and has a required check that failed."""
    return decided is not None and decided.get("verdict") == "fail" and stands(decided)


def open_intent(rows: Sequence[Row]) -> Row | None:
    """The move that was begun last and is not done."""
    return rows[-1] if rows and rows[-1].kind == INTENT else None


def aliases_after(rows: Sequence[Row]) -> dict[str, str]:
    """Alias -> version once every move of `rows` is done."""
    intents = [row for row in rows if row.kind == INTENT]
    return dict(intents[-1].said["after"]) if intents else {}


def settled(rows: Sequence[Row]) -> dict[str, str]:
    """Alias -> version before the move of `rows` that is open, or where none is, after all."""
    intent = open_intent(rows)
    return dict(intent.said["before"]) if intent else aliases_after(rows)


def faults(rows: Sequence[Row], stamp: str | None, sound: Sequence[Row] = ()) -> list[str]:
    """Everything that is wrong with a ledger; empty when it is sound.

    `stamp`: `Row.stamp` of the last row that the registered model was told of. A row that no stamp
    names yet is an interrupted append; more of them are a fault. `sound`: rows that were without
    fault before: where the ledger still begins with them, only what follows is computed again.
    """
    known = len(sound) if [*rows[: len(sound)]] == [*sound] else 0
    return _chain(rows, known) + _moves(rows, known) + _tail(rows, stamp)


def _chain(rows: Sequence[Row], known: int) -> list[str]:
    found: list[str] = []
    last, before = (rows[known - 1].seq, rows[known - 1].hash) if known else (0, GENESIS)
    for row in rows[known:]:
        if row.seq != last + 1:
            missing = ", ".join(str(seq) for seq in range(last + 1, row.seq)) or f"{last + 1}"
            found.append(f"row {missing}: is missing")
        elif row.previous != before:
            found.append(f"row {row.seq}: does not follow the row before it")
        if row.hash != _hash(
            row.model, row.seq, row.kind, row.time, row.actor, row.body, row.previous
        ):
            found.append(f"row {row.seq}: was edited: its hash is of another content")
        last, before = row.seq, row.hash
    return found


def _moves(rows: Sequence[Row], known: int) -> list[str]:
    found: list[str] = []
    intent = open_intent(rows[:known])
    aliases = aliases_after(rows[:known]) if known else None
    for row in rows[known:]:
        name = f"row {row.seq}"
        try:
            said = row.said
            if row.kind == DONE:
                if intent is None or said["intent"] != intent.seq:
                    found.append(f"{name}: is done without its intent")
                intent = None
                continue
            if intent is not None:
                found.append(f"{name}: begins before row {intent.seq} is done")
            intent = row
            if aliases is not None and said["before"] != aliases:
                found.append(f"{name}: begins from aliases that no move led to")
            aliases = said["after"]
            found += [f"{name}: {fault}" for fault in _move(said)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found.append(f"{name}: its content cannot be read: {error!r}")
    return found


def _move(said: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    version, to, before = said["version"], said["to"], said["before"]
    try:
        leads = promoted(before, version, to) if to else demoted(before, version)
    except MoveRefused as refused:
        return [str(refused)]
    if leads != said["after"]:
        found.append(f"version {version} to {to or 'no stage'} does not lead to {said['after']}")
    decided, override = said["decision"], said["override"]
    promotes = False
    if decided is not None:
        promotes = recompute(decided).promotes
        if not stands(decided, said["bundle"]):
            found.append("its decision is not what its evidence leads to, or of another bundle")
    overridden = bool(override and override["name"].strip() and override["reason"].strip())
    allowed = promotes if to else fails(decided)
    if to != CHALLENGER and not allowed and not overridden:
        found.append("was made without a passed gate and without an override")
    return found


def _tail(rows: Sequence[Row], stamp: str | None) -> list[str]:
    last = rows[-1].seq if rows else 0
    if stamp is None:
        return [f"{last} rows, and the model carries no stamp of them"] if last > 1 else []
    text, _, digest = stamp.partition(":")
    if not text.isdigit():
        return [f"the model's stamp {stamp!r} names no row"]
    seq = int(text)
    if seq > last:
        return [f"the tail is cut: the model was told of row {seq}, the ledger ends at {last}"]
    if not any(row.seq == seq and row.hash == digest for row in rows):
        return [f"row {seq}: is another than the model was told of"]
    if last > seq + 1:
        return [f"rows {seq + 1} to {last}: the model was never told of them"]
    return []
