"""Retrieval by two towers: the items of a training set, their vectors, and the best for a user."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.bundle import (
    TOWERS,
    BundleRefused,
    Inputs,
    Manifest,
    check_golden,
    check_inputs,
    golden_rows,
)
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase
from training.batches import Rows
from training.data import Dataset, read_dataset
from training.engine import session
from training.evaluate import keys_of, read_split
from training.models.names import TWO_TOWER


class NotDecomposed(ValueError):
    """A use case whose rows are not a user's and an item's side, so that no item has a vector."""


def item_field(use_case: UseCase) -> str:
    """The field that tells items apart; NotDecomposed naming what is of a user and an item."""
    declared, dimensions = use_case.model.item, use_case.declared.dimensions
    keys = {g.entity for g in use_case.groups if g.name in declared and isinstance(g.entity, str)}
    side = keys | {c.field for c in use_case.model.categorical if c.field in declared}
    side |= {name for d in dimensions if d.key in side for name in d.attributes}
    for group in use_case.groups:
        of_item = group.name in declared
        if any((name in side) != of_item for name in group.key_fields):
            keyed, own = " and ".join(group.key_fields), "item" if of_item else "user"
            raise NotDecomposed(
                f"retrieval: feature group {group.name!r} on the {own}'s side is keyed by {keyed}, "
                "so its tower needs the other side too: it scores rows only; leave the group out"
            )
    for name in (c.field for c in use_case.model.categorical):
        if name in side and name not in declared:
            raise NotDecomposed(f"retrieval: {name!r} follows from the item: name it in item")
    keys -= {name for d in dimensions if d.key in keys for name in d.attributes}
    if len(keys) != 1:
        raise NotDecomposed(f"retrieval: item {declared!r} has keys {sorted(keys)}, needs one")
    return keys.pop()


class Towers:
    """A graph of two towers that takes `inputs`."""

    def __init__(self, graph: Path, inputs: Manifest | Inputs) -> None:
        self._session, self._inputs = session(graph), inputs

    def vectors(self, side: str, rows: Rows) -> np.ndarray:
        """float32[n, width]: the vectors of side `user` or `item`; BundleRefused where the rows are
        none that the graph takes."""
        found: list[np.ndarray] = []
        for part in rows.windows():
            check_inputs(self._inputs, part.ids, part.dense)
            given = {"ids": part.ids, "dense": part.dense}
            found.append(np.asarray(self._session.run([side], given)[0]))
        return np.concatenate(found)


def open_towers(folder: Path, manifest: Manifest) -> Towers:
    """The towers of an opened bundle; BundleRefused where it has none, or where their inner
    products are not the logits of its golden rows."""
    if TOWERS not in manifest.members:
        raise BundleRefused(
            f"{folder}: model {manifest.model} has no {TOWERS}: train {TWO_TOWER} to retrieve"
        )
    towers = Towers(folder / TOWERS, manifest)
    ids, dense, expected = golden_rows(folder, manifest)
    golden = Rows(ids, dense, expected)
    logits = (towers.vectors("user", golden) * towers.vectors("item", golden)).sum(axis=1)
    check_golden(expected, 1 / (1 + np.exp(-logits.astype(np.float64))))
    return towers


class Index:
    """The vector of each item's newest row so far."""

    def __init__(self, towers: Towers, items: int) -> None:
        self._towers, self.vectors = towers, np.zeros((items, 0), np.float32)
        self.known = np.zeros(items, bool)

    def take(self, rows: Rows, item: np.ndarray) -> None:
        """Rows in order of time, and the item of each: int64[n], below 0 where it has none."""
        own, back = np.unique(item[::-1], return_index=True)
        at = (len(item) - 1 - back)[own >= 0]
        if not len(at):
            return
        newest = rows.take(at)
        found = self._towers.vectors("item", newest)
        if not self.known.any():
            self.vectors = np.zeros((len(self.known), found.shape[1]), np.float32)
        self.vectors[item[at]], self.known[item[at]] = found, True


@dataclass(frozen=True)
class Catalogue:
    """The items of a training set, and its rows by split in order of time."""

    names: list[str]
    tables: Mapping[str, pa.Table]
    item: Mapping[str, np.ndarray]
    """int64[n]: each row's place in `names`, below 0 where it has no item."""

    @classmethod
    def read(cls, use_case: UseCase, lake: Lake, dataset: Dataset, *columns: str) -> "Catalogue":
        """Of every row of `dataset`, with q, event_time and `columns`; raises NotDecomposed."""
        field = item_field(use_case)
        wanted, version = [field, "event_time", *columns], dataset.delta_version
        tables = {
            split: read_split(use_case, lake, version, split, wanted, rows.labels)
            for split, rows in dataset.splits.items()
        }
        every = pa.concat_tables([table.select([field]) for table in tables.values()])
        coded = every[field].combine_chunks().dictionary_encode()
        item = np.asarray(pc.fill_null(coded.indices, -1), np.int64)
        ends = np.cumsum([table.num_rows for table in tables.values()])[:-1]
        names = [str(name) for name in coded.dictionary.to_pylist()]
        return cls(names, tables, dict(zip(tables, np.split(item, ends), strict=True)))


def as_asked(use_case: UseCase, dataset: Dataset, rows: Rows) -> Rows:
    """The rows with declared defaults in place of numbers that are not the item's: of which a
    request without candidates would carry is not declared, and one may be the clicked item's."""
    dense = np.array(rows.dense)
    for column, number in enumerate(use_case.model.numeric, len(use_case.feature_names)):
        if column not in dataset.item:
            dense[:, column] = number.default
    return Rows(rows.ids, dense, rows.labels)


def top_items(
    use_case: UseCase, lake: Lake, towers: Towers, user: str, k: int
) -> tuple[list[tuple[str, float]], dict[str, np.ndarray]]:
    """The k items with the highest inner products for a user, each with that logit, and all items:
    `item` str[n], `vectors` float32[n, width] and the user's vector `user` float32[width].

    User and items are as in their newest rows of the training set. Raises NotDecomposed, and
    ValueError for a user without a row.
    """
    field = use_case.declared.evaluation.user
    if field is None:
        raise NotDecomposed("retrieval: no user is declared: name one in the use case's Evaluation")
    dataset = read_dataset(use_case, lake)
    known = Catalogue.read(use_case, lake, dataset, field)
    index, newest = Index(towers, len(known.names)), None
    for split, rows in dataset.splits.items():
        index.take(rows, known.item[split])
        own = np.flatnonzero(
            keys_of(np.array(known.tables[split][field].to_pylist(), object)) == user
        )
        newest = rows.take(own[-1:]) if len(own) else newest
    if newest is None:
        raise ValueError(f"{field} {user!r}: has no row in {lake.training_set}: name one that has")
    asked = as_asked(use_case, dataset, newest)
    (wish,) = towers.vectors("user", asked)
    logits = np.where(index.known, index.vectors @ wish, -np.inf)
    best = np.argsort(-logits, kind="stable")[: min(k, int(index.known.sum()))]
    names = np.array(known.names)
    vectors = {"item": names[index.known], "vectors": index.vectors[index.known], "user": wish}
    return [(known.names[at], float(logits[at])) for at in best], vectors
