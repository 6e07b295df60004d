"""Watching a log: while it grows, from the middle, of runs that were killed, and without a terminal."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from programs import ended, info, started

from phasewatch import Event, PhaseInfo, PhaseProgressed, Place, _lives, cli
from phasewatch._records import line_of
from phasewatch._watch import look, watch
from phasewatch.reader import read

RUN = PhaseInfo("grpo", id="r", role="run")
TRAINING = info("t", "TRAINING", "r", total=4, unit="step")


def progress(phase: PhaseInfo, at: float, done: int) -> Event:
    return PhaseProgressed(phase, at, done=done, total=phase.total, elapsed=30.0, eta=60.0)


def written(path: Path, events: Sequence[Event]) -> str:
    with path.open("ab") as log:
        log.writelines(map(line_of, events))
    return str(path)


def growing(path: Path, *parts: Sequence[Event]) -> Callable[[float], None]:
    """Write a part of the log each time that somebody waits for more of it."""
    left = iter(parts)

    def wait(seconds: float) -> None:
        written(path, next(left))

    return wait


@pytest.fixture
def beginning() -> list[Event]:
    now = time.time()
    return [started(RUN, now - 40), started(TRAINING, now - 30), progress(TRAINING, now, 1)]


def test_without_a_terminal_the_lines_of_the_meta_log_come_as_they_are_written(tmp_path: Path, beginning: Any) -> None:
    path, out = tmp_path / "log", io.StringIO()
    seen = []
    step = growing(path, [progress(TRAINING, 2.0, 3)], [ended(TRAINING, 3.0, 3.0), ended(RUN, 4.0, 4.0)])

    def wait(seconds: float) -> None:
        seen.append(out.getvalue())
        step(seconds)

    summary = watch(written(path, beginning), out, wait=wait)
    assert summary.status == "completed"
    assert "TRAINING START" in seen[0]
    assert "📊 Training [1/4] (25.0%)" in seen[0]
    assert "[3/4]" not in seen[0]
    assert "[3/4]" in seen[1]
    assert "ALL PHASES COMPLETE" in out.getvalue()
    assert "Where the time went" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_run_that_failed_is_told_by_the_exit_code(tmp_path: Path, capsys: Any) -> None:
    log = written(tmp_path / "log", [started(RUN, 0.0), ended(RUN, 1.0, 1.0, status="failed")])
    assert cli.main(["watch", log]) == 1
    assert "RUN FAILED" in capsys.readouterr().out
    assert cli.main(["watch", "--once", log]) == 1
    assert "grpo: failed" in capsys.readouterr().out
    log = written(tmp_path / "good", [started(RUN, 0.0), ended(RUN, 1.0, 1.0)])
    assert cli.main(["watch", log]) == 0
    assert cli.main(["watch", "--once", log]) == 0


def test_what_cannot_be_watched_is_said(tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["watch", str(tmp_path / "none")]) == 2
    (tmp_path / "empty").touch()
    assert cli.main(["watch", "--once", str(tmp_path / "empty")]) == 2
    assert [line.split(": ")[-1] for line in capsys.readouterr().err.splitlines()] == [
        "No such file or directory",
        "no phases in it; is it a log of a run with phasewatch, or its META LOG?",
    ]


def test_a_single_look_shows_what_is_open(tmp_path: Path, beginning: Any) -> None:
    out = io.StringIO()
    assert look(written(tmp_path / "log", beginning), out).status != "completed"
    run, training = out.getvalue().splitlines()
    assert run.split()[0] == "grpo"
    assert training.split()[:4] == ["Training", "━" * 5 + "─" * 15, "1/4", "25.0%"]


def test_a_run_that_was_killed_is_shown_as_silent(tmp_path: Path) -> None:
    then = time.time() - 7200
    out = io.StringIO()
    look(
        written(tmp_path / "log", [started(RUN, then - 30), started(TRAINING, then - 30), progress(TRAINING, then, 1)]), out
    )
    run, training = out.getvalue().splitlines()
    assert run.endswith("said nothing for 2.00h")
    assert " 30s  ETA 1.0m" in training, "its times stand still"


def test_of_a_text_log_the_file_tells_how_long_it_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "training.log"
    rule = "=" * 80
    path.write_text(f"{rule}\n🚀 [META] PHASE: TRAINING START\n{rule}\nTotal steps: 4\n{rule}\n\n", encoding="utf-8")
    os.utime(path, (time.time() - 7200,) * 2)
    out = io.StringIO()
    look(str(path), out)
    assert "said nothing for 2.00h" in out.getvalue()
    os.utime(path)
    out = io.StringIO()
    look(str(path), out)
    assert "Training" in out.getvalue()
    assert "nothing" not in out.getvalue()


def test_the_figures_of_what_is_watched_are_to_be_had_as_json(
    tmp_path: Path, beginning: Any, capsys: Any, mocker: Any
) -> None:
    path = tmp_path / "log"
    log = written(path, beginning)
    assert cli.main(["watch", "--once", "--json", log]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "lost"
    grow = growing(path, [ended(TRAINING, 3.0, 3.0), ended(RUN, 4.0, 4.0)])
    mocker.patch.dict(read.__kwdefaults__, wait=grow)
    assert cli.main(["watch", "--json", log]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "completed"


def test_ranks_are_shown_beside_each_other(tmp_path: Path) -> None:
    now = time.time()
    for rank in range(3):
        run, training = info(f"r{rank}", "grpo", None, rank=rank, role="run"), info(f"t{rank}", "A", f"r{rank}", rank=rank)
        written(tmp_path / f"{rank}.jsonl", [started(run, now), started(training, now)])
    out = io.StringIO()
    look(str(tmp_path), out)
    assert [line.split("  ")[0] for line in out.getvalue().splitlines() if "grpo" in line] == [
        "grpo (rank 0)", "grpo (rank 1)", "grpo (rank 2)",
    ]  # fmt: skip


# In a terminal


def test_a_terminal_shows_the_last_of_what_was_and_then_what_comes(tmp_path: Path, beginning: Any) -> None:
    pytest.importorskip("pyte")
    from terminals import Terminal

    path = tmp_path / "log"
    now = time.time()
    phases = [info(f"p{n}", f"WORK {n}", "r", run="r") for n in range(100)]
    many = [event for one in phases for event in (started(one, now), ended(one, now, 0.0))]
    later = info("l", "LATER", "r")
    terminal = Terminal(columns=100, lines=24)
    screens = []
    step = growing(path, [started(later, now)], [ended(later, now, 1.0)], [ended(TRAINING, now, 1.0), ended(RUN, now, 40.0)])

    def wait(seconds: float) -> None:
        limit = time.monotonic() + 60
        while b"25.0%  " not in terminal.raw:  # the first frame
            terminal.show()
            assert time.monotonic() < limit, "there is no frame"
        screens.append(terminal.show())
        step(seconds)

    try:
        assert watch(written(path, [*beginning, *many]), terminal.file, wait=wait).status == "completed"
        assert [line.split()[0] for line in screens[0][-2:]] == ["grpo", "Training"]
        shown = terminal.all()
        assert not any("WORK 90" in line for line in shown), "not all of what was there before"
        assert any("PHASE COMPLETE: WORK 99" in line for line in shown)
        assert any("PHASE COMPLETE: LATER" in line for line in shown)
        assert any(line.startswith("Work 3 ") for line in shown), "the table has all"
        assert not any("━" in line for line in shown)
    finally:
        terminal.close()


def test_ctrl_c_ends_it_and_leaves_the_terminal_as_it_was(tmp_path: Path, beginning: Any) -> None:
    pytest.importorskip("pyte")
    from terminals import Program

    code = "import sys; from phasewatch import cli; sys.exit(cli.main())"
    program = Program(code, "watch", written(tmp_path / "log", beginning))
    try:
        program.until("25.0%  ")
        program.type("\x03")
        assert program.end() == 130
        assert program.is_sane()
        assert not any("Traceback" in line for line in program.all())
    finally:
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGKILL)
            program.process.wait()
        program.close()


def test_standard_input_is_watched_as_it_comes(beginning: Any, capsys: Any, monkeypatch: Any) -> None:
    lines = b"".join(map(line_of, [*beginning, ended(TRAINING, 3.0, 3.0), ended(RUN, 4.0, 4.0)]))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert cli.main(["watch", "-"]) == 0
    assert "TRAINING START" in capsys.readouterr().out


# Runs whose process is gone.


def waits(limit: int = 10_000) -> Callable[[float], None]:
    """Pretend to wait, not for ever."""
    left = iter(range(limit))

    def wait(seconds: float) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return wait


def of_process(number: int | None, host: str = os.uname().nodename, birth: str | None = _lives.birth()) -> list[Event]:
    place = Place(host=host, process=number, birth=birth)
    run = PhaseInfo("grpo", id="r", role="run", place=place)
    return [started(run, 1.0), started(PhaseInfo("TRAINING", id="t", parent="r", path=("TRAINING",), place=place), 2.0)]


def test_a_run_whose_process_is_gone_is_waited_for_no_longer(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    out = io.StringIO()
    summary = watch(written(tmp_path / "log", of_process(child.pid)), out, wait=waits())
    assert summary.status == "lost"
    assert [phase.path for phase in summary.unfinished] == [("TRAINING",)]
    assert "grpo: never ended" in out.getvalue()


def test_the_figures_of_a_run_that_is_lost_fit_into_the_window(tmp_path: Path) -> None:
    pytest.importorskip("pyte")
    from terminals import Terminal

    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    terminal = Terminal(columns=70, lines=50)
    try:
        watch(written(tmp_path / "log", of_process(child.pid)), terminal.file, wait=waits())
        shown = terminal.all()
        heading = next(line for line in shown if line.startswith("Phase") and "Share" in line)
        assert heading.split() == ["Phase", "Count", "Total", "Share", "Mean"]
        assert not any("…" in line for line in shown)
    finally:
        terminal.close()


def test_what_is_alive_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        watch(written(tmp_path / "log", of_process(os.getpid())), io.StringIO(), wait=waits(1000))


def test_a_run_of_several_processes_goes_on_while_one_is_there(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    place = Place(host=os.uname().nodename, process=os.getpid(), birth=_lives.birth())
    alive = PhaseInfo("SHARD", id="other.1", parent="t", run="r", path=("TRAINING", "SHARD"), place=place)
    log = written(tmp_path / "log", [*of_process(child.pid), started(alive, 3.0)])
    with pytest.raises(KeyboardInterrupt):
        watch(log, io.StringIO(), wait=waits(1000))
    out = io.StringIO()
    look(log, out)
    run, _, shard = out.getvalue().splitlines()
    assert "its process is gone" in run
    assert "gone" not in shard
    written(tmp_path / "log", [ended(alive, 4.0, 1.0)])
    assert watch(log, io.StringIO(), wait=waits()).status == "lost"


def test_a_process_that_its_parent_outlives_is_said_to_be_gone(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    place = Place(host=os.uname().nodename, process=child.pid, birth=_lives.birth())
    dead = PhaseInfo("SHARD", id="other.1", parent="t", run="r", path=("TRAINING", "SHARD"), place=place)
    out = io.StringIO()
    look(written(tmp_path / "log", [*of_process(os.getpid()), started(dead, 3.0)]), out)
    assert ["its process is gone" in line for line in out.getvalue().splitlines()] == [False, False, True]
