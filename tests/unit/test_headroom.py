"""Who counts as a living replica, and what a step of a release may take."""

import os
import subprocess
import sys
from typing import Any

from data_contracts.rollout_store import Report
from serving import memory
from serving.headroom import Replicas

GIB = 1 << 30


def told(replica: str, beat: int, busy: float = 0.1, full: bool = False, **changed: Any) -> Report:
    held = {"own": GIB, "candidate": 0, "left": 16 * GIB} | changed
    return Report(replica, "boot", beat, {"busy": busy, "memory": held, "log_refuses": full})


def heard(*reports: tuple[Report, Report]) -> Replicas:
    replicas = Replicas()
    for turn in (0, 1):
        replicas.hear([each[turn] for each in reports])
    return replicas


def test_a_replica_lives_from_its_second_word_on() -> None:
    dead, alive = told("a", 7), told("b", 7)
    replicas = heard((dead, dead), (alive, told("b", 8)))
    assert ["b"] == [each.replica for each in replicas.live]


def test_before_a_candidate_runs_each_replica_may_take_its_own_size_again() -> None:
    two = [(told(name, 1, left=GIB * 3 // 2), told(name, 2, left=GIB * 3 // 2)) for name in "ab"]
    assert "" == heard(two[0]).without_memory()
    short = heard(*two).without_memory()
    assert "the candidate may take 2048 MiB in 2 replicas, 1536 MiB of memory are left" in short


def test_once_a_candidate_runs_a_step_may_take_what_it_holds() -> None:
    def twice(name: str, left: int | None) -> tuple[Report, Report]:
        held = {"candidate": GIB // 4, "left": left}
        return told(name, 1, **held), told(name, 2, **held)

    assert "" == heard(twice("a", GIB // 2), twice("b", GIB // 2)).without_memory()
    assert "no headroom" in heard(twice("a", GIB // 2), twice("b", GIB // 3)).without_memory()
    assert "" == heard(twice("a", None)).without_memory()


def test_a_replica_that_keeps_its_processor_busy_has_none_to_spare() -> None:
    calm, busy = (told("a", 1), told("a", 2)), (told("b", 1), told("b", 2, busy=0.9))
    assert "" == heard(calm).without_processors()
    assert "a replica keeps 0.90 processors busy" in heard(calm, busy).without_processors()


def test_while_a_replica_s_log_takes_no_record_nothing_can_be_judged() -> None:
    sound, full = (told("a", 1), told("a", 2)), (told("b", 1), told("b", 2, full=True))
    assert "" == heard(sound).without_log()
    assert "takes no record of the answers of b: free disk" in heard(sound, full).without_log()
    assert "" == heard(sound, (full[1], full[1])).without_log(), "it is gone"


def test_memory_that_this_process_takes_is_held_and_no_longer_left() -> None:
    left, held = memory.left(), memory.held(os.getpid())
    assert left is not None and left > 0
    block = bytearray(b"x") * (64 << 20)
    assert memory.held(os.getpid()) - held > (48 << 20)
    del block
    assert 0 == memory.held(1 << 30)


FORK = """
import os, sys
shared = b"x" * (64 << 20)
told, tell = os.pipe()
child = os.fork()
if child == 0:
    private = b"y" * (16 << 20)
    os.write(tell, b"!")
    os.read(0, 1)
    os._exit(0)
os.read(told, 1)
print(child, flush=True)
os.waitpid(child, 0)
"""


def test_of_a_fork_the_pages_of_its_parent_are_held_but_are_not_its_own() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        fork = int(parent.stdout.readline())
        own = memory.own(fork)
        assert 16 << 20 < own < 24 << 20
        assert memory.held(fork) - own > 60 << 20
        parent.stdin.close()
    assert 0 == memory.own(fork)
