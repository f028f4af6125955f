"""Trainings of one lake do not meet in the state that their fits leave."""

from contextlib import suppress
from pathlib import Path

import pytest

from training.states import state_folder


class Ended(Exception):
    """A training that does not come to its end."""


def test_two_trainings_at_once_keep_their_own_state(tmp_path: Path) -> None:
    home = tmp_path / "training"
    with state_folder(home, "a", resume=False) as first:
        (first / "fit.ckpt").write_text("a")
        with state_folder(home, "b", resume=False) as second:
            assert first != second
        assert "a" == (first / "fit.ckpt").read_text()
        assert not second.exists()
        with (
            pytest.raises(ValueError, match="the same training is under way"),
            state_folder(home, "a", resume=True),
        ):
            pass
        assert "a" == (first / "fit.ckpt").read_text()
    assert not home.exists()


def ended(home: Path, resume: bool) -> None:
    """A training under key a that finds what it left, if it resumes, and does not end well."""
    with suppress(Ended), state_folder(home, "a", resume) as folder:
        assert resume == (folder / "fit.ckpt").exists()
        (folder / "fit.ckpt").write_text("a")
        raise Ended


def test_an_ended_training_is_gone_on_with_or_cleared_away(tmp_path: Path) -> None:
    home = tmp_path / "training"
    ended(home, resume=False)
    with (
        pytest.raises(ValueError, match="a: left by other data or choices: train without --resume"),
        state_folder(home, "b", resume=True),
    ):
        pass
    ended(home, resume=True)
    with state_folder(home, "b", resume=False):
        assert (home / "a").exists()
    assert not home.exists()
    with state_folder(home, "c", resume=True) as folder:
        assert ["lock"] == [path.name for path in folder.iterdir()]
