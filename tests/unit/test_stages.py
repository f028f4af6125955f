import pytest

from data_contracts.stages import (
    MoveRefused,
    demoted,
    differences,
    following,
    promoted,
    stage_of,
)

SERVED = {"challenger": "5", "canary": "4", "champion": "3", "previous_champion": "2"}


def test_a_version_walks_from_challenger_to_champion_one_stage_at_a_time() -> None:
    aliases = {"champion": "1"}
    walked: list[str] = []
    for _ in range(4):
        walked.append(following(aliases, "2"))
        aliases = promoted(aliases, "2", walked[-1])
    assert ["challenger", "shadow", "canary", "champion"] == walked
    assert {"champion": "2", "previous_champion": "1"} == aliases


def test_a_new_champion_leaves_its_stage_and_the_old_one_is_the_previous() -> None:
    after = promoted(SERVED, "4", "champion")
    assert {"challenger": "5", "champion": "4", "previous_champion": "3"} == after


def test_the_previous_champion_may_be_promoted_again() -> None:
    after = promoted(SERVED, "2", "champion")
    assert ("2", "3") == (after["champion"], after["previous_champion"])


def test_a_demoted_champion_gives_way_to_the_previous_one() -> None:
    after = demoted(SERVED, "3")
    assert {"challenger": "5", "canary": "4", "champion": "2"} == after


def test_a_demoted_canary_leaves_the_champion() -> None:
    after = demoted(SERVED, "4")
    assert {"challenger": "5", "champion": "3", "previous_champion": "2"} == after
    assert stage_of(after, "4") is None


def test_aliases_of_the_users_own_are_left_alone() -> None:
    assert {"champion": "2"} == promoted({"mine": "7"}, "2", "champion")


@pytest.mark.parametrize(
    ("version", "to", "told"),
    [
        ("3", "canary", "is the champion: demote it"),
        ("4", "canary", "is canary already"),
        ("4", "shadow", "is the canary: demote it"),
        ("4", "challenger", "is the canary: demote it"),
        ("4", "previous_champion", "stage 'previous_champion': one of"),
    ],
)
def test_a_move_that_leads_nowhere_is_refused(version: str, to: str, told: str) -> None:
    with pytest.raises(MoveRefused, match=told):
        promoted(SERVED, version, to)


def test_nothing_follows_the_champion_and_nothing_is_restored_from_nothing() -> None:
    with pytest.raises(MoveRefused, match="is the champion already"):
        following(SERVED, "3")
    with pytest.raises(MoveRefused, match="no previous_champion to restore"):
        demoted({"champion": "3"}, "3")
    with pytest.raises(MoveRefused, match="is under none of"):
        demoted(SERVED, "9")


def test_the_served_alias_is_written_last() -> None:
    changed = differences(SERVED, promoted(SERVED, "4", "champion"))
    assert [("canary", None), ("previous_champion", "3"), ("champion", "4")] == list(
        changed.items()
    )
