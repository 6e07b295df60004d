"""The META LOG on a terminal, or as plain bytes in a pipe or file."""

from __future__ import annotations

import io
import os
import select
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from .._environment import flag
from .._forks import ForkSafeLock
from .._report import failure
from ..durations import format_average, format_duration
from ..events import MetricsLogged, PhaseAlive, PhaseEnded, PhaseProgressed, PhaseStarted
from ..metalog.banners import RULE_WIDTH, blocks, shown_name
from ..metalog.plain import can_encode, encodable
from ..totals import Totals
from .live import LiveView
from .region import Region

try:
    import _signal  # type: ignore[import-not-found]  # of CPython, and so without types
except ImportError:
    _signal = signal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Literal

    from ..events import Event
    from ..metalog.banners import Block

MODES = ("auto", "plain", "live", "off")

_MOST_ROWS = 40
_PATIENCE = 1.0  # seconds that a full pipe may take
_WIDE = 1000  # columns; wider than any table
_NARROWEST_NAME, _WIDEST_NAME, _FIGURES = 8, 60, 32  # columns of the table
_START_OF_LINE = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 0))
_STYLES = {
    "opened": "bold cyan", "completed": "bold green", "failed": "bold red", "interrupted": "bold yellow", "progress": "",
}  # fmt: skip
# What a line is, and the tone of the event that it tells.
_Line = tuple[str, str, str]


class ConsoleSink:
    """Writes what happens as META LOG lines.

    In a pipe or a file, the bytes are those of the format, each banner in one write and flushed, whatever the width of a
    terminal. In a terminal they are the same lines, coloured, with rules no wider than the window.

    Args:
        console: a rich console; by default one on standard output, looked up at each write, so that a redirection holds.
        mode: ``"auto"``, ``"plain"`` (as in a pipe, everywhere), ``"live"`` (as auto; but in a terminal, while a run goes
            on, what is open stands in the lowest lines, in place of lines of progress) or ``"off"``.
        view: what is shown live, of a log that is replayed; by default the phases of this process.

    Raises:
        ValueError: a mode that does not exist.
    """

    def __init__(
        self,
        console: Console | None = None,
        mode: Literal["auto", "plain", "live", "off"] = "auto",
        *,
        view: LiveView | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"ConsoleSink: mode={mode!r} must be one of {', '.join(MODES)}")
        self._console = console if console is not None else _standard_console()
        self._mode = mode
        self._after_blank = False  # whether the last line written by this sink was a blank one
        self._totals: dict[str, Totals] = {}  # by run
        # Two threads that write at once must agree on the blank line between them.
        self._lock = ForkSafeLock(order=1)
        self._is_of_log = view is not None
        self._view = view if view is not None else LiveView()
        self._region = Region(self._view.rows) if mode == "live" and os.name == "posix" else None
        self._process = os.getpid()
        self._known: _Stream | None = None  # the last one

    def emit(self, event: Event) -> None:
        """Write what the META LOG says of the event, if anything."""
        if self._region is not None and self._process == os.getpid():  # a fork's child writes into the same terminal
            try:
                self._show(self._region, event)
            except Exception:
                region, self._region = self._region, None
                region.close()
                failure("the live view could not be shown; the program goes on without it")
        if self._mode == "off" or isinstance(event, MetricsLogged):  # these are told when their phase ends
            return
        if isinstance(event, PhaseAlive) and self._stream().is_terminal:  # there, a person sees it
            return
        said = blocks(event)
        with self._lock:  # the totals too are fed by several threads
            totals = self._add_up(event)
            if said:  # the end of a run says something always
                self._tell(event, said, totals)

    def _tell(self, event: Event, said: list[Block], totals: Totals | None) -> None:
        lines = self._lines(event, said)
        if lines or totals is not None:
            elapsed = event.elapsed if isinstance(event, PhaseEnded) else 0.0
            if _sigpipe_kills():
                with _without_sigpipe():
                    self._write(lines, totals, elapsed)
            else:
                self._write(lines, totals, elapsed)

    def close(self) -> None:
        """Give the terminal its lowest lines back. Nothing else is held open: the stream belongs to the program."""
        if self._region is not None:
            self._region.close()

    def _show(self, region: Region, event: Event) -> None:
        """Have the live view show the event, from the first phase that is in no other until none is open."""
        if not region.is_open and not self._view.is_open and not self._begins(event):
            return
        self._view.take(event)
        if not self._view.is_open:
            region.close()  # before the last banner and the table
        elif not region.is_open:
            console, stream = self._console, self._stream()
            file, fileno = stream.file, stream.fileno()
            if (
                fileno is not None
                and stream.is_terminal
                and _is_tty(file)
                and not (console.is_dumb_terminal or console.is_jupyter or console.record)
            ):
                region.open(fileno, console, getattr(file, "encoding", None) or "utf-8")

    def _begins(self, event: Event) -> bool:
        """Whether the live view begins here: of processes that share a terminal, the first one has it."""
        if self._is_of_log:
            return True
        phase = event.phase
        rank = phase.place.rank if phase.place is not None else None
        # In a run alone: that ends its phases when SIGTERM comes, so that the terminal is left as it was.
        return isinstance(event, PhaseStarted) and phase.role == "run" and phase.parent is None and not rank

    def _lines(self, event: Event, said: list[Block]) -> list[_Line]:
        lines: list[_Line] = []
        if isinstance(event, PhaseProgressed) and self._region is not None and self._region.is_open:
            is_last = event.total is not None and event.done >= event.total
            if not is_last:  # which stays, with the result
                return lines
        for block in said:
            if block.is_banner and not self._after_blank:
                lines.append(("blank", "", block.tone))
            lines += [(role, text, block.tone) for role, text in block.lines]
            if block.is_banner:
                lines.append(("blank", "", block.tone))
            self._after_blank = block.is_banner
        return lines

    def _stream(self) -> _Stream:
        """Return what is written to, which a redirection may have changed."""
        file, known = self._console.file, self._known
        if known is None or known.file is not file:
            known = self._known = _Stream(file, self._console.is_terminal and self._mode in ("auto", "live"))
        return known

    def _add_up(self, event: Event) -> Totals | None:
        """Count the event into the table of its run; return that when the run is over."""
        phase = event.phase
        if isinstance(event, PhaseStarted):
            if phase.role == "run":
                self._totals[phase.id] = Totals()
            elif phase.run in self._totals:
                self._totals[phase.run].open(phase.path)
        elif isinstance(event, PhaseEnded):
            if phase.role == "run":
                return self._totals.pop(phase.id, None)
            if phase.run in self._totals:
                self._totals[phase.run].close(event)
        return None

    def _write(self, lines: list[_Line], totals: Totals | None, elapsed: float) -> None:
        """Write lines, and the table of a run that is over; like a banner, that ends with a blank line."""
        console, stream = self._console, self._stream()
        file = stream.file
        encoding = getattr(file, "encoding", None) or "utf-8"
        plain = "".join([f"{text}\n" for _, text, _ in lines])
        if not can_encode(plain, encoding):
            lines = [(role, encodable(text, encoding), tone) for role, text, tone in lines]
            plain = "".join([f"{text}\n" for _, text, _ in lines])
        if stream.is_terminal:
            is_tty = _is_tty(file)
            width = console.width if is_tty else RULE_WIDTH
            text = Text.assemble(*(_styled(line, width) for line in lines), end="")
            table = None if totals is None else _table(totals, elapsed, console.width)
            goes_to_start = is_tty and not console.is_dumb_terminal
            if console.record or console.is_jupyter or os.name != "posix":
                with console:  # one write for all
                    _print(console, text, table, goes_to_start)
            else:
                # rich renders and does not write: it keeps what it could not write, and ends the program on a broken pipe.
                # It flushes all the same, so what the program printed fails here and not there.
                file.flush()
                with console.capture() as rendered:
                    _print(console, text, table, goes_to_start)
                stream.write(rendered.get(), encoding)
        else:
            if totals is not None:
                plain += encodable(_as_text(_table(totals, elapsed, _WIDE)), encoding) + "\n"
            stream.write(plain, encoding)


class _Stream:
    """A text stream that is written to, and what it stays for as long as it is one.

    Args:
        file: the stream.
        is_terminal: whether it is one for rich, which asks the environment, for as long as the rest of a banner takes.
    """

    __slots__ = ("_raw", "file", "is_terminal")

    def __init__(self, file: IO[str], is_terminal: bool) -> None:
        self.file = file
        self.is_terminal = is_terminal
        # Not a subclass and nothing that compresses or encrypts: its descriptor would take bytes of another kind.
        self._raw: io.FileIO | None = None
        if os.name == "posix" and type(file) is io.TextIOWrapper:
            raw = getattr(file.buffer, "raw", file.buffer)
            if type(raw) is io.FileIO:
                self._raw = raw

    def fileno(self) -> int | None:
        """Return the descriptor, if it takes the encoded text as it is."""
        return None if self._raw is None else self._raw.fileno()

    def write(self, text: str, encoding: str) -> None:
        """Write and flush, in one system call where the stream is a plain file, pipe or terminal."""
        fileno = self.fileno()
        if fileno is None:
            self.file.write(text)
            self.file.flush()
            return
        # What the program printed before comes first. Our own bytes stay out of its buffer: on a broken pipe they would
        # wait there, fail again when the interpreter ends, and change the program's exit code.
        self.file.flush()
        data = text.encode(encoding, "replace")
        while data:
            try:
                data = data[os.write(fileno, data) :]
            except BlockingIOError:  # somebody made the pipe non-blocking, and it is full
                if not select.select([], [fileno], [], _PATIENCE)[1]:
                    raise


class _Standard(Console):
    """A console whose broken pipe is an error as any other."""

    def on_broken_pipe(self) -> None:
        raise


def _standard_console() -> Console:
    force: bool | None = None
    if "FORCE_COLOR" in os.environ and not flag("FORCE_COLOR"):
        # rich takes FORCE_COLOR=0 for a yes and an empty one for a no-terminal; a person means: do not force.
        force = _is_tty(Console(force_terminal=False).file)
    return _Standard(force_terminal=force, highlight=False, markup=False, emoji=False)


def _is_tty(file: IO[str]) -> bool:
    try:
        return file.isatty()
    except (AttributeError, ValueError):  # no stream, or a closed one
        return False


def _styled(line: _Line, width: int) -> tuple[str, str]:
    role, text, tone = line
    if role == "rule":
        return text[:width] + "\n", "dim"
    return text + "\n", _STYLES[tone] if role == "title" else ""


def _print(console: Console, text: Text, table: Table | None, goes_to_start: bool) -> None:
    if goes_to_start:
        # Where a progress bar has left the cursor inside a line, go to the next: as many blanks as leave a
        # cursor at the start of a line in it, and take any other to the next one. Shells do it likewise.
        console.print(" " * (console.width - 1), end="", soft_wrap=True)
        console.control(_START_OF_LINE)
    console.print(text, soft_wrap=True, end="")
    if table is not None:
        console.print(table)
        console.print()


def _sigpipe_kills() -> bool:
    # Below `signal`, which makes an enumeration's member of the answer: as much code again as all that writes a banner.
    return os.name == "posix" and bool(_signal.getsignal(_signal.SIGPIPE) == _signal.SIG_DFL)


@contextmanager
def _without_sigpipe() -> Iterator[None]:
    """Have a broken pipe raise in this thread, where the program wants to die of one: of its own writes, and not of ours."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
    was_pending = signal.SIGPIPE in signal.sigpending()
    try:
        yield
    finally:
        if not was_pending and signal.SIGPIPE in signal.sigpending():
            signal.sigwait([signal.SIGPIPE])
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _table(totals: Totals, elapsed: float, width: int) -> Table:
    """Where the time went: a row for each path of phases, with its share of the run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    # In a narrow window the names give way to the figures.
    names = max(_NARROWEST_NAME, min(_WIDEST_NAME, width - _FIGURES))
    table.add_column("Where the time went", max_width=names, no_wrap=True, overflow="ellipsis")
    for heading in ("Count", "Total", "Share", "Mean"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = list(totals.rows())
    for row in rows[:_MOST_ROWS]:
        share = f"{100 * row.open.seconds / elapsed:.1f}%" if elapsed > 0 else "--"
        mean = format_average(row.seconds / row.count) if row.count else "--"
        name = Text("  " * row.depth + shown_name(row.name))
        table.add_row(name, str(row.count), format_duration(row.seconds), share, mean)
    more = len(rows) - _MOST_ROWS
    if more > 0:
        table.add_row(Text(f"... and {more} more paths"))
    if totals.left_out:
        table.add_row(Text(f"... and {totals.left_out} phases of further paths"))
    table.add_row(Text("The whole run"), "1", format_duration(elapsed), "100.0%" if elapsed > 0 else "--", "")
    return table


def _as_text(table: Table) -> str:
    """Return the table as wide as its text, without colour and without spaces at the ends of lines."""
    out = io.StringIO()
    console = Console(file=out, width=_WIDE, color_system=None, force_terminal=False, force_jupyter=False, _environ={})
    console.print(table)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())
