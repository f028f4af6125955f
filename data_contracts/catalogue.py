"""The catalogue of features: what each one is, as people look it up."""

from dataclasses import dataclass

from data_contracts.features import FeatureGroup
from data_contracts.use_case import UseCase


@dataclass(frozen=True)
class Listed:
    """One feature of a use case."""

    name: str
    group: str
    entity: str
    """The field of the key; of a pair both, by a comma."""
    of: str
    """The aggregate or derived feature, as declared."""
    window: str
    type: str
    """`float64`, whatever the field's type is."""
    kind: str
    """`exact`, or `sketch` for an estimate with a stated error that is the same in every engine."""
    default: float
    """What is served where the window holds nothing."""
    field: str
    """The event field whose values it takes; empty where it takes none."""
    nulls: str
    """`skip` or `zero`: what a null of its field counts as; empty where there is no field."""
    owner: str
    description: str
    """Of its group."""


def catalogue(use_case: UseCase) -> list[Listed]:
    """Every feature in the order in which models take them."""
    return [listed for group in use_case.groups for listed in _of_group(group)]


def _of_group(group: FeatureGroup) -> list[Listed]:
    outputs = [(f"{n}{out}", a) for n, a in group.aggregates.items() for out in a.outputs]
    declared = [*outputs, *group.derived.items()]
    windows = [window for window in group.windows for _ in declared]
    rows = zip(
        group.feature_names, windows, declared * len(group.windows), group.default_values(),
        strict=True,
    )  # fmt: skip
    return [
        Listed(
            name=name, group=group.name, entity=",".join(group.key_fields),
            of=repr(made), window=window.label, type="float64",
            kind="sketch" if name in group.sketched else "exact", default=float(default),
            field=getattr(made, "field", ""), nulls=getattr(made, "nulls", ""),
            owner=group.owner, description=group.description,
        )
        for name, window, (_, made), default in rows
    ]  # fmt: skip
