"""A slow or hanging sink, kept away from the work: behind a bounded queue, on a thread of its own."""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
from _thread import get_ident
from collections import deque
from typing import TYPE_CHECKING
from weakref import WeakSet

from .._report import failure, shown
from ..events import MetricsLogged, PhaseAlive, PhaseEnded, PhaseProgressed

if TYPE_CHECKING:
    from ..events import Event, Sink

# The order in which events are let go of. Progress is told again by the next event of its kind. An end tells all that its
# start did, while a start without an end would tell of a phase that was lost.
_PASSING, _LASTING, _ENDS = range(3)
_RANKS = {PhaseProgressed: _PASSING, PhaseAlive: _PASSING, MetricsLogged: _PASSING, PhaseEnded: _ENDS}

_started: WeakSet[QueuedSink] = WeakSet()
_prepared = False


class QueuedSink:
    """Puts a sink behind a queue, so that the work never waits for it.

    A daemon thread, started by the first event, hands the events on. Where the queue is full, the oldest progress (lines
    of progress, signs of life, metrics) is dropped first, then the oldest starts, then the oldest ends; an event for which
    only a worthier one would have to go is dropped itself. That is reported when it first begins, and
    counted.

    `close` waits until the sink has taken what is queued and is closed itself, but no longer than ``drain``; what is left
    then is dropped, said, and the sink left alone. So it is when the interpreter ends, if nobody has closed it before.

    The child of a fork has an empty queue and a thread of its own: what the parent has queued is the parent's to write.

    Args:
        sink: who gets the events, in their order, always in one thread.
        capacity: how many events may wait, at least 1.
        drain: seconds that closing may take.

    Attributes:
        dropped: how many events the sink was not given.

    Raises:
        TypeError: a sink that is none.
        ValueError: a capacity below 1, or a drain that is no number of seconds.
    """

    def __init__(self, sink: Sink, *, capacity: int = 10_000, drain: float = 5.0) -> None:
        if not (callable(getattr(sink, "emit", None)) and callable(getattr(sink, "close", None))):
            raise TypeError(f"QueuedSink: {shown(sink)} is no sink; a sink has the methods emit(event) and close()")
        if not capacity >= 1:
            raise ValueError(f"QueuedSink: capacity={shown(capacity)} must be at least 1")
        if not 0 <= drain <= threading.TIMEOUT_MAX:
            raise ValueError(f"QueuedSink: drain={shown(drain)} must be seconds, at least 0")
        self._sink = sink
        self._capacity = capacity
        self._drain = drain
        self._forget()

    def _forget(self) -> None:
        """Be as new: at the beginning, and in the child of a fork."""
        self.dropped = 0
        self._dropped_until_close = 0  # what was reported then
        self._queues: tuple[deque[tuple[int, Event]], ...] = (deque(), deque(), deque())  # by rank, each with its numbers
        self._numbers = itertools.count()
        # Its own thread may take it again: a signal may come in the middle of everything, and its handler emit.
        self._lock = threading.RLock()
        self._wake = threading.Lock()  # what the thread waits for while the queue is empty
        self._wake.acquire()
        self._asleep = False
        self._thread: threading.Thread | None = None
        self._worker = 0  # the thread's number
        self._in_work = 0  # events that the sink is at: 1 or 0
        self._closing = self._closed = self._over = False
        self._is_reported = self._is_full_reported = False

    def emit(self, event: Event) -> None:
        """Queue the event, which costs about a microsecond."""
        if get_ident() == self._worker:  # what the sink causes by taking an event would never come to an end
            return
        rank = _RANKS.get(type(event), _LASTING)
        passing, lasting, ends = queues = self._queues
        with self._lock:
            if self._over or (self._closed and self._thread is not None):  # nobody is left who would take it
                self.dropped += 1
                return
            if self._thread is None:
                self._start()
            full = len(passing) + len(lasting) + len(ends) >= self._capacity
            if not full or self._make_room(rank):
                queues[rank].append((next(self._numbers), event))
            if self._asleep:
                self._rouse()
            report = full and not self._is_full_reported
            if report:
                self._is_full_reported = True
        if report:
            failure(
                f"the queue of the sink {self._name} is full: {self._capacity} events wait; progress is dropped first",
                with_traceback=False,
            )

    def close(self) -> None:
        """Wait until everything is written and the sink closed, at most the seconds of ``drain``, and say what was dropped.

        An event that comes later starts the thread anew, unless the sink was given up.
        """
        with self._lock:
            if self._over or self._closed or get_ident() == self._worker:
                return
            if self._thread is None:
                self._start()  # closing may hang as well
            thread = self._thread
            assert thread is not None
            self._closing = True
            self._rouse()
        thread.join(self._drain)
        atexit.unregister(self._close_at_exit)
        left = 0
        with self._lock:
            if thread.is_alive():
                self._over = True
                left = self._in_work + sum(map(len, self._queues))
                for queue in self._queues:
                    queue.clear()
                self.dropped += left
            else:
                self._thread = None
            dropped = self.dropped - left - self._dropped_until_close
            self._dropped_until_close = self.dropped
        if dropped:
            failure(f"the sink {self._name} was too slow: {dropped} events were dropped in all", with_traceback=False)
        if self._over:
            failure(
                f"the sink {self._name} was not done {self._drain:g} seconds after it was to close; it is left alone,"
                f" and {left} events with it",
                with_traceback=False,
            )

    @property
    def _name(self) -> str:
        return type(self._sink).__name__

    def _make_room(self, rank: int) -> bool:
        """Drop the event that is missed least, if one of this rank is missed more; return whether that is so."""
        self.dropped += 1
        for queue in self._queues[: rank + 1]:
            if queue:
                queue.popleft()
                return True
        return False

    def _rouse(self) -> None:
        self._asleep = False
        try:
            self._wake.release()
        except RuntimeError:  # it is awake
            pass

    def _start(self) -> None:
        _prepare()
        _started.add(self)
        atexit.register(self._close_at_exit)
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            from multiprocessing.util import Finalize  # here: such a process ends without what atexit knows

            Finalize(None, self._close_at_exit, exitpriority=0)
        self._closing = self._closed = False
        thread = threading.Thread(target=self._work, name="phasewatch queue", daemon=True)
        thread.start()
        self._thread = thread

    def _close_at_exit(self) -> None:
        if self._thread is not None:  # else it is the registration of a parent process
            self.close()
        self._over = True

    # In the thread.

    def _work(self) -> None:
        self._worker = get_ident()
        # BaseException too: in a thread of ours there is no program that it could end, only the thread.
        while (event := self._next()) is not None:
            try:
                self._sink.emit(event)
            except BaseException:
                self._report("could not take an event")
        try:
            self._sink.close()
        except BaseException:
            self._report("could not be closed")
        self._worker = 0  # another thread may get the number

    def _next(self) -> Event | None:
        """Return the oldest event, waiting for one; None when no more will come."""
        while True:
            with self._lock:
                self._in_work = 0
                waiting = [queue for queue in self._queues if queue]
                if waiting:
                    self._in_work = 1
                    return min(waiting, key=_number_of_first).popleft()[1]
                if self._closing:
                    self._closed = True
                    return None
                self._asleep = True
            self._wake.acquire()

    def _report(self, trouble: str) -> None:
        if not self._is_reported:
            self._is_reported = True
            failure(f"the sink {self._name} {trouble}; the program goes on, further failures of it are not reported")


def _number_of_first(queue: deque[tuple[int, Event]]) -> int:
    return queue[0][0]


def _prepare() -> None:
    global _prepared
    if not _prepared and hasattr(os, "register_at_fork"):
        _prepared = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    for sink in _started:
        sink._forget()
