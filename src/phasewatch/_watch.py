"""A run from another terminal: the log is followed, and shown as the run's own terminal would show it."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING

from rich.console import Console, Group

from ._lives import Lives
from ._tables import show, summary_parts
from .reader import read
from .sinks.console import ConsoleSink
from .sinks.live import LiveView
from .summary import Aggregate

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

    from rich.text import Text

    from .events import Event
    from .metalog.banners import Block
    from .summary import Summary
    from .totals import Totals

_LAST = 8  # banners that are shown of what was in the log before
_ROWS = 200  # of a single look
_WIDTH = 100  # columns, where there is no terminal
_DATED = 1e9  # seconds since 1970; a text log without times of day counts from its start


def watch(source: Any, out: IO[str], *, wait: Callable[[float], object] = time.sleep) -> Summary:
    """Show a log while it grows, until every run in it has ended, or its processes are gone; return its figures.

    In a terminal what is open stands in the lowest lines, and what ends scrolls above; else the lines of the META LOG come
    as in a pipe of the run itself.

    Raises:
        OSError: the source cannot be opened.
    """
    aggregate, ages = Aggregate(), _Ages(source)
    console = Console(file=out, highlight=False, markup=False, emoji=False)
    # A stream is waited for inside a read: it says nothing of having been caught up with.
    view = LiveView(age=ages.of)
    screen = _Screen(console, view, is_behind=console.is_terminal and not hasattr(source, "read"))

    def caught_up(seconds: float) -> None:
        ages.is_behind = False
        screen.catch_up()
        view.lose(reading.lost)
        wait(seconds)

    reading = read(source, follow=True, wait=caught_up)
    try:
        for event in reading:
            aggregate.add(event)
            screen.emit(event)
        screen.catch_up()
    finally:
        reading.close()
        screen.close()
    summary = aggregate.summary(skipped=reading.skipped, dropped=reading.dropped)
    if reading.lost:
        # The table of a run comes with its last banner, which this one never wrote.
        lost = {phase.id for phase in reading.lost}
        summary.killed = all(run.status != "lost" or run.id in lost for run in summary.runs)
        show(summary_parts(summary, width=console.width) if console.is_terminal else summary_parts(summary), out)
    return summary


def look(source: Any, out: IO[str]) -> Summary:
    """Print what is open in a log, once; return its figures."""
    aggregate, ages, lives = Aggregate(), _Ages(source), Lives()
    view = LiveView(age=ages.of)
    reading = read(source)
    for event in reading:
        aggregate.add(event)
        lives.take(event)
        view.take(event)
    lives.look()
    view.lose(lives.lost)
    summary = aggregate.summary(skipped=reading.skipped, dropped=reading.dropped, goes_on=lives.goes_on)
    summary.killed = lives.none_is_left
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
        self._held: deque[tuple[Event, list[Block], Totals | None]] | None = deque(maxlen=_LAST) if is_behind else None

    def _tell(self, event: Event, said: list[Block], totals: Totals | None) -> None:
        if self._held is None:
            super()._tell(event, said, totals)
        elif totals is not None or any(block.is_banner for block in said):
            self._held.append((event, said, totals))

    def catch_up(self) -> None:
        held, self._held = self._held, None
        for event, said, totals in held or ():
            self._tell(event, said, totals)


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
