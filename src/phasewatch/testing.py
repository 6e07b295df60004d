"""For tests of instrumented code: a clock that is told the time, a sink that remembers, and a pytest fixture.

The fixture ``phaselog`` comes with the package, as a pytest plugin.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._config import default_tracker
from ._tracker import look, nothing_current
from ._vigil import Kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .events import Event

__all__ = ["FakeClock", "MemorySink", "PhaseLog", "recorded"]


class FakeClock:
    """A clock that stands still until it is told to move.

    Args:
        start: monotonic seconds at the beginning.
        wall: seconds since 1970 at the beginning; by default 2026-01-01 00:00 UTC.
    """

    def __init__(self, start: float = 0.0, wall: float = 1_767_225_600.0) -> None:
        self._now = start
        self._wall_offset = wall - start

    def __call__(self) -> float:
        """Return monotonic seconds."""
        return self._now

    def wall(self) -> float:
        """Return seconds since 1970."""
        return self._now + self._wall_offset

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: time cannot go back.
        """
        if not seconds >= 0:
            raise ValueError(f"FakeClock.advance({seconds!r}): time goes forward only; give seconds of at least 0")
        self._now += seconds


class MemorySink:
    """A sink that keeps every event in `events`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.closed = False

    def emit(self, event: Event) -> None:
        """Keep the event."""
        self.events.append(event)

    def close(self) -> None:
        """Note that it was closed; the events stay."""
        self.closed = True


class PhaseLog:
    """What instrumented code did: its events, on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.sink = MemorySink()

    @property
    def events(self) -> list[Event]:
        """The events so far."""
        return self.sink.events

    def look(self) -> None:
        """Look at the open phases as a thread of phasewatch does once a second: for heartbeats and stalls."""
        look()

    @property
    def text(self) -> str:
        """The META LOG of the events so far, as it would stand in a pipe."""
        from rich.console import Console

        from .sinks.console import ConsoleSink

        out = io.StringIO()
        console = ConsoleSink(Console(file=out), mode="plain")
        for event in self.events:
            console.emit(event)
        return out.getvalue()


@contextmanager
def recorded() -> Iterator[PhaseLog]:
    """Record the phases of the block on a fake clock, with nothing configured but this; then all is as it was."""
    log = PhaseLog()
    before = dict(default_tracker.__dict__)
    default_tracker.open_runs = []
    default_tracker.use(sinks=[log.sink], clock=log.clock, enabled=True)
    default_tracker.kinds = Kinds()
    with nothing_current():  # what is open around the block has a record of its own
        try:
            yield log
        finally:
            default_tracker.__dict__.update(before)


try:
    import pytest
except ImportError:  # the fixture is for those who have pytest
    pass
else:

    @pytest.fixture
    def phaselog() -> Iterator[PhaseLog]:
        """The phases of the test: ``phaselog.events``, ``phaselog.text``, and ``phaselog.clock.advance(seconds)``."""
        with recorded() as log:
            yield log
