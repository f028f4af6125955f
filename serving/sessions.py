"""Sessions of the release page: a signed cookie in place of a key that scripts could read."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from data_contracts.clock import Clock
from serving.problem import Problem

CSRF = "x-csrf-token"
HOURS = 12
_BYTES = 32


@dataclass(frozen=True)
class Session:
    """A session that was begun here and has not ended."""

    said: str
    """What is signed: its end, a nonce, the key's digest."""
    key: str
    """Digest of the key that it was begun with, for whom to ask whether that still holds."""


class Sessions:
    """Cookies `end.nonce.key.signature` of one use case; every replica of a root signs with the
    same secret.

    Cookies know no ports: their name follows from the secret, so that instances of two roots on
    one host do not take each other's away.
    """

    def __init__(self, secret: Path, use_case: str, clock: Clock) -> None:
        self._path = secret
        self._use_case = use_case
        self._clock = clock

    @property
    def cookie(self) -> str:
        """Its name."""
        return f"headrace_session_{self._signed('cookie', self._use_case)[:12]}"

    def begin(self, key: str, secure: bool) -> str:
        """The `Set-Cookie` of a new session of the key with this digest; `secure`: only over
        TLS."""
        end = self._now() + HOURS * 3600
        said = f"{end}.{secrets.token_urlsafe(16)}.{key}"
        value = f"{said}.{self._signed('session', said)}"
        age = f"Max-Age={HOURS * 3600}{'; Secure' if secure else ''}"
        return f"{self.cookie}={value}; HttpOnly; SameSite=Strict; Path=/; {age}"

    def end(self) -> str:
        """The `Set-Cookie` that ends a session."""
        return f"{self.cookie}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0"

    def held(self, headers: Mapping[str, str]) -> Session | None:
        """The session in a request's cookies, or None where there is none that holds."""
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return None
        said, _, signature = (cookie.value if cookie else "").rpartition(".")
        if not said or not _same(signature, self._signed("session", said)):
            return None
        end, _, rest = said.partition(".")
        lasts = end.isdigit() and int(end) > self._now()
        return Session(said, rest.rpartition(".")[2]) if lasts else None

    def token(self, session: Session) -> str:
        """What a page of the session sends along with whatever it changes."""
        return self._signed("csrf", session.said)

    def check(self, session: Session, headers: Mapping[str, str]) -> None:
        """Problem 403 unless the session's token is among the headers."""
        if not _same(headers.get(CSRF, ""), self.token(session)):
            detail = f"{CSRF}: missing, or of another session: load the page again"
            raise Problem(HTTPStatus.FORBIDDEN, detail)

    def _signed(self, what: str, text: str) -> str:
        return hmac.new(self._secret(), f"{what}\x1f{text}".encode(), hashlib.sha256).hexdigest()

    def _secret(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_name(f".{self._path.name}-{secrets.token_hex(6)}")
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_BYTES))
            try:
                # Of two replicas the first one's secret stays.
                os.link(part, self._path)
            except FileExistsError:
                pass
            finally:
                part.unlink()
            return self._path.read_bytes()

    def _now(self) -> int:
        return self._clock.now() // 1_000_000


def _same(presented: str, expected: str) -> bool:
    """In constant time; as bytes, since `compare_digest` refuses text that is not ASCII."""
    return hmac.compare_digest(presented.encode(), expected.encode())
