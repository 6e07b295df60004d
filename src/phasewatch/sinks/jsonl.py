"""The event log: one JSON object a line, in a file that many processes may share."""

from __future__ import annotations

import atexit
import os
import re
import stat
import time
from collections import Counter, OrderedDict, deque
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakSet

from .._environment import rank
from .._forks import ForkSafeLock
from .._records import dropped_record, encoded, line_of
from .._report import failure
from ..events import MetricsLogged, PhaseAlive, PhaseProgressed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..events import Event

    Entry = tuple[str, float, bytes]  # an event's type, its time of day, and its line

_LOOK_SECONDS = 1.0  # between two looks whether the file is still the one at the path
_AT_ONCE = 256  # lines in one write, when they have waited
_LEAST = frozenset({PhaseProgressed.type, PhaseAlive.type, MetricsLogged.type})  # go first when there is no room
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # for the reader of a named pipe

_sinks: WeakSet[JsonlSink] = WeakSet()
_began = time.time()  # about when this process did
_prepared = False


def _own_name() -> str:
    """Return the name of this process's file in a folder: no other has it, not of an earlier run either."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(_began))
    host = re.sub(r"[^\w.-]", "_", os.uname().nodename) if hasattr(os, "uname") else "host"
    known = rank()
    return "-".join([when, *([] if known is None else [f"rank{known}"]), host, str(os.getpid())]) + ".jsonl"


class JsonlSink:
    """Writes each event as a line of JSON: the event log, which docs/event-log.md describes.

    The file, and the folders above it, are made when the first event comes; a file that exists is appended to. Threads and
    processes may share it, since each line is one write. An event is in the file when `emit` returns, whatever becomes of
    the process. While the file cannot be written, lines wait in memory and follow, in order, when it can be. A file that
    was removed or replaced is noticed within a second of further events, and a new one is made at the path.

    Args:
        path: of the file; or of a folder that exists, or ends in a slash, in which each process has a file of its own.
        capacity: lines that may wait. Beyond it the oldest progress and metrics are dropped, then the oldest of all; how
            many were is told in the log.
        clock: monotonic seconds; by default `time.monotonic`.

    Raises:
        TypeError: a path that is none.
        ValueError: a capacity below 1.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, capacity: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        name: object = os.fspath(path)
        if not isinstance(name, str) or not name:
            raise TypeError(f"JsonlSink: path={path!r} must be the path of a file")
        if capacity < 1:
            raise ValueError(f"JsonlSink: capacity={capacity!r} must be at least 1")
        if os.path.isdir(name) or name.endswith(_SEPARATORS):
            name = os.path.join(name, _own_name())
        self.path = os.path.abspath(name)  # the program may change its folder
        self._capacity = capacity
        self._clock = clock
        self._file: int | None = None  # its descriptor
        self._identity = (0, 0)  # of the file: device and inode
        self._look_at = 0.0  # clock seconds of the next look
        self._torn = False  # whether the file ends inside a line
        self._recent: deque[Entry] = deque(maxlen=capacity)  # written since the last look
        self._failing = False
        self._busy = False  # with what a signal handler must not meddle with
        self._forget()
        # The descriptor may be closed by one thread while another writes; its number may then be that of another file.
        self._lock = ForkSafeLock(order=2)
        _sinks.add(self)
        _prepare_for_forks()

    def emit(self, event: Event) -> None:
        """Write the event, or have it wait.

        Raises:
            OSError: the file cannot be written; once, until it can be again.
        """
        entry = (event.type, event.time, line_of(event))
        with self._lock:
            if self._waiting or self._file is None or self._clock() >= self._look_at:
                self._write_in_order(entry)
                return
            written = 0
            try:
                written = os.write(self._file, entry[2])
            except (OSError, TypeError):  # TypeError: a signal handler has let go of the file since
                self._look_at = 0.0  # it may be that somebody has closed it
            if written == len(entry[2]):
                self._recent.append(entry)
            else:
                self._torn = written > 0
                self._write_in_order(entry)

    def close(self) -> None:
        """Close the file; what waits is tried once more, and stays in memory if that fails. A later event opens it again.

        Raises:
            OSError: lines are left that could not be written.
        """
        with self._lock:
            if self._busy:
                return
            self._busy = True
            try:
                self._look()
                if self._waiting:
                    self._failing = False  # so that it is told
                    self._write_what_waits()
            finally:
                self._let_go()
                self._busy = False

    # All below is called under the lock.

    def _write_in_order(self, entry: Entry) -> None:
        """Write a line after those that wait, to the file that is at the path now."""
        if self._busy:
            self._write_aside(entry)
            return
        self._busy = True
        try:
            if self._clock() >= self._look_at:
                self._look()
            self._add(entry)
            self._write_what_waits()
        finally:
            self._busy = False

    def _look(self) -> None:
        """Let go of a file that is no longer the one at the path; what a removed one took with it is written again."""
        if self._file is None:
            return
        self._look_at = self._clock() + _LOOK_SECONDS
        try:
            ours = os.fstat(self._file)
            if (ours.st_dev, ours.st_ino) != self._identity:
                raise OSError("it is another file")
        except OSError:  # somebody has closed our descriptor; its number is theirs now
            self._file = None
            return
        try:
            there = os.stat(self.path)
            if (there.st_dev, there.st_ino) == self._identity:
                self._recent.clear()
                return
        except OSError:  # nothing is there, or nothing that can be reached
            pass
        lost = list(self._recent) if ours.st_nlink == 0 else []
        self._let_go()
        later = list(self._waiting.values())
        self._waiting.clear()
        self._least.clear()
        for entry in (*lost, *later):
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        """Have a line wait; where there is no room, another one is dropped."""
        self._waiting[self._number] = entry
        if entry[0] in _LEAST:
            self._least.append(self._number)
        self._number += 1
        if len(self._waiting) > self._capacity:
            number = self._least.popleft() if self._least else next(iter(self._waiting))
            kind, when, _ = self._waiting.pop(number)
            if not self._dropped:
                self._dropped_since = when
            self._dropped_until = when
            self._dropped[kind] += 1

    def _write_what_waits(self) -> None:
        """Write what waits, in order; raises OSError, once, where that fails."""
        try:
            if self._file is None:
                self._open()
            if self._dropped:
                told = dropped_record(self._dropped, self._dropped_since, self._dropped_until, os.getpid())
                self._write([encoded(told)])
                self._dropped.clear()
            at_once = 1 if self._failing else _AT_ONCE  # while nothing can be written, to try should cost little
            while self._waiting:
                numbers = list(islice(self._waiting, at_once))
                for number in numbers[: self._write([self._waiting[number][2] for number in numbers])]:
                    self._recent.append(self._waiting.pop(number))
                    if self._least and self._least[0] == number:
                        self._least.popleft()
                at_once = _AT_ONCE
            self._failing = False
        except (OSError, ValueError) as error:  # ValueError: no path at all, for the system
            if self._failing:
                return
            self._failing = True
            self._register_at_exit()
            trouble = getattr(error, "strerror", None) or str(error)
            raise OSError(
                getattr(error, "errno", None) or 0,
                f"{trouble}; events wait in memory (at most {self._capacity}) until it can be written",
                self.path,
            ) from None  # which says the same

    def _write(self, lines: list[bytes]) -> int:
        """Write lines; return how many are in the file whole, at least one. Raises OSError if that is none."""
        assert self._file is not None
        before = b"\n" if self._torn else b""  # so that half a line spoils no other
        data = before + b"".join(lines)
        written = os.write(self._file, data)
        if written == len(data):
            self._torn = False
            return len(lines)
        written -= len(before)
        whole = 0
        while written >= len(lines[whole]):
            written -= len(lines[whole])
            whole += 1
        self._torn = written != 0
        if not whole:
            raise OSError("only a part of a line could be written")
        return whole

    def _open(self) -> None:
        try:
            file = os.open(self.path, _FLAGS | _NO_WAITING, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            file = os.open(self.path, _FLAGS | _NO_WAITING, 0o666)
        status = os.fstat(file)
        self._file, self._identity = file, (status.st_dev, status.st_ino)
        self._look_at = self._clock() + _LOOK_SECONDS
        self._torn = stat.S_ISREG(status.st_mode) and status.st_size > 0 and not _ends_with_a_line(self.path)

    def _let_go(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        self._recent.clear()
        self._torn = False
        if file is not None:
            try:
                os.close(file)
            except OSError:  # somebody has closed it already
                pass

    def _write_aside(self, entry: Entry) -> None:
        """Write a line past what this very thread is doing: a signal handler has interrupted it, and may end the process."""
        line = b"\n" + entry[2]  # the file may end inside a line
        try:
            file = os.open(self.path, _FLAGS | _NO_WAITING, 0o666)
            try:
                written = os.write(file, line)
            finally:
                os.close(file)
        except (OSError, ValueError):
            written = 0
        if written < len(line):
            self._torn = True
            self._add(entry)

    def _forget(self) -> None:
        """Have nothing to write: at the beginning, and in the child of a fork, whose parent will write it."""
        self._waiting: OrderedDict[int, Entry] = OrderedDict()  # by number, in order
        self._least: deque[int] = deque()  # the numbers of those that go first
        self._number = 0
        self._dropped: Counter[str] = Counter()  # by type, not yet told
        self._dropped_since = self._dropped_until = 0.0  # the times of day of the first and the last
        self._recent.clear()
        self._busy = False

    def _register_at_exit(self) -> None:
        atexit.unregister(self._close_at_exit)  # it is registered once
        atexit.register(self._close_at_exit)

    def _close_at_exit(self) -> None:
        """Try what waits once more; now it is known what is lost."""
        try:
            self.close()
        except OSError:
            lost = len(self._waiting) + sum(self._dropped.values())
            failure(f"the event log {self.path!r} could not be written: {lost} events are lost", with_traceback=False)


def _ends_with_a_line(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
    except OSError:  # it may be written but not read
        return False


def _prepare_for_forks() -> None:
    global _prepared
    if not _prepared and hasattr(os, "register_at_fork"):
        _prepared = True
        os.register_at_fork(after_in_child=_forget_in_child)


def _forget_in_child() -> None:
    for sink in _sinks:
        sink._forget()
