"""What is measured: six aggregates of a price over five windows, for users and for items."""

from dataclasses import dataclass, replace

from data_contracts.aggregates import Count, Last, Max, Mean, Min, Sum
from data_contracts.clock import duration
from data_contracts.features import FeatureGroup
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.windows import Sliding

AGGREGATES = {
    "count": Count(),
    "sum": Sum("price", scale=100),
    "mean": Mean("price", scale=100),
    "min": Min("price", scale=100),
    "max": Max("price", scale=100),
    "last": Last("price", scale=100),
}
ENTITIES = {"user": "user_id", "item": "item_id"}


@dataclass(frozen=True)
class Frame:
    """A window as a peer needs it: its name, width and hop in µs."""

    name: str
    width: int
    hop: int


SLIDING = tuple(Sliding(width) for width in ("1h", "6h", "24h", "3d", "7d"))
WINDOWS = tuple(Frame(window.label, duration(window.width), window.hop) for window in SLIDING)


def benchmark_use_case() -> UseCase:
    """The click world with the measured groups in place of its own."""
    world = load_use_case("world")
    groups = tuple(
        FeatureGroup(name=name, entity=entity, aggregates=AGGREGATES, windows=SLIDING)
        for name, entity in ENTITIES.items()
    )
    return replace(world, declared=replace(world.declared, groups=groups))
