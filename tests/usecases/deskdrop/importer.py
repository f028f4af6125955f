"""The CI&T Deskdrop log (`users_interactions.csv`) as canonical events.

Assumed, because the log does not say: an event arrives the moment it happens (no lag); two rows
equal in every column are one event logged twice, so the row's hash stands for the missing id.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from data_contracts.clock import SECOND, format_time

EVENT_TYPES = {
    "VIEW": "view",
    "LIKE": "like",
    "BOOKMARK": "bookmark",
    "COMMENT CREATED": "comment",
    "FOLLOW": "follow",
}

PLATFORMS = (
    ("Android", "android"),
    ("iPhone", "ios"),
    ("iPad", "ios"),
    ("Windows", "windows"),
    ("Mac OS", "mac"),
    ("Linux", "linux"),
    ("X11", "linux"),
)
"""Words of a user agent in the order of asking: Android names Linux too, an iPhone Mac OS."""


def canonical(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One logged interaction: one event. An event type the log never had is left as it stands."""
    moment = format_time(int(row["timestamp"]) * SECOND)
    yield {
        "event_id": _digest(row),
        "event_type": EVENT_TYPES.get(row["eventType"], row["eventType"]),
        "event_time": moment,
        "arrived_at": moment,
        "user_id": row["personId"],
        "item_id": row["contentId"],
        "session_id": row["sessionId"] or None,
        "platform": _platform(row["userAgent"]),
        "country": row["userCountry"] or None,
        "region": row["userRegion"] or None,
    }


def _digest(row: Mapping[str, Any]) -> str:
    text = json.dumps(dict(row), sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _platform(agent: str) -> str | None:
    if not agent:
        return None
    return next((platform for word, platform in PLATFORMS if word in agent), "other")
