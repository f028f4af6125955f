"""The views of the online store: which definitions it holds, and which of them are kept up.

A view holds the states of one definition. The declared groups may be spread over several views, and
views outlive the code that declared them while a model reads them. `views.json` is their record:
whoever rebuilds states adds to it, the one writer of the store keeps up what is live.
"""

import hashlib
import json
import os
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from data_contracts.atomic_write import write_atomically
from data_contracts.definitions import from_json, to_json
from data_contracts.features import FeatureGroup
from data_contracts.file_lock import locked
from data_contracts.lake import Lake
from data_contracts.online import view_name
from data_contracts.use_case import UseCase

Status = Literal["building", "ready", "retiring", "retired"]


@dataclass(frozen=True)
class View:
    """One definition in the online store."""

    group: FeatureGroup
    status: Status
    rebuilt: int | None = None
    """Rebuilt states up to this seq wait for the writer to load them; None when none do."""
    tiles_from: str = ""
    """Tiles of days (YYYY-MM-DD) before this are folded into a base, or no window reaches them."""
    keys: int = 0
    """Keys of the last states that were loaded."""
    as_of: int = 0
    """µs: up to when those were folded."""
    compared: int = 0
    """Feature values that could be compared with what the writer had kept up."""
    mismatches: int = 0
    """Of those, values that differed."""
    lost: int = 0
    """Keys whose state was gone, so that each of its values differed."""
    superfluous: int = 0
    """Keys whose state no event gave, so that each of its values differed: it was removed."""
    quiet_to: int = 0
    """µs: the idle states of keys of which nothing arrived since have left …"""
    quiet_seq: int = 0
    """… as far as the events up to this seq tell; both are 0 after a load."""

    @property
    def name(self) -> str:
        return view_name(self.group)

    @property
    def live(self) -> bool:
        """Whether the writer keeps it up."""
        return self.status in ("building", "ready")


@dataclass(frozen=True)
class Reading:
    """How a feature vector is put together from views."""

    groups: tuple[FeatureGroup, ...]
    """The definitions of the views that are read."""
    columns: tuple[np.ndarray, ...]
    """Per view, int64[k]: which of its features."""
    places: tuple[np.ndarray, ...]
    """Per view, int64[k]: where they stand in the vector."""
    width: int

    def view_of(self) -> list[int]:
        """Per feature of the vector: the index of the view that it is read from."""
        found = np.zeros(self.width, np.int64)
        for i, places in enumerate(self.places):
            found[places] = i
        return found.tolist()

    def vector(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """float64[rows, width] from each view's float64[rows, its features]."""
        values = np.empty((len(parts[0]), self.width))
        for part, columns, places in zip(parts, self.columns, self.places, strict=True):
            values[:, places] = part[:, columns]
        return values


class ViewRegistry:
    """`views.json` of a lake; changes are made under a lock and seen by every process."""

    def __init__(self, lake: Lake) -> None:
        self._folder = lake.online
        self._path = lake.online / "views.json"
        self._read: tuple[tuple[int, int], dict[str, View]] | None = None

    def views(self) -> Mapping[str, View]:
        """Every view by name, in the order in which they came; empty where there is no record."""
        try:
            stat = os.stat(self._path)
        except FileNotFoundError:
            return {}
        stamp = stat.st_mtime_ns, stat.st_ino
        if self._read is None or self._read[0] != stamp:
            held: dict[str, Any] = json.loads(self._path.read_text())
            self._read = stamp, {name: _view(each) for name, each in held.items()}
        return self._read[1]

    def live(self) -> list[FeatureGroup]:
        """The definitions that the writer keeps up."""
        return [view.group for view in self.views().values() if view.live]

    def put(self, view: View) -> None:
        """Add a view, or replace the record of its definition."""
        with self._changing() as views:
            views[view.name] = view

    def offer(self, group: FeatureGroup, seq: int, before: View | None) -> bool:
        """Note that states rebuilt up to `seq` wait for the writer. False, and nothing is noted,
        where the view is being retired, or was since its record was `before`."""
        with self._changing() as views:
            held = views.get(view_name(group))
            known = held is not None and held.live
            if held is not None and not known and (held.status == "retiring" or held != before):
                return False
            kept = held if held is not None and known else View(group, "building")
            views[kept.name] = View(group, kept.status, rebuilt=seq, tiles_from=kept.tiles_from)
            return True

    def change(self, view: View, **fields: Any) -> None:
        """Set fields of a view, unless another process has changed its record since."""
        with self._changing() as views:
            if views.get(view.name) == view:
                views[view.name] = replace(view, **fields)

    def clear(self) -> None:
        """Forget every view."""
        with self._changing() as views:
            views.clear()

    @contextmanager
    def _changing(self) -> Generator[dict[str, View]]:
        with locked(self._folder / "views.lock"):
            views = dict(self.views())
            yield views
            held = {n: {**vars(v), "group": to_json(v.group)} for n, v in views.items()}
            write_atomically(self._path, json.dumps(held, indent=1))


def digests_of(groups: Iterable[FeatureGroup]) -> dict[str, str]:
    """Feature -> digest of every feature of these groups, in their order."""
    return {name: digest for group in groups for name, digest in group.feature_digests.items()}


def joint_digest(features: Mapping[str, str]) -> str:
    """32 hex digits over the features (name -> digest) in their order: what a model takes."""
    return hashlib.blake2b(json.dumps(list(features.items())).encode(), digest_size=16).hexdigest()


def missing(group: FeatureGroup, held: Iterable[FeatureGroup]) -> FeatureGroup | None:
    """What of a declared group no definition in `held` computes; None when nothing is."""
    found = {(name, digest) for each in held for name, digest in each.feature_digests.items()}
    lacking = [n for n, digest in group.feature_digests.items() if (n, digest) not in found]
    return group.only(lacking) if lacking else None


def lacking_views(
    groups: Iterable[FeatureGroup], held: Collection[FeatureGroup]
) -> list[FeatureGroup]:
    """What of the groups no definition in `held` computes, each a view to be made.

    Sketches have a view of their own: who reads none of them does not carry their states.
    """
    found: list[FeatureGroup] = []
    for group in groups:
        if (rest := missing(group, held)) is not None:
            exact = [name for name in rest.feature_names if name not in rest.sketched]
            found += [rest.only(names) for names in (exact, rest.sketched) if names]
    return found


def kept_up(use_case: UseCase, lake: Lake) -> list[FeatureGroup]:
    """Every definition that states and tiles are kept for: the live views', and what of the
    declared groups none of them computes."""
    live = ViewRegistry(lake).live()
    return [*live, *lacking_views(use_case.groups, live)]


def reading(features: Mapping[str, str], views: Iterable[View]) -> Reading:
    """From which views the features (name -> digest) are read; as few as a greedy choice finds, in
    the order of the first feature that each gives.

    Raises ValueError naming the features that no view has ready.
    """
    ready = [(v.group, v.group.feature_digests.items()) for v in views if v.status == "ready"]
    left = dict(features)
    chosen: list[tuple[FeatureGroup, list[str]]] = []
    order = {name: i for i, name in enumerate(features)}
    while left:
        held = [len(items & left.items()) for _, items in ready]
        if not any(held):
            raise ValueError(
                f"no view of the online store has {', '.join([*left][:5])} ready as this "
                "model was trained on it: run `headrace materialize`"
            )
        group, items = ready[held.index(max(held))]
        names = sorted((name for name, _ in items & left.items()), key=order.__getitem__)
        chosen.append((group, names))
        left = {name: digest for name, digest in left.items() if name not in names}
    chosen.sort(key=lambda view: order[view[1][0]])
    columns = [
        np.array([group.feature_names.index(name) for name in names], np.int64)
        for group, names in chosen
    ]
    places = [np.array([order[name] for name in names], np.int64) for _, names in chosen]
    groups = tuple(group for group, _ in chosen)
    return Reading(groups, tuple(columns), tuple(places), len(features))


def _view(held: Mapping[str, Any]) -> View:
    fields = dict(held)
    return View(from_json(fields.pop("group")), **fields)
