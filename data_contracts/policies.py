"""What a use case declares of the policies that made its log: which one is valued from which."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from data_contracts.clock import parse_time


@dataclass(frozen=True)
class OffPolicy:
    """Value a policy from the log of another one with known propensities."""

    logged: str
    """`policy` of the logging rows, whose `propensity` is recorded."""
    target: str
    """`policy` of the rows that give the on-policy figure."""
    action_distribution: str
    """CSV in the use case's folder: the `action` fields and `probability`."""
    action: tuple[str, ...] = ("item_id", "position")
    """Event fields that say what was chosen, and where."""
    closed: str = ""
    """The log of before this time (RFC 3339) is closed, as a published one is: no positive of its
    rows is still to come, though no later one shows it. Other rows count once they are mature."""

    def check(self, fields: Collection[str], folder: Path) -> None:
        """Raise ValueError naming what the contract or the use case's folder does not have."""
        if missing := {"policy", "propensity"} - set(fields):
            raise ValueError(f"off_policy: needs the fields {sorted(missing)} in the contract")
        try:
            _ = parse_time(self.closed) if self.closed else None
        except ValueError as error:
            raise ValueError(f"off_policy: closed: {error}") from error
        if not (folder / self.action_distribution).is_file():
            raise ValueError(f"off_policy: {self.action_distribution} is missing")
