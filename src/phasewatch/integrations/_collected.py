"""Events of processes that cannot reach the event log: a sink that hands them to an actor, which writes them there.

The instrumented thread puts an event into a queue and goes on. A thread of its own sends what is there as one batch, and
the next one when that has arrived: so a slow actor makes batches larger, and a dead one ends the matter.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from .. import sinks

if TYPE_CHECKING:
    from collections.abc import Callable

    from .. import Event

NAMESPACE = "phasewatch"
_CAPACITY = 10_000  # events that wait
_PAUSE = 0.05  # seconds between two batches
_PATIENCE = 1.0  # seconds that are waited for a batch to arrive, before one looks again
_QUIET, _LONGEST = (
    0.2,
    2.0,
)  # seconds without a batch, after which all is taken to have come; and how long one waits for that

_logger = logging.getLogger("phasewatch")


class Collector:
    """The actor: writes events to event logs of the machine on which it is."""

    def __init__(self) -> None:
        self._logs: dict[str, sinks.JsonlSink] = {}
        self._taken = 0

    def take(self, log: str, events: list[Event]) -> None:
        """Write events to the log of a path."""
        self._taken += 1
        sink = self._logs.get(log)
        if sink is None:
            sink = self._logs[log] = sinks.JsonlSink(log)
        for event in events:
            with contextlib.suppress(OSError):  # they wait in the sink
                sink.emit(event)

    def taken(self) -> int:
        """Return how many batches have come."""
        return self._taken


def settle(
    ask: Callable[[], int], clock: Callable[[], float] = time.monotonic, wait: Callable[[float], Any] = time.sleep
) -> None:
    """Wait until no batch has come for some time, 0.2 s, but no longer than 2 s.

    Args:
        ask: returns how many have come.
        clock: monotonic seconds.
        wait: called with seconds to wait.
    """
    until = clock() + _LONGEST
    seen, since = ask(), clock()
    while clock() < min(until, since + _QUIET):
        wait(_PAUSE / 2)
        now = ask()
        if now != seen:
            seen, since = now, clock()


class CollectedSink:
    """Hands events to the collector of a name; what cannot be handed over is dropped, and that is logged once.

    Args:
        name: of the actor.
        log: the path to which it writes them.
        find: returns what sends a batch, which `arrived` is asked about; raises ValueError while the actor is not there.
        arrived: whether a batch has arrived, waiting up to some seconds; raises if none ever will.
    """

    def __init__(
        self,
        name: str,
        log: str,
        find: Callable[[str], Callable[[str, list[Event]], Any]],
        arrived: Callable[[Any, float], bool],
    ) -> None:
        self.name, self.log = name, log
        self._find, self._arrived = find, arrived
        self._send: Callable[[str, list[Event]], Any] | None = None
        self._waiting: deque[Event] = deque(maxlen=_CAPACITY)
        self._wake = threading.Event()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    def emit(self, event: Event) -> None:
        """Have the event wait for the next batch."""
        if self._over.is_set() or os.getpid() != self._process:  # a fork cannot talk to the cluster
            return
        self._waiting.append(event)
        if not self._wake.is_set():
            self._wake.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="phasewatch-ray", daemon=True)
                    self._thread.start()

    def flush(self) -> None:
        """Send what waits, without waiting for it to arrive."""
        if self._send is not None and self._waiting and not self._over.is_set():
            try:
                self._send_batch()
            except Exception:
                self._give_up()

    def close(self) -> None:
        """Send what waits, and nothing after that."""
        self.flush()
        self._over.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                if self._send is None:
                    self._look_for_it()
                if self._send is not None:
                    sent = self._send_batch()
                    while sent is not None and not self._over.is_set() and not self._arrived(sent, _PATIENCE):
                        pass
            except Exception:
                self._give_up()
                return
            self._over.wait(_PAUSE)

    def _look_for_it(self) -> None:
        try:
            self._send = self._find(self.name)
        except ValueError:  # it is not there yet
            self._over.wait(_PATIENCE / 4)
            self._wake.set()

    def _send_batch(self) -> Any:
        with self._lock:  # so that batches are in order
            batch = []
            while self._waiting:
                batch.append(self._waiting.popleft())
            return self._send(self.log, batch) if batch and self._send is not None else None

    def _give_up(self) -> None:
        if not self._over.is_set():
            self._over.set()
            self._waiting.clear()
            _logger.warning(
                "what is written to %s cannot be reached any more; phases of this process are not recorded", self.log
            )
