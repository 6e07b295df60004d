"""A run from another terminal: the log is followed, and shown as the run's own terminal would show it."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING

from rich.console import Console, Group

from ._tables import show, summary_parts
from .events import PhaseEnded, PhaseStarted
from .metalog.banners import blocks
from .reader import read
from .sinks.console import ConsoleSink
from .sinks.live import LiveView
from .summary import Aggregate

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

    from rich.text import Text

    from .events import Event
    from .summary import Summary
    from .totals import Totals

_LAST = 8  # banners that are shown of what was in the log before
_ROWS = 200  # of a single look
_WIDTH = 100  # columns, where there is no terminal
# Seconds without a line, after which it is asked whether the processes are there: longer than one that lives is ever quiet,
# since heartbeats come every minute. For in a container of the same name they may be alive and have other numbers.
_PATIENCE = 90.0
_DATED = 1e9  # seconds since 1970; a text log without times of day counts from its start


def watch(source: Any, out: IO[str], *, wait: Callable[[float], object] = time.sleep) -> Summary:
    """Show a log while it grows, until every run in it has ended, or its processes are gone; return its figures.

    In a terminal what is open stands in the lowest lines, and what ends scrolls above; else the lines of the META LOG come
    as in a pipe of the run itself.

    Raises:
        OSError: the source cannot be opened.
    """
    aggregate, ages, living = Aggregate(), _Ages(source), _Living()
    console = Console(file=out, highlight=False, markup=False, emoji=False)
    # A stream is waited for inside a read: it says nothing of having been caught up with.
    screen = _Screen(console, LiveView(age=ages.of), is_behind=console.is_terminal and not hasattr(source, "read"))

    def caught_up(seconds: float) -> None:
        ages.is_behind = False
        screen.catch_up()
        if living.are_gone(seconds):
            reading.close()
        else:
            wait(seconds)

    reading = read(source, follow=True, wait=caught_up)
    try:
        for event in reading:
            aggregate.add(event)
            living.take(event)
            screen.emit(event)
        screen.catch_up()
    finally:
        reading.close()
        screen.close()
    summary = aggregate.summary(skipped=reading.skipped, dropped=reading.dropped)
    if living.gone:
        # The table of a run comes with its last banner, which this one never wrote.
        show(summary_parts(summary), out)
    return summary


def look(source: Any, out: IO[str]) -> Summary:
    """Print what is open in a log, once; return its figures."""
    aggregate, ages = Aggregate(), _Ages(source)
    view = LiveView(age=ages.of)
    reading = read(source)
    for event in reading:
        aggregate.add(event)
        view.take(event)
    summary = aggregate.summary(skipped=reading.skipped, dropped=reading.dropped)
    terminal = Console(file=out)
    rows = view.rows(terminal.width if terminal.is_terminal else _WIDTH, _ROWS)
    if rows:
        show(iter([Group(*(_ended(row) for row in rows))]), out)
    elif summary.status is not None:
        show(iter([next(summary_parts(summary))]), out)
    return summary


def _ended(row: Text) -> Text:
    row.end = "\n"
    return row


class _Screen(ConsoleSink):
    """A console that is told of much at once when it begins to watch, and shows the last of it."""

    def __init__(self, console: Console, view: LiveView, *, is_behind: bool) -> None:
        super().__init__(console, "live", view=view)
        self._held: deque[tuple[Event, Totals | None]] | None = deque(maxlen=_LAST) if is_behind else None

    def _tell(self, event: Event, totals: Totals | None) -> None:
        if self._held is None:
            super()._tell(event, totals)
        elif totals is not None or any(block.is_banner for block in blocks(event)):
            self._held.append((event, totals))

    def catch_up(self) -> None:
        held, self._held = self._held, None
        for event, totals in held or ():
            self._tell(event, totals)


class _Ages:
    """How long ago the events of a log happened, when they are read."""

    def __init__(self, source: Any) -> None:
        self.is_behind = True
        self._changed: float | None = None  # by the wall clock
        if isinstance(source, (str, os.PathLike)):
            self._changed = os.stat(source).st_mtime

    def of(self, event: Event) -> float:
        if event.time >= _DATED:
            return time.time() - event.time
        # Without times of day: what stands there already is no younger than the file.
        return time.time() - self._changed if self.is_behind and self._changed is not None else 0.0


class _Living:
    """The processes of this machine that have phases open: whether they are there."""

    def __init__(self) -> None:
        self.gone = False
        self._host = os.uname().nodename if hasattr(os, "uname") else None
        self._open: dict[str, int | None] = {}  # the id of a phase to its process; None on another machine, or unknown
        self._quiet = 0.0  # seconds

    def take(self, event: Event) -> None:
        """Take a sign of life."""
        self._quiet = 0.0
        if isinstance(event, PhaseStarted):
            place = event.phase.place
            here = place is not None and place.host is not None and place.host == self._host
            self._open[event.phase.id] = place.process if place is not None and here else None
        elif isinstance(event, PhaseEnded):
            self._open.pop(event.phase.id, None)

    def are_gone(self, seconds: float) -> bool:
        """Return whether nobody is left who could write, now that there was nothing new for further seconds."""
        self._quiet += seconds
        if self._quiet >= _PATIENCE and self._open and not self.gone:
            self._quiet = 0.0
            processes = set(self._open.values())
            self.gone = all(process is not None and not _is_there(process) for process in processes)
        return self.gone


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or what is no number of a process
        return True
    return True
