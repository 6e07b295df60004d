"""A pseudo-terminal with an emulator at its other side, and programs in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from typing import Any

import pyte

DEADLINE = 30.0  # seconds, of a test that would hang


class Terminal:
    """A pseudo-terminal with an emulator at its other side."""

    def __init__(self, columns: int = 60, lines: int = 16) -> None:
        self.ours, self.theirs = pty.openpty()
        self.screen = pyte.HistoryScreen(columns, lines, history=5000, ratio=0.5)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.resize(columns, lines)
        self.file = open(self.theirs, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # closed at the end

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if (columns, lines) != (self.screen.columns, self.screen.lines):
            self.screen.resize(lines, columns)

    def show(self) -> list[str]:
        """Take what was written; return the lines of the screen."""
        while select.select([self.ours], [], [], 0)[0]:
            try:
                self.feed(os.read(self.ours, 65536))
            except OSError:  # the other side is closed
                break
        return [line.rstrip() for line in self.screen.display]

    def feed(self, data: bytes) -> None:
        self.raw += data
        self.stream.feed(data)

    @property
    def margins(self) -> Any:
        return self.screen.margins

    def all(self) -> list[str]:
        """What scrolled away, and what is seen."""
        seen = self.show()
        history = ["".join(line[x].data for x in range(self.screen.columns)).rstrip() for line in self.screen.history.top]
        return history + seen

    def close(self) -> None:
        self.file.close()
        for fileno in (self.ours, self.theirs):
            with contextlib.suppress(OSError):
                os.close(fileno)


class Program(Terminal):
    """A program in a terminal."""

    def __init__(self, program: str, *arguments: str, columns: int = 90, lines: int = 30, **environment: str) -> None:
        super().__init__(columns, lines)
        known = {
            key: value for key, value in os.environ.items() if not key.startswith(("PHASEWATCH_", "NO_COLOR", "FORCE_"))
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=self.theirs, stdout=self.theirs, stderr=self.theirs,
            env={**known, "TERM": "xterm-256color", "PHASEWATCH_CONSOLE": "live", **environment},
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip

    def until(self, pattern: str) -> None:
        """Wait for what the program writes."""
        while not re.search(pattern.encode(), self.raw):
            assert select.select([self.ours], [], [], DEADLINE)[0], self.show()
            self.feed(os.read(self.ours, 65536))

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        while self.process.poll() is None:
            if select.select([self.ours], [], [], 0.01)[0]:
                self.feed(os.read(self.ours, 65536))
        self.show()
        return self.process.returncode

    def is_sane(self) -> bool:
        """Whether the terminal is as it was before."""
        left = b"".join(re.findall(rb"\x1b\[(?:\d+;\d+)?r|\x1b\[\?\d+[hl]|\x1b[78]", self.raw))
        visible = not self.screen.cursor.hidden
        return visible and left.endswith(b"\x1b7\x1b[r\x1b8") and not any("━" in line or "─" in line for line in self.show())
