"""Where what happens to phases goes: a clock, and the sinks that hear of it."""

from __future__ import annotations

import time

from ._annotations import TYPE_CHECKING
from ._dispatcher import Dispatcher
from ._report import failure
from ._vigil import HEARTBEAT, Kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Literal

    from .events import Event, Sink


class Outlet:
    """A clock, the sinks, and what is remembered of the phases that are told to them: a tracker, but for its phases."""

    def __init__(self, sinks: Iterable[Sink] = (), clock: Callable[[], float] | None = None) -> None:
        self.enabled = True
        self.joins = False  # whether its phases join what is open around them, of whatever tracker
        self._use_sinks(sinks)
        self._use_clock(clock)
        self.heartbeat: Sequence[float] = HEARTBEAT
        self.stalls: Literal["stack"] | bool = True  # whether they are told, and with the stack from the first time on
        self.kinds = Kinds()

    def _use_sinks(self, sinks: Iterable[Sink]) -> None:
        self._dispatcher = Dispatcher(sinks)
        self.listening = bool(self._dispatcher.sinks)  # an event for nobody is not built

    def _use_clock(self, clock: Callable[[], float] | None) -> None:
        self.clock = clock
        self._last_now = 0.0
        self._clock_failed = False
        self._wall: Callable[[], float] = getattr(clock, "wall", time.time)
        # The system's own clock does not fail. Seconds, and the time of day in seconds since 1970.
        self.now: Callable[[], float] = time.perf_counter if clock is None else self._guarded_now
        self.wall: Callable[[], float] = time.time if clock is None else self._guarded_wall

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The sinks that hear of what happens here."""
        return self._dispatcher.sinks

    def close(self) -> None:
        """Close the sinks."""
        self._dispatcher.close()

    def _guarded_now(self) -> float:
        """Return the clock's seconds; a clock that fails is reported once, and stands still."""
        assert self.clock is not None
        try:
            self._last_now = self.clock()
        except Exception:
            self._report_clock("time stands still where it fails")
        return self._last_now

    def _guarded_wall(self) -> float:
        """Return the clock's time of day; that of the system where it fails."""
        try:
            return self._wall()
        except Exception:
            self._report_clock("the system's time of day stands in")
            return time.time()

    def _report_clock(self, consequence: str) -> None:
        if not self._clock_failed:
            self._clock_failed = True
            failure(f"the clock {self.clock!r} failed; the program goes on, {consequence}")

    def emit(self, event: Event) -> None:
        """Hand an event to the sinks."""
        self._dispatcher.emit(event)
