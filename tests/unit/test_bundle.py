import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_contracts.bundle import (
    GOLDEN,
    GRAPH,
    MANIFEST,
    BundleRefused,
    Manifest,
    Member,
    check_golden,
    check_inputs,
    golden_rows,
    open_bundle,
    seal,
)

ABOUT: dict[str, Any] = {
    "use_case": "clicks",
    "model": "dcn",
    "features": ("user_clicks_1h", "item_clicks_1h"),
    "categorical": (("user_id", 16), ("item_id", 8)),
    "numeric": (("position", 2.0),),
    "feature_digests": {"user_clicks_1h": "ab", "item_clicks_1h": "cd"},
    "contract_version": "1.0.0",
    "contract_digest": "ef",
    "golden_rows": 2,
    "fitted_until": 0,
    "metrics": {"auc": {"value": 0.7, "low": None}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / GRAPH).write_bytes(b"graph")
    (folder / GOLDEN).write_text("[]")
    return folder


@pytest.fixture
def sealed(folder: Path) -> Manifest:
    return seal(folder, ABOUT)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """Change the manifest in place and return the digest it would be registered under."""
    document = json.loads((folder / MANIFEST).read_text())
    change(document)
    text = json.dumps(document, sort_keys=True, indent=1)
    (folder / MANIFEST).write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_sealed_bundle_opens_as_what_was_sealed(folder: Path, sealed: Manifest) -> None:
    opened = open_bundle(folder, sealed.digest())
    assert sealed == opened
    assert sealed.digest() == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    assert {GRAPH, GOLDEN} == set(opened.members)


def remove_graph(folder: Path) -> None:
    (folder / GRAPH).unlink()


def change_graph(folder: Path) -> None:
    (folder / GRAPH).write_bytes(b"grapH")


def lengthen_graph(folder: Path) -> None:
    (folder / GRAPH).write_bytes(b"graph!")


def link_graph(folder: Path) -> None:
    (folder / GRAPH).rename(folder.parent / "elsewhere")
    (folder / GRAPH).symlink_to(folder.parent / "elsewhere")


def link_manifest(folder: Path) -> None:
    (folder / MANIFEST).rename(folder.parent / "elsewhere")
    (folder / MANIFEST).symlink_to(folder.parent / "elsewhere")


def make_graph_a_folder(folder: Path) -> None:
    (folder / GRAPH).unlink()
    (folder / GRAPH).mkdir()


def add_stray(folder: Path) -> None:
    (folder / "weights.pkl").write_bytes(b"\x80\x04.")


def add_deep_stray(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "weights.bin").touch()


def add_linked_folder(folder: Path) -> None:
    (folder / "data").symlink_to(folder.parent, target_is_directory=True)


def add_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


TAMPERED: dict[Callable[[Path], None], str] = {
    remove_graph: f"'{GRAPH}' is no plain file",
    change_graph: f"{GRAPH}: sha256 differs",
    lengthen_graph: f"{GRAPH}: 6 bytes, the manifest says 5",
    link_graph: f"'{GRAPH}' is no plain file",
    link_manifest: f"no {MANIFEST}",
    make_graph_a_folder: f"'{GRAPH}' is no plain file",
    add_stray: "holds .'weights.pkl'., which the manifest does not list",
    add_deep_stray: "holds .'data/weights.bin'.",
    add_linked_folder: "holds .'data'.",
    add_pipe: "holds .'pipe'.",
}


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda tamper: tamper.__name__)
def test_a_bundle_that_was_tampered_with_is_refused(
    folder: Path, sealed: Manifest, tamper: Callable[[Path], None]
) -> None:
    tamper(folder)
    with pytest.raises(BundleRefused, match=TAMPERED[tamper]):
        open_bundle(folder, sealed.digest())


def test_a_bundle_under_another_digest_is_refused(folder: Path, sealed: Manifest) -> None:
    with pytest.raises(BundleRefused, match=f"digest {sealed.digest()}, registered as {'0' * 64}"):
        open_bundle(folder, "0" * 64)


@pytest.mark.usefixtures("sealed")
def test_a_manifest_changed_after_registration_is_refused(folder: Path, sealed: Manifest) -> None:
    rewrite(folder, lambda m: m.update(model="other"))
    with pytest.raises(BundleRefused, match="registered as"):
        open_bundle(folder, sealed.digest())


def test_a_folder_without_a_manifest_is_refused(folder: Path) -> None:
    with pytest.raises(BundleRefused, match=f"no {MANIFEST}"):
        open_bundle(folder, "")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"1", b"\xff", b'{"format": 4}'])
def test_a_manifest_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleRefused, match="not a bundle manifest"):
        open_bundle(folder, hashlib.sha256(content).hexdigest())


ESCAPES = ["../elsewhere", "/etc/hostname", "data/../../elsewhere", "..", ".", ""]


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("name", ESCAPES)
def test_a_member_outside_the_bundle_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "elsewhere").write_bytes(b"secret")
    member = asdict(Member(6, hashlib.sha256(b"secret").hexdigest()))
    digest = rewrite(folder, lambda m: m["members"].update({name: member}))
    with pytest.raises(BundleRefused, match="is no plain file of the bundle"):
        open_bundle(folder, digest)


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("name", [GRAPH, GOLDEN])
def test_a_bundle_without_graph_or_golden_rows_is_refused(folder: Path, name: str) -> None:
    digest = rewrite(folder, lambda m: m["members"].pop(name))
    with pytest.raises(BundleRefused, match=f"lists no {name}"):
        open_bundle(folder, digest)


@pytest.mark.usefixtures("sealed")
def test_a_bundle_of_another_format_is_refused_by_its_number(folder: Path) -> None:
    digest = rewrite(folder, lambda m: m.update(format=2, a_lost_word=True))
    with pytest.raises(BundleRefused, match="format 2, this reader knows 4: run `headrace train`"):
        open_bundle(folder, digest)


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("rows", [0, -1, None, True, "2"])
def test_a_bundle_that_claims_no_golden_rows_is_refused(folder: Path, rows: object) -> None:
    digest = rewrite(folder, lambda m: m.update(golden_rows=rows))
    with pytest.raises(BundleRefused, match="without golden rows proves nothing"):
        open_bundle(folder, digest)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_other_golden_rows_than_the_manifest_says_are_refused(
    folder: Path, sealed: Manifest, rows: int
) -> None:
    held = {"ids": [[1, 7]] * rows, "dense": [[0.0] * 3] * rows, "scores": [0.5] * rows}
    (folder / GOLDEN).write_text(json.dumps(held))
    with pytest.raises(BundleRefused, match=f"{rows} golden rows, the manifest says 2"):
        golden_rows(folder, sealed)


IDS = np.array([[1, 7], [15, 0]], np.int64)
DENSE = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], np.float32)


def with_value(array: np.ndarray, at: tuple[int, int], value: float) -> np.ndarray:
    changed = array.copy()
    changed[at] = value
    return changed


WRONG_INPUTS = {
    "ids of int32": (IDS.astype(np.int32), DENSE, r"ids: int32\[2, 2\], needs int64\[rows, 2\]"),
    "ids of floats": (IDS.astype(np.float64), DENSE, "ids: float64"),
    "big-endian ids": (IDS.astype(">i8"), DENSE, "ids: >i8"),
    "dense of float64": (IDS, DENSE.astype(np.float64), "dense: float64"),
    "too few ids": (IDS[:, :1], DENSE, r"ids: int64\[2, 1\]"),
    "too many dense": (IDS, np.hstack([DENSE, DENSE]), r"dense: float32\[2, 6\]"),
    "one dimension": (IDS[0], DENSE, r"ids: int64\[2\]"),
    "other rows": (IDS, DENSE[:1], "2 and 1 rows"),
    "no rows": (IDS[:0], DENSE[:0], "0 and 0 rows"),
    "a negative id": (with_value(IDS, (1, 0), -1), DENSE, r"ids\[user_id\]: outside 0 … 15"),
    "an id too large": (with_value(IDS, (0, 1), 8), DENSE, r"ids\[item_id\]: outside 0 … 7"),
    "NaN": (IDS, with_value(DENSE, (0, 1), np.nan), r"dense\[item_clicks_1h\]: not finite"),
    "infinity": (IDS, with_value(DENSE, (1, 2), np.inf), r"dense\[position\]: not finite"),
}


@pytest.mark.parametrize("name", WRONG_INPUTS)
def test_wrong_inputs_are_refused_by_array_and_column(sealed: Manifest, name: str) -> None:
    ids, dense, reason = WRONG_INPUTS[name]
    with pytest.raises(BundleRefused, match=reason):
        check_inputs(sealed, ids, dense)


def test_right_inputs_pass_the_boundary(sealed: Manifest) -> None:
    check_inputs(sealed, IDS, DENSE)
    check_inputs(replace(sealed, categorical=()), IDS[:, :0], DENSE)


def test_golden_scores_may_move_by_the_tolerance_in_the_logit_and_no_further() -> None:
    scores = np.array([0.01, 0.5])
    check_golden(scores, scores * (1 + 1e-5))
    with pytest.raises(BundleRefused, match="golden rows: logits differ by"):
        check_golden(scores, scores * (1 + 3e-4))


@pytest.mark.parametrize("scores", [[0.01], [[0.01], [0.5]], [0.01, float("nan")]])
def test_golden_scores_of_another_shape_or_no_number_are_refused(scores: list[Any]) -> None:
    with pytest.raises(BundleRefused, match="golden rows"):
        check_golden(np.array([0.01, 0.5]), np.array(scores))


def test_no_golden_rows_prove_nothing_and_are_refused() -> None:
    with pytest.raises(BundleRefused, match="golden rows"):
        check_golden(np.array([]), np.array([]))
