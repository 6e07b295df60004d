"""The lowest lines of a terminal, kept out of what scrolls, and drawn anew a few times a second.

The terminal itself keeps them apart, by its scrolling margins: whatever anybody writes to it scrolls above, whether it comes
from print, from C, from another process or from a progress bar. Nobody's output is caught, and nothing has to be put back
but the margins.
"""

from __future__ import annotations

import atexit
import io
import os
import select
import signal
import threading
from typing import TYPE_CHECKING

from rich.console import Console

from .._forks import ForkSafeLock
from .._report import failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rich.text import Text

INTERVAL = 0.25  # seconds between two frames

_NARROWEST, _LOWEST = 20, 6  # columns and lines of a window that has room for a region
_PATIENCE = 1.0  # seconds that a terminal may take for the rest of a frame

_SAVE, _RESTORE = "\x1b7", "\x1b8"
_NO_MARGINS = "\x1b[r"  # it takes the cursor to the first line, as each change of the margins does
_ERASE_BELOW, _ERASE_LINE = "\x1b[J", "\x1b[2K"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_DOWN = "\x1bD"  # in the same column, and scrolling

_shown: Region | None = None  # a terminal has one; the first that is opened holds it


class Region:
    """Rows at the bottom of a terminal.

    Args:
        rows: returns what is shown, in at most so many columns and so many rows; none is no region.
        threaded: whether a thread draws; else `draw` is to be called.
    """

    def __init__(self, rows: Callable[[int, int], list[Text]], *, threaded: bool = True) -> None:
        self._rows = rows
        self._threaded = threaded
        self._fileno = -1
        self._encoding = "utf-8"
        self._process = 0
        self._drawn = (0, 0, 0)  # columns and lines of the terminal, and rows in it; nothing is drawn while that is 0
        self._styles: Console | None = None
        self._stop: threading.Event | None = None
        self._is_known_to_atexit = False
        # Held while the terminal is written to, so that no frame comes after the end.
        self._lock = ForkSafeLock(order=3)

    @property
    def is_open(self) -> bool:
        """Whether the region is held, by this process."""
        return self._fileno >= 0 and self._process == os.getpid()

    def open(self, fileno: int, console: Console, encoding: str) -> bool:
        """Hold the region of this terminal from now on; return whether that can be."""
        global _shown
        with self._lock:
            if self.is_open:
                return True
            if _shown is not None and _shown.is_open:
                return False
            self._fileno, self._encoding, self._process, self._drawn = fileno, encoding, os.getpid(), (0, 0, 0)
            colours: Any = console.color_system
            self._styles = Console(
                file=io.StringIO(), force_terminal=True, color_system=colours, no_color=console.no_color,
                highlight=False, markup=False, emoji=False, legacy_windows=False, _environ={},
            )  # fmt: skip
            if not self._is_known_to_atexit:
                atexit.register(self.close)
                self._is_known_to_atexit = True
            if self._threaded:
                self._stop = threading.Event()
                threading.Thread(target=self._work, args=(self._stop,), name="phasewatch-live", daemon=True).start()
            _shown = self
            return True

    def close(self) -> None:
        """Give the lines back to the terminal."""
        global _shown
        with self._lock:
            if not self.is_open:
                return
            if self._stop is not None:
                self._stop.set()
            try:
                if self._drawn[2]:
                    self._write(self._erased())
            except OSError:
                pass  # the terminal has gone
            finally:
                self._fileno, self._drawn = -1, (0, 0, 0)
                if _shown is self:
                    _shown = None

    def draw(self) -> bool:
        """Draw a frame; return whether there was anything to draw."""
        with self._lock:
            if not self.is_open or not self._can_write():
                return False
            columns, lines = os.get_terminal_size(self._fileno)
            rows: list[Text] = []
            if columns >= _NARROWEST and lines >= _LOWEST and self._is_in_foreground():
                # The last column stays free: some terminals wrap there.
                rows = self._rows(columns - 1, lines // 2)
            if rows:
                frame = self._placed(columns, lines, len(rows)) + self._frame(lines, rows)
            else:
                frame = self._erased() if self._drawn[2] else ""
                columns = lines = 0
            self._drawn = (columns, lines, len(rows))
            if frame:
                self._write(frame)
            return bool(rows)

    def _placed(self, columns: int, lines: int, height: int) -> str:
        """Return what makes room for so many rows below the cursor, and takes away what is too much."""
        before_columns, before_lines, before = self._drawn
        if before and (columns, lines) != (before_columns, before_lines):
            # Where the old rows have gone depends on the terminal: but below the cursor there is nothing else.
            return _SAVE + _NO_MARGINS + _RESTORE + _ERASE_BELOW + _room(height)
        if height > before:
            return _room(height - before)
        return _SAVE + _emptied(lines - before + 1, lines - height) + _RESTORE if height < before else ""

    def _frame(self, lines: int, rows: list[Text]) -> str:
        # The margins again with each frame: an editor that the program called may have taken them away.
        bottom = lines - len(rows)
        drawn = "".join(
            f"\x1b[{bottom + number};1H\x1b[0m{_ERASE_LINE}{self._styled(row)}" for number, row in enumerate(rows, 1)
        )
        return f"{_SAVE}{_NO_WRAP}\x1b[1;{bottom}r{drawn}{_WRAP}{_RESTORE}"

    def _styled(self, row: Text) -> str:
        assert self._styles is not None
        with self._styles.capture() as rendered:
            self._styles.print(row, soft_wrap=True, end="")
        return rendered.get().replace("\n", " ")

    def _erased(self) -> str:
        columns, lines, height = self._drawn
        if os.get_terminal_size(self._fileno) != (columns, lines):
            return _SAVE + _NO_MARGINS + _RESTORE + _ERASE_BELOW
        return _SAVE + _emptied(lines - height + 1, lines) + _NO_MARGINS + _RESTORE

    def _can_write(self) -> bool:
        """Whether the terminal takes anything: a person may have stopped it with Ctrl-S."""
        return bool(select.select([], [self._fileno], [], 0)[1])

    def _is_in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._fileno) == os.getpgrp()
        except OSError:  # not the terminal of this session: nobody can tell
            return True

    def _write(self, text: str) -> None:
        data = text.encode(self._encoding, "replace")
        while data:  # as a rule in one system call, which no other write to the terminal comes between
            try:
                data = data[os.write(self._fileno, data) :]
            except BlockingIOError:
                if not select.select([], [self._fileno], [], _PATIENCE)[1]:
                    raise

    def _work(self, stop: threading.Event) -> None:
        try:
            # A background process that writes to its terminal may be stopped for it: not because of us.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
            while not stop.wait(INTERVAL):
                self.draw()
        except Exception:
            self.close()
            failure("the live view could not be drawn; the program goes on without it")


def _room(rows: int) -> str:
    return f"{_DOWN * rows}\x1b[{rows}A"


def _emptied(first: int, last: int) -> str:
    return "\x1b[0m" + "".join(f"\x1b[{line};1H{_ERASE_LINE}" for line in range(first, last + 1))
