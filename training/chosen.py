"""The spec that a bundle's module was fitted by: a member of the bundle, beside its weights."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from data_contracts.encoding import Categorical, Numeric
from data_contracts.model_spec import ModelSpec

SPEC = "spec.json"


class NoSpec(ValueError):
    """A bundle that does not say by which spec its module was fitted."""


@dataclass(frozen=True)
class Chosen:
    """What a model is fitted by."""

    declared: ModelSpec
    found: Mapping[str, Any]
    """Field of the spec -> what a search chose in place of what is declared."""

    def __post_init__(self) -> None:
        if unknown := self.found.keys() - {each.name for each in fields(ModelSpec)}:
            raise ValueError(f"{sorted(unknown)}: no fields of a spec")

    @property
    def spec(self) -> ModelSpec:
        """What is declared, with what was found."""
        return replace(self.declared, **self.found)

    def under(self, declared: ModelSpec) -> "Chosen":
        """The same under a later declaration: what was found stands for the fields that are
        declared as they were then, and gives way where one is declared otherwise now."""
        kept = {
            name: value
            for name, value in self.found.items()
            if getattr(declared, name) == getattr(self.declared, name)
        }
        return Chosen(declared, kept)


def write_chosen(chosen: Chosen, folder: Path) -> None:
    """Write `SPEC` into `folder`."""
    told = {"declared": asdict(chosen.declared), "found": dict(chosen.found)}
    (folder / SPEC).write_text(json.dumps(told, indent=1))


def read_chosen(folder: Path) -> Chosen:
    """What `write_chosen` wrote into the opened bundle in `folder`; NoSpec where it is not there,
    as of bundles that are older than it, or names what a spec does not have."""
    try:
        told = json.loads((folder / SPEC).read_text())
        own, found = (_values(told[name]) for name in ("declared", "found"))
        for name, kind in (("categorical", Categorical), ("numeric", Numeric)):
            own[name] = tuple(kind(**each) for each in own[name])
        return Chosen(ModelSpec(**own), found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoSpec(f"{folder}: no {SPEC} that can be read ({error!r})") from error


def _values(told: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's sequences are tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
    }
