"""Where a Redis lies, told so that its password is never printed."""

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

PORT = 6379


@dataclass(frozen=True)
class RedisAddress:
    """One database of one Redis server; as text it is its address without any credentials."""

    host: str
    port: int = PORT
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """The address that `redis://[user:password@]host[:port][/db]` names.

        Raises ValueError that does not repeat `url`, which may hold a password.
        """
        try:
            parts = urlsplit(url)
            port = PORT if parts.port is None else parts.port
            db = re.fullmatch(r"/?(\d{0,4})", parts.path)
            good = (
                parts.scheme == "redis" and db and not (parts.query or parts.fragment)
                and re.fullmatch(r"[A-Za-z0-9._-]+", parts.hostname or "")
            )  # fmt: skip
        except ValueError:
            good = db = None
            port, parts = PORT, urlsplit("")
        if not good or db is None:
            raise ValueError(
                "the address of Redis is not like redis://host:6379/0 or "
                "redis://user:password@host:6379/0 (it is not shown here, as it may hold a "
                "password; write :, /, @, ? and # in a password as %3A, %2F, %40, %3F and %23)"
            )
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(parts.hostname or "", port, int(db[1] or 0), user, password)

    def __str__(self) -> str:
        return f"redis://{self.host}:{self.port}/{self.db}"

    @property
    def url(self) -> str:
        """What `parse` reads back, credentials included: for the environment of a process."""
        user, password = quote(self.username, safe=""), quote(self.password, safe="")
        login = f"{user}:{password}@" if user or password else ""
        return f"redis://{login}{self.host}:{self.port}/{self.db}"
