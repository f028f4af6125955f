"""How often two towers find what held-out users clicked, beside what is popular."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import nn

from data_contracts.bundle import TOWERS
from data_contracts.declared_inputs import inputs_of
from data_contracts.evidence import Estimate
from data_contracts.lake import Lake
from data_contracts.ranking import hits_at, mean_over_users
from data_contracts.use_case import UseCase
from training.batches import evenly
from training.data import Dataset
from training.export import write_towers
from training.models.names import TWO_TOWER
from training.retrieval import Catalogue, Index, NotDecomposed, Towers, as_asked

RECALL_AT = (10, 100)
POPULARITY = "popularity"
"""The baseline: items by their clicks so far."""
MOST_ASKED = 10_000
"""Held-out clicks that are looked for, at even distances where there are more."""

Recall = dict[str, dict[str, Estimate]]
"""Two towers and the baseline -> metric -> estimate."""


def with_recall(
    metrics: Mapping[str, Mapping[str, Estimate]],
    use_case: UseCase,
    lake: Lake,
    dataset: Dataset,
    model: nn.Module,
    users: np.ndarray | None,
) -> tuple[dict[str, dict[str, Estimate]], str | None]:
    """The metrics with `recall` by the towers of a fitted two_tower, or why there is none."""
    rows = dataset.splits["test"]
    with tempfile.TemporaryDirectory() as place:
        graph = Path(place) / TOWERS
        write_towers(model, rows.ids.shape[1], rows.dense.shape[1], graph)
        try:
            towers = Towers(graph, inputs_of(use_case))
            found, why = recall(use_case, lake, dataset, towers, users), None
        except NotDecomposed as error:
            found, why = {}, str(error)
    names = {**metrics, **found}
    return {name: {**metrics.get(name, {}), **found.get(name, {})} for name in names}, why


def recall(
    use_case: UseCase, lake: Lake, dataset: Dataset, towers: Towers, users: np.ndarray | None
) -> Recall:
    """`recall_at_<k>` of the held-out clicks by the towers and by `POPULARITY`, over `users` [test
    rows]: the share of clicked items among the k best of all that had a row before the click.

    The baseline's `recall_at_<k>_gain` is how far the towers are above, paired; `in_index` is the
    share of clicks on such items, more than which cannot be found. An item's vector is that of its
    newest row before the click. Without a k that is below the number of items there is nothing.
    """
    known = Catalogue.read(use_case, lake, dataset)
    test, item = dataset.splits["test"], known.item["test"]
    clicked = np.flatnonzero(test.labels > 0)
    if not len(clicked):
        return {}
    clicked = clicked[evenly(len(clicked), MOST_ASKED)]
    wishes = towers.vectors("user", as_asked(use_case, dataset, test.take(clicked)))
    index, counted = Index(towers, len(known.names)), _Clicks(known, use_case.label.window, dataset)
    for split in ("train", "validation"):
        index.take(dataset.splits[split], known.item[split])
    depths = [k for k in RECALL_AT if k < index.known.sum()]
    q, begin = _times(known.tables["test"], "q"), 0
    above, same = np.full((2, len(clicked)), np.inf), np.ones((2, len(clicked)))
    for place, row in enumerate(clicked):
        before = slice(begin, begin := int(np.searchsorted(q, q[row])))
        index.take(test.take(before), item[before])
        if item[row] < 0 or not index.known[item[row]]:
            continue
        for one, scores in enumerate((index.vectors @ wishes[place], counted.until(int(q[row])))):
            theirs, own = scores[index.known], scores[item[row]]
            above[one, place], same[one, place] = (theirs > own).sum(), (theirs == own).sum()
    of = None if users is None else users[clicked]

    def mean(values: np.ndarray) -> Estimate:
        return mean_over_users(values, of, use_case.declared.gates.confidence)

    found: Recall = {TWO_TOWER: {}, POPULARITY: {}} if depths else {}
    for k in depths:
        ours, theirs = (hits_at(k, *each) for each in zip(above, same, strict=True))
        found[TWO_TOWER][f"recall_at_{k}"] = mean(ours)
        found[POPULARITY][f"recall_at_{k}"] = mean(theirs)
        found[POPULARITY][f"recall_at_{k}_gain"] = mean(ours - theirs)
    if depths:
        found[TWO_TOWER]["in_index"] = mean(np.isfinite(above[0]).astype(float))
    return found


class _Clicks:
    """How often each item was clicked, as far as its labels had matured at a moment."""

    def __init__(self, known: Catalogue, window: int, dataset: Dataset) -> None:
        hit = {split: rows.labels > 0 for split, rows in dataset.splits.items()}
        at = [_times(table, "event_time")[hit[split]] for split, table in known.tables.items()]
        item = np.concatenate([known.item[split][hit[split]] for split in hit])
        mature = np.concatenate(at) + window
        order = np.argsort(mature, kind="stable")
        order = order[item[order] >= 0]
        self._mature, self._item, self._end = mature[order], item[order], 0
        self._counts = np.zeros(len(known.names))

    def until(self, q: int) -> np.ndarray:
        """float64[items] before `q`, which ascends from call to call."""
        begin, self._end = self._end, int(np.searchsorted(self._mature, q))
        np.add.at(self._counts, self._item[begin : self._end], 1)
        return self._counts


def _times(table: pa.Table, name: str) -> np.ndarray:
    return table[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
