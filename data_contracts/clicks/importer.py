"""The Open Bandit Dataset as canonical events.

Assumed, because the log does not say: a click follows its impression after ten seconds; an event
arrives the moment it happens; the four hashed user features together stand for the user.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

ASSUMED_CLICK_DELAY = timedelta(seconds=10)


def canonical(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One logged slot: an impression, and its click if there was one."""
    shown: datetime = row["timestamp"].astimezone(UTC)
    impression = f"{row['policy']}-{row['row']}"
    both = {"user_id": row["user_id"], "item_id": str(row["item_id"])}
    yield {
        "event_id": impression,
        "event_type": "impression",
        **_times(shown),
        **both,
        "request_id": impression,
        "position": row["position"],
        "affinity": row["affinity"],
        "propensity": row["propensity"],
        "policy": row["policy"],
    }
    if row["click"]:
        yield {
            "event_id": f"{impression}-click",
            "event_type": "click",
            **_times(shown + ASSUMED_CLICK_DELAY),
            **both,
            "impression_id": impression,
        }


def _times(moment: datetime) -> dict[str, str]:
    text = moment.isoformat(timespec="microseconds")
    return {"event_time": text, "arrived_at": text}
