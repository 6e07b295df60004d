"""Logs to events: which format, from where, how they grow, and what is passed over."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flows import golden_file
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import phasewatch
from phasewatch import PhaseEnded, PhaseInfo, PhaseStarted, phase
from phasewatch._records import line_of
from phasewatch.events import Event
from phasewatch.metalog.banners import RULE
from phasewatch.metalog.parse import Parser
from phasewatch.reader import BLOCK, LONGEST, read
from phasewatch.sinks import ConsoleSink
from phasewatch.testing import FakeClock, MemorySink

TEXT = golden_file("failing_run").read_bytes()


def a_run() -> list[Event]:
    memory = MemorySink()
    clock = FakeClock()
    with phasewatch.run("grpo", sinks=[memory], clock=clock):
        with phase("TRAINING", total=2, unit="step") as training:
            for _ in range(2):
                with training.step():
                    clock.advance(42)
    return memory.events


EVENTS = a_run()
LINES = b"".join(line_of(event) for event in EVENTS)


def of_text(data: bytes) -> list[Event]:
    parser = Parser()
    return parser.feed(data) + parser.close()


# Formats and sources.


@pytest.mark.parametrize("name", ["a.log", "a.jsonl", "a.txt.gz"])
@pytest.mark.parametrize("zipped", [False, True])
def test_the_format_is_found_by_looking(name: str, zipped: bool, tmp_path: Path) -> None:
    for data, found in ((TEXT, "text"), (LINES, "events")):
        (tmp_path / name).write_bytes(gzip.compress(data) if zipped else data)
        for source in (tmp_path / name, str(tmp_path / name)):
            reading = read(source)
            assert list(reading) == (of_text(TEXT) if found == "text" else EVENTS)
            assert reading.format == found
            assert not reading.skipped


@pytest.mark.parametrize("data", [TEXT, LINES, gzip.compress(TEXT), gzip.compress(LINES[:90]) + gzip.compress(LINES[90:])])
def test_an_open_file_may_be_of_bytes(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    with (tmp_path / "a").open("rb") as buffered, (tmp_path / "a").open("rb", buffering=0) as raw:
        whole = list(read(tmp_path / "a"))
        assert list(read(buffered)) == list(read(raw)) == list(read(io.BytesIO(data))) == whole
        assert not buffered.closed


def test_an_open_file_may_be_of_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(TEXT)
    with (tmp_path / "a").open(encoding="utf-8") as file:
        assert list(read(file)) == list(read(io.StringIO(TEXT.decode()))) == of_text(TEXT)


def test_standard_input_is_read_as_it_comes() -> None:
    code = "import sys; from phasewatch.reader import read\nfor e in read(sys.stdin): print(e.type, flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line_of(EVENTS[0]))
        process.stdin.flush()
        assert process.stdout.readline() == b"start\n"
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_at_the_beginning_tells_the_encoding(encoding: str, tmp_path: Path) -> None:
    for data in (TEXT, LINES):
        (tmp_path / "a.log").write_bytes(data.decode().encode(encoding))
        assert [e.type for e in read(tmp_path / "a.log")] == [e.type for e in (of_text(TEXT) if data is TEXT else EVENTS)]


def test_a_folder_holds_a_log_for_each_process(tmp_path: Path) -> None:
    (tmp_path / "rank1.log").write_bytes(TEXT)
    (tmp_path / "rank0.log").write_bytes(TEXT)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "events.jsonl").write_bytes(LINES)
    (tmp_path / "model.bin").write_bytes(b"\0\1\2" * 1000)
    (tmp_path / ".hidden").write_bytes(TEXT)
    reading = read(tmp_path)
    events = list(reading)
    assert events[: len(EVENTS)] == EVENTS
    assert len(events) == len(EVENTS) + 2 * len(of_text(TEXT))
    started = [event.id for event in events if event.type == "start"]
    assert len(started) == len(set(started))
    assert reading.formats == {os.path.join("more", "events.jsonl"): "events", "rank0.log": "text", "rank1.log": "text"}
    assert reading.skipped == {"foreign": 1}


def test_an_empty_log_has_no_events_and_no_format(tmp_path: Path) -> None:
    for data in (b"", b"\n\n  \n"):
        (tmp_path / "a.log").write_bytes(data)
        reading = read(tmp_path / "a.log")
        assert (list(reading), reading.format, reading.skipped) == ([], None, {})


def test_what_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing.log")
    with pytest.raises(TypeError, match="a path or an open file is needed, not int"):
        read(7)


# What is passed over.


def test_lines_that_are_no_events_are_skipped_and_counted(tmp_path: Path) -> None:
    lines = LINES.splitlines(keepends=True)
    newer = lines[1].replace(b'"v":1', b'"v":99')
    unheard = lines[1].replace(b'"start"', b'"sneeze"')
    other = [b"a warning of somebody\n", newer, unheard, lines[2][:40] + b"\n", b"[1, 2]\n", b"\n", b"\xff\xfe\n"]
    (tmp_path / "a.jsonl").write_bytes(b"".join([lines[0], *other, *lines[1:], lines[3][:30]]))
    reading = read(tmp_path / "a.jsonl")
    assert list(reading) == EVENTS
    assert reading.skipped == {"foreign": 3, "unknown": 2, "broken": 1, "torn": 1}


def test_the_last_line_of_a_text_log_counts_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"\xf0\x9f\x94\xb9 [META] PHASE: A\n\xf0\x9f\x94\xb9 [META] PHASE: BRAV")
    reading = read(tmp_path / "a.log")
    assert [event.name for event in reading if event.path] == ["A"]
    assert reading.skipped == {"torn": 1}


def test_an_archive_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    whole = gzip.compress(LINES + os.urandom(1000))
    (tmp_path / "a.gz").write_bytes(whole[:-600])
    for source in (tmp_path / "a.gz", io.BytesIO(whole[:-600])):
        reading = read(source)
        assert list(reading) == EVENTS
        assert reading.skipped["archive"] == 1


def test_a_line_without_end_is_skipped_in_little_memory() -> None:
    class Endless(io.RawIOBase):
        blocks = 300

        def read(self, size: int = -1) -> bytes:
            self.blocks -= 1
            return b"x" * size if self.blocks > 0 else TEXT if self.blocks == 0 else b""

    tracemalloc.start()
    reading = read(Endless())
    events = list(reading)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert events == of_text(TEXT)  # it begins with an empty line, which ends the long one
    assert reading.skipped == {"long": 1}
    assert peak < 6 * LONGEST


def test_the_end_of_a_line_that_is_too_long_is_passed_over_with_it_and_what_follows_is_read() -> None:
    names = [f"A{number} {'a' * 900}" for number in range(200)]  # so long that a block ends in one
    banners = "".join(f"🔹 [META] PHASE: {name}\n" for name in names)
    reading = read(io.BytesIO(b"x" * (LONGEST + BLOCK) + f"🔹 [META] PHASE: B\n{banners}".encode()))
    assert [event.name for event in reading if event.path] == names
    assert reading.skipped == {"long": 1}


def test_a_bar_that_was_written_over_for_hours_hides_no_banner() -> None:
    bar = b"\r 3%|#  | 1/35 [00:42<23:48, 42.0s/it]" * 60_000
    assert [e.name for e in read(io.BytesIO(bar + "\r🔹 [META] PHASE: A\n".encode())) if e.path] == ["A"]


def test_a_log_that_begins_with_zeros_is_read(tmp_path: Path) -> None:
    for data, expected in ((TEXT, of_text(TEXT)), (LINES, EVENTS)):
        (tmp_path / "a.log").write_bytes(b"\0" * 200_000 + data)
        assert list(read(tmp_path / "a.log")) == expected


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    def peak(times: int) -> int:
        step = b"\xf0\x9f\x94\x84 [META] PHASE: TRAINING STEP\n[Epoch 1/3] Step %d/35 (2.9%%) | Elapsed: 42s | ETA: 2.0s\n"
        with (tmp_path / "a.log").open("wb") as file:
            for number in range(times):
                file.write(step % number + b"x" * 1000 + b"\n")
        tracemalloc.start()
        for _ in read(tmp_path / "a.log"):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(4000) < 2 * peak(400)


@settings(max_examples=60)
@given(
    st.lists(
        st.binary(max_size=50) | st.sampled_from([TEXT[:3000], LINES, b'{"v":1', b"\x1f\x8b", b"\n", b"\0"]), max_size=5
    )
)
def test_nothing_that_a_log_may_hold_is_an_error(parts: list[bytes]) -> None:
    list(read(io.BytesIO(b"".join(parts))))


@settings(max_examples=40)
@given(st.data())
def test_a_damaged_event_log_is_never_an_error(data: st.DataObject) -> None:
    log = bytearray(LINES)
    for _ in range(data.draw(st.integers(1, 10))):
        at = data.draw(st.integers(0, len(log)))
        log[at : at + data.draw(st.integers(0, 100))] = data.draw(st.binary(max_size=20))
    list(read(io.BytesIO(bytes(log))))


# Following.


class Writing:
    """Does one thing after the other, each when the reader has nothing more to read."""

    def __init__(self, *deeds: Callable[[], object]) -> None:
        self.deeds = list(deeds)
        self.waited = 0

    def __call__(self, seconds: float) -> None:
        assert seconds > 0
        self.waited += 1
        assert self.deeds, "the reader waits though the run has ended"
        self.deeds.pop(0)()


def appends(path: Path, data: bytes) -> Callable[[], object]:
    def append() -> None:
        with path.open("ab") as file:
            file.write(data)

    return append


@pytest.mark.parametrize("share", [0.001, 0.02, 0.4, 0.7])
@pytest.mark.parametrize("data", [TEXT, LINES], ids=["text", "events"])
def test_a_log_that_grows_is_read_as_it_grows_until_its_run_ends(share: float, data: bytes, tmp_path: Path) -> None:
    log, at = tmp_path / "a.log", int(share * len(data))
    log.write_bytes(data[:at])
    wait = Writing(appends(log, data[at : at + 10]), lambda: None, appends(log, data[at + 10 :]))
    reading = read(log, follow=True, wait=wait)
    events = list(reading)
    assert [e.type for e in events] == [e.type for e in (of_text(TEXT) if data is TEXT else EVENTS)]
    assert not reading.skipped
    assert not wait.deeds


def test_a_log_that_is_replaced_or_cut_is_read_from_its_new_beginning(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    first = "🔹 [META] PHASE: A\n".encode()
    log.write_bytes(first * 3)

    def replace() -> None:
        (tmp_path / "new").write_bytes("🔹 [META] PHASE: B\n\n".encode())
        os.replace(tmp_path / "new", log)

    wait = Writing(replace, lambda: log.write_bytes(b"\n"), lambda: log.unlink(), lambda: log.write_bytes(TEXT))
    events = list(read(log, follow=True, wait=wait))
    names = [event.name for event in events if event.type == "start"]
    assert names[:6] == ["run", "A", "A", "A", "run", "B"]
    started = [event.id for event in events if event.type == "start"]
    assert len(started) == len(set(started))
    assert isinstance(events[-1], PhaseEnded)
    assert events[-1].status == "failed"


def test_a_log_that_is_cut_in_its_place_is_read_from_its_new_beginning(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes("🔹 [META] PHASE: A\n".encode() * 200)
    events = list(read(log, follow=True, wait=Writing(lambda: log.write_bytes(TEXT))))
    assert [event.type for event in events if event.name != "A"][1:] == [event.type for event in of_text(TEXT)]


def test_following_ends_when_it_is_closed(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes("🔹 [META] PHASE: A\n".encode())
    reading = read(log, follow=True, wait=lambda seconds: reading.close())
    assert [event.name for event in reading] == ["run", "A"]
    with read(log, follow=True, wait=lambda seconds: threading.Event().wait(0)) as reading:
        assert next(reading).name == "run"
        closer = threading.Timer(0.01, reading.close)
        closer.start()
        assert [event.name for event in reading] == ["A"]
        closer.join()


def test_a_pipe_that_is_followed_ends_when_it_ends() -> None:
    assert list(read(io.BytesIO(LINES[:-1]), follow=True, wait=Writing())) == EVENTS


def test_logs_that_appear_in_a_folder_are_followed_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES[:-10])
    other = tmp_path / "b.log"
    wait = Writing(appends(other, TEXT), appends(tmp_path / "a.jsonl", LINES[-10:]))
    events = list(read(tmp_path, follow=True, wait=wait))
    assert len(events) == len(EVENTS) + len(of_text(TEXT))


def test_a_disk_that_fails_ends_the_reading() -> None:
    class Failing(io.RawIOBase):
        done = False

        def read(self, size: int = -1) -> Any:
            if self.done:
                raise OSError("gone")
            self.done = True
            return LINES

    reading = read(Failing())
    assert list(reading) == EVENTS
    assert reading.skipped == {"unreadable": 1}


def test_a_registered_kind_is_announced_as_its_program_did(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    program = (
        "import sys, phasewatch\nphasewatch.register('DOWNLOAD', emoji='📥', opens='DOWNLOADING', completes=False)\n"
        "with phasewatch.run(log=sys.argv[1]), phasewatch.phase('DOWNLOAD'): pass\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    shown = subprocess.run(
        [sys.executable, "-c", program, str(path)], env=environment, capture_output=True, check=True, encoding="utf-8"
    ).stdout
    out = io.StringIO()
    console = ConsoleSink(Console(file=out), mode="plain")
    for event in read(path):
        console.emit(event)
    assert "📥 [META] DOWNLOADING" in out.getvalue()
    assert out.getvalue() == shown


# Logs that are larger than they should be held in memory.

READING = """
import resource, sys
import phasewatch
for path in sys.argv[1:]:
    assert phasewatch.summarize(phasewatch.read(path)).kinds
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def kilobytes(*paths: Path) -> list[int]:
    """Return the most memory that one process ever held, after it has read each of the files in turn."""
    done = subprocess.run([sys.executable, "-c", READING, *map(str, paths)], capture_output=True, check=True, text=True)
    return [int(line) for line in done.stderr.split()]


@pytest.mark.long
def test_a_gigabyte_of_text_takes_no_more_memory_than_a_hundredth_of_it(tmp_path: Path) -> None:
    step = (
        f"\n{RULE}\n🔄 [META] PHASE: TRAINING STEP\n[Epoch 1/3] Step 7/35 (20.0%) | Elapsed: 42s | ETA: 23.8m\n{RULE}\n\n"
        + "(main_task pid=163292) ACTIVE_TRAJ_NUM: [512, 287] gradient norm of tokens 0.123 12.4 cuda memory GiB\n" * 95
    )
    part = step.encode() * (10_000_000 // len(step.encode()))
    small, large = tmp_path / "small.log", tmp_path / "large.log"
    small.write_bytes(part)
    with large.open("wb") as file:
        for _ in range(100):
            file.write(part)
    try:
        before, after = kilobytes(small, large)
    finally:
        large.unlink()
    assert after < before + 5_000


@pytest.mark.long
def test_a_hundred_megabytes_of_events_take_no_more_memory_than_a_tenth_of_them(tmp_path: Path) -> None:
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    for path, megabytes in ((small, 10), (large, 100)):
        size = number = 0
        with path.open("wb") as file:
            while size < megabytes * 1_000_000:
                number += 1
                info = PhaseInfo("SHARD", id=f"{megabytes}.{number}", path=("SHARD",))
                events = [
                    PhaseStarted(info, number),
                    PhaseEnded(
                        info, number + 1.0, status="completed", done=0, total=None, elapsed=1.0, metrics={"loss": 0.5}
                    ),
                ]
                size += file.write(b"".join(line_of(event) for event in events))
    before, after = kilobytes(small, large)
    large.unlink()
    assert after < before + 5_000
