"""Locks that a fork does not take along held.

A child has one thread, the one that forked; a lock that another thread held would never be released in it. So a fork waits
until it holds each of these locks itself, which also means that no other thread is in the middle of what they guard.
"""

from __future__ import annotations

import os
from _thread import RLock, get_ident
from _weakref import ref

from ._annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE = 1.0  # seconds to wait for a lock; a sink may hang while it holds its own
_locks: set[ref[ForkSafeLock]] = set()
_held: dict[int, list[ForkSafeLock]] = {}  # by thread: two may fork at once
_prepared = False


class ForkSafeLock(RLock):  # type: ignore[misc]  # final in its stub alone
    """A lock that its own thread may take again, used in ``with`` blocks.

    To take it is a call of C, since it is taken at each event by each sink.
    """

    def __new__(cls, order: int) -> ForkSafeLock:
        return super().__new__(cls)

    def __init__(self, order: int) -> None:
        self._is_given_up = False
        self.order = order  # in which a fork takes the locks: that in which they are nested
        _locks.add(ref(self, _locks.discard))


def hurry() -> None:
    """Wait a second for each lock from now on, and then raise TimeoutError: the process is about to end."""
    ForkSafeLock.__enter__ = _enter_in_a_hurry  # type: ignore[assignment]  # that of C has more arguments


def _enter_in_a_hurry(self: ForkSafeLock) -> bool:
    if not self.acquire(True, 0 if self._is_given_up else _PATIENCE):
        self._is_given_up = True
        raise TimeoutError("another thread does not let go of its lock")
    return True


def prepare(after_in_child: Callable[[], object]) -> None:
    """Have forks look after the locks from now on, and call this in each child."""
    global _prepared
    if not _prepared and hasattr(os, "register_at_fork"):
        _prepared = True
        os.register_at_fork(before=_take, after_in_parent=_give_back, after_in_child=_renew)
        os.register_at_fork(after_in_child=after_in_child)


def _all() -> list[ForkSafeLock]:
    # A copy, in one go: another thread may make a lock meanwhile.
    return [lock for lock in (reference() for reference in tuple(_locks)) if lock is not None]


def _take() -> None:
    held = _held[get_ident()] = []
    in_order = sorted(_all(), key=lambda lock: lock.order)
    held.extend(lock for lock in in_order if lock.acquire(timeout=_PATIENCE))


def _give_back() -> None:
    held = _held.pop(get_ident(), [])
    while held:
        held.pop().release()


def _renew() -> None:
    held = _held.get(get_ident(), [])
    for lock in _all():
        if lock not in held:
            lock._at_fork_reinit()  # type: ignore[attr-defined]  # as threading does with its own
    _give_back()
    _held.clear()  # what other threads held was theirs, in the parent
