"""The log that every engine reads: the generated click world's events as parquet, and labels.

Every event bears a price, and no two share a moment, so that "the last price" is one value for all
engines. Labels are a fifth of the impressions, asked about at their own time. Simulated.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.world.generator import KINDS, ORIGINAL, records
from data_contracts.world.parameters import Parameters
from data_contracts.world.population import Population

EVENTS, LABELS = "events.parquet", "labels.parquet"
LABEL_SHARE = 5
"""One impression in so many is a label."""
HOT_PERCENT = 30
"""In the hot variant one user and one item hold so many of all events each."""
EVENTS_PER_ITEM = 1000


def log_folder(home: Path, events: int, hot: bool) -> Path:
    """Where `write_log` leaves the log of that size and kind; it is written once."""
    return home / f"{'hot' if hot else 'even'}-{events}"


def write_log(folder: Path, events: int, hot: bool) -> dict[str, int]:
    """`events.parquet` and `labels.parquet` in `folder`: how many rows each has.

    The same bytes for the same arguments.
    """
    if not folder.exists():
        part = folder.with_suffix(".part")
        part.mkdir(parents=True, exist_ok=True)
        made = _events(events, hot)
        asked = np.flatnonzero(made.pop("impression"))[::LABEL_SHARE]
        table = pa.table(made)
        pq.write_table(table, part / EVENTS)
        labels = table.select(["event_time", "user_id", "item_id"]).take(asked)
        numbers = pa.array(np.arange(len(asked)))
        pq.write_table(labels.add_column(0, "label", numbers), part / LABELS)
        part.rename(folder)
    return {name: pq.read_metadata(folder / f"{name}.parquet").num_rows
            for name in ("events", "labels")}  # fmt: skip


def _events(events: int, hot: bool) -> dict[str, pa.Array | np.ndarray]:
    parameters = Parameters(events, seed=1, items=max(300, events // EVENTS_PER_ITEM))
    blocks = [block[block["copy"] == ORIGINAL] for block in records(parameters)]
    log = np.concatenate(blocks)
    n = np.arange(len(log))
    order = np.argsort(log["time"], kind="stable")
    time = np.empty(len(log), np.int64)
    time[order] = np.maximum.accumulate(log["time"][order] - n) + n
    user, item = log["user"].copy(), log["item"].copy()
    if hot:
        user[n * 7919 % 100 < HOT_PERCENT] = 0
        item[n * 104729 // 100 % 100 < HOT_PERCENT] = 0
    cents = Population(parameters).cents[log["item"]] + log["page"] * 31 % 97
    return {
        "event_id": _names("e", n),
        "event_type": pa.DictionaryArray.from_arrays(log["kind"], list(KINDS)).cast(pa.string()),
        "event_time": pa.array(time, pa.timestamp("us", "UTC")),
        "user_id": _names("u", user),
        "item_id": _names("i", item),
        "price": cents / 100,
        "seq": np.ones(len(log), np.int64),
        "impression": log["kind"] == 0,
    }


def _names(letter: str, numbers: np.ndarray) -> pa.Array:
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(letter, pa.array(numbers).cast(pa.string()), "")
