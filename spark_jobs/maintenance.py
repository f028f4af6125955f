"""Upkeep of a lake, also while its stream runs: compaction, old tiles, idle states, vacuum.

The stream only appends, and Delta commits appends and compactions beside each other. Who rewrites a
table meanwhile (a backfill, the import of the prediction log) wins: its part is skipped, by name.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from data_contracts.clock import HOUR, duration
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, check_vacuum
from spark_jobs.events import arrival, load_events
from spark_jobs.feature_store import OnlineStates
from spark_jobs.folding import FoldedTiles, fold_tiles
from spark_jobs.idle_states import expiring, keep_quiet, quiet_file, removing
from spark_jobs.lake_lease import RowsHeld, lake_lease
from spark_jobs.lease import LeaseHeld
from spark_jobs.tables import BUSY, exists

APPENDED = ("events", "duplicates", "quarantine", "predictions", "shadow_scores")
"""Tables that grow by small files; the others are rewritten by those who fill them."""
VACUUMED = (*APPENDED, "tiles", "tile_bases", "outcomes")
"""Not the training set: model versions name the versions of it on which they were fitted."""
FULL_FILE = 128 * 1024 * 1024
"""Bytes from which a file is left as it is."""


@dataclass
class Maintained:
    """What an upkeep changed; no feature value is among it."""

    compacted: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Table -> files that were merged, files they became."""
    tiles_deleted: int = 0
    bases: int = 0
    """Keys whose old tiles are one base now."""
    states_removed: int = 0
    """Keys that left the online store."""
    states_left: int = 0
    """Keys that the stream looks at instead: it removes their idle states between its batches."""
    vacuumed: dict[str, int] = field(default_factory=dict[str, int])
    """Table -> files deleted from the disk."""
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    """Part -> who was in its way: run it again later."""


def maintain(
    spark: SparkSession, use_case: UseCase, lake: Lake, vacuum_after: str, forced: bool = False
) -> Maintained:
    """Compact, fold, expire and vacuum, each as far as nobody is in the way.

    ValueError for a `vacuum_after` under 7 days, unless it is `forced`; then nothing was done.
    """
    if not forced:
        check_vacuum(vacuum_after)
    found = Maintained()
    for name in APPENDED:
        _unless_busy(found, f"compaction of {name}", lambda n=name: _compact(spark, lake, n, found))
    events = load_events(spark, use_case, lake)
    newest = events.agg(sf.max("seq"), sf.unix_micros(sf.max(arrival(events)))).first()
    if newest and newest[0] is not None:
        seq, as_of = int(newest[0]), int(newest[1])

        def fold() -> None:
            folded: FoldedTiles = fold_tiles(spark, use_case, lake, seq, as_of)
            found.tiles_deleted, found.bases = folded.deleted, folded.bases

        _unless_busy(found, "tiles", fold)
        _remove_idle(spark, use_case, lake, seq, as_of, found)
    for name in VACUUMED:
        if exists(spark, getattr(lake, name)):
            found.vacuumed[name] = _vacuum(spark, lake, name, vacuum_after, forced)
    return found


def _unless_busy(found: Maintained, part: str, work: Callable[[], None]) -> None:
    try:
        work()
    except BUSY as error:
        found.skipped[part] = str(error).splitlines()[0]


def _compact(spark: SparkSession, lake: Lake, name: str, found: Maintained) -> None:
    path = getattr(lake, name)
    if not exists(spark, path):
        return
    own = spark.newSession()
    own.conf.set("spark.databricks.delta.optimize.minFileSize", FULL_FILE)
    own.conf.set("spark.databricks.delta.optimize.maxFileSize", FULL_FILE)
    row = DeltaTable.forPath(own, str(path)).optimize().executeCompaction().first()
    assert row is not None
    figures = row["metrics"]
    found.compacted[name] = (figures["numFilesRemoved"], figures["numFilesAdded"])


def _remove_idle(
    spark: SparkSession, use_case: UseCase, lake: Lake, seq: int, as_of: int, found: Maintained
) -> None:
    """Here only under the lease: a batch reads a state and writes it."""
    quiet = keep_quiet(spark, use_case, lake, seq, as_of)
    if not quiet:
        return
    with ExitStack() as held:
        try:
            held.enter_context(lake_lease(lake))
        except RuntimeError as refused:
            # Who writes these rows from another folder sees no file of this one.
            if isinstance(refused, LeaseHeld) and not isinstance(refused, RowsHeld):
                found.states_left = quiet
            else:
                found.skipped["idle states"] = str(refused)
            return
        online = OnlineStates(use_case, lake)
        for view, _ in expiring(use_case, lake):
            if quiet_file(lake, view.name).exists():
                found.states_removed += sum(removing(lake, online, view))


def _vacuum(spark: SparkSession, lake: Lake, name: str, after: str, forced: bool) -> int:
    path = getattr(lake, name)
    own = spark.newSession()
    # Delta lists a table in as many tasks as this says: 10 000 unless told, a minute of each core.
    own.conf.set("spark.sql.sources.parallelPartitionDiscovery.parallelism", 8)
    if forced:
        own.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    before = len(list(path.rglob("*.parquet")))
    DeltaTable.forPath(own, str(path)).vacuum(duration(after) / HOUR)
    return before - len(list(path.rglob("*.parquet")))
