"""Names in the landing log: who appends a file, and when a landed file arrived."""

import re

COLLECTED = "http-"
"""Files of this prefix hold what a collector took as it happened."""

REPLAYED = "replay-"
"""Files of this prefix hold what a collector took under the clock of a replayed log."""

GROWING = (COLLECTED, REPLAYED)
"""Such files are still appended to: a last line without its newline is not there yet."""

LANDED = "file-"
"""Files of this prefix were copied in whole; the name carries arrival (µs) and content digest."""

_NAME = re.compile(rf"{LANDED}(\d+)-([0-9a-f]{{12}})-(.+)")


def landed_name(arrived_at: int, digest: str, name: str) -> str:
    """The name in the landing log of a file called `name` with that content digest (hex)."""
    return f"{LANDED}{arrived_at}-{digest[:12]}-{name.removesuffix('.jsonl')}.jsonl"


def landed_parts(name: str) -> tuple[int, str, str] | None:
    """(arrival µs, content digest, original name), or None for a file that was not copied in."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), match[2], match[3]) if match else None
