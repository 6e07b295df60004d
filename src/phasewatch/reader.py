"""A log to events: the event log or a text log, found out by looking at it.

Nothing that stands in a log is an error here: what is torn, foreign, broken or newer than this version is skipped, and
counted.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import time
import zlib
from collections import Counter
from typing import TYPE_CHECKING

from ._lives import Lives
from ._records import RecordError, Records, parsed
from .events import PhaseEnded, PhaseStarted
from .metalog.parse import Parser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any, Literal, Protocol

    from .events import Event, PhaseInfo, Place

    Format = Literal["events", "text"]

    class _Parses(Protocol):
        """What makes events of whole lines."""

        skipped: Counter[str]

        def feed(self, block: bytes, at: int = 0, end: int | None = None) -> list[Event]: ...
        def flush(self) -> list[Event]: ...
        def close(self) -> list[Event]: ...


__all__ = ["Reading", "read"]

BLOCK = 1 << 17  # bytes that are read at once
LONGEST = 1 << 20  # bytes of a line; what is longer is skipped

_LOOK = 1 << 16  # bytes by which the format is found
_GZIP = b"\x1f\x8b"
_UTF8 = codecs.BOM_UTF8
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_BROKEN_ARCHIVE = (EOFError, gzip.BadGzipFile, zlib.error)
_CONTROLS = bytes({*range(32)} - {*b"\t\n\r\x1b"})
_WHITE = " \t\r\v\f"
_MOST_FILES = 10_000
_INTERVAL = 0.5  # seconds between two looks at a log that grows


def read(source: Any, *, follow: bool = False, wait: Callable[[float], object] = time.sleep) -> Reading:
    """Return the events of a log, one after the other as they are asked for.

    Args:
        source: the path of an event log or a text log, gzipped or not; the path of a folder of logs, each the record of one
            process; or an open file, of bytes or text, such as ``sys.stdin``.
        follow: wait for what is still to be written, until every run in the log has ended or `Reading.close` is called. A
            run of an event log that was killed on this machine has ended too: see `Reading.lost`.
        wait: called with the seconds to wait when a log that is followed has not grown.

    Raises:
        OSError: the source cannot be opened. What happens to it later ends the reading, and is counted.
    """
    return Reading(source, follow=follow, wait=wait)


class Reading:
    """The events of a log, as an iterator: memory does not grow with the log.

    Attributes:
        skipped: how many lines were passed over, by reason: ``"foreign"`` (a file that is no text counts as one),
            ``"broken"``, ``"unknown"`` (a type of event, a version or a banner that this version does not know), ``"long"``
            (more than a megabyte), ``"torn"`` (the last line, cut off), ``"quoted"`` (``[META]`` where no banner begins),
            ``"archive"`` (a gzip stream that breaks off), ``"unreadable"`` (a file of a folder, or a disk that fails),
            ``"writers"`` (lines of processes beyond 4096 in one log). Other lines of a text log are not counted: they are
            its own.
        formats: the format of each log, ``"events"`` or ``"text"``, by name.
        dropped: events that the writers of the event log say they had to drop, by type.
    """

    def __init__(self, source: Any, *, follow: bool = False, wait: Callable[[float], object] = time.sleep) -> None:
        self.formats: dict[str, Format] = {}
        self._own: Counter[str] = Counter()
        self._follow, self._wait = follow, wait
        self._closed = False
        self._logs: list[_Log] = []
        self._read: list[_Log] = []
        self._folder: str | None = None
        self._known: set[str] = set()
        self._records = Records()
        self._lives = Lives()
        if isinstance(source, (str, os.PathLike)):
            path = os.fspath(source)
            if os.path.isdir(path):
                self._folder = path
                self._look_into_folder()
            else:
                self._add(os.path.basename(path), _File(path, follow=follow))
        elif hasattr(source, "read"):
            self._add(str(getattr(source, "name", "") or "stream"), _Stream(source))
        else:
            raise TypeError(f"read({source!r}): a path or an open file is needed, not {type(source).__name__}")
        self._events = self._all()

    @property
    def format(self) -> Format | None:
        """The format of the log, of the first if there are several; None before anything was found in it."""
        return next(iter(self.formats.values()), None)

    @property
    def skipped(self) -> Counter[str]:
        """Lines that were passed over, by reason."""
        total = Counter(self._own)
        for log in (*self._read, *self._logs):
            total += log.skipped
            if log.parser is not None:
                total += log.parser.skipped
        return total

    @property
    def dropped(self) -> Counter[str]:
        """Events that the writers say they had to drop, by type."""
        return self._records.dropped

    @property
    def lost(self) -> list[PhaseInfo]:
        """Of an event log that is followed, the runs, and the phases in no other of their process, whose process is gone.

        That can be known of processes of this machine, since it was started, and of this container. No end of them comes.
        """
        return self._lives.lost

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop following, and let go of the files; may be called by another thread. No event follows the next."""
        self._closed = True

    def _all(self) -> Iterator[Event]:
        try:
            while not self._closed:
                grown = False
                for log in self._logs.copy():
                    for events in self._of(log):
                        grown = grown or bool(events)
                        self._note(events)
                        for event in events:
                            yield event
                            if self._closed:
                                return  # type: ignore[unreachable]  # between two events, or by another thread
                if not self._follow:
                    return
                if grown or self._lives.look():  # what a process wrote last is there when it is gone
                    continue
                for log in self._logs:
                    yield from log.idle()
                if self._is_over():
                    return
                self._wait(_INTERVAL)
                if self._folder is not None:
                    self._look_into_folder()
        finally:
            for log in (*self._logs, *self._read):
                log.close()

    def _note(self, events: list[Event]) -> None:
        if self._follow:
            for event in events:
                self._lives.take(event)

    def _of(self, log: _Log) -> Iterator[list[Event]]:
        """Give what a log holds now; the last of it, if it is not followed."""
        try:
            yield from log.events()
        except _BROKEN_ARCHIVE:
            self._own["archive"] += 1
        except (OSError, ValueError):  # a disk that fails, a file that was closed
            self._own["unreadable"] += 1
        else:
            if self._follow and not log.ended:
                return
        yield log.finish()
        self._logs.remove(log)
        self._read.append(log)
        log.close()

    def _is_over(self) -> bool:
        """Whether nothing more is to be expected: every run has ended, or every stream."""
        if not (self._logs or self._folder):
            return True
        logs = (*self._logs, *self._read)
        runs = [run for log in logs for run in log.runs]
        return self._lives.is_over(runs, any_ended=any(log.runs_ended for log in logs))

    def _look_into_folder(self) -> None:
        assert self._folder is not None
        for path in _logs_in(self._folder):
            if path not in self._known and len(self._known) < _MOST_FILES:
                self._known.add(path)
                try:
                    self._add(os.path.relpath(path, self._folder), _File(path, follow=self._follow))
                except OSError:
                    self._own["unreadable"] += 1

    def _add(self, name: str, source: _File | _Stream) -> None:
        origin = "text" if self._folder is None else f"text:{name}"
        self._logs.append(_Log(source, name, origin, self._records, self.formats, follow=self._follow))


def _logs_in(folder: str) -> list[str]:
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(where, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if os.path.isfile(path))


class _Log:
    """One log: its bytes to lines, its lines to events."""

    def __init__(
        self, source: _File | _Stream, name: str, origin: str, records: Records, formats: dict[str, Format], *, follow: bool
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self.parser: _Parses | None = None
        self.runs_ended = 0
        self.runs: dict[str, Place | None] = {}  # that go on, by id
        self.ended = False  # of a stream: no more can come
        self._source, self._name, self._origin = source, name, origin
        self._beginnings = 0  # of the file: it may be replaced
        self._records, self._formats, self._follow = records, formats, follow
        self._rest = b""  # of the last line, whose end has not come
        self._is_long = False  # whether the line that goes on is longer than any that is looked at
        self._is_binary = False
        self._decoder: codecs.IncrementalDecoder | None = None

    def events(self) -> Iterator[list[Event]]:
        """Give the events of what can be read now."""
        while True:
            block = self._source.read()
            if self._source.restarted:
                self._source.restarted = False
                yield self.finish()
                self._forget()
            if not block:
                self.ended = self._source.ended
                return
            if not self._is_binary:
                yield self._noted(self._take(block))

    def idle(self) -> list[Event]:
        """Return what has waited for lines that did not come."""
        return self._noted(self.parser.flush()) if self.parser is not None else []

    def _noted(self, events: list[Event]) -> list[Event]:
        """Note which runs have begun and ended: it tells when there is nothing more to follow."""
        for event in events if self._follow else ():
            if event.phase.role != "run":
                continue
            if isinstance(event, PhaseStarted):
                if isinstance(self.parser, Parser):
                    # One that was begun before by the same process will not end any more.
                    self.runs = {id: place for id, place in self.runs.items() if place != event.phase.place}
                self.runs[event.id] = event.phase.place
            elif isinstance(event, PhaseEnded):
                self.runs.pop(event.id, None)
                self.runs_ended += 1
        return events

    def _forget(self) -> None:
        """Another file has taken the place of the one that was read."""
        if self.parser is not None:
            self.skipped += self.parser.skipped
        self.parser = self._decoder = None
        self._is_binary = False
        self.runs.clear()
        self.runs_ended = 0

    def finish(self) -> list[Event]:
        """Return the last events: the log goes no further."""
        events: list[Event] = []
        rest, self._rest = self._rest, b""
        if rest.strip() and not self._is_binary:
            if self.parser is None:
                self._find_format(rest)
            if isinstance(self.parser, _Lines):
                self.parser.is_last = True
                events = self.parser.feed(rest)
            else:
                self.skipped["torn"] += 1  # a name or a figure may be cut short, and nothing would tell
        self._is_long = False
        return events + (self.parser.close() if self.parser is not None else [])

    def close(self) -> None:
        self._source.close()

    def _take(self, block: bytes) -> list[Event]:
        if self.parser is None and not self._rest:
            for mark, encoding in _UTF16.items():
                if block.startswith(mark):
                    self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        if self._decoder is not None:
            block = self._decoder.decode(block).encode("utf-8", "replace")
        if self.parser is None:
            block = self._rest + block
            self._rest = b""
            if self._follow and len(block) < _LOOK and b"\n" not in block:
                self._rest = block
                return []
            self._find_format(block)
            if self.parser is None:
                return []
        end = block.rfind(b"\n") + 1
        if not end:
            self._keep(self._rest + block)
            return []
        start, events = 0, []
        if self._is_long or self._rest:  # all but the line that was begun before is looked at where it is, without a copy
            start = block.find(b"\n") + 1
            if not self._is_long:
                events = self.parser.feed(self._rest + block[:start])
        self._is_long = False
        self._rest = b""
        self._keep(block[end:])
        return events + self.parser.feed(block, start, end)

    def _keep(self, rest: bytes) -> None:
        """Keep the beginning of a line, unless it has become too long."""
        if self._is_long:
            return
        if len(rest) > LONGEST:
            # A progress bar may have written over the same line for hours: its last state is enough.
            last = rest.rfind(b"\r", 0, len(rest) - 1)
            if last > 0 and len(rest) - last < LONGEST:
                rest = rest[last + 1 :]
            else:
                self.skipped["long"] += 1
                self._is_long = True
                rest = b""
        self._rest = rest

    def _find_format(self, block: bytes) -> None:
        block = block.removeprefix(_UTF8).lstrip(b"\0")
        if not block.strip(b"\0 \t\r\n"):
            return
        if _is_binary(block[:_LOOK]):
            self._is_binary = True
            self.skipped["foreign"] += 1
            return
        looks = _is_event_log(block)
        self._formats[self._name] = "events" if looks else "text"
        self._beginnings += 1
        again = f"#{self._beginnings}" if self._beginnings > 1 else ""
        self.parser = _Lines(self._records) if looks else Parser(self._origin + again)


def _is_binary(block: bytes) -> bool:
    """Whether this is no text; zeros alone do not tell: a log that was cut while somebody wrote to it begins with them."""
    if b"\0" not in block:
        return False
    block = block.replace(b"\0", b"")
    strange = len(block) - len(block.translate(None, _CONTROLS)) + block.decode("utf-8", "replace").count("\ufffd")
    return strange > 0.3 * len(block)


def _is_event_log(block: bytes) -> bool:
    """Whether there are lines of an event log; a torn or foreign line may stand before them."""
    whole = block[:_LOOK]
    for line in whole.splitlines()[:100]:
        if line.startswith(b'{"'):
            try:
                record = parsed(line.decode("utf-8", "replace"))
            except RecordError as error:
                if error.reason == "broken":
                    return True
                continue
            if isinstance(record, dict) and "v" in record and "event" in record:
                return True
    return False


class _Lines:
    """The lines of an event log to events."""

    def __init__(self, records: Records) -> None:
        self.skipped: Counter[str] = Counter()
        self.is_last = False
        self._records = records

    def feed(self, block: bytes, at: int = 0, end: int | None = None) -> list[Event]:
        """Return the events of whole lines: of all of a block, or of a part of it."""
        events = []
        event_of = self._records.event
        for line in str(memoryview(block)[at:end], "utf-8", "replace").split("\n"):
            if not line.startswith("{"):
                line = line.lstrip("\0")
                if not line.strip(_WHITE):
                    continue
            try:
                event = event_of(parsed(line))
            except RecordError as error:
                self.skipped["torn" if self.is_last and error.reason == "broken" else error.reason] += 1
                continue
            if event is not None:
                events.append(event)
        return events

    def flush(self) -> list[Event]:
        """Nothing waits for a further line."""
        return []

    close = flush


class _File:
    """A file that may grow, shrink or be replaced by another of its name."""

    def __init__(self, path: str, *, follow: bool) -> None:
        self.restarted = False
        self.ended = False
        self._path, self._follow = path, follow
        self._open()

    def _open(self) -> None:
        self._raw = open(self._path, "rb", buffering=0)  # noqa: SIM115  # closed by `close`
        self._unzip: gzip.GzipFile | None = None
        if self._raw.seekable():
            if self._raw.read(2) == _GZIP:
                self._raw.seek(0)
                self._unzip = gzip.GzipFile(fileobj=self._raw)
            else:
                self._raw.seek(0)

    def read(self) -> bytes:
        """Return what is there now, ``b""`` at its end."""
        block = self._some()
        if not block and self._follow and self._has_changed():
            self.close()
            self._open()
            self.restarted = True
            block = self._some()
        self.ended = not block and self._unzip is not None  # an archive does not grow
        return block

    def _some(self) -> bytes:
        # An archive that breaks off gives with `read1` what it has before it says so.
        return (self._raw.read(BLOCK) if self._unzip is None else self._unzip.read1(BLOCK)) or b""

    def _has_changed(self) -> bool:
        if self._unzip is not None or not self._raw.seekable():
            return False
        try:
            named, held = os.stat(self._path), os.fstat(self._raw.fileno())
        except OSError:  # between the removal of the one and the making of the other
            return False
        return not os.path.samestat(named, held) or held.st_size < self._raw.tell()

    def close(self) -> None:
        """Let go of the file."""
        self._raw.close()


class _Stream:
    """An open file of somebody else: standard input, a socket's file, text or bytes."""

    restarted = False

    def __init__(self, source: IO[Any]) -> None:
        self.ended = False
        source = getattr(source, "buffer", source)
        # A pipe gives what it has; `read` would wait until there is a whole block.
        self._read_some: Callable[[int], Any] = getattr(source, "read1", source.read)
        self._unzip: gzip.GzipFile | None = None
        self._head = b""
        self._began = False

    def read(self) -> bytes:
        """Return the next bytes, ``b""`` at the end."""
        if not self._began:
            self._began = True
            while len(self._head) < len(_GZIP) and (more := self._raw(BLOCK)):
                self._head += more
            if self._head.startswith(_GZIP):
                self._unzip = gzip.GzipFile(fileobj=_Raw(self._next))
        block = self._next(BLOCK) if self._unzip is None else self._unzip.read1(BLOCK)
        self.ended = not block
        return block

    def _next(self, size: int) -> bytes:
        if self._head:
            block, self._head = self._head[:size], self._head[size:]
            return block
        return self._raw(size)

    def _raw(self, size: int) -> bytes:
        data = self._read_some(size) or b""
        return data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data)

    def close(self) -> None:
        """The file is not ours to close."""


class _Raw(io.RawIOBase):
    """What gzip reads from."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._next = read

    def read(self, size: int = -1) -> bytes:
        return self._next(size if size > 0 else BLOCK)
