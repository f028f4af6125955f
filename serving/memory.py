"""Memory as Linux tells of it: what a process holds, and what is left for more."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def held(pid: int) -> int:
    """Bytes of a process that are resident; 0 where it is gone, or the system is none of Linux."""
    with contextlib.suppress(OSError):
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0


def own(pid: int) -> int:
    """Bytes of a process that it shares with no other: what one more fork beside it would take.
    0 where it is gone, or the system does not tell (Linux 4.14 does)."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))
    return 0


def left() -> int | None:
    """Bytes that processes here may still take: what the machine has available, or what the limit
    of a control group (v2) around this process leaves; None where the system tells neither."""
    rooms = list(_of_groups())
    with contextlib.suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        rooms += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min(rooms, default=None)


def _of_groups() -> Iterator[int]:
    with contextlib.suppress(OSError):
        own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip("/\n")
        for group in [_GROUPS / own, *(_GROUPS / own).parents]:
            with contextlib.suppress(OSError, ValueError):
                most = int((group / "memory.max").read_text())
                stat = dict(
                    line.split() for line in (group / "memory.stat").read_text().splitlines()
                )
                used = int((group / "memory.current").read_text())
                # Pages of files that nobody has used for a while are given up first.
                yield most - used + int(stat["inactive_file"])
