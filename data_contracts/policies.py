"""What a use case declares of the policies that made its log: which one is valued from which."""

import csv
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from data_contracts.clock import parse_time
from data_contracts.naming import naming


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
        with naming("off_policy: closed"):
            _ = parse_time(self.closed) if self.closed else None
        if unknown := set(self.action) - set(fields):
            raise ValueError(f"off_policy: action {sorted(unknown)}: not in the contract")
        if not (folder / self.action_distribution).is_file():
            raise ValueError(f"off_policy: {self.action_distribution} is missing")
        with open(folder / self.action_distribution, newline="") as lines:
            held = set[str](csv.DictReader(lines).fieldnames or ())
        if lacking := {*self.action, "probability"} - held:
            told = f"off_policy: {self.action_distribution}: no column {sorted(lacking)}"
            raise ValueError(f"{told}: its first line names the columns")
