"""The bundle that training hands to serving: files, their manifest, and what is checked on opening.

Members are verified by size and sha256 before anything reads them; nothing in a bundle is pickled.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

MANIFEST = "manifest.json"
GRAPH = "model.onnx"
GOLDEN = "golden.json"
TOWERS = "towers.onnx"
"""Of two towers: the same inputs, outputs `user` and `item`, whose inner product is the logit."""
FORMAT = 4
KINDS = (".json", ".npz", ".onnx")
"""What members may be: read without running or unpickling anything (`.npz` with no objects)."""
LOGIT_TOLERANCE = 1e-4
"""Golden scores may differ by this much in the logit: batch sizes change the last bits."""


class BundleRefused(ValueError):
    """A bundle that is not what its manifest says, or not made for this use case."""


class OtherFormat(BundleRefused):
    """A bundle whose manifest is of another format than this reader's."""


@dataclass(frozen=True)
class Member:
    """One file of a bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Inputs:
    """What a graph takes, as `Manifest` says it."""

    feature_digests: Mapping[str, str]
    categorical: tuple[tuple[str, int], ...]
    numeric: tuple[tuple[str, float], ...]

    @property
    def features(self) -> tuple[str, ...]:
        """As of `Manifest`."""
        return tuple(self.feature_digests)


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself."""

    format: int
    use_case: str
    model: str
    features: tuple[str, ...]
    """Feature columns of `dense`, in order; the declared numeric fields follow them."""
    categorical: tuple[tuple[str, int], ...]
    """(field, buckets) of each column of `ids`."""
    numeric: tuple[tuple[str, float], ...]
    """(field, default) of each numeric input."""
    feature_digests: Mapping[str, str]
    """Feature -> digest of the definition it was trained on, in the order of `features`."""
    contract_version: str
    contract_digest: str
    """`Contract.digest` of the contract by which its rows were taken."""
    golden_rows: int
    """How many golden rows it holds, at least 1."""
    fitted_until: int
    """µs: the query time of the newest row that its weights were fitted on or chosen by; 0 where
    there was none."""
    metrics: Mapping[str, Any]
    members: Mapping[str, Member]

    def digest(self) -> str:
        """sha256 of the manifest's canonical JSON: the tag under which a version is registered."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, indent=1)


def seal(folder: Path, manifest_without_members: Mapping[str, Any]) -> Manifest:
    """Write the manifest over every file in `folder` and return it."""
    members = {
        path.name: Member(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    manifest = Manifest(format=FORMAT, members=members, **manifest_without_members)
    (folder / MANIFEST).write_text(manifest.to_json())
    return manifest


def open_bundle(folder: Path, digest: str) -> Manifest:
    """The verified manifest of the bundle in `folder`; raises BundleRefused naming what differs.

    `digest` is the one under which the version is registered.
    """
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise BundleRefused(f"{folder}: no {MANIFEST}: export the version again")
    content = path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise BundleRefused(f"{path}: digest {found}, registered as {digest}: fetch it again")
    try:
        raw = json.loads(content)
        if raw["format"] != FORMAT:
            raise OtherFormat(
                f"{path}: format {raw['format']}, this reader knows {FORMAT}: run `headrace train`"
            )
        members = {name: Member(**m) for name, m in raw.pop("members").items()}
        pairs = {k: tuple(tuple(p) for p in raw.pop(k)) for k in ("categorical", "numeric")}
        features = tuple(raw.pop("features"))
        raw["feature_digests"] = {name: raw["feature_digests"][name] for name in features}
        manifest = Manifest(members=members, features=features, **pairs, **raw)
    except BundleRefused:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleRefused(f"{path}: not a bundle manifest: {error!r}") from error
    for name in (GRAPH, GOLDEN):
        if name not in members:
            raise BundleRefused(f"{path}: lists no {name}")
    if type(manifest.golden_rows) is not int or manifest.golden_rows < 1:
        raise BundleRefused(
            f"{path}: golden_rows {manifest.golden_rows!r}: a bundle without golden rows proves "
            "nothing of its graph: run `headrace train`"
        )
    for name, member in members.items():
        _verify(folder, name, member)
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if _is_leaf(p)}
    if stray := present - {MANIFEST, *members}:
        raise BundleRefused(f"{folder}: holds {sorted(stray)}, which the manifest does not list")
    return manifest


def check_inputs(manifest: Manifest | Inputs, ids: np.ndarray, dense: np.ndarray) -> None:
    """The boundary before every engine: dtype, width, row count, id range, finiteness.

    Raises BundleRefused naming the array and the column.
    """
    shapes = {
        "ids": (ids, np.dtype(np.int64), len(manifest.categorical)),
        "dense": (dense, np.dtype(np.float32), len(manifest.features) + len(manifest.numeric)),
    }
    for name, (array, dtype, width) in shapes.items():
        if array.dtype != dtype or array.ndim != 2 or array.shape[1] != width:
            raise BundleRefused(
                f"{name}: {array.dtype}{list(array.shape)}, needs {dtype}[rows, {width}]"
            )
    if not len(ids) or len(ids) != len(dense):
        raise BundleRefused(f"ids and dense: {len(ids)} and {len(dense)} rows, need as many, not 0")
    for j, (field, buckets) in enumerate(manifest.categorical):
        if ids[:, j].min() < 0 or ids[:, j].max() >= buckets:
            raise BundleRefused(f"ids[{field}]: outside 0 … {buckets - 1}")
    if not np.isfinite(dense).all():
        column = int(np.flatnonzero(~np.isfinite(dense).all(axis=0))[0])
        names = [*manifest.features, *(name for name, _ in manifest.numeric)]
        raise BundleRefused(f"dense[{names[column]}]: not finite")


def write_golden(folder: Path, ids: np.ndarray, dense: np.ndarray, scores: np.ndarray) -> None:
    """Write the rows that `golden_rows` reads; `scores` [rows] as their model gave them."""
    columns = {"ids": ids, "dense": dense, "scores": scores.astype(np.float64)}
    content = {name: column.tolist() for name, column in columns.items()}
    (folder / GOLDEN).write_text(json.dumps(content))


def golden_rows(folder: Path, manifest: Manifest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`ids`, `dense` and the expected float64[rows] `scores` of an opened bundle's golden rows.

    Raises BundleRefused where they are fewer or more than the manifest says, and naming a column
    that is missing, shorter or beyond the boundary.
    """
    path = folder / GOLDEN
    kinds = {"ids": np.int64, "dense": np.float32, "scores": np.float64}
    try:
        raw = json.loads(path.read_bytes())
        found = {name: np.asarray(raw[name], kind) for name, kind in kinds.items()}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BundleRefused(f"{path}: needs ids, dense and scores: {error!r}") from error
    ids, dense, scores = found.values()
    if not len(ids) == len(dense) == scores.size or scores.ndim != 1:
        told = ", ".join(f"{name} {list(each.shape)}" for name, each in found.items())
        raise BundleRefused(f"{path}: a golden row is missing: {told}")
    if len(ids) != manifest.golden_rows:
        raise BundleRefused(
            f"{path}: {len(ids)} golden rows, the manifest says {manifest.golden_rows}: "
            "run `headrace train`"
        )
    if not len(manifest.categorical):
        ids = ids.reshape(len(scores), 0)
    check_inputs(manifest, ids, dense)
    return ids, dense, scores


def check_golden(expected: np.ndarray, scores: np.ndarray) -> None:
    """Raise BundleRefused when a golden row's logit moved by more than `LOGIT_TOLERANCE`."""
    if expected.shape != scores.shape or not expected.size:
        raise BundleRefused(
            f"golden rows: {list(scores.shape)} scores for {list(expected.shape)} expected"
        )
    gap = logit_gap(expected, scores)
    if not gap <= LOGIT_TOLERANCE:
        raise BundleRefused(
            f"golden rows: logits differ by {gap:.2e}, at most {LOGIT_TOLERANCE:g} allowed"
        )


def logit_gap(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two logits of the same row, of probabilities float[n], n > 0; NaN
    where one of them is NaN."""
    return float(np.abs(_logit(one) - _logit(other)).max())


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(np.asarray(p, np.float64), 1e-9, 1 - 1e-9)
    return np.log(p) - np.log1p(-p)


def _is_leaf(path: Path) -> bool:
    return path.is_symlink() or not path.is_dir()


def _verify(folder: Path, name: str, member: Member) -> None:
    path = folder / name
    if Path(name).name != name or path.is_symlink() or not path.is_file():
        raise BundleRefused(f"{folder}: member {name!r} is no plain file of the bundle")
    if path.suffix not in KINDS:
        raise BundleRefused(f"{folder}: member {name!r} may unpickle or run: only {KINDS} may be")
    if path.stat().st_size != member.bytes:
        raise BundleRefused(
            f"{path}: {path.stat().st_size} bytes, the manifest says {member.bytes}"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != member.sha256:
        raise BundleRefused(f"{path}: sha256 differs from the manifest")
