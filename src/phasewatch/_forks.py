"""Locks that a fork does not take along held.

A child has one thread, the one that forked; a lock that another thread held would never be released in it. So a fork waits
until it holds each of these locks itself, which also means that no other thread is in the middle of what they guard.
"""

from __future__ import annotations

import os
from _thread import RLock
from _weakrefset import WeakSet

from ._annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE = 1.0  # seconds to wait for a lock; a sink may hang while it holds its own
_locks: WeakSet[ForkSafeLock] = WeakSet()
_held: list[ForkSafeLock] = []
_prepared = False


class ForkSafeLock:
    """A lock that its own thread may take again, used in ``with`` blocks."""

    def __init__(self, order: int) -> None:
        self._lock = RLock()
        self.order = order  # in which a fork takes the locks: that in which they are nested
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def prepare(after_in_child: Callable[[], object]) -> None:
    """Have forks look after the locks from now on, and call this in each child."""
    global _prepared
    if not _prepared and hasattr(os, "register_at_fork"):
        _prepared = True
        os.register_at_fork(before=_take, after_in_parent=_give_back, after_in_child=_renew)
        os.register_at_fork(after_in_child=after_in_child)


def _take() -> None:
    in_order = sorted(_locks, key=lambda lock: lock.order)
    _held.extend(lock for lock in in_order if lock._lock.acquire(timeout=_PATIENCE))


def _give_back() -> None:
    while _held:
        _held.pop()._lock.release()


def _renew() -> None:
    for lock in _locks:
        if lock not in _held:
            lock._lock = RLock()
    _give_back()
