"""What a server may not be told."""

from typing import Any

import pytest
from pydantic import ValidationError

from serving.settings import Settings


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"replicas": 3, "max_replicas": 2}, "max_replicas: 2: at least replicas, which is 3"),
        ({"max_replicas": 2, "engine": "plain"}, "the plain engine has one"),
        ({"replicas": 33}, "less than or equal to 32"),
        ({"production": True}, "production needs two"),
        ({"production": True, "replicas": 2, "clock": "replay"}, "clock: replay"),
        ({"production": True, "replicas": 2, "auth": False}, "auth: off"),
        ({"device": "tpu"}, "'cpu', 'cuda' or 'auto'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Settings.model_validate({"root": ".", **given})


def test_in_production_replicas_may_come_and_go_above_two() -> None:
    settings = Settings.model_validate(
        {"root": ".", "production": True, "replicas": 2, "max_replicas": 8}
    )
    assert settings == Settings.model_validate_json(settings.model_dump_json())
