"""What an answer says of the state behind it."""

from serving.answer import oldest


def test_of_a_group_that_is_read_from_two_views_the_older_state_is_told() -> None:
    assert {"user": 3, "item": 4} == oldest(["user", "item", "user"], [5, 4, 3])
    assert {"user": None, "item": 4} == oldest(["user", "item", "user"], [None, 4, 3])
    assert {"user": None} == oldest(["user", "user"], [3, None])
