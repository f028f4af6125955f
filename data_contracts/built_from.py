"""What a training set says of itself: the tables and the declarations that it was built from."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from data_contracts.digest import digest_of
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of


@dataclass(frozen=True)
class BuiltFrom:
    """The origin of a training set, which its writer leaves in the commit's user metadata."""

    made_of: Mapping[str, int] = field(default_factory=dict[str, int])
    """Table -> Delta version."""
    features: Mapping[str, str] = field(default_factory=dict[str, str])
    """Feature -> digest of the definition that gave its values."""
    declared: Mapping[str, str] = field(default_factory=dict[str, str])
    """`contract`, `label`, `request_field`, `split`, and `dimensions` where there are any -> digest
    of what was declared."""

    def to_json(self) -> str:
        """For the commit's user metadata."""
        return json.dumps(asdict(self))

    def differing(self, use_case: UseCase) -> list[str]:
        """What the use case declares otherwise than it was when the rows were built: `contract`,
        `label`, `request_field`, `split`, `dimensions`, then features by name."""
        now = built_from(use_case, {})
        declared = {**now.declared, **self.declared}
        return [name for name in declared if now.declared.get(name) != self.declared.get(name)] + [
            name for name, each in now.features.items() if self.features.get(name) != each
        ]


def built_from(use_case: UseCase, made_of: Mapping[str, int]) -> BuiltFrom:
    """Of a training set that is built as the use case declares it, from these tables."""
    declared, split = use_case.declared, use_case.declared.split
    dimensions = declared.dimensions
    return BuiltFrom(
        made_of,
        digests_of(use_case.groups),
        {
            "contract": use_case.contract.digest,
            "label": use_case.label.digest,
            "request_field": digest_of(declared.request_field),
            "split": digest_of([split.train, split.validation]),
            **({"dimensions": digest_of([asdict(d) for d in dimensions])} if dimensions else {}),
        },
    )


def read_built_from(said: str | None) -> BuiltFrom:
    """What `BuiltFrom.to_json` gave; ValueError where a writer said less, or something else."""
    try:
        held = json.loads(said or "{}")
        return BuiltFrom(held["made_of"], held["features"], held["declared"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("its commit does not say from which definitions it was built") from error
