"""The live view in a real pseudo-terminal, as a terminal emulator shows it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from phasewatch import PhaseInfo, PhaseProgressed, PhaseStarted
from phasewatch.sinks import ConsoleSink
from phasewatch.sinks.region import INTERVAL, Region

pytest.importorskip("pyte")

from terminals import DEADLINE, Program, Terminal  # it needs pyte


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.close()


class Rows:
    """What a region shows."""

    def __init__(self, *rows: str) -> None:
        self.rows = rows
        self.asked: list[tuple[int, int]] = []

    def __call__(self, width: int, height: int) -> list[Text]:
        self.asked.append((width, height))
        return [Text(row) for row in self.rows[:height]]


@pytest.fixture
def rows() -> Rows:
    return Rows("one", "two")


@pytest.fixture
def region(terminal: Terminal, rows: Rows) -> Iterator[Region]:
    found = Region(rows, threaded=False)
    assert found.open(terminal.theirs, Console(file=terminal.file), "utf-8")
    yield found
    with contextlib.suppress(OSError):
        found.close()


def test_rows_stand_in_the_lowest_lines_and_output_scrolls_above(terminal: Terminal, region: Region, rows: Rows) -> None:
    terminal.file.write("before\n")
    terminal.file.flush()
    assert region.draw()
    assert terminal.show() == ["before", *[""] * 13, "one", "two"]
    assert rows.asked == [(59, 8)], "one column is left free, and half of the lines"
    for number in range(100):
        os.write(terminal.theirs, b"line %d\n" % number)
        if number % 7 == 0:
            region.draw()
    assert terminal.show() == [*(f"line {number}" for number in range(87, 100)), "", "one", "two"]
    assert terminal.all() == ["before", *(f"line {number}" for number in range(100)), "", "one", "two"], "no line is lost"
    region.close()
    assert terminal.show() == [*(f"line {number}" for number in range(87, 100)), "", "", ""]
    assert terminal.margins is None or terminal.margins == (0, 15)


def test_a_line_that_is_not_finished_goes_on_where_it_was(terminal: Terminal, region: Region) -> None:
    os.write(terminal.theirs, b"\n" * 20 + b"\x1b[31mhalf")
    region.draw()
    os.write(terminal.theirs, b" and half")
    region.draw()
    os.write(terminal.theirs, b"\r 80%|####")
    assert terminal.show()[13:] == [" 80%|####half", "one", "two"]
    assert terminal.screen.buffer[13][3].fg == "red", "in the program's colour"
    assert terminal.screen.buffer[14][0].fg == "default"


def test_it_grows_and_shrinks_without_a_trace(terminal: Terminal, region: Region, rows: Rows) -> None:
    os.write(terminal.theirs, b"".join(b"line %d\n" % number for number in range(14)) + b"last")
    for shown in (("a",), ("a", "b", "c", "d"), ("e", "f"), (), ("g", "h", "i"), ("j",)):
        rows.rows = shown
        assert region.draw() is bool(shown)
        screen = terminal.show()
        assert screen[16 - len(shown) :] == list(shown)
        assert [line for line in terminal.all() if line] == [*(f"line {number}" for number in range(14)), "last", *shown]
    region.close()
    assert [line for line in terminal.all() if line] == [*(f"line {number}" for number in range(14)), "last"]


@pytest.mark.parametrize("size", [(30, 16), (60, 8), (100, 40), (25, 7)])
def test_a_resize_leaves_nothing_behind(terminal: Terminal, region: Region, size: tuple[int, int]) -> None:
    os.write(terminal.theirs, b"1\n2\n3\n")
    region.draw()
    terminal.show()
    terminal.resize(*size)
    region.draw()
    screen = terminal.show()
    assert [line for line in screen if line][-2:] == ["one", "two"]
    assert screen[-2:] == ["one", "two"]
    assert screen.count("one") == 1
    os.write(terminal.theirs, b"".join(b"line %d\n" % number for number in range(50)))
    assert terminal.show()[-4:] == ["line 49", "", "one", "two"]
    region.close()
    assert terminal.show()[-2:] == ["", ""]


def test_a_resize_at_the_very_end_leaves_nothing_behind(terminal: Terminal, region: Region) -> None:
    os.write(terminal.theirs, b"1\n")
    region.draw()
    terminal.show()
    terminal.resize(40, 20)
    region.close()
    assert [line for line in terminal.show() if line] == ["1"]


@pytest.mark.parametrize("size", [(10, 16), (60, 5), (0, 0)])
def test_a_window_that_is_too_small_has_no_region(terminal: Terminal, region: Region, size: tuple[int, int]) -> None:
    fcntl.ioctl(terminal.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    assert not region.draw()
    assert terminal.show() == [""] * 16
    terminal.resize(60, 16)
    assert region.draw(), "until it is larger"


def test_a_terminal_whose_margins_were_taken_away_has_them_with_the_next_frame(terminal: Terminal, region: Region) -> None:
    region.draw()
    os.write(terminal.theirs, b"\x1b[r\x1b[2J\x1b[H")  # an editor that ended
    region.draw()
    os.write(terminal.theirs, b"x\n" * 30)
    assert terminal.show() == [*["x"] * 13, "", "one", "two"]


def test_a_name_wider_than_it_was_measured_stays_in_its_line(terminal: Terminal, region: Region, rows: Rows) -> None:
    rows.rows = ("x" * 200, "日" * 100)
    region.draw()
    screen = terminal.show()
    assert screen[14].startswith("xxx")
    assert screen[15].startswith("日")
    assert screen[:14] == [""] * 14


def test_nothing_is_written_after_the_end(terminal: Terminal, region: Region) -> None:
    region.draw()
    region.close()
    terminal.show()
    before = terminal.raw
    assert not region.draw()
    region.close()
    terminal.show()
    assert terminal.raw == before
    assert b"\x1b[?25" not in before, "the cursor was never hidden"


def test_a_region_in_which_nothing_was_drawn_leaves_no_byte(terminal: Terminal, region: Region) -> None:
    region.close()
    assert terminal.show() == [""] * 16
    assert terminal.raw == b""


def test_a_terminal_that_a_person_stopped_is_not_waited_for(terminal: Terminal, region: Region) -> None:
    termios.tcflow(terminal.theirs, termios.TCOOFF)  # Ctrl-S
    assert not region.draw()
    termios.tcflow(terminal.theirs, termios.TCOON)
    assert region.draw()


def test_a_process_in_the_background_draws_nothing(terminal: Terminal, region: Region, mocker: Any) -> None:
    region.draw()
    mocker.patch("phasewatch.sinks.region.os.tcgetpgrp", return_value=-1)
    assert not region.draw()
    assert terminal.show() == [""] * 16
    assert terminal.margins is None or terminal.margins == (0, 15)


def test_a_terminal_has_one_region(terminal: Terminal, region: Region, rows: Rows) -> None:
    other = Region(rows, threaded=False)
    assert not other.open(terminal.theirs, Console(file=terminal.file), "utf-8")
    region.close()
    assert other.open(terminal.theirs, Console(file=terminal.file), "utf-8")
    other.close()


def test_a_forked_child_draws_nothing_and_takes_nothing_away(terminal: Terminal, region: Region, mocker: Any) -> None:
    region.draw()
    mocker.patch("phasewatch.sinks.region.os.getpid", return_value=-5)
    assert not region.draw()
    region.close()
    mocker.stopall()
    assert terminal.show()[14:] == ["one", "two"]


def test_a_terminal_that_has_gone_is_no_error(terminal: Terminal, region: Region) -> None:
    region.draw()
    terminal.show()
    os.close(terminal.ours)
    region.close()


def test_no_colour_holds_in_the_region(terminal: Terminal) -> None:
    for environment, coloured in (({"TERM": "xterm-256color"}, True), ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False)):
        region = Region(lambda width, height: [Text("x", "red")], threaded=False)
        assert region.open(terminal.theirs, Console(file=terminal.file, _environ=environment), "utf-8")
        terminal.raw = b""
        region.draw()
        terminal.show()
        assert (b"\x1b[31mx" in terminal.raw) is coloured
        region.close()


def test_the_thread_is_there_while_something_is_shown(terminal: Terminal, rows: Rows, mocker: Any) -> None:
    mocker.patch("phasewatch.sinks.region.INTERVAL", 0.001)
    region = Region(rows)
    for _ in range(2):  # and comes again
        region.open(terminal.theirs, Console(file=terminal.file), "utf-8")
        thread = next(thread for thread in reversed(threading.enumerate()) if thread.name == "phasewatch-live")
        assert thread.daemon
        while b"two" not in terminal.raw:
            terminal.show()
        region.close()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        terminal.raw = b""


def test_a_view_that_fails_is_told_once_and_the_terminal_given_back(terminal: Terminal, mocker: Any, caplog: Any) -> None:
    mocker.patch("phasewatch.sinks.region.INTERVAL", 0.001)
    calls = iter([[Text("x")]])
    region = Region(lambda width, height: next(calls))
    region.open(terminal.theirs, Console(file=terminal.file), "utf-8")
    for thread in threading.enumerate():
        if thread.name == "phasewatch-live":
            thread.join(DEADLINE)
    assert [record.message for record in caplog.records] == [
        "the live view could not be drawn; the program goes on without it"
    ]
    assert [line for line in terminal.show() if line] == []
    assert not region.is_open


# The console


def live_sink(terminal: Terminal, **environment: str) -> ConsoleSink:
    console = Console(file=terminal.file, force_terminal=True, _environ={"TERM": "xterm", **environment})
    sink = ConsoleSink(console, mode="live")
    assert sink._region is not None
    sink._region._threaded = False
    return sink


def test_banners_scroll_above_and_lines_of_progress_are_left_to_the_region(terminal: Terminal, phaselog: Any) -> None:
    import phasewatch

    with phasewatch.run("r"), phasewatch.phase("A", total=2, every=1) as a:
        a.advance()
        a.advance(reward=0.5)
    sink = live_sink(terminal)
    for event in phaselog.events[:-2]:
        sink.emit(event)
    assert sink._region is not None
    sink._region.draw()
    screen = terminal.show()
    assert [line.split()[0] for line in screen[-2:]] == ["r", "A"]
    assert "2/2" in screen[-1]
    (result,) = (line for line in terminal.all() if "📊" in line)
    assert "[2/2] (100.0%) | Avg Reward: 0.500" in result, "the last one stays"
    for event in phaselog.events[-2:]:
        sink.emit(event)
    shown = terminal.all()
    assert any(line.startswith("The whole run") for line in shown)
    assert any("PHASE COMPLETE: A" in line for line in shown)
    assert not any("━" in line for line in shown)
    assert not sink._region.is_open


@pytest.mark.parametrize(
    ("phases", "opens"),
    [
        ([PhaseInfo("r", id="r", role="run")], True),
        ([PhaseInfo("A", id="a")], False),  # outside a run nobody ends it on SIGTERM
        ([PhaseInfo("A", id="a", parent="elsewhere")], False),
        ([PhaseInfo("r", id="r", role="run", parent="elsewhere")], False),  # of a process that another one started
    ],
)
def test_the_first_run_of_a_terminal_has_the_region(terminal: Terminal, phases: list[PhaseInfo], opens: bool) -> None:
    sink = live_sink(terminal)
    for info in phases:
        sink.emit(PhaseStarted(info, 0.0))
        sink.emit(PhaseProgressed(info, 0.0, done=1, total=None, elapsed=1.0, eta=None))
    assert sink._region is not None
    assert sink._region.is_open is opens
    sink.close()


@pytest.mark.parametrize("rank", [0, 1])
def test_of_the_ranks_in_a_terminal_the_first_has_the_region(terminal: Terminal, rank: int) -> None:
    from phasewatch import Place

    sink = live_sink(terminal)
    sink.emit(PhaseStarted(PhaseInfo("r", id="r", role="run", place=Place(rank=rank)), 0.0))
    assert sink._region is not None
    assert sink._region.is_open is (rank == 0)
    sink.close()


def test_a_forked_childs_phases_are_told_above_and_leave_the_region_to_its_parent(terminal: Terminal, mocker: Any) -> None:
    sink = live_sink(terminal)
    sink.emit(PhaseStarted(PhaseInfo("r", id="r", role="run"), 0.0))
    parent = os.getpid()
    mocker.patch("os.getpid", return_value=-5)
    sink.emit(PhaseStarted(PhaseInfo("A", id="a", parent="r", path=("A",)), 0.0))
    mocker.stopall()
    assert any("PHASE: A" in line for line in terminal.show())
    assert sink._region is not None
    assert sink._region._process == parent
    assert len(sink._view.rows(80, 9)) == 1
    sink.close()


def test_a_dumb_terminal_has_no_region(terminal: Terminal) -> None:
    sink = live_sink(terminal, TERM="dumb")
    sink.emit(PhaseStarted(PhaseInfo("r", id="r", role="run"), 0.0))
    assert sink._region is not None
    assert not sink._region.is_open


def test_a_view_that_breaks_costs_the_view_alone(terminal: Terminal, mocker: Any, caplog: Any) -> None:
    sink = live_sink(terminal)
    mocker.patch.object(sink._view, "take", side_effect=RuntimeError)
    for name in "AB":
        sink.emit(PhaseStarted(PhaseInfo("r", id="r", role="run"), 0.0))
        sink.emit(PhaseStarted(PhaseInfo(name, id=name, parent="r", path=(name,)), 0.0))
    assert [line for line in terminal.all() if "PHASE" in line] == ["🔹 [META] PHASE: A", "🔹 [META] PHASE: B"]
    assert len(caplog.records) == 1


# Whole programs


NOISY = """
import os, subprocess, sys, threading
import phasewatch
from phasewatch import phase

def worker(number):
    with phase("LOAD", total=50) as load:
        for i in range(50):
            print(f"printed {number} {i}", flush=True)
            os.write(1, b"written %d %d\\n" % (number, i))
            print(f"error {number} {i}", file=sys.stderr)
            load.advance()
        barrier.wait()

barrier = threading.Barrier(4)
with phasewatch.run("noisy"):
    with phase("TRAINING", total=4, unit="step") as training:
        threads = [threading.Thread(target=worker, args=(n,)) for n in range(3)]
        for thread in threads: thread.start()
        print("READY", flush=True)
        line = sys.stdin.readline()
        subprocess.run(["echo", "from another process"])
        barrier.wait()
        for thread in threads: thread.join()
        if line == "fail\\n":
            raise ValueError("as told")
        if os.fork() == 0:
            with phase("IN THE CHILD"): pass
            sys.exit()
        os.wait()
print("after")
"""


@pytest.fixture
def program() -> Iterator[Any]:
    opened: list[Program] = []

    def run(*arguments: Any, **options: Any) -> Program:
        opened.append(Program(*arguments, **options))
        return opened[-1]

    yield run
    for one in opened:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.close()


FRAME = r"\x1b\[1;\d+r"


def test_nothing_that_a_program_writes_is_garbled_or_lost(program: Any) -> None:
    noisy = program(NOISY)
    noisy.until("READY")
    noisy.until(FRAME)
    noisy.until(r"(?s)Load.*Load.*Load")
    screen = noisy.show()
    assert [line.split()[0] for line in screen[25:]] == ["noisy", "Training", "Load", "Load", "Load"]
    assert all("(Thread-" in line for line in screen[27:])
    noisy.type("go\n")
    assert noisy.end() == 0
    lines = noisy.all()
    told = re.findall(r"(printed|written|error) (\d) (\d+)", "\n".join(lines))
    assert sorted(told) == sorted(
        (kind, str(number), str(i)) for kind in ("printed", "written", "error") for number in range(3) for i in range(50)
    )
    assert sum("from another process" in line for line in lines) == 1
    assert any("IN THE CHILD" in line for line in lines), "a child's banners scroll as all else"
    assert [line for line in lines if line][-1] == "after"
    assert not any("━" in line for line in lines)
    assert noisy.is_sane()


def test_an_exception_leaves_the_terminal_as_it_was(program: Any) -> None:
    failing = program(NOISY)
    failing.until(FRAME)
    failing.type("fail\n")
    assert failing.end() == 1
    assert "ValueError: as told" in failing.show()
    assert failing.is_sane()


WAITING = """
import sys, threading, phasewatch
from phasewatch import phase
with phasewatch.run("r"), phase("A", total=2) as a:
    a.advance()
    print("READY", flush=True)
    try:
        threading.Event().wait()
    finally:
        print("cleaned up")
"""


def test_ctrl_c_leaves_the_terminal_as_it_was(program: Any) -> None:
    waiting = program(WAITING)
    waiting.until(FRAME)
    waiting.type("\x03")
    assert waiting.end() == -signal.SIGINT
    assert "KeyboardInterrupt" in waiting.show()
    assert any("PHASE INTERRUPTED: A" in line for line in waiting.all())
    assert waiting.is_sane()


def test_sigterm_leaves_the_terminal_as_it_was(program: Any) -> None:
    waiting = program(WAITING)
    waiting.until(FRAME)
    waiting.process.send_signal(signal.SIGTERM)
    assert waiting.end() == -signal.SIGTERM
    assert any("RUN INTERRUPTED" in line for line in waiting.all())
    assert waiting.is_sane()


def test_a_run_that_is_left_open_leaves_the_terminal_as_it_was(program: Any) -> None:
    left = program("import phasewatch, sys\nr = phasewatch.run('r')\nr.__enter__()\nsys.stdin.readline()")
    left.until(FRAME)
    left.type("\n")
    assert left.end() == 0
    assert left.is_sane()


def test_a_short_run_shows_no_region(program: Any) -> None:
    short = program("import phasewatch\nwith phasewatch.run('r'): pass")
    assert short.end() == 0
    assert not re.search(FRAME.encode(), short.raw)
    assert INTERVAL >= 0.1


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"PHASEWATCH_CONSOLE": "auto"}])
def test_elsewhere_live_is_auto(program: Any, environment: dict[str, str]) -> None:
    auto = program("import phasewatch, threading\nwith phasewatch.run('r'): print(threading.active_count())", **environment)
    assert auto.end() == 0
    assert b"\x1b7" not in auto.raw
    assert auto.all()[0].strip() == "2", "no thread but the monitor's"


def test_in_a_pipe_live_writes_the_bytes_of_the_format() -> None:
    code = "import phasewatch\nwith phasewatch.run('r'), phasewatch.phase('A', total=1) as a: a.advance()"
    modes = [{**os.environ, "FORCE_COLOR": "0", "PHASEWATCH_CONSOLE": mode} for mode in ("live", "plain")]
    live, plain = (subprocess.run([sys.executable, "-c", code], env=mode, capture_output=True).stdout for mode in modes)
    assert b"[META] PHASE COMPLETE: A" in live
    assert _without_times(live) == _without_times(plain)


def _without_times(text: bytes) -> bytes:
    return re.sub(rb"[\d.]+(ms|s|%)|--| +", b" ", text)
