"""The training set as arrays: read from Delta, encoded as in serving, digested, batched."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pytorch_lightning import LightningDataModule
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler
from torch.utils.data import TensorDataset as Tensors

from data_contracts.encoding import encode_dense, encode_ids
from data_contracts.lake import Lake
from data_contracts.use_case import ModelSpec, UseCase
from training.statistics import Seen, observe

SPLITS = ("train", "validation", "test")


class NoTrainingData(ValueError):
    """A training set that is missing, empty or not made for this use case."""


@dataclass(frozen=True)
class Rows:
    """Encoded rows of one split in order of query time."""

    ids: np.ndarray
    """int64[n, categorical]"""
    dense: np.ndarray
    """float32[n, features + numeric]"""
    labels: np.ndarray
    """float32[n], 0 or 1"""


@dataclass(frozen=True)
class Dataset:
    """The training set of a use case at one version of its table."""

    splits: Mapping[str, Rows]
    delta_version: int
    digest: str
    """32 hex digits over ids, inputs, labels and split of every row, whatever the file layout."""
    item: tuple[int, ...] = ()
    """Dense columns on the item's side."""

    def seen(self, spec: ModelSpec) -> Seen:
        """What the training rows hold."""
        rows = self.splits["train"]
        return observe(spec.categorical, [(rows.ids, rows.dense, rows.labels)], self.item)


def read_dataset(use_case: UseCase, lake: Lake) -> Dataset:
    """The newest version of `lake.training_set`; NoTrainingData when it cannot be trained on."""
    mend = f"run `headrace backfill --use-case {use_case.name}`"
    try:
        table = DeltaTable(lake.training_set)
    except TableNotFoundError as error:
        raise NoTrainingData(f"{lake.training_set}: no training set: {mend}") from error
    fields = [name for name in use_case.inputs if name in use_case.contract.fields]
    wanted = dict.fromkeys(
        ("event_id", "q", "split", "label", *use_case.feature_names, *fields),
    )
    present = {field.name for field in table.schema().fields}
    if lacking := sorted(set(wanted) - present):
        raise NoTrainingData(
            f"{lake.training_set}: lacks {lacking}, which use case {use_case.name} declares: {mend}"
        )
    rows = table.to_pyarrow_table(columns=list(wanted)).sort_by(
        [("q", "ascending"), ("event_id", "ascending")]
    )
    splits = {}
    content = blake2b(digest_size=16)
    for split in SPLITS:
        part = rows.filter(pc.field("split") == split)
        if not part.num_rows:
            raise NoTrainingData(
                f"{lake.training_set}: split {split!r} holds no row: ingest more of the log, "
                f"then {mend}"
            )
        splits[split] = _encode(use_case, part)
        content.update(f"{split}:{part.num_rows}\n".encode())
        content.update("\n".join(part["event_id"].to_pylist()).encode())
        for array in (splits[split].ids, splits[split].dense, splits[split].labels):
            content.update(array.tobytes())
    return Dataset(splits, table.version(), content.hexdigest(), use_case.item_columns)


def _encode(use_case: UseCase, table: pa.Table) -> Rows:
    rows: list[dict[str, Any]] = table.select(list(use_case.inputs)).to_pylist()
    q = table["q"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
    features = np.column_stack([table[name].to_numpy() for name in use_case.feature_names])
    ids = encode_ids(use_case.model.categorical, rows, q)
    dense = encode_dense(use_case.model.numeric, rows, features)
    labels = table["label"].to_numpy().astype(np.float32)
    if not np.isfinite(dense).all():
        names = [*use_case.feature_names, *(n.field for n in use_case.model.numeric)]
        column = int(np.flatnonzero(~np.isfinite(dense).all(axis=0))[0])
        raise NoTrainingData(
            f"training set of {use_case.name}: {names[column]} is not finite in some row: "
            "declare a default for it and backfill again"
        )
    if not np.isin(labels, (0, 1)).all():
        raise NoTrainingData(f"training set of {use_case.name}: label is not 0 or 1 in some row")
    return Rows(ids, dense, labels)


class TrainingData(LightningDataModule):
    """Batches of `(ids int64[b, C], dense float32[b, D], labels float32[b])` for Lightning."""

    def __init__(self, dataset: Dataset, batch_size: int, seed: int) -> None:
        super().__init__()
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Any]:
        """Every training row once an epoch, in an order drawn from the seed."""
        tensors = tensors_of(self.dataset.splits["train"])
        shuffled = RandomSampler(tensors, generator=torch.Generator().manual_seed(self.seed))
        return _loader(tensors, BatchSampler(shuffled, self.batch_size, drop_last=False))

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation rows in order of time."""
        tensors = tensors_of(self.dataset.splits["validation"])
        ordered = SequentialSampler(tensors)
        return _loader(tensors, BatchSampler(ordered, 8 * self.batch_size, drop_last=False))


def tensors_of(rows: Rows) -> Tensors:
    """The arrays of a split as one dataset of tensors."""
    return Tensors(*map(torch.from_numpy, (rows.ids, rows.dense, rows.labels)))


def _loader(tensors: Tensors, batches: BatchSampler) -> DataLoader[Any]:
    # A whole batch is one slice of each tensor: collating it row by row takes longer than the fit.
    return DataLoader(tensors, sampler=batches, batch_size=None)
