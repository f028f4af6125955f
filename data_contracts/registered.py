"""What moves need of the registry that holds the versions."""

from collections.abc import Mapping
from typing import Any, Protocol

from data_contracts.bundle import BundleRefused


class NotRegistered(BundleRefused):
    """A version that the registry does not hold, or holds no more."""


class Registered(Protocol):
    """A registered version."""

    @property
    def digest(self) -> str:
        """Of its bundle's manifest."""
        ...


class Registry(Protocol):
    """What moves need of the registry that holds versions, aliases and the ledger's stamp."""

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version of model `name`; empty when nothing is registered."""
        ...

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """Point `alias` of model `name` at `version`, or delete it."""
        ...

    def version(self, name: str, number: str) -> Registered:
        """One version of model `name`; NotRegistered where there is none of that number."""
        ...

    def decided(self, name: str, number: str) -> Mapping[str, Any] | None:
        """The decision under which a version was registered, as `Decision.as_dict` gave it."""
        ...

    def stamp(self, name: str) -> str | None:
        """What `set_stamp` wrote last; None before that."""
        ...

    def set_stamp(self, name: str, stamp: str) -> None:
        """Write the stamp of the ledger's last row beside the model's versions."""
        ...
