"""API keys: random, shown once, kept as SHA-256, compared in constant time, each with roles."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Literal, get_args

from data_contracts.atomic_write import write_atomically
from data_contracts.file_lock import locked
from serving.problem import Problem

Role = Literal["predict", "events", "operate", "metrics"]
ROLES: frozenset[Role] = frozenset(get_args(Role))

_BYTES = 32
MOST_QUOTA = 10**15
_PREFIX = "hr_"


@dataclass(frozen=True)
class Key:
    """One stored key; the key itself cannot be recovered from it."""

    name: str
    sha256: str
    roles: tuple[Role, ...]
    rate: float | None = None
    """Requests a second that one replica takes from it, in bursts of as many; any when None."""
    quota: int | None = None
    """Requests that all replicas take from it in a UTC day; any when None."""


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    name: str
    roles: frozenset[Role]
    rate: float | None = None
    quota: int | None = None


def create_key(
    path: Path,
    roles: Collection[Role],
    name: str,
    rate: float | None = None,
    quota: int | None = None,
) -> str:
    """Add a key of 256 random bits to the file `path` and return it: it is shown only here.

    `rate`, `quota`: as in `Key`. A key of the same name is replaced. Raises ValueError as
    `check_key`, and for a file that holds no keys.
    """
    check_key(name, roles, rate, quota)
    key = _PREFIX + secrets.token_urlsafe(_BYTES)
    with locked(path.with_suffix(".lock")):
        kept = [k for k in _read(path) if k.name != name] if path.exists() else []
        kept.append(Key(name, key_digest(key), tuple(sorted(roles)), rate, quota))
        _write(path, kept)
    return key


def check_key(
    name: str, roles: Collection[Role], rate: float | None = None, quota: int | None = None
) -> None:
    """Raise ValueError for roles that do not exist, and for limits that let nothing through."""
    if (rate is not None and not rate > 0) or (quota is not None and quota < 1):
        raise ValueError(f"key {name!r}: rate {rate}, quota {quota}: above 0, or none")
    if quota is not None and quota > MOST_QUOTA:
        raise ValueError(f"key {name!r}: quota {quota}: at most {MOST_QUOTA:,}, or none")
    if not roles or set(roles) - ROLES:
        named = ", ".join(sorted(roles)) or "none"
        raise ValueError(f"key {name!r}: roles {named}: name some of {', '.join(sorted(ROLES))}")


def revoke_key(path: Path, name: str) -> None:
    """Take a key out of the file `path`: it stops at once. ValueError where there is none."""
    with locked(path.with_suffix(".lock")):
        held = _read(path) if path.exists() else []
        if name not in {key.name for key in held}:
            known = ", ".join(sorted(key.name for key in held)) or "none"
            raise ValueError(f"key {name!r}: not there; keys are {known}")
        _write(path, [key for key in held if key.name != name])


def stored_keys(path: Path) -> list[Key]:
    """The keys in the file `path`; none where there is no file."""
    return _read(path) if path.exists() else []


def key_names(path: Path) -> frozenset[str]:
    """The names of the keys in the file `path`; none where there is no file."""
    return frozenset(key.name for key in stored_keys(path))


class Keys:
    """The keys in a file; a changed file is read again, so a removed key stops at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (-1, -1, -1)
        self._keys: list[Key] = []

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Whose key is in `Authorization: Bearer` or `X-API-Key`; Problem 401 if nobody's."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        presented = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not presented:
            raise _unauthorised("no API key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        digest = key_digest(presented)
        found: Caller | None = None
        for key in self._current():
            if hmac.compare_digest(key.sha256, digest):
                found = _caller(key)
        if found is None:
            raise _unauthorised("unknown API key")
        return found

    def holder(self, digest: str) -> Caller | None:
        """Whose key has this digest; None where it was revoked or never was one."""
        return next((_caller(key) for key in self._current() if key.sha256 == digest), None)

    def _current(self) -> list[Key]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return []
        # Of two changes within a tick of the file system's clock the second has the same time.
        stamp = found.st_mtime_ns, found.st_ino, found.st_size
        if stamp != self._stamp:
            self._keys, self._stamp = _read(self._path), stamp
        return self._keys


class OpenAccess:
    """Stands in for `Keys` where authentication is turned off: everyone has every role."""

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Somebody with all roles and no limits."""
        return Caller("anyone", ROLES)

    def holder(self, digest: str) -> Caller | None:
        """The same."""
        return self.caller({})


Access = Callable[[], Keys | OpenAccess]
"""Who may do what; asked anew for each request."""


def demand(roles: Collection[Role], needed: Role, what: str) -> None:
    """Raise Problem 403 unless `needed` is among `roles`; `what` names what needs it."""
    if needed not in roles:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            f"{what} needs the role {needed!r}, this key has {', '.join(sorted(roles))}",
        )


def _caller(key: Key) -> Caller:
    return Caller(key.name, frozenset(key.roles), key.rate, key.quota)


def _unauthorised(detail: str) -> Problem:
    return Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})


def key_digest(key: str) -> str:
    """What is kept of a key: its SHA-256, as hex."""
    return hashlib.sha256(key.encode()).hexdigest()


def _read(path: Path) -> list[Key]:
    try:
        stored = json.loads(path.read_text())["keys"]
        return [
            Key(k["name"], k["sha256"], tuple(k["roles"]), k.get("rate"), k.get("quota"))
            for k in stored
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a file of API keys ({error!r}): create them anew") from error


def _write(path: Path, keys: list[Key]) -> None:
    said = json.dumps({"keys": [asdict(key) for key in keys]}, indent=1)
    write_atomically(path, said, private=True)
