"""Locks that a fork does not take along held. Real forks, by several threads at once."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from typing import Any

import pytest

from phasewatch import _forks
from phasewatch._forks import ForkSafeLock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run(program: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_lock_is_let_go_of_with_its_owner() -> None:
    gc.collect()  # what other tests have left
    lock = ForkSafeLock(order=1)
    known, seen = len(_forks._locks), weakref.ref(lock)
    del lock
    gc.collect()
    assert seen() is None
    assert len(_forks._locks) == known - 1


def test_a_thread_that_forks_gives_back_its_own_locks_only(mocker: Any) -> None:
    mocker.patch.object(_forks, "_PATIENCE", 0.01)
    first, second = ForkSafeLock(order=-2), ForkSafeLock(order=-1)
    inside, go = threading.Event(), threading.Event()

    def fork() -> None:
        with first:  # so that the other thread does not get it
            _forks._take()
            inside.set()
            go.wait(30)
            _forks._give_back()

    thread = threading.Thread(target=fork)
    thread.start()
    inside.wait(30)
    _forks._take()
    _forks._give_back()
    assert not first.acquire(blocking=False), "it is the other thread's still"
    assert not second.acquire(blocking=False)
    go.set()
    thread.join()
    for lock in (first, second):
        assert lock.acquire(blocking=False)
        lock.release()
    assert not _forks._held


def test_in_a_hurry_a_lock_is_waited_for_once(mocker: Any) -> None:
    lock, taken, go = ForkSafeLock(order=1), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            go.wait(30)

    mocker.patch.object(ForkSafeLock, "__enter__", ForkSafeLock.__enter__)
    mocker.patch.object(_forks, "_PATIENCE", 0.01)
    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(30)
    _forks.hurry()
    with pytest.raises(TimeoutError), lock:
        pass
    mocker.patch.object(_forks, "_PATIENCE", 1000)
    with pytest.raises(TimeoutError), lock:
        pass
    go.set()
    thread.join()
    with lock:
        pass


def test_a_child_has_no_lock_that_another_thread_had_taken_to_fork() -> None:
    run("""
import os, threading
from phasewatch import Tracker, _forks
from phasewatch._forks import ForkSafeLock
from phasewatch.testing import MemorySink
_forks._PATIENCE = 0.01
lock = ForkSafeLock(order=1)
inside, go = threading.Event(), threading.Event()
def fork():
    _forks._take()
    inside.set()
    go.wait(30)
    _forks._give_back()
with Tracker([MemorySink()]).phase("A"):
    thread = threading.Thread(target=fork)
    thread.start()
    inside.wait(30)
    child = os.fork()
    if not child:
        held = lock.acquire(timeout=10) and not _forks._held
        os._exit(0 if held else 1)
    assert os.waitpid(child, 0)[1] == 0
    go.set()
    thread.join()
""")


def test_locks_may_be_made_while_another_thread_forks() -> None:
    run("""
import os, sys, threading
from phasewatch import Tracker
from phasewatch._forks import ForkSafeLock
from phasewatch.testing import MemorySink
sys.setswitchinterval(1e-6)
stop = threading.Event()
def make():
    while not stop.is_set():
        kept = [ForkSafeLock(order=3) for _ in range(20)]
thread = threading.Thread(target=make)
with Tracker([MemorySink()]).phase("A"):
    thread.start()
    for _ in range(100):
        child = os.fork()
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    thread.join()
""")
