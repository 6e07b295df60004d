"""The event log in real files: shared, cut short, on full disks, under moved folders, and after kill -9."""

from __future__ import annotations

import errno
import mmap
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import phasewatch
from phasewatch import (
    Event,
    MetricsLogged,
    PhaseEnded,
    PhaseInfo,
    PhaseProgressed,
    PhaseStarted,
    Place,
    Position,
    Tracker,
    _forks,
    summarize,
)
from phasewatch._records import _FIGURES, KINDS, RecordError, Records, parsed
from phasewatch.sinks import JsonlSink
from phasewatch.testing import FakeClock

POSIX = os.name == "posix"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def started(number: int) -> PhaseStarted:
    return PhaseStarted(PhaseInfo(f"P{number}", id=str(number)), float(number))


def ended(number: int) -> PhaseEnded:
    return PhaseEnded(started(number).phase, float(number), status="completed", done=0, total=None, elapsed=0.0)


def logged(number: int) -> MetricsLogged:
    return MetricsLogged(started(number).phase, float(number), values={"loss": 1.0})


def progressed(number: int) -> PhaseProgressed:
    return PhaseProgressed(started(number).phase, float(number), done=1, total=None, elapsed=0.0, eta=None)


def read(path: Path, records: Records | None = None, *, torn: int = 0) -> list[Event]:
    """The events of a file in which so many lines are torn, and all others whole."""
    records = records or Records()
    data = path.read_bytes()
    assert data.endswith(b"\n")
    found = []
    for line in data.split(b"\n"):
        if line:
            try:
                event = records.event(parsed(line.decode()))
            except RecordError:
                torn -= 1
            else:
                if event is not None:
                    found.append(event)
    assert torn == 0
    return found


def tell(sink: JsonlSink, event: Event) -> None:
    """Emit, as a dispatcher does."""
    try:
        sink.emit(event)
    except OSError:
        pass


def run_python(program: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *map(str, arguments)]
    return subprocess.run(command, check=True, **options)


@pytest.fixture
def sinks() -> Iterator[list[JsonlSink]]:
    """Sinks that are closed after the test."""
    made: list[JsonlSink] = []
    yield made
    for sink in made:
        sink._forget()  # at the end of all tests nothing is to be said of it
        sink._close_at_exit()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sink(tmp_path: Path, clock: FakeClock, sinks: list[JsonlSink]) -> JsonlSink:
    sinks.append(JsonlSink(tmp_path / "runs" / "log.jsonl", clock=clock))
    return sinks[0]


def test_what_no_log_could_take_is_told_when_the_program_ends(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    program = """
import sys
from phasewatch import phase, run
with run("r", log=sys.argv[1], sinks=[]), phase("A"): pass
"""
    path = tmp_path / "file" / "log"
    told = run_python(program, path, capture_output=True).stderr.decode()
    assert told.count("Traceback") == 1
    assert told.splitlines()[-1] == f"the event log {str(path)!r} could not be written: 4 events are lost"


# The file.


def test_nothing_is_opened_before_the_first_event_and_then_the_folders_are_made(sink: JsonlSink, tmp_path: Path) -> None:
    assert list(tmp_path.iterdir()) == []
    sink.emit(started(1))
    assert read(tmp_path / "runs" / "log.jsonl") == [started(1)], "before it is closed"


def test_a_file_is_as_private_as_the_program_makes_its_files(tmp_path: Path, sink: JsonlSink) -> None:
    sink.emit(started(1))
    (tmp_path / "other").touch()
    assert Path(sink.path).stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_file_that_exists_is_added_to(tmp_path: Path) -> None:
    for number in (1, 2):
        sink = JsonlSink(tmp_path / "log")
        sink.emit(started(number))
        sink.close()
    assert read(tmp_path / "log") == [started(1), started(2)]
    assert b"\n\n" not in (tmp_path / "log").read_bytes()


def test_what_comes_after_the_end_is_written_too(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "log")
    sink.close()
    for number in (1, 2):
        sink.emit(started(number))
        sink.close()
    assert read(tmp_path / "log") == [started(1), started(2)]


def test_half_a_line_of_an_earlier_run_spoils_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"v":1,"event":"sta')
    sink = JsonlSink(tmp_path / "log")
    sink.emit(started(1))
    sink.close()
    assert read(tmp_path / "log", torn=1) == [started(1)]


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink = JsonlSink("log")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    sink.emit(started(1))
    sink.close()
    assert read(tmp_path / "log") == [started(1)]


@pytest.mark.parametrize("path", [5, None, True, b"bytes", ""], ids=repr)
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(TypeError):
        JsonlSink(path)


def test_a_queue_without_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="capacity=0 must be at least 1"):
        JsonlSink(tmp_path / "log", capacity=0)


# When it cannot be written.


def test_trouble_is_told_once_and_what_waited_follows_in_order(sink: JsonlSink, tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(OSError, match="events wait in memory") as caught:
        sink.emit(started(1))
    assert caught.value.errno == errno.ENOTDIR
    assert caught.value.filename == sink.path
    for number in range(2, 600):
        sink.emit(started(number))
    (tmp_path / "runs").unlink()
    sink.emit(started(600))
    assert read(tmp_path / "runs" / "log.jsonl") == [started(number) for number in range(1, 601)]
    sink.close()
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "runs").touch()
    with pytest.raises(OSError, match="events wait"):
        sink.emit(started(601))


def test_a_path_that_no_system_has_is_trouble_and_nothing_else(tmp_path: Path, sinks: list[JsonlSink]) -> None:
    sinks.append(JsonlSink(f"{tmp_path}/a\0b"))
    with pytest.raises(OSError, match=r"null (byte|character.*); events wait"):
        sinks[0].emit(started(1))
    sinks[0].emit(started(2))


def test_to_close_tries_once_more_and_tells_if_that_fails(sink: JsonlSink, tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    tell(sink, started(1))
    with pytest.raises(OSError, match="events wait"):
        sink.close()
    (tmp_path / "runs").unlink()
    sink.close()
    assert read(tmp_path / "runs" / "log.jsonl") == [started(1)]


def test_what_waits_is_tried_once_more_when_the_program_ends(tmp_path: Path) -> None:
    program = """
import os, sys
from phasewatch import Tracker
from phasewatch.sinks import JsonlSink
path = sys.argv[1]
sink = JsonlSink(path)
os.mkdir(path)
with Tracker([sink]).phase("A"):
    pass
os.rmdir(path)
"""
    done = run_python(program, tmp_path / "log", capture_output=True)
    assert [(event.type, event.name) for event in read(tmp_path / "log")] == [("start", "A"), ("end", "A")]
    assert done.stderr.count(b"Traceback") == 1, "of one report"
    assert b"the sink JsonlSink could not take an event; the program goes on" in done.stderr
    assert b"Is a directory; events wait in memory" in done.stderr


@pytest.mark.parametrize("path", ["runs/", "there"])
def test_in_a_folder_each_process_has_a_file_of_its_own(path: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    program = """
import os, sys
import phasewatch
with phasewatch.run(log=sys.argv[1], sinks=[]) as run, phasewatch.phase("A"):
    pass
"""
    for rank in ("0", "1", None):
        environment = {key: value for key, value in os.environ.items() if key != "RANK"} | ({"RANK": rank} if rank else {})
        subprocess.run([sys.executable, "-c", program, path], cwd=tmp_path, env=environment, check=True)
    names = sorted(name.name for name in (tmp_path / path).iterdir())
    assert len(names) == 3
    assert [("rank0" in name, "rank1" in name) for name in names].count((False, False)) == 1
    assert all(re.fullmatch(r"\d{8}T\d{6}Z(-rank\d)?-[\w.-]+-\d+\.jsonl", name) for name in names)
    summary = summarize(phasewatch.read(tmp_path / path))
    assert (len(summary.runs), summary.ranks) == (3, [0, 1])


def test_two_logs_of_one_folder_are_one_file(tmp_path: Path) -> None:
    assert JsonlSink(tmp_path).path == JsonlSink(f"{tmp_path}/").path


def test_where_there_is_no_room_progress_goes_first_and_is_counted(tmp_path: Path, sinks: list[JsonlSink]) -> None:
    sink = JsonlSink(tmp_path / "runs" / "log", capacity=4)
    sinks.append(sink)
    (tmp_path / "runs").touch()
    for event in (logged(1), started(2), progressed(3), started(4), started(5), ended(6), logged(7), started(8)):
        tell(sink, event)
    (tmp_path / "runs").unlink()
    sink.emit(ended(9))
    # The first to go were the logged, the progress, and the logged; then there was nothing left but the oldest.
    records = Records()
    log = tmp_path / "runs" / "log"
    assert [event.name for event in read(log, records)] == ["P4", "P5", "P6", "P8", "P9"][-4:]
    assert records.dropped == {"metrics": 2, "progress": 1, "start": 2}
    told = parsed(log.read_text().splitlines()[0])
    assert told == {
        "v": 1, "event": "dropped", "since": 1.0, "time": 4.0, "process": os.getpid(),
        "counts": {"metrics": 2, "progress": 1, "start": 2},
    }  # fmt: skip
    sink.emit(started(10))
    assert log.read_text().count("dropped") == 1


def test_after_one_time_without_room_the_next_is_counted_anew(tmp_path: Path, sinks: list[JsonlSink]) -> None:
    sink = JsonlSink(tmp_path / "log", capacity=2)
    sinks.append(sink)
    records = Records()
    for dropped in (1, 2):
        sink.close()
        (tmp_path / "log").mkdir()
        for number in range(2 + dropped):
            tell(sink, logged(number))
        (tmp_path / "log").rmdir()
        sink.close()
        assert len(read(tmp_path / "log", records)) == 2
        assert records.dropped.pop("metrics") == dropped
        (tmp_path / "log").unlink()


def test_what_takes_only_parts_of_a_line_is_not_tried_for_ever(sink: JsonlSink, mocker: Any) -> None:
    write = mocker.patch("os.write", side_effect=[10] * 5)
    tell(sink, started(1))
    tell(sink, started(2))
    assert write.call_count == 2


class Disk:
    """An os.write with so many bytes of room; what does not fit is cut, and then refused."""

    def __init__(self, mocker: Any, room: int) -> None:
        self.room = room
        write = os.write

        def limited(file: int, data: bytes) -> int:
            if self.room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = write(file, data[: self.room])
            self.room -= written
            return written

        mocker.patch("os.write", limited)


@pytest.mark.parametrize("room", range(1, 400, 7))
def test_a_write_that_is_cut_short_anywhere_loses_and_doubles_nothing(
    sink: JsonlSink, tmp_path: Path, mocker: Any, room: int
) -> None:
    disk = Disk(mocker, room)
    numbers = iter(range(1, 1000))
    for _ in range(4):
        for _ in range(5):
            tell(sink, started(next(numbers)))
        disk.room = room
    disk.room = 10**9
    sink.emit(started(next(numbers)))
    last = next(numbers)
    lines = Path(sink.path).read_text().split("\n")
    assert max(line.count('{"v":1') for line in lines) == 1, "half a line stands alone"
    records, found = Records(), []
    for line in filter(None, lines):
        try:
            found.append(records.event(parsed(line)))
        except RecordError:
            pass
    assert found == [started(number) for number in range(1, last)]


def full_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


small_disk = pytest.fixture(full_disk)


def test_on_a_full_disk_events_wait_until_there_is_room(small_disk: Path, sinks: list[JsonlSink]) -> None:
    (small_disk / "checkpoint").write_bytes(b"x" * 50_000)
    sink = JsonlSink(small_disk / "log")
    sinks.append(sink)
    for number in range(2000):
        tell(sink, started(number))
    assert sink._waiting
    (small_disk / "checkpoint").unlink()
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    sink.emit(started(2000))
    text = (small_disk / "log").read_bytes()
    assert read(small_disk / "log", torn=text.count(b'\n{"v":1') + 1 - 2001) == [started(n) for n in range(2001)]


@pytest.mark.skipif(not POSIX, reason="needs limits of a process")
def test_a_file_that_reaches_the_limit_of_the_process_goes_on_when_that_is_raised(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from phasewatch import Tracker
from phasewatch.sinks import JsonlSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
tracker = Tracker([JsonlSink(sys.argv[1])])
for number in range(50):
    with tracker.phase(f"P{number}"):
        pass
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
tracker.close()
"""
    done = run_python(program, tmp_path / "log", capture_output=True)
    assert b"File too large; events wait" in done.stderr
    events = read(tmp_path / "log", torn=1)
    assert [(event.type, event.name) for event in events] == [(t, f"P{n}") for n in range(50) for t in ("start", "end")]


# When the file or its folder goes away.


def test_a_removed_folder_is_noticed_within_a_second_and_costs_no_event(
    sink: JsonlSink, tmp_path: Path, clock: FakeClock
) -> None:
    sink.emit(started(1))
    clock.advance(1)
    sink.emit(started(2))
    shutil.rmtree(tmp_path / "runs")
    sink.emit(started(3))
    clock.advance(0.5)
    sink.emit(started(4))
    assert not (tmp_path / "runs").exists()
    clock.advance(0.5)
    sink.emit(started(5))
    # What was written since the last look may have gone with the file, so it is written again.
    assert read(tmp_path / "runs" / "log.jsonl") == [started(number) for number in (2, 3, 4, 5)]


def test_a_file_that_is_removed_before_the_end_is_there_after_it(sink: JsonlSink) -> None:
    sink.emit(started(1))
    os.unlink(sink.path)
    sink.emit(ended(1))
    sink.close()
    assert read(Path(sink.path)) == [started(1), ended(1)]


def test_after_a_rotation_the_new_file_is_written_and_nothing_twice(sink: JsonlSink, clock: FakeClock) -> None:
    log, old = Path(sink.path), Path(sink.path + ".1")
    sink.emit(started(1))
    log.rename(old)
    log.touch()
    sink.emit(started(2))
    clock.advance(1)
    sink.emit(started(3))
    sink.emit(started(4))
    assert (read(old), read(log)) == ([started(1), started(2)], [started(3), started(4)])


def test_looks_are_rare(sink: JsonlSink, clock: FakeClock, mocker: Any) -> None:
    stat = mocker.spy(os, "stat")
    for number in range(100):
        clock.advance(0.05)
        sink.emit(started(number))
    assert 3 <= sum(call.args == (sink.path,) for call in stat.call_args_list) <= 5


def test_a_removed_file_on_a_full_disk_is_made_anew_with_all_that_waited(
    sink: JsonlSink, clock: FakeClock, mocker: Any
) -> None:
    disk = Disk(mocker, 10**9)
    sink.emit(started(1))
    disk.room = 0
    for number in (2, 3):
        tell(sink, started(number))
    os.unlink(sink.path)
    disk.room = 10**9
    clock.advance(1)
    sink.emit(started(4))
    assert read(Path(sink.path)) == [started(number) for number in (2, 3, 4)], "the first was there until it was removed"


def test_somebody_who_closes_our_descriptor_gets_none_of_our_lines(
    sink: JsonlSink, tmp_path: Path, clock: FakeClock
) -> None:
    sink.emit(started(1))
    assert sink._file is not None
    os.close(sink._file)
    sink.emit(started(2))
    assert read(Path(sink.path)) == [started(1), started(2)]
    taken = sink._file
    theirs = os.open(tmp_path / "theirs", os.O_WRONLY | os.O_CREAT)
    os.dup2(theirs, taken)  # which closes it first
    clock.advance(1)
    sink.emit(started(3))
    assert read(Path(sink.path)) == [started(1), started(2), started(3)]
    assert (tmp_path / "theirs").read_bytes() == b""
    os.close(theirs)
    os.close(taken)


# Many who write.


WRITER = """
import os, sys, threading
from phasewatch import Tracker
from phasewatch.sinks import JsonlSink
tracker = Tracker([JsonlSink(sys.argv[1])])
def work(name):
    with tracker.phase(name, details={"long": "x" * 3000}):
        for number in range(50):
            with tracker.phase(f"{name} {number}") as inner:
                inner.log(loss=number)
threads = [threading.Thread(target=work, args=(f"{os.getpid()} {number}",)) for number in range(3)]
with tracker.phase("MAIN"):
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


def test_processes_and_threads_may_share_a_file(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "log")]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    events = read(tmp_path / "log")
    assert Counter(event.type for event in events) == {"start": 462, "end": 462, "metrics": 450}
    ends = [event for event in events if isinstance(event, PhaseEnded)]
    assert all(event.phase.place is not None for event in ends), "each knows its start"


@needs_fork
def test_the_child_of_a_fork_goes_on_writing_and_tells_nothing_of_its_parent_twice(tmp_path: Path) -> None:
    program = """
import os, sys
from phasewatch import Tracker
from phasewatch.sinks import JsonlSink
path, blocked = sys.argv[1:]
sink = JsonlSink(path)
tracker = Tracker([sink])
with tracker.phase("A"):
    if blocked == "blocked":
        sink.close()
        os.rename(path, path + ".away")
        os.mkdir(path)
    with tracker.phase("B"):
        child = os.fork()
        if not child:
            if blocked == "blocked": os.rmdir(path)
            with tracker.phase("C"): pass
            sink.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
if blocked == "blocked":
    with open(path + ".away") as away, open(path, "a") as log: log.write(away.read())
"""
    for blocked in ("blocked", "free"):
        path = tmp_path / blocked / "log"
        run_python(program, path, blocked, capture_output=True)
        told = Counter((event.type, event.name) for event in read(path))
        assert told == {(kind, name): 1 for kind in ("start", "end") for name in "ABC"}


@needs_fork
def test_a_fork_waits_for_no_thread_that_writes(tmp_path: Path) -> None:
    program = """
import os, signal, sys, threading
from phasewatch import Tracker
from phasewatch.sinks import JsonlSink
tracker = Tracker([JsonlSink(sys.argv[1])])
def hammer():
    while True:
        with tracker.phase("H"): pass
for _ in range(3):
    threading.Thread(target=hammer, daemon=True).start()
with tracker.phase("PARENT"):
    for _ in range(20):
        child = os.fork()
        if not child:
            signal.alarm(20)  # a child that waits for ever dies of it
            with tracker.phase("CHILD"): pass
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""
    run_python(program, tmp_path / "log")
    told = Counter((event.type, event.name) for event in read(tmp_path / "log"))
    assert (told["start", "CHILD"], told["end", "CHILD"], told["end", "PARENT"]) == (20, 20, 1)


def test_the_sinks_lock_is_taken_last_by_a_fork(sink: JsonlSink) -> None:
    assert sink._lock.order == 2
    assert sink._lock in _forks._all()


def test_a_signal_handler_that_comes_in_the_middle_is_written_at_once(sink: JsonlSink, mocker: Any) -> None:
    write, inner = os.write, iter([ended(1), ended(2)])

    def interrupted(file: int, data: bytes) -> int:
        event = next(inner, None)
        if event is not None:
            sink.emit(event)
            assert f'"P{event.time:.0f}"' in Path(sink.path).read_text()
            sink.close()  # has to wait for another time
        return write(file, data)

    mocker.patch("os.write", interrupted)
    sink.emit(started(3))
    sink.emit(started(4))
    mocker.stopall()
    assert Counter(event.name for event in read(Path(sink.path))) == {"P1": 1, "P2": 1, "P3": 1, "P4": 1}


def test_a_signal_handler_that_comes_after_half_a_line_has_a_line_of_its_own(sink: JsonlSink, mocker: Any) -> None:
    write, inner = os.write, iter([ended(1)])

    def cut(file: int, data: bytes) -> int:
        written = write(file, data[:20])
        for event in inner:
            mocker.stopall()
            sink.emit(event)
        return written

    mocker.patch("os.write", cut)
    tell(sink, started(2))
    sink.emit(started(3))
    lines = Path(sink.path).read_text().split("\n")
    assert max(line.count('{"v":1') for line in lines) == 1
    assert [event.name for event in read(Path(sink.path), torn=1)] == ["P1", "P2", "P3"]


def test_a_signal_handler_that_cannot_write_has_its_event_wait(sink: JsonlSink, mocker: Any) -> None:
    inner = iter([ended(1)])

    def refused(file: int, data: bytes) -> int:
        for event in inner:
            sink.emit(event)
        raise OSError(errno.ENOSPC, "No space left on device")

    mocker.patch("os.write", refused)
    tell(sink, started(2))
    mocker.stopall()
    sink.emit(started(3))
    assert [event.name for event in read(Path(sink.path))] == ["P2", "P1", "P3"]


# After kill -9.


VICTIM = """
import os, sys, threading
import phasewatch
from phasewatch import MetricsLogged, phase
from phasewatch.sinks import JsonlSink
class Told:
    '''Says on a pipe that an event has been emitted, after the log was given it.'''
    def emit(self, event): os.write(1, f"{event.type} {event.id}\\n".encode())
    def close(self): pass
def work():
    while True:
        with phase("INNER", total=5) as inner:
            for _ in range(5):
                inner.log(loss=1)
                inner.advance()
with phasewatch.run("victim", sinks=[JsonlSink(sys.argv[1]), Told()]), phase("OUTER"):
    for _ in range(2):
        threading.Thread(target=work, daemon=True).start()
    work()
"""


def killed(log: Path) -> Counter[str]:
    """Let the victim write to a log until it is killed somewhere; return what it had said of events."""
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, str(log)], stdout=subprocess.PIPE)
    assert victim.stdout is not None
    heard = victim.stdout.read(random.randint(100, 60_000))
    victim.send_signal(signal.SIGKILL)
    heard += victim.stdout.read()
    victim.stdout.close()
    assert victim.wait() == -signal.SIGKILL
    return Counter(heard.decode().split("\n")[:-1])


def cut(log: Path) -> bool:
    """Whether the kill cut a write, of an event that had not been told yet: the system stops where a page ends."""
    data = log.read_bytes()
    if data.endswith(b"\n"):
        return False
    assert len(data) % mmap.PAGESIZE == 0
    return True


@pytest.mark.skipif(not POSIX, reason="needs kill -9")
def test_kill_9_loses_no_event_that_was_emitted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    told: Counter[str] = Counter()
    torn = 0
    for _ in range(4):
        told += killed(log)
        torn += cut(log)
    with log.open("ab") as file:
        file.write(b"\n")
    events = read(log, torn=torn)
    assert not told - Counter(f"{event.type} {event.id}" for event in events)
    open_phases = {event.id: event for event in events if isinstance(event, PhaseStarted)}
    for event in events:
        if isinstance(event, PhaseEnded):
            del open_phases[event.id]
    still = Counter(event.name for event in open_phases.values())
    assert (still["victim"], still["OUTER"]) == (4, 4)
    assert still["INNER"] <= 12
    assert {event.path for event in open_phases.values() if event.name == "INNER"} <= {("INNER",), ("OUTER", "INNER")}


@pytest.mark.long
@pytest.mark.skipif(not POSIX, reason="needs kill -9")
def test_after_each_of_300_kills_the_log_is_whole_and_names_the_phase(tmp_path: Path) -> None:
    for number in range(300):
        log = tmp_path / f"{number}.jsonl"
        told = killed(log)
        torn = cut(log)
        with log.open("ab") as file:
            file.write(b"\n")
        events = read(log, torn=torn)
        assert not told - Counter(f"{event.type} {event.id}" for event in events)
        summary = summarize(events)
        assert [(run.name, run.status) for run in summary.runs] == [("victim", "lost")]
        innermost = {phase.path for phase in summary.unfinished}
        assert innermost & {("OUTER",), ("OUTER", "INNER")}
        assert innermost <= {("OUTER",), ("OUTER", "INNER"), ("INNER",)}


def test_an_event_that_has_no_record_is_the_dispatchers_to_report(sink: JsonlSink, caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Event):
        type = "odd"

    tracker = Tracker([sink])
    tracker.emit(Odd(started(1).phase, 1.0))
    tracker.emit(started(2))
    assert read(Path(sink.path)) == [started(2)]
    assert len(caplog.records) == 1


def test_the_example_of_the_docs_is_what_is_written(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "event-log.md").read_text()
    program = page.split("```python\n")[1].split("```")[0]
    example = page.split("```json\n")[1].split("```")[0]
    env = {**os.environ, "RANK": "0", "PHASEWATCH_CONSOLE": "off"}
    run_python(program, cwd=tmp_path, env=env)

    def told(text: str) -> list[str]:
        """Without what differs from run to run: ids, clocks and the machine."""
        for pattern in (r"(?<=\")[0-9a-f]{8}(?=\.)", r"(?<=time\":)[0-9.]+", r"(?<=elapsed\":)[0-9.e-]+"):
            text = re.sub(pattern, "X", text)
        text = re.sub(r",\"birth\":\"[^\"]*\"", "", text)  # on Linux
        return re.sub(r"\"host\":\"[^\"]*\",\"process\":\d+", "X", text).splitlines()

    assert told((tmp_path / "runs" / "grpo.jsonl").read_text()) == told(example)
    events = [Records().event(parsed(line)) for line in example.splitlines()]
    assert len(events) == 6


def test_the_docs_name_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "event-log.md").read_text()
    named = {*_FIGURES, *KINDS, *PhaseInfo.__slots__, *Place.__slots__, *Position.__slots__}
    assert [name for name in sorted(named) if f"`{name}`" not in page] == []
