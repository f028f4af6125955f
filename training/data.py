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

    Only times, ids, splits and users of the rows are in memory at once; see
    `training.batches.room`.
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
    owners = [_owners(source.to_table(columns=[name])[name]) for name in judged]
    keys = source.to_table(columns=["q", "event_id", "split"])
    ordered = _in_order(keys)
    for split, rows in ordered.items():
        if not len(rows):
            raise NoTrainingData(
                f"{lake.training_set}: split {split!r} holds no row: ingest more of the log, "
                f"then {mend}"
            )
    splits = _fill(use_case, lake, source, list(wanted), keys.num_rows, ordered)
    content = blake2b(digest_size=16)
    for split, rows in ordered.items():
        content.update(f"{split}:{len(rows)}\n".encode())
        ids = keys["event_id"].take(pa.array(rows))
        for begin in range(0, len(rows), AT_ONCE):
            some = "\n".join(ids[begin : begin + AT_ONCE].to_pylist())
            content.update(("\n" * (begin > 0) + some).encode())
        for name in ("ids", "dense", "labels"):
            for window in splits[split].windows():
                content.update(getattr(window, name).tobytes())
    users = {split: owner[rows] for split, rows in ordered.items() for owner in owners}
    digest = content.hexdigest()
    times = keys["q"].cast(pa.timestamp("us", "UTC"))
    until = max(times[int(ordered[split][-1])].value for split in ("train", "validation"))
    since = times[int(ordered["test"][0])].value
    return Dataset(
        splits, table.version(), digest, use_case.item_columns, users, built, until, since
    )


def _in_order(keys: pa.Table) -> dict[str, np.ndarray]:
    """Split -> int64[n]: its rows' places in the table, by time, then id."""
    by_time = pc.SortOptions([("q", "ascending"), ("event_id", "ascending")])
    order = pc.call_function("sort_indices", [keys], by_time).to_numpy().astype(np.int64)
    known = pc.SetLookupOptions(pa.array(SPLITS))
    found = pc.call_function("index_in", [keys["split"]], known)
    codes = pc.fill_null(found, -1).to_numpy()[order]
    return {split: order[codes == code] for code, split in enumerate(SPLITS)}


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
    ordered: Mapping[str, np.ndarray],
) -> dict[str, Rows]:
    """Each split's rows, whose places in the source are `ordered`, encoded a record batch at a time
    and put in that order."""
    model = use_case.model
    widths = len(model.categorical), len(use_case.feature_names) + len(model.numeric)
    place = np.full(total, -1, np.int64)
    owner = np.full(total, -1, np.int8)
    splits: dict[str, Rows] = {}
    for code, (split, at) in enumerate(ordered.items()):
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
