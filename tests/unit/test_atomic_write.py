"""A file that is replaced holds the old text or the new one; a private one is its owner's."""

from pathlib import Path

import pytest

from data_contracts.atomic_write import write_atomically


@pytest.mark.parametrize("private", [True, False])
def test_a_replaced_file_has_the_new_text_and_its_rights(tmp_path: Path, private: bool) -> None:
    other = tmp_path / "other"
    other.touch()
    rights = 0o600 if private else other.stat().st_mode & 0o777
    path = tmp_path / "made" / "held.json"
    for text in ("one", "é"):
        write_atomically(path, text, private)
    assert ("é", rights) == (path.read_text("utf-8"), path.stat().st_mode & 0o777)
    assert [path] == [*path.parent.iterdir()]


def test_a_write_that_fails_leaves_the_old_text_and_the_next_one_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "held.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half of it \ud800")
    assert "old" == path.read_text()
    write_atomically(path, "new", private=True)
    assert ("new", 0o600) == (path.read_text(), path.stat().st_mode & 0o777)
