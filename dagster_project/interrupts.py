"""SIGINT and SIGTERM end a command at once, also one that waits in a call of the system.

Such a call comes back for a signal only if its handler was set to let it. A library may set another
one: Polars, where it is installed and MLflow loads it, has the call go on, and Ctrl-C would be
heard when it comes back by itself. So a thread is told of each signal and wakes the main one by
another signal, whose handler is Python's own, and again until it is awake: a signal that comes amid
the handler of another does not end the call that this goes on with.
"""

import signal
import socket
import threading
import time

ENDING = (signal.SIGINT, signal.SIGTERM)
_WAKES = signal.SIGURG
"""What a process that knows nothing of it ignores."""
_AGAIN_S = 0.05


def hear() -> None:
    """Raise KeyboardInterrupt in the main thread for each, which calls this, from now on."""
    told, tells = socket.socketpair()
    tells.setblocking(False)
    main, awake = threading.get_ident(), False

    def woken(*_: object) -> None:
        nonlocal awake
        awake = True

    signal.signal(_WAKES, woken)
    signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)

    def wake() -> None:
        nonlocal awake
        with told, tells:
            while number := told.recv(1):
                awake = number[0] not in ENDING
                while not awake:
                    signal.pthread_kill(main, _WAKES)
                    time.sleep(_AGAIN_S)

    threading.Thread(target=wake, name="interrupts", daemon=True).start()
    # A shell starts what it puts into the background with SIGINT ignored.
    for number in ENDING:
        signal.signal(number, signal.default_int_handler)


def ignore() -> None:
    """Hear none any more: what is left is short, and leaves nothing."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
