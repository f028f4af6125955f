"""What the Feast views of finalised features compute, in whichever process asks Feast for them."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from data_contracts.definitions import from_json, to_json
from data_contracts.features import FeatureGroup
from data_contracts.online import QUERY_TIME, state_name
from data_contracts.states import Unpacked, finalized, unpack
from data_contracts.views import Reading, View, digests_of, reading


def finalised(definitions: str, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[float]]:
    """The features of a group, per row of `inputs`: packed states by view, or None, and *q* (µs).

    `definitions` is the JSON of `definitions_of`. As in a request to the server, rows of one *q*
    whose states are ahead of it are all answered at the latest as-of among them. ValueError where a
    *q* is no integer.
    """
    names, read = _read(definitions)
    asked = inputs[QUERY_TIME]
    if wrong := [q for q in asked if not isinstance(q, int) or isinstance(q, bool)]:
        raise ValueError(
            f"{QUERY_TIME}: {wrong[0]!r} is no query time: give whole microseconds since 1970"
        )
    moments = np.array(asked, np.int64)
    together, request = np.unique(moments, return_inverse=True)
    found: list[Unpacked] = []
    for group in read.groups:
        states = inputs[state_name(group)]
        held = [row for row in range(len(moments)) if states[row]]
        found.append(unpack(group, [states[row] for row in held], np.array(held, np.int64)))
        np.maximum.at(together, request[held], found[-1].as_ofs)
    q = together[request]
    parts = [finalized(g, each.rows, q) for g, each in zip(read.groups, found, strict=True)]
    return dict(zip(names, read.vector(parts).T.tolist(), strict=True))


def definitions_of(group: FeatureGroup, views: Sequence[FeatureGroup]) -> str:
    """A group, and the definitions whose views it is read from, as `finalised` takes them."""
    return json.dumps({"group": to_json(group), "views": [to_json(each) for each in views]})


@lru_cache(maxsize=64)
def _read(definitions: str) -> tuple[tuple[str, ...], Reading]:
    said = json.loads(definitions)
    group = from_json(said["group"])
    views = [View(from_json(each), "ready") for each in said["views"]]
    return group.feature_names, reading(digests_of([group]), views)
