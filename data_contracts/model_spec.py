"""The model of a use case: its inputs, its sizes and how it is trained."""

from collections.abc import Collection
from dataclasses import dataclass

from data_contracts.contract import Contract
from data_contracts.encoding import HOUR_OF_DAY, Categorical, Numeric

SCHEDULES = ("constant", "cosine")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("cpu", "gpu")


@dataclass(frozen=True)
class ModelSpec:
    """The model and how it is trained."""

    categorical: tuple[Categorical, ...]
    numeric: tuple[Numeric, ...] = ()
    item: tuple[str, ...] = ()
    """The item's side of two towers: categorical and numeric fields, and feature groups. Whatever
    id is not here is taken to be known before there is an item."""
    name: str = "dcn_v2"
    """Which of the zoo is trained where none is named: `training.models.names.MODELS`."""
    embedding_dim: int | None = None
    """Width of every embedding that declares none; by rule where None."""
    cross_layers: int = 2
    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    batch_size: int = 512
    """Rows of a step, of all devices together."""
    max_epochs: int = 12
    patience: int = 2
    """Epochs without a better validation log loss before training stops."""
    schedule: str = "constant"
    """Of the learning rate: `constant`, or `cosine` with a short rise."""
    gradient_clip: float | None = None
    """The largest norm of a step's gradient."""
    negative_rate: float = 1.0
    """Share of the negatives in a pass over the rows; the graph's logit is corrected for it. An
    epoch makes as many passes, with a draw each, as give it as many rows as without."""
    precision: str = "32-true"
    """Of the training steps, as Lightning names it: `bf16-mixed`, or on a GPU `16-mixed`."""
    accelerator: str = "cpu"
    """`cpu` or `gpu`."""
    devices: int = 1
    """More than one train together (DDP), each on a part of every batch."""
    seed: int = 7

    def check(self, contract: Contract, groups: Collection[str]) -> None:
        """Raise ValueError naming an input that the contract cannot give, or a figure that cannot
        be; `groups` are the names of the use case's feature groups."""
        if self.schedule not in SCHEDULES:
            raise ValueError(f"model: schedule {self.schedule!r}: {' or '.join(SCHEDULES)}")
        if not 0 < self.negative_rate <= 1:
            raise ValueError(f"model: negative_rate {self.negative_rate}: above 0, at most 1")
        self._check_sizes()
        self._check_devices()
        for column in self.categorical:
            if column.min_count < 1 or (column.dim is not None and column.dim < 1):
                raise ValueError(f"input {column.field!r}: min_count and dim begin at 1")
            least = 25 if column.field == HOUR_OF_DAY else 2
            if column.buckets < least:
                raise ValueError(f"input {column.field!r}: {column.buckets} buckets, needs {least}")
            if column.field == HOUR_OF_DAY:
                continue
            kind = contract.fields[column.field].type
            if kind in ("timestamp", "number"):
                raise ValueError(
                    f"categorical input {column.field!r} is a {kind} in the contract: "
                    "name a string, integer or boolean field"
                )
        for number in self.numeric:
            if contract.fields[number.field].type not in ("integer", "number"):
                raise ValueError(f"numeric input {number.field!r} is no number in the contract")
        sides = {*groups, *(c.field for c in self.categorical)}
        sides |= {number.field for number in self.numeric}
        if unknown := set(self.item) - sides:
            raise ValueError(f"model: item {sorted(unknown)}: name inputs or feature groups")

    def _check_sizes(self) -> None:
        least = {"max_epochs": 1, "patience": 1, "batch_size": 1, "cross_layers": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"model: {name} {getattr(self, name)}: at least {smallest}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"model: hidden {self.hidden}: name the width of each layer")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model: dropout {self.dropout}: at least 0, below 1")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ValueError(
                f"model: learning_rate {self.learning_rate}, weight_decay {self.weight_decay}: "
                "above 0, at least 0"
            )
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(
                f"model: gradient_clip {self.gradient_clip}: above 0, or None to clip nothing"
            )
        if self.embedding_dim is not None and self.embedding_dim < 1:
            raise ValueError(f"model: embedding_dim {self.embedding_dim}: at least 1")

    def _check_devices(self) -> None:
        for name, known in (("precision", PRECISIONS), ("accelerator", ACCELERATORS)):
            if getattr(self, name) not in known:
                raise ValueError(f"model: {name} {getattr(self, name)!r}: {' or '.join(known)}")
        if self.precision == "16-mixed" and self.accelerator == "cpu":
            raise ValueError("model: precision '16-mixed' on a cpu: bf16-mixed or 32-true")
        if not 1 <= self.devices <= self.batch_size:
            raise ValueError(
                f"model: devices {self.devices}: at least 1, at most batch_size {self.batch_size}"
            )
