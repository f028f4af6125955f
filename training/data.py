"""The training set: streamed from Delta by record batches, encoded as in serving, digested."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from pytorch_lightning import LightningDataModule

from data_contracts.built_from import BuiltFrom, read_built_from
from data_contracts.encoding import encode_dense, encode_ids
from data_contracts.lake import Lake
from data_contracts.model_spec import ModelSpec
from data_contracts.use_case import UseCase
from training.batches import InOrder, Rows, Shuffled, room
from training.statistics import Seen, observe

SPLITS = ("train", "validation", "test")
END_OF_TIME = np.iinfo(np.int64).max
AT_ONCE = 65_536
"""Rows that are decoded and encoded at once."""


class NoTrainingData(ValueError):
    """A training set that is missing, empty or not made for this use case."""


@dataclass(frozen=True)
class Dataset:
    """The training set of a use case at one version of its table."""

    splits: Mapping[str, Rows]
    delta_version: int
    digest: str
    """32 hex digits over ids, inputs, labels and split of every row, whatever the file layout."""
    item: tuple[int, ...] = ()
    """Dense columns on the item's side."""
    users: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    """Split -> int64[n]: whose each row is, where the use case names the users it is judged by."""
    built_from: BuiltFrom = field(default_factory=BuiltFrom)
    """The tables and the definitions that gave its values."""
    fitted_until: int = 0
    """µs: the newest query time of what is fitted on or chosen by."""
    judged_from: int = END_OF_TIME
    """µs: the oldest query time of the test rows."""

    def seen(self, spec: ModelSpec) -> Seen:
        """What the training rows hold."""
        windows = self.splits["train"].windows()
        batches = ((part.ids, part.dense, part.labels) for part in windows)
        return observe(spec.categorical, batches, self.item)


def read_dataset(use_case: UseCase, lake: Lake) -> Dataset:
    """The newest version of `lake.training_set`; NoTrainingData when it cannot be trained on.

    Only times, ids and splits of the rows are in memory at once; see `training.batches.room`.
    """
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
    judged = [user] if (user := use_case.declared.evaluation.user) else []
    if lacking := sorted({*wanted, *judged} - present):
        raise NoTrainingData(
            f"{lake.training_set}: lacks {lacking}, which use case {use_case.name} declares: {mend}"
        )
    built = _built_from(use_case, lake, table, mend)
    source = table.to_pyarrow_dataset()
    keys = source.to_table(columns=["q", "event_id", "split"])
    keys = keys.append_column("row", pa.array(np.arange(keys.num_rows)))
    for name in judged:
        owner = source.to_table(columns=[name])[name]
        keys = keys.append_column("owner", pa.array(_owners(owner)))
    keys = keys.sort_by([("q", "ascending"), ("event_id", "ascending")])
    ordered = {split: keys.filter(pc.field("split") == split) for split in SPLITS}
    for split, part in ordered.items():
        if not part.num_rows:
            raise NoTrainingData(
                f"{lake.training_set}: split {split!r} holds no row: ingest more of the log, "
                f"then {mend}"
            )
    splits = _fill(use_case, lake, source, list(wanted), keys.num_rows, ordered)
    content = blake2b(digest_size=16)
    for split, part in ordered.items():
        content.update(f"{split}:{part.num_rows}\n".encode())
        for number, chunk in enumerate(part.select(["event_id"]).to_batches(AT_ONCE)):
            ids = "\n".join(chunk["event_id"].to_pylist())
            content.update(("\n" * (number > 0) + ids).encode())
        for name in ("ids", "dense", "labels"):
            for window in splits[split].windows():
                content.update(getattr(window, name).tobytes())
    users = {split: part["owner"].to_numpy() for split, part in ordered.items() if judged}
    digest = content.hexdigest()
    until = max(_at(ordered[split], -1) for split in ("train", "validation"))
    since = _at(ordered["test"], 0)
    return Dataset(
        splits, table.version(), digest, use_case.item_columns, users, built, until, since
    )


def _at(rows: pa.Table, place: int) -> int:
    """µs: the query time of a row."""
    return int(rows["q"][place].cast(pa.timestamp("us", "UTC")).value)


def _owners(users: pa.ChunkedArray) -> np.ndarray:
    """int64[n]: the same number for rows of one user; a row without one is of its own."""
    codes = users.combine_chunks().dictionary_encode().indices
    found = np.asarray(pc.fill_null(codes, -1), np.int64)
    return np.where(found < 0, -1 - np.arange(len(found)), found)


def _built_from(use_case: UseCase, lake: Lake, table: DeltaTable, mend: str) -> BuiltFrom:
    """What the newest write of the training set says of it; upkeep comes after it. NoTrainingData
    where the use case now declares something otherwise."""
    writes = (commit for commit in table.history() if commit.get("operation") == "WRITE")
    try:
        built = read_built_from(next(writes, {}).get("userMetadata"))
    except ValueError as error:
        raise NoTrainingData(f"{lake.training_set}: {error}: {mend}") from error
    if differ := built.differing(use_case):
        raise NoTrainingData(
            f"{lake.training_set}: use case {use_case.name} declares {', '.join(differ[:5])} "
            f"otherwise than when these rows were built: {mend}"
        )
    return built


def _fill(
    use_case: UseCase,
    lake: Lake,
    source: pds.Dataset,
    columns: list[str],
    total: int,
    ordered: Mapping[str, pa.Table],
) -> dict[str, Rows]:
    """Each split's rows, encoded a record batch at a time, at their places in order of time."""
    model = use_case.model
    widths = len(model.categorical), len(use_case.feature_names) + len(model.numeric)
    place = np.full(total, -1, np.int64)
    owner = np.full(total, -1, np.int8)
    splits: dict[str, Rows] = {}
    for code, (split, part) in enumerate(ordered.items()):
        at = part["row"].to_numpy()
        place[at], owner[at] = np.arange(len(at)), code
        splits[split] = Rows(
            room(lake.home, (len(at), widths[0]), np.int64),
            room(lake.home, (len(at), widths[1]), np.float32),
            room(lake.home, (len(at),), np.float32),
        )
    begin = 0
    for batch in source.to_batches(columns=columns, batch_size=AT_ONCE):
        if not batch.num_rows:
            continue
        rows = _encode(use_case, pa.Table.from_batches([batch]))
        here = slice(begin, begin + batch.num_rows)
        for code, split in enumerate(splits):
            mine = owner[here] == code
            to = place[here][mine]
            splits[split].ids[to] = rows.ids[mine]
            splits[split].dense[to] = rows.dense[mine]
            splits[split].labels[to] = rows.labels[mine]
        begin += batch.num_rows
    return splits


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

    def __init__(self, dataset: Dataset, spec: ModelSpec) -> None:
        super().__init__()
        self.dataset = dataset
        self.spec = spec

    def train_dataloader(self) -> Any:
        """The training rows in an order drawn from seed and epoch; see `Shuffled`."""
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        rows, order = self.dataset.splits["train"], (self.spec.seed, epoch)
        return Shuffled(rows, self.spec.batch_size, order, self.spec.negative_rate, self._share())

    def val_dataloader(self) -> Any:
        """The validation rows in order of time."""
        rows = self.dataset.splits["validation"]
        return InOrder(rows, 8 * self.spec.batch_size, self._share())

    def _share(self) -> tuple[int, int]:
        """This device's part of every batch."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size
