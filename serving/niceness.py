"""Work that answers need not wait for: threads that the processor gives to others first."""

import os
import sys
import threading

_NICE = 10


def step_aside() -> None:
    """Let every other thread go before the calling one, for good (Linux; nothing elsewhere).

    Linux has a niceness per thread, where POSIX has one per process (sched(7)).
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
