"""What the steps of a training go by."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data_contracts.bundle import MANIFEST
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from training.batches import Rows
from training.chosen import Chosen
from training.continued import Continued
from training.data import Dataset
from training.registry import Registry
from training.search import Search


@dataclass(frozen=True)
class Basis:
    """The rows of a training, and how `model` is fitted to them."""

    use_case: UseCase
    lake: Lake
    registry: Registry
    model: str
    dataset: Dataset
    found: Search | None
    """The search before the fit."""
    continued: Continued | None
    """The champion whose weights the fit begins with."""

    @cached_property
    def chosen(self) -> Chosen:
        """What the model is fitted by; its baseline is by what is declared."""
        if self.continued:
            return self.continued.chosen
        return Chosen(self.use_case.model, self.found.choices if self.found else {})

    @property
    def warm(self) -> Path | None:
        """The opened bundle of `continued`."""
        return self.continued.folder if self.continued else None

    @property
    def continued_from(self) -> str | None:
        """The version of `continued`."""
        return self.continued.version if self.continued else None

    @property
    def fitted_until(self) -> int:
        """µs: the newest query time of the rows that the weights know."""
        before = self.continued.fitted_until if self.continued else 0
        return max(before, self.dataset.fitted_until)

    @property
    def test(self) -> Rows:
        """The rows that the version is judged on."""
        return self.dataset.splits["test"]

    @cached_property
    def key(self) -> str:
        """32 hex digits over all that the fits depend on."""
        start = (self.warm / MANIFEST).read_text() if self.warm else ""
        spec, declared = self.chosen.spec, self.use_case.model
        text = f"{self.dataset.digest} {self.model} {spec} {declared} {start}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
