"""Who answers for a move of a version that its gates do not allow."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Override:
    """Who answers for a move that no gate passed, and why."""

    name: str
    reason: str

    def __post_init__(self) -> None:
        for field, text in asdict(self).items():
            if not text.strip():
                raise ValueError(f"override: no {field}: who answers for this move, and why?")
