"""What the one writer does to the views of the store: keep up, load, drop, rid of idle states."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from data_contracts.features import FeatureGroup
from data_contracts.lake import Lake
from data_contracts.online import view_name
from data_contracts.use_case import UseCase
from data_contracts.views import View, ViewRegistry, kept_up
from spark_jobs.checkpoint import consumed
from spark_jobs.columns import used_fields
from spark_jobs.feature_store import OnlineStates
from spark_jobs.idle_states import quiet_file, removing
from spark_jobs.lake_lease import RowsHeld, lake_lease
from spark_jobs.lease import LeaseHeld
from spark_jobs.online_store import refuse_eviction
from spark_jobs.rebuilt_states import loaded_at, loading, rebuilt_file
from spark_jobs.tables import BUSY, exists
from spark_jobs.tiles import own_rows

POLL_S = 0.5
"""How often the writer is looked at while it works."""
_DONE = object()


class ViewKeeper:
    """Follows the record of views on behalf of the holder of the writer's lease.

    RuntimeError, at once, where the store may evict states: theirs would begin anew, and be wrong.
    """

    def __init__(
        self, spark: SparkSession, use_case: UseCase, lake: Lake, online: OnlineStates
    ) -> None:
        refuse_eviction(lake)
        self._spark = spark
        self._use_case = use_case
        self._lake = lake
        self.online = online
        self._registry = ViewRegistry(lake)
        self._served: list[tuple[str, str]] = []
        self._under_way: tuple[View, Iterator[object]] | None = None

    def begin(self) -> None:
        """Before the first event: a view of each declared group is complete as it is."""
        for group in kept_up(self._use_case, self._lake):
            self._registry.put(View(group, "ready"))

    def live(self) -> list[FeatureGroup]:
        """The definitions to keep up now; ValueError for one that the contract here cannot give."""
        views = [view for view in self._registry.views().values() if view.live]
        if (shown := [(view.name, view.status) for view in views]) != self._served:
            for view in views:
                self._check_fields(view.group)
            self.online.serve(views)
            self._served = shown
        return [view.group for view in views]

    def _check_fields(self, group: FeatureGroup) -> None:
        filters, values = used_fields([group])
        needed = {*group.key_fields, *filters, *values}
        if unknown := sorted(needed - set(self._use_case.contract.fields)):
            raise ValueError(
                f"view {view_name(group)} needs {unknown}, which the contract does not declare: "
                "start this again under the contract that does, or retire the view"
            )

    def tend(self) -> bool:
        """One step of loading rebuilt states, of dropping a view or, where neither waits, of
        removing idle states; False when nothing is left."""
        self.live()
        views = self._registry.views().values()
        for view in views:
            if view.rebuilt is not None and view.live:
                parts = (self._spark, self._use_case, self._lake, self.online, view)
                return self._step(view, partial(loading, *parts))
            if view.status == "retiring":
                return self._drop(view)
        for view in views:
            if view.live and quiet_file(self._lake, view.name).exists():
                return self._step(view, partial(removing, self._lake, self.online, view))
        return False

    def _step(self, view: View, begin: Callable[[], Iterator[object]]) -> bool:
        """Go on with what is under way for this record of a view, or begin it."""
        if self._under_way is None or self._under_way[0] != view:
            self._under_way = view, begin()
        if next(self._under_way[1], _DONE) is _DONE:
            self._under_way = None
        return True

    def _drop(self, view: View) -> bool:
        for path in (self._lake.tiles, self._lake.tile_bases):
            if exists(self._spark, path):
                try:
                    DeltaTable.forPath(self._spark, str(path)).delete(own_rows(view.group))
                except BUSY:
                    return True
        self.online.drop(view.group)
        rebuilt_file(self._lake, view.name).unlink(missing_ok=True)
        quiet_file(self._lake, view.name).unlink(missing_ok=True)
        self._registry.change(view, status="retired", rebuilt=None, tiles_from="")
        return True


def forget_states(use_case: UseCase, lake: Lake) -> None:
    """Empty the online store; whoever writes to it next is told to rebuild it first."""
    online, registry = OnlineStates(use_case, lake), ViewRegistry(lake)
    for view in registry.views().values():
        if view.status != "retired":
            online.drop(view.group)
    registry.clear()


def tend_until_done(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    waiting: Callable[[], bool],
    patience_s: float,
    whole: bool = False,
) -> None:
    """Return when nothing is `waiting` any more: done by the stream where one runs, else here. With
    `whole` every key of every live view is among it: a store that had lost some holds all then.

    RuntimeError when the process that holds the lease has done nothing of it for `patience_s`.
    """
    deadline, seen = 0.0, None
    while waiting():
        try:
            with lake_lease(lake):
                keeper = ViewKeeper(spark, use_case, lake, OnlineStates(use_case, lake))
                while keeper.tend():
                    pass
                if whole:
                    keeper.online.reach(consumed(lake).seq)
        except RowsHeld:
            raise
        except LeaseHeld as held:
            if (now := _progress(lake)) != seen:
                deadline, seen = time.monotonic() + patience_s, now
            elif time.monotonic() > deadline:
                raise RuntimeError(f"{held}: it did not tend to the views of the store") from held
            time.sleep(POLL_S)


def _progress(lake: Lake) -> list[tuple[View, int]]:
    """What changes as views are tended to: their records, and when a part of one was loaded."""
    views = ViewRegistry(lake).views().values()
    return [(view, loaded_at(lake, view.name)) for view in views]


def retire(
    spark: SparkSession,
    use_case: UseCase,
    lake: Lake,
    names: Sequence[str],
    patience_s: float = 600,
) -> None:
    """Delete these views with their states and tiles; ValueError for a name that is not live."""
    registry = ViewRegistry(lake)
    for name in names:
        if (view := registry.views().get(name)) is None or not view.live:
            known = ", ".join(view.name for view in registry.views().values() if view.live)
            raise ValueError(f"view {name}: is not live: name one of {known or 'none'}")
    for name in names:
        registry.change(registry.views()[name], status="retiring")

    def waiting() -> bool:
        return any(registry.views()[name].status == "retiring" for name in names)

    tend_until_done(spark, use_case, lake, waiting, patience_s)
