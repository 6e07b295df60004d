"""The command, as a shell calls it: what it prints, what it returns, and what it does with what it cannot use."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from flows import golden_file
from programs import ended, info, span, started

import phasewatch
from phasewatch import Event, MetricsLogged, PhaseInfo, cli
from phasewatch._records import line_of

COMMANDS: list[list[str]] = [["summary"], ["diff", "{log}"], ["export", "--to", "csv"]]


def log_of(path: Path, events: Sequence[Event]) -> str:
    path.write_bytes(b"".join(map(line_of, events)))
    return str(path)


def steps(seconds: Sequence[float], name: str = "STEP", status: str = "completed") -> list[Event]:
    run = PhaseInfo("job", id="r", role="run")
    events: list[Event] = [started(run, 0.0)]
    now = 0.0
    for number, one in enumerate(seconds, 1):
        phase = info(f"a.{number}", name, "r", step=number)
        begin, end = span(phase, now, one)
        events += [begin, MetricsLogged(phase, now, values={"loss": 1 / number}), end]
        now += one
    return [*events, ended(run, now, now, status=status)]


@pytest.fixture
def log(tmp_path: Path) -> str:
    return log_of(tmp_path / "run.jsonl", steps([1.0, 2.0, 3.0]))


def call(arguments: Sequence[str], stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    known = {key: value for key, value in os.environ.items() if not key.startswith(("PHASEWATCH_", "FORCE_", "NO_COLOR"))}
    return subprocess.run(
        [sys.executable, "-m", "phasewatch", *arguments], input=stdin, capture_output=True, env={**known, **environment}
    )


# summary


def test_a_summary_shows_where_the_time_went(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["summary", log]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "job: completed, 6.0s"
    assert lines[3].split() == ["Phase", "Count", "Total", "Own", "Share", "Mean", "p50", "p95", "Max"]
    assert lines[5].split() == ["STEP", "3", "6.0s", "6.0s", "100.0%", "█" * 12, "2.0s", "2.0s", "3.0s", "3.0s"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is not known of a process that is there")
def test_a_summary_tells_a_run_that_goes_on_from_one_that_was_killed(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    program = (
        "import os, signal, sys, phasewatch\n"
        "with phasewatch.run('job', log=sys.argv[1], sinks=[]), phasewatch.phase('A'):\n"
        "    print(flush=True); sys.stdin.read(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        running = call(["summary", path]), call(["summary", "--json", path]), call(["watch", "--once", path])
        process.communicate(b"")
    killed = call(["summary", path]), call(["summary", "--json", path]), call(["watch", "--once", path])
    assert [done.returncode for done in (*running, *killed)] == [1] * 6
    assert re.match(r"job: still running, \S+, in A\n", running[0].stdout.decode())
    assert re.match(r"job: never ended \(killed\), \S+, last seen in A\n", killed[0].stdout.decode())
    told = [json.loads(done.stdout) for done in (running[1], killed[1])]
    assert [(one["status"], one["killed"]) for one in told] == [("running", False), ("lost", True)]
    assert ["gone" in done.stdout.decode() for done in (running[2], killed[2])] == [False, True]


def test_of_a_run_that_nobody_can_ask_for_both_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["summary", log_of(tmp_path / "log", steps([1.0])[:-1])]) == 1
    assert capsys.readouterr().out.startswith("job: never ended (killed, or still running), 1.0s\n")


@pytest.mark.parametrize("flow", ["whole_run", "failing_run", "interrupted_run", "validation_only"])
def test_a_text_log_has_a_summary_too(flow: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["summary", str(golden_file(flow))])
    printed = capsys.readouterr().out
    assert code == (flow in ("failing_run", "interrupted_run"))
    assert printed.startswith("run: ")
    assert "VALIDATION" in printed
    if flow == "failing_run":
        assert "failed, 8.9m, in TRAINING > PERIODIC VALIDATION > VALIDATION" in printed
        assert "RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB, after 8.2m, batch 13/28" in printed


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("interrupted", 1), (None, 1)])
def test_the_exit_code_tells_whether_the_run_completed(tmp_path: Path, status: str | None, code: int) -> None:
    events = steps([1.0], status=status or "completed")
    path = log_of(tmp_path / "log", events if status else events[:-1])
    assert cli.main(["summary", path, "--json"]) == code


def test_a_killed_run_says_where_it_was_last_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = log_of(tmp_path / "log", steps([1.0, 2.0])[:-2])
    assert cli.main(["summary", path]) == 1
    printed = capsys.readouterr().out
    assert "job: never ended (killed, or still running), 1.0s, last seen in STEP" in printed
    assert "What never ended\n  STEP (step 2): after 0s" in printed


def test_ranks_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in range(3):
        log_of(tmp_path / f"rank{rank}.jsonl", span(info(f"{rank}.1", "STEP", rank=rank), 0.0, 10.0 + 10 * rank))
    assert cli.main(["summary", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["STEP", "3", "10s", "20s", "30s", "2", "10s"]


def test_many_kinds_of_phase_are_cut_unless_all_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [event for number in range(99) for event in span(info(f"a.{number}", f"SHARD {number}"), 1.0, 1.0)]
    path = log_of(tmp_path / "log", events)
    cli.main(["summary", path])
    assert "... and 59 more kinds of phase (--all shows them)" in capsys.readouterr().out
    cli.main(["summary", path, "--all"])
    assert "SHARD 98" in capsys.readouterr().out


# diff


def test_a_diff_shows_what_became_slower(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = log_of(tmp_path / "a", steps([1.0, 1.1, 0.9] * 5))
    b = log_of(tmp_path / "b", steps([1.5, 1.6, 1.4] * 5))
    assert cli.main(["diff", a, b]) == 0
    printed = capsys.readouterr().out
    assert "The whole run: 15s to 22s (+50.0%)" in printed
    (row,) = [line for line in printed.splitlines() if line.startswith("STEP")]
    assert row.split() == ["STEP", "1.0s", "1.5s", "phase", "15,", "15", "+50.0%", "slower"]
    assert re.search(r"loss +15 +0.0666667 +0.0666667\n", printed)
    assert cli.main(["diff", a, b, "--fail-above", "10%"]) == 1
    assert capsys.readouterr().err == "phasewatch: slower than allowed: STEP (+50.0%)\n"
    assert cli.main(["diff", a, b, "--fail-above", "60"]) == 0
    assert cli.main(["diff", b, a, "--fail-above", "10%", "--json"]) == 0
    capsys.readouterr()
    assert cli.main(["diff", a, b, "--fail-above", "10%", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["failed"] == [["STEP"]]


@pytest.mark.parametrize("share", ["ten", "-1%", "nan", "inf", ""])
def test_a_percentage_is_a_number(share: str, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["diff", log, log, f"--fail-above={share}"])
    assert ended.value.code == 2
    assert "is no percentage; give one such as 10%" in capsys.readouterr().err


def test_only_one_log_can_be_standard_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diff", "-", "-"]) == 2
    assert capsys.readouterr().err == "phasewatch: only one of the two can be standard input\n"


# export


@pytest.mark.parametrize("to", ["chrome", "otlp-json", "csv"])
def test_an_export_goes_to_a_file_or_to_standard_output(to: str, log: str, tmp_path: Path) -> None:
    done = call(["export", log, "--to", to], PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert cli.main(["export", log, "--to", to, "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_bytes() == done.stdout
    text = done.stdout.decode()
    assert len(list(csv.DictReader(io.StringIO(text)))) == 4 if to == "csv" else json.loads(text)


def test_an_export_is_utf8_whatever_the_terminal_takes(tmp_path: Path) -> None:
    path = log_of(tmp_path / "log", steps([1.0], name="ÉTAPE"))
    done = call(["export", path, "--to", "csv"], PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "ÉTAPE" in done.stdout.decode("utf-8")


def test_an_export_does_not_overwrite_the_log(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(log).read_bytes()
    assert cli.main(["export", log, "--to", "csv", "-o", log]) == 2
    assert "is the log itself" in capsys.readouterr().err
    assert Path(log).read_bytes() == before


# All of them.


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_what_cannot_be_used_is_told_in_one_line(command: list[str], log: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "foreign\x1b[31m").write_text("nothing\nof ours\n", encoding="utf-8")
    command = [part.format(log=log) for part in command]
    no_phases = "no phases in it"
    for name, told in (
        ("missing", "No such file or directory"),
        ("empty", no_phases),
        ("foreign\x1b[31m", no_phases),
    ):
        done = call([*command, str(tmp_path / name)])
        assert (done.returncode, done.stdout) == (2, b"")
        message = done.stderr.decode()
        assert message.startswith("phasewatch: ")
        assert told in message
        assert message.count("\n") == 1
        assert "\x1b" not in message


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_log_can_come_from_standard_input(command: list[str], log: str) -> None:
    command = [part.format(log=log) for part in command]
    done = call([*command, "-"], stdin=Path(log).read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == call([*command, log]).stdout


@pytest.mark.parametrize("arguments", [["summary"], ["diff", "{log}", "{log}"]])
def test_figures_come_as_json(arguments: list[str], log: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [part.format(log=log) for part in arguments] + ([log] if len(arguments) == 1 else [])
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == 1


def test_hostile_names_do_no_harm(tmp_path: Path) -> None:
    name = "\x1b[31m\x07\u202e[META]\n[bold]:tada:"
    phase = info("a.1", name, unit=name, total=3)
    run = PhaseInfo(name, id="r", role="run")
    events = [
        started(run, 0.0), started(phase, 0.0), MetricsLogged(phase, 0.0, values={name: 1.0}),
        ended(phase, 5.0, 5.0, status="failed", error=(name, name), innermost=True, done=2),
        ended(run, 5.0, 5.0, status="failed", error=(name, name), origin=(name,)),
    ]  # fmt: skip
    path = log_of(tmp_path / "log", events)
    other = log_of(tmp_path / "other", steps([1.0], name=name * 2))
    for arguments in (["summary", path], ["summary", path, "--json"], ["diff", path, path], ["diff", path, other]):
        printed = call(arguments).stdout.decode()
        assert "\x1b" not in printed
        assert "\u202e" not in printed
        assert "[META]" not in printed or "--json" in arguments
        assert "[bold]:tada:" in printed
        assert all(line.isprintable() for line in printed.splitlines())


def test_a_reader_that_has_gone_is_no_error(log: str) -> None:
    read, write = os.pipe()
    os.close(read)
    for arguments in (["summary", log], ["export", log, "--to", "chrome"]):
        done = subprocess.run([sys.executable, "-m", "phasewatch", *arguments], stdout=write, stderr=subprocess.PIPE)
        assert (done.returncode, done.stderr) == (141, b"")
    os.close(write)


def test_an_output_that_knows_no_blocks_shows_bars_all_the_same(log: str) -> None:
    done = call(["summary", log], PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert b" ############ " in done.stdout


def in_terminal(arguments: Sequence[str], **environment: str) -> str:
    """Return what the command writes to a terminal."""
    parent, child = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "phasewatch", *arguments], stdout=child, check=True,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", **environment},
    )  # fmt: skip
    os.close(child)
    printed = b""
    try:
        while block := os.read(parent, 65536):
            printed += block
    except OSError:  # the other end is closed
        pass
    os.close(parent)
    return printed.decode()


@pytest.mark.parametrize("to", ["csv", "chrome", "otlp-json"])
def test_what_is_exported_to_a_terminal_cannot_act_in_it(to: str, tmp_path: Path) -> None:
    events = steps([1.0], name="\x1b]0;a\x07\r\n\u202eb\u200b")
    path = log_of(
        tmp_path / "log", [*events[:-1], ended(events[0].phase, 1.0, 1.0, status="failed", error=("E", "\x1b[31m"))]
    )
    printed = in_terminal(["export", path, "--to", to])
    assert re.findall("[^\n -~]", printed.replace("\r\n", "\n")) == []
    piped = call(["export", path, "--to", to]).stdout.decode()
    assert ("\x1b" in piped) == (to == "csv"), "a file has it as it is"
    assert len(printed.splitlines()) >= len(piped.splitlines()) - 2


@pytest.mark.parametrize("width", [40, 80, 120])
def test_in_a_terminal_no_line_is_wider_than_it(width: int, tmp_path: Path) -> None:
    path = log_of(tmp_path / "log", steps([1.0, 2.0], name="A NAME THAT IS SOMEWHAT LONG"))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", in_terminal(["summary", path], COLUMNS=str(width))).splitlines()
    assert "Where the time went" in lines[2]
    assert ("p95" in lines[3]) == (width > 90)
    assert "Total" in lines[3]
    assert all(len(line.rstrip()) <= width for line in lines)


@pytest.mark.parametrize("width", [42, 50, 60, 72, 80, 120])
def test_in_a_narrow_terminal_a_diff_leaves_figures_out_rather_than_cutting_them(width: int, tmp_path: Path) -> None:
    metrics = {"actor/loss": -0.0150042, "timing_s/update_actor": 0.525218}
    logs = []
    for number, seconds in enumerate([2.0, 0.777]):
        phases = steps([seconds] * 9, name="TRAINING STEP")
        logged = MetricsLogged(
            PhaseInfo("TRAINING STEP", id="m", parent="r", path=("TRAINING STEP",), step=1), 1.0, values=metrics
        )
        logs.append(log_of(tmp_path / str(number), [*phases[:-1], logged, phases[-1]]))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", in_terminal(["diff", *logs], COLUMNS=str(width)))
    times, figures = (part.splitlines() for part in shown.split("\r\n\r\n")[1:3])
    step = next(line for line in times if line.startswith("TRAINING STEP"))
    assert step.split()[-2:] == ["-61.1%", "faster"]
    assert ("777ms" in step) == (width >= 58)
    assert ("Phases" in times[1], "of one" in times[1]) == (width >= 72, width >= 80)
    loss = next(line for line in figures if line.startswith("actor/loss"))
    assert loss.split()[-2:] == ["-0.0150042"] * 2
    assert all(len(line.rstrip()) <= width for line in shown.splitlines())


def test_the_version_and_the_help_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (
        (["--version"], "phasewatch 0."),
        (["--help"], "summary"),
        (["diff", "--help"], "at an error rate of 1%"),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 0
        assert told in capsys.readouterr().out.replace("\n  ", " ").replace("\n", " ")
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 2


def test_ctrl_c_ends_quietly(log: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_summary_of", interrupted)
    assert cli.main(["summary", log]) == 130
    assert capsys.readouterr() == ("", "")


def test_the_command_is_installed_under_its_name() -> None:
    from importlib.metadata import entry_points

    found = [entry for entry in entry_points(group="console_scripts") if entry.name == "phasewatch"]
    if not found:  # installed before there was a command
        pytest.skip("phasewatch is not installed anew")
    assert found[0].load() is cli.main
    assert phasewatch.summarize.__module__ == "phasewatch.summary"


# plan


SCRIPT = 'python3 -m verl.trainer.main_ppo trainer.total_training_steps=${STEPS:-35} trainer.test_freq=50 "$@"\n'


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "train_grpo.sh").write_text(SCRIPT)
    return str(tmp_path / "train_grpo.sh")


def test_a_plan_with_warnings_has_an_exit_code_that_scripts_can_use(script: str) -> None:
    done = call(["plan", script])
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"TRAINING STEP               x35  1-35\n" in done.stdout
    assert b"test_freq=50 is never reached in 35 steps" in done.stdout
    done = call(["plan", script, "trainer.test_freq=5"])
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"PERIODIC VALIDATION           6\n" in done.stdout
    assert b"Warnings" not in done.stdout


def test_a_plan_can_be_made_of_overrides_and_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "trainer.total_epochs=3", "data.train_batch_size=256", "--train-samples", "3100", "--drop-last"]
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["TRAINING STEP"] == 36
    assert cli.main([*arguments, "--start-step=36", "--json"]) == 1
    assert [warning["code"] for warning in json.loads(capsys.readouterr().out)["warnings"]] == ["nothing-to-do"]
    assert cli.main(["plan", "test_freq=50", "--total-steps=35", "--at-last-step", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {
        "PRE-TRAINING VALIDATION": 1, "TRAINING STEP": 35, "POST-TRAINING VALIDATION": 1,
    }  # fmt: skip


def test_an_earlier_run_tells_how_long_a_plan_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = log_of(tmp_path / "log", steps([10.0] * 5, name="TRAINING STEP"))
    arguments = ["plan", "total_steps=360", "val_before_train=no"]
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    assert cli.main([*arguments, "val_after_train=no", "--history", log, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["expected"], data["done_at"]) == (3600.0, 1_003_600.0)
    cli.main([*arguments, "--history", log])
    printed = capsys.readouterr().out
    assert "It takes 1.00h; without POST-TRAINING VALIDATION, of which nothing is known; begun now, it is done" in printed
    assert cli.main(["plan", "total_steps=3", "--history", str(tmp_path / "nowhere")]) == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere.sh"], "nowhere.sh: No such file or directory"),
        (["trainer.test_freq=5"], "TrainingPlan: give total_steps, or both epochs and steps_per_epoch"),
        (["total_steps=many"], "total_steps='many' must be a whole number"),
        (["total_steps=3", "--start-step=-1"], "TrainingPlan: start_step=-1 must be at least 0"),
        (["config.txt"], "config.txt: a configuration is a .sh, .yaml or .json file"),
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_made_is_told_in_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"phasewatch: {complaint}")
    assert captured.err.count("\n") == 1
