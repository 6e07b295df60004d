"""The console sink in pipes, files, terminals of any width, and outputs that cannot show everything."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

import phasewatch
from phasewatch import phase
from phasewatch.metalog import catalog
from phasewatch.sinks import ConsoleSink
from phasewatch.testing import FakeClock, PhaseLog, recorded

RULE = "=" * 80

PROGRAM = """
import sys
import phasewatch
from phasewatch import phase
with phasewatch.run("r"):
    details = {"a [red]long[/red] detail": "x" * 150}
    with phase("VALIDATION", total=2, unit="batch", counters={"questions": 7405}, details=details) as v:
        print("printed by the program")
        v.advance(questions=3000, reward=0.5)
        print("an error line", file=sys.stderr)
        v.advance(questions=4405, reward=0.5)
"""


def written(log: PhaseLog, console: Console, mode: Any = "auto") -> None:
    sink = ConsoleSink(console, mode=mode)
    for event in log.events:
        sink.emit(event)
    sink.close()


@pytest.fixture
def a_run(phaselog: PhaseLog) -> PhaseLog:
    """The events of a small run."""
    with (
        phasewatch.run("r"),
        phase("TRAINING", total=2, unit="step", message="[bold]:tada: 1 2 3[/bold] [META]") as training,
    ):
        with training.step(epoch=1) as step:
            phaselog.clock.advance(1)
            step.log(loss=0.5)
        with phase("x" * 300, total=2) as long:
            long.advance()
    return phaselog


def in_terminal(program: str, columns: int, env: dict[str, str] | None = None) -> str:
    """What a program writes to a real pseudo-terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    environment = {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **(env or {})}
    process = subprocess.Popen([sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    chunks = []
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(ours)
    assert process.wait() == 0
    return b"".join(chunks).decode().replace("\r\n", "\n")


def without_colour(text: str) -> str:
    return re.sub(r" *\r\x1b\[0K|\x1b\[[0-9;]*m", "", text)  # and the step to the start of a line


PYTHON = [sys.executable, "-c", PROGRAM]


# In a pipe or a file


@pytest.mark.parametrize("columns", [1, 40, 80, 200])
def test_the_bytes_in_a_pipe_do_not_depend_on_any_width(a_run: PhaseLog, columns: int) -> None:
    out = io.StringIO()
    written(a_run, Console(file=out, width=columns))
    assert out.getvalue() == a_run.text
    assert "TRAINING START - [bold]:tada: 1 2 3[/bold] [meta]\n" in out.getvalue()
    assert f"[META] PHASE: {'x' * 300}\n" in out.getvalue()


def test_no_line_ends_in_blanks_and_the_table_is_as_wide_as_its_text(a_run: PhaseLog) -> None:
    lines = a_run.text.splitlines()
    assert not [line for line in lines if line != line.rstrip()]
    table = lines[lines.index(next(line for line in lines if line.startswith("Where the time went"))) :]
    assert table[0].split() == ["Where", "the", "time", "went", "Count", "Total", "Share", "Mean"]
    assert [line.split()[0] for line in table[1:4]] == ["Training", "Training", "x" * 57 + "…"]
    assert max(map(len, table)) < 100, "not as wide as a terminal"
    assert table[-2].startswith("The whole run ")
    assert table[-1] == ""


def test_in_a_notebook_too_the_table_is_text(a_run: PhaseLog, mocker: Any) -> None:
    expected = a_run.text
    mocker.patch("rich.console._is_jupyter", return_value=True)
    assert a_run.text == expected


def test_phases_that_are_open_at_once_have_no_more_than_all_of_the_run(phaselog: PhaseLog) -> None:
    begun, over = threading.Barrier(5), threading.Barrier(5)

    def load() -> None:
        with phase("LOAD"):
            begun.wait(30)
            over.wait(30)

    with phasewatch.run("r"):
        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        begun.wait(30)
        phaselog.clock.advance(10)
        over.wait(30)
        for thread in threads:
            thread.join()
    (row,) = (line for line in phaselog.text.splitlines() if line.startswith("Load "))
    assert row.split() == ["Load", "4", "40s", "100.0%", "10.0s"]


def test_a_run_that_took_no_time_has_no_shares(phaselog: PhaseLog) -> None:
    with phasewatch.run("r"), phase("A"):
        pass
    assert [line.split() for line in phaselog.text.splitlines()[-3:-1]] == [
        ["A", "1", "0s", "--", "0s"],
        ["The", "whole", "run", "1", "0s", "--"],
    ]


def test_a_run_inside_a_run_has_a_table_of_its_own(phaselog: PhaseLog) -> None:
    with phasewatch.run("outer"), phase("A"), phasewatch.run("inner"), phase("B"):
        pass
    inner, outer = phaselog.text.split("Where the time went")[1:]
    rows = [[line.split()[0] for line in table.split("\n\n")[0].splitlines()[1:]] for table in (inner, outer)]
    assert rows == [["B", "The"], ["A", "The"]]


def test_the_end_of_a_run_whose_start_was_missed_is_told_without_a_table(phaselog: PhaseLog) -> None:
    with phasewatch.run("r"), phase("A"):
        pass
    out = io.StringIO()
    sink = ConsoleSink(Console(file=out))
    for event in phaselog.events[1:]:
        sink.emit(event)
    assert out.getvalue().endswith(f"{RULE}\n🏁 [META] ALL PHASES COMPLETE - Training Finished Successfully!\n{RULE}\n\n")


def test_a_banner_is_one_write_and_flushed(a_run: PhaseLog) -> None:
    class Recorder(io.StringIO):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        def write(self, text: str) -> int:
            self.calls.append(text)
            return len(text)

        def flush(self) -> None:
            self.calls.append("flush")

    file = Recorder()
    written(a_run, Console(file=file))
    assert file.calls[1::2] == ["flush"] * (len(file.calls) // 2)
    for call in file.calls[::2]:
        assert call.count(RULE) in (0, 2, 3)
        assert call.endswith("\n")


def test_a_banner_is_one_system_call(a_run: PhaseLog, tmp_path: Any, mocker: Any) -> None:
    with open(tmp_path / "log", "w", encoding="utf-8") as file:
        write = mocker.spy(os, "write")
        print("before", end="", file=file)  # still in the stream's buffer, and comes first
        written(a_run, Console(file=file))
        mocker.stop(write)
    assert all(call.args[1].count(RULE.encode()) in (0, 2, 3) for call in write.mock_calls)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "before" + a_run.text


def test_what_the_system_takes_in_parts_is_written_whole(a_run: PhaseLog, tmp_path: Any, mocker: Any) -> None:
    write = os.write
    with open(tmp_path / "log", "w", encoding="utf-8") as file:
        parts = mocker.patch("os.write", side_effect=lambda descriptor, data: write(descriptor, data[:50]))
        written(a_run, Console(file=file))
        mocker.stop(parts)
    assert (tmp_path / "log").read_text(encoding="utf-8") == a_run.text


def test_our_lines_and_those_of_others_come_in_order(tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, env={}
    )
    lines = [line for line in done.stdout.decode().splitlines() if line and line != RULE]
    assert [line.split("|")[0].strip() for line in lines[:7]] == [
        "🔍 [META] PHASE: VALIDATION",
        "Total batches: 2",
        "printed by the program",
        "📊 Validation [1/2] (50.0%)",
        "an error line",
        "📊 Validation [2/2] (100.0%)",
        "✅ [META] PHASE COMPLETE: VALIDATION",
    ]


def test_blank_lines_are_kept_single_between_our_own_writes(phaselog: PhaseLog) -> None:
    with phase("A"), phase("B", total=1) as b:
        b.advance()
    assert "\n\n\n" not in phaselog.text
    assert phaselog.text.startswith(f"\n{RULE}\n🔹 [META] PHASE: A\n{RULE}\n\n{RULE}\n🔹 [META] PHASE: B\n")
    assert "(100.0%) | Elapsed: 0s | ETA: 0s\n\n" + RULE in phaselog.text
    assert phaselog.text.endswith(f"{RULE}\n\n")


def test_two_threads_never_print_inside_each_others_banners(tmp_path: Any) -> None:
    with open(tmp_path / "log", "w", encoding="utf-8") as file:
        sink = ConsoleSink(Console(file=file))
        tracker = phasewatch.Tracker([sink], FakeClock())

        def work(name: str) -> None:
            for _ in range(200):
                with tracker.phase(name):
                    pass

        threads = [threading.Thread(target=work, args=(name,)) for name in ("A", "B")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    text = (tmp_path / "log").read_text(encoding="utf-8")
    opening, ending = (
        rf"{RULE}\n🔹 \[META\] PHASE: [AB]\n{RULE}\n\n",
        (rf"{RULE}\n✅ \[META\] PHASE COMPLETE: [AB]\n{RULE}\nTotal time: 0s\n{RULE}\n\n"),
    )
    assert re.fullmatch(rf"\n(?:{opening}|{ending}){{800}}", text)


# Outputs that cannot show everything


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
def test_an_output_that_cannot_encode_an_emoji_gets_the_text_without_it(encoding: str, phaselog: PhaseLog) -> None:
    with phasewatch.run("r"), phase("VALIDATION", total=1, message="naïve 中"):
        pass
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    written(phaselog, Console(file=file))
    text = raw.getvalue().decode(encoding)
    if encoding.startswith("utf"):
        assert text == phaselog.text
    else:
        naive = "na?ve" if encoding == "ascii" else "naïve"
        assert f"{RULE}\n[META] PHASE: VALIDATION - {naive} ?\n{RULE}\n" in text
        assert f"{RULE}\n[META] PHASE COMPLETE: VALIDATION\n{RULE}\n" in text


def test_a_stream_that_makes_something_else_of_the_text_is_given_text(tmp_path: Path, phaselog: PhaseLog) -> None:
    class Loud(io.TextIOWrapper):
        def write(self, text: str) -> int:
            return super().write(text.upper())

    with phase("a"):
        pass
    with Loud(io.FileIO(tmp_path / "log", "w")) as file:
        written(phaselog, Console(file=file))
    assert (tmp_path / "log").read_text() == phaselog.text.upper()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_program_with_such_an_output_runs_as_it_would(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, check=True, env={"PYTHONIOENCODING": encoding}
    )
    assert done.stderr == b"an error line\n"
    assert b"\n[META] PHASE: VALIDATION\n" in done.stdout
    assert b"\nValidation [1/2] (50.0%) | Questions: 3000/7405 | Avg Reward: 0.500 | " in done.stdout


def test_a_closed_output_is_reported_once_and_the_work_goes_on() -> None:
    program = "import sys\nsys.stdout.close()\n" + PROGRAM.replace("print(", "sys.stderr.write('' and str(").replace(
        '")', '"))'
    )
    program = """
import sys
sys.stdout.close()
from phasewatch import phase
for _ in range(3):
    with phase("A"):
        pass
print("the work is done", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={})
    assert done.stderr.count("Traceback") == 1
    assert "the sink ConsoleSink could not take an event; the program goes on" in done.stderr
    assert done.stderr.endswith("the work is done\n")


def test_a_closed_output_is_reported_once_whatever_is_said_about_colours() -> None:
    program = "import sys\nsys.stdout.close()\nfrom phasewatch import phase\nfor _ in range(3):\n    with phase('A'): pass"
    for force in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"FORCE_COLOR": force}
        )
        assert done.stderr.count("Traceback") == 1
        assert "the sink ConsoleSink could not take an event; the program goes on" in done.stderr


def test_a_program_started_without_an_output_runs() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1" >&-', sys.executable, "from phasewatch import phase\nwith phase('A'): pass"],
        capture_output=True,
        check=True,
        env={},
    )
    assert done.stderr == b""


def test_a_reader_that_goes_away_does_not_change_the_exit_code() -> None:
    program = """
import sys
from phasewatch import phase
sys.stdin.read()
for _ in range(3):
    with phase("A"):
        pass
sys.stderr.write("the work is done")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}
    )
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate()
    assert process.returncode == 0
    assert errors.endswith(b"the work is done")
    assert errors.count(b"Traceback") == 1


def test_a_pipe_that_breaks_while_rich_looks_at_it_is_an_error_as_any_other(
    a_run: PhaseLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking(io.StringIO):
        flushed = False

        def flush(self) -> None:
            if self.flushed:
                raise BrokenPipeError
            self.flushed = True

    monkeypatch.setenv("FORCE_COLOR", "1")
    with redirect_stdout(Breaking()), pytest.raises(BrokenPipeError):
        ConsoleSink().emit(a_run.events[1])


@pytest.mark.parametrize("recorded", [True, False])
def test_a_console_that_records_keeps_what_it_is_given(a_run: PhaseLog, recorded: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, record=recorded, _environ={"TERM": "xterm"})
    written(a_run, console)
    if recorded:
        assert console.export_text() == without_colour(out.getvalue())
    assert without_colour(out.getvalue()).count("TRAINING START") == 1


def test_a_redirected_standard_output_is_looked_up_at_each_write(phaselog: PhaseLog) -> None:
    sink = ConsoleSink()
    with phase("A"):
        pass
    for event in phaselog.events:
        with redirect_stdout(io.StringIO()) as out:
            sink.emit(event)
        assert "[META]" in out.getvalue()


# In a terminal


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_in_a_terminal_the_lines_are_the_same_with_rules_no_wider_than_the_window(columns: int) -> None:
    text = in_terminal(PROGRAM, columns)
    assert "\x1b[" in text
    plain = without_colour(text)
    rules = {line for line in plain.splitlines() if line and not line.strip("=")}
    assert rules == {"=" * min(columns, 80)}
    detail = f"Total batches: 2 | Total questions: 7405 | a [red]long[/red] detail: {'x' * 150}\n"
    assert f"\n🔍 [META] PHASE: VALIDATION\n{'=' * min(columns, 80)}\n{detail}" in plain, "never wrapped or cut by us"
    assert (
        "printed by the program\n📊 Validation [1/2] (50.0%) | Questions: 3000/7405 | Avg Reward: 0.500 | Elapsed: " in plain
    )


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"FORCE_COLOR": "0"}, True),
        ({"FORCE_COLOR": ""}, True),
        ({"PHASEWATCH_CONSOLE": "plain"}, False),
    ],
    ids=str,
)
def test_a_terminal_is_coloured_as_its_user_wants_it(env: dict[str, str], coloured: bool) -> None:
    text = in_terminal(PROGRAM, 80, env)
    colours = set(re.findall(r"\x1b\[([0-9;]*)m", text))
    assert any(set(code.split(";")) & {"31", "32", "33", "36"} for code in colours) is coloured
    if not coloured and "NO_COLOR" not in env:
        assert not colours


@pytest.mark.parametrize(("force", "coloured"), [("1", True), ("true", True), ("0", False), ("", False), (None, False)])
def test_colour_in_a_pipe_has_to_be_forced(force: str | None, coloured: bool) -> None:
    env = {"TERM": "xterm", "COLUMNS": "40"} | ({} if force is None else {"FORCE_COLOR": force})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, env=env
    )
    text = done.stdout.decode()
    assert ("\x1b[" in text) is coloured
    assert RULE in without_colour(text), "a pipe has no width"


def test_in_a_terminal_a_banner_is_one_write_too(a_run: PhaseLog) -> None:
    class Recorder(io.StringIO):
        calls: list[str]

        def write(self, text: str) -> int:
            self.calls.append(text)
            return len(text)

    file = Recorder()
    file.calls = []
    written(a_run, Console(file=file, force_terminal=True, width=80, _environ={"TERM": "xterm"}))
    assert all(without_colour(call).count(RULE) in (0, 2, 3) for call in file.calls)
    body, table = without_colour("".join(file.calls)).split("Where the time went")
    assert body == a_run.text.split("Where the time went")[0]
    figures = [line.split()[-4:] for line in a_run.text.split("Where the time went")[1].splitlines()]
    assert [line.split()[-4:] for line in table.splitlines()] == figures, "in a narrow window the names give way"


def test_in_a_terminal_the_last_banner_and_the_table_are_one_write(a_run: PhaseLog) -> None:
    class Minimal:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def write(self, text: str) -> None:
            self.calls.append(text)

        def flush(self) -> None: ...

    file: Any = Minimal()  # without even an isatty()
    written(a_run, Console(file=file, force_terminal=True, width=80, _environ={"TERM": "xterm"}))
    assert "ALL PHASES COMPLETE" in file.calls[-1]
    assert "Where the time went" in file.calls[-1]


def test_in_a_terminal_a_banner_never_begins_inside_the_line_of_a_progress_bar() -> None:
    program = """
import sys
from phasewatch import phase
sys.stderr.write(" 50%|#####     | 2/4"); sys.stderr.flush()
with phase("INITIALIZATION"): pass
with phase("INITIALIZATION"): pass
"""
    text = in_terminal(program, 40)
    # 39 blanks leave a cursor at the start of a line in that line, and take this one to the next.
    assert " 50%|#####     | 2/4" + " " * 39 + "\r\x1b[0K" in text.replace("\x1b[0m", "")
    assert "\n\n\n" not in without_colour(text), "nor does it leave a blank line more"
    assert "\r" not in in_terminal(program, 40, {"TERM": "dumb"})


def test_only_a_terminal_with_a_cursor_is_sent_to_the_start_of_a_line(a_run: PhaseLog) -> None:
    dumb = in_terminal(PROGRAM, 80, {"TERM": "dumb"})
    assert " " * 79 not in dumb
    out = io.StringIO()
    written(a_run, Console(file=out, force_terminal=True, width=80, _environ={"TERM": "xterm"}))
    assert "\r" not in out.getvalue(), "no terminal, though its colours are wanted"


def test_a_pipe_that_is_full_for_a_moment_loses_nothing(tmp_path: Any) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    tracker = phasewatch.Tracker([ConsoleSink(Console(file=os.fdopen(writing, "w", encoding="utf-8")))], FakeClock())
    got: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reading, 1 << 16):
            got.append(chunk)

    reader = threading.Thread(target=read)
    for number in range(1500):
        if number == 300:  # by now the pipe is full
            reader.start()
        with tracker.phase("INITIALIZATION"):
            pass
    tracker.sinks[0]._console.file.close()  # type: ignore[attr-defined]  # so that the reader ends
    reader.join()
    os.close(reading)
    assert b"".join(got).count(b"INITIALIZATION") == 1500


def test_a_pipe_that_stays_full_is_given_up(phaselog: PhaseLog, tmp_path: Any, mocker: Any) -> None:
    with phase("A"):
        pass
    with open(tmp_path / "log", "w", encoding="utf-8") as file:
        mocker.patch("os.write", side_effect=BlockingIOError)
        mocker.patch("select.select", side_effect=[([], [], [])])
        with pytest.raises(BlockingIOError):
            ConsoleSink(Console(file=file)).emit(phaselog.events[0])


def test_a_pipe_that_is_full_is_waited_for(a_run: PhaseLog, tmp_path: Any, mocker: Any) -> None:
    write, full = os.write, [False]

    def write_every_other_time(descriptor: int, data: bytes) -> int:
        full[0] = not full[0]
        if full[0]:
            raise BlockingIOError
        return write(descriptor, data)

    with open(tmp_path / "log", "w", encoding="utf-8") as file:
        mocker.patch("os.write", side_effect=write_every_other_time)
        mocker.patch("select.select", side_effect=lambda reading, writing, errors, patience: ([], writing, []))
        written(a_run, Console(file=file))
        mocker.stopall()
    assert (tmp_path / "log").read_text(encoding="utf-8") == a_run.text


def test_a_forked_child_does_not_wait_for_a_thread_that_was_writing(tmp_path: Any) -> None:
    program = """
import os, signal, threading
from phasewatch import phase
def hammer():
    while True:
        with phase("H"): pass
for _ in range(3):
    threading.Thread(target=hammer, daemon=True).start()
with phase("PARENT"):
    for _ in range(40):
        child = os.fork()
        if not child:
            signal.alarm(20)  # a child that waits for ever dies of it
            with phase("CHILD"): pass
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""
    with open(tmp_path / "log", "wb") as log:
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
        subprocess.run(command, stdout=log, check=True, env={"PYTHONIOENCODING": "utf-8"})


# Modes


def test_off_writes_nothing_and_plain_writes_the_bytes_of_a_pipe_anywhere(a_run: PhaseLog) -> None:
    out = io.StringIO()
    written(a_run, Console(file=out, force_terminal=True), mode="off")
    assert out.getvalue() == ""
    written(a_run, Console(file=out, force_terminal=True, width=30), mode="plain")
    assert out.getvalue() == a_run.text


def test_an_unknown_mode_is_refused_with_those_that_exist() -> None:
    wrong: Any = "loud"
    with pytest.raises(ValueError, match="mode='loud' must be one of auto, plain, live, off"):
        ConsoleSink(mode=wrong)


# Hostile text


@given(st.text(alphabet=st.characters(), max_size=40), st.sampled_from(["plain", "auto"]))
def test_a_name_of_any_text_breaks_no_line_no_banner_and_no_terminal(name: str, mode: str) -> None:
    assume(name not in catalog._kinds)  # some of which complete without a word
    with recorded() as log:
        with phasewatch.run(name), phase(name, total=2, unit=name or "u", message=name, details={name: name}) as handle:
            handle.advance(**{name: 1.0})
            handle.log({name: 1.0})
        out = io.StringIO()
        written(log, Console(file=out, force_terminal=True, width=100, _environ={"TERM": "xterm"}), mode=mode)
    text = without_colour(out.getvalue())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert text.count("[META]") == 3, "the opening, the completion, the end of the run; none is forged"
    lines = text.splitlines()
    assert len(lines) == 24
    assert lines.count(RULE) == 3 + 3 + 2
    assert log.events[1].name == name, "the event keeps the original"


def test_many_different_names_do_not_fill_the_memory_and_are_counted_in_the_table(phaselog: PhaseLog) -> None:
    with phasewatch.run("r"):
        for n in range(600):
            with phase(f"P{n}"):
                pass
    tail = phaselog.text.splitlines()[-5:]
    assert tail[1:4] == ["... and 460 more paths", "... and 100 phases of further paths", tail[3]]


@pytest.mark.parametrize(("paths", "more"), [(40, []), (41, ["... and 1 more paths"])])
def test_a_table_says_how_many_paths_it_leaves_out_if_there_are_any(phaselog: PhaseLog, paths: int, more: list[str]) -> None:
    with phasewatch.run("r"):
        for n in range(paths):
            with phase(f"P{n}"):
                pass
    lines = phaselog.text.splitlines()
    assert len([line for line in lines if re.match(r"P\d+ +1 ", line)]) == 40
    assert [line for line in lines if line.startswith("...")] == more


def test_a_phase_that_is_still_open_when_the_run_ends_has_its_row(phaselog: PhaseLog) -> None:
    left = phase("LEFT OPEN")
    with phasewatch.run("r"), phase("A"):
        phaselog.clock.advance(2)
        left.__enter__()
    rows = [line.split() for line in phaselog.text.splitlines()[-4:-1]]
    left.__exit__(None, None, None)
    assert rows == [
        ["A", "1", "2.0s", "100.0%", "2.0s"],
        ["Left", "Open", "0", "0s", "0.0%", "--"],
        ["The", "whole", "run", "1", "2.0s", "100.0%"],
    ]


def test_runs_that_are_over_are_forgotten(phaselog: PhaseLog) -> None:
    sink = ConsoleSink(Console(file=io.StringIO()))
    with phasewatch.run("first"), phase("A"):
        pass
    with phasewatch.run("second"), phase("B"):
        pass
    for event in phaselog.events:
        sink.emit(event)
    assert not sink._totals
