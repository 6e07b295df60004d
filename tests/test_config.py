"""`configure`, the environment, and the console that comes by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import phasewatch
from phasewatch import _environment, _process, phase
from phasewatch._config import default_tracker
from phasewatch.testing import FakeClock, MemorySink, PhaseLog

PROGRAM = """
from phasewatch import phase
with phase("A", total=1) as a:
    print("work", len(list(a.track([1]))))
"""


def output(env: dict[str, str], program: str = PROGRAM) -> str:
    environment = {"PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "error", **env}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, check=True)
    assert done.stderr.decode() == env.get("STDERR", "")
    return done.stdout.decode()


def test_configured_sinks_and_clock_hold_until_they_are_changed(phaselog: PhaseLog) -> None:
    first, second, clock = MemorySink(), MemorySink(), FakeClock()
    phasewatch.configure(sinks=[first], clock=clock)
    with phase("A") as handle:
        clock.advance(2)
        assert handle.elapsed == 2
    phasewatch.configure(sinks=[second])
    with phase("B") as handle:
        clock.advance(3)
        assert handle.elapsed == 3
    phasewatch.configure(sinks=[])
    with phase("C"):
        pass
    assert ({e.name for e in first.events}, {e.name for e in second.events}, phaselog.events) == ({"A"}, {"B"}, [])


def test_what_cannot_be_a_sink_or_a_clock_is_refused_with_what_to_do(phaselog: PhaseLog) -> None:
    wrong: Any = object()
    with pytest.raises(TypeError, match=r"is no sink; a sink has the methods emit\(event\) and close\(\)"):
        phasewatch.configure(sinks=[wrong])
    with pytest.raises(TypeError, match="must be callable and return seconds"):
        phasewatch.configure(clock=wrong)
    with phase("A"):
        pass
    assert phaselog.events


@pytest.mark.parametrize("missing", ["emit", "close"])
def test_what_has_only_one_method_of_a_sink_is_refused(phaselog: PhaseLog, missing: str) -> None:
    half: Any = MemorySink()
    setattr(half, missing, None)
    with pytest.raises(TypeError, match="is no sink"):
        phasewatch.configure(sinks=[half])


def test_each_clock_that_fails_is_reported(phaselog: PhaseLog, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("first", "second"):

        def clock(name: str = name) -> float:
            raise OSError(name)

        phasewatch.configure(clock=clock)
        with phase("A"):
            pass
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [str(error) for error in errors] == ["first", "second"]


def test_with_nothing_configured_the_console_on_standard_output_speaks() -> None:
    text = output({})
    assert "🔹 [META] PHASE: A\n" in text
    assert "✅ [META] PHASE COMPLETE: A\n" in text
    assert "work 1\n" in text


@pytest.mark.parametrize(
    ("env", "speaks"),
    [
        ({"PHASEWATCH_CONSOLE": "off"}, False),
        ({"PHASEWATCH_CONSOLE": " OFF "}, False),
        ({"PHASEWATCH_CONSOLE": "plain"}, True),
        ({"PHASEWATCH_CONSOLE": "auto"}, True),
        ({"PHASEWATCH_CONSOLE": ""}, True),
        ({"PHASEWATCH_DISABLE": "1"}, False),
        ({"PHASEWATCH_DISABLE": "true"}, False),
        ({"PHASEWATCH_DISABLE": "yes"}, False),
        ({"PHASEWATCH_DISABLE": "0"}, True),
        ({"PHASEWATCH_DISABLE": "False"}, True),
        ({"PHASEWATCH_DISABLE": "no"}, True),
        ({"PHASEWATCH_DISABLE": ""}, True),
    ],
    ids=str,
)
def test_the_environment_is_read_as_a_person_means_it(env: dict[str, str], speaks: bool) -> None:
    text = output(env)
    assert ("[META]" in text) is speaks
    assert "work 1\n" in text


def test_the_first_phase_is_not_charged_with_making_the_console() -> None:
    program = """
import phasewatch
from phasewatch import _config, phase
from phasewatch.testing import FakeClock
clock = FakeClock()
phasewatch.configure(clock=clock)
make = _config._console
def slowly():
    clock.advance(9)
    return make()
_config._console = slowly
with phase("A") as a:
    pass
print(clock(), a.elapsed)
"""
    told = output({}, program)
    assert told.splitlines()[-1] == "9.0 0.0"
    assert "PHASE COMPLETE: A" in told


def test_the_environment_may_name_an_event_log_beside_the_console(tmp_path: Path) -> None:
    log = tmp_path / "runs" / "log.jsonl"
    program = PROGRAM + 'import phasewatch\nwith phasewatch.run("r"), phase("B"): pass\nwith phase("C"): pass\n'
    text = output({"PHASEWATCH_LOG": f" {log} "}, program)
    assert "PHASE: A\n" in text
    assert "ALL PHASES COMPLETE" in text
    ends = [record["name"] for record in map(json.loads, log.read_text().splitlines()) if record["event"] == "end"]
    assert ends == ["A", "B", "r", "C"]


def test_an_event_log_needs_no_console(tmp_path: Path) -> None:
    assert output({"PHASEWATCH_LOG": str(tmp_path / "log"), "PHASEWATCH_CONSOLE": "off"}) == "work 1\n"
    assert json.loads((tmp_path / "log").read_text().splitlines()[0])["name"] == "A"


@pytest.mark.parametrize("env", [{"PHASEWATCH_LOG": " "}, {"PHASEWATCH_LOG": "log", "PHASEWATCH_DISABLE": "1"}], ids=str)
def test_there_is_no_event_log_where_none_is_named_or_phasewatch_is_off(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output(env)
    assert list(tmp_path.iterdir()) == []


def test_configured_sinks_take_the_place_of_those_of_the_environment(tmp_path: Path) -> None:
    program = "import phasewatch\nphasewatch.configure(sinks=[])\n" + PROGRAM
    assert output({"PHASEWATCH_LOG": str(tmp_path / "log")}, program) == "work 1\n"
    assert list(tmp_path.iterdir()) == []


def test_an_event_log_goes_on_without_a_console_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('not that rich')")
    env = {"PHASEWATCH_LOG": str(tmp_path / "log")}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=env, capture_output=True, check=True)
    assert done.stderr.count(b"Traceback") == 1
    assert [json.loads(line)["name"] for line in (tmp_path / "log").read_text().splitlines()] == ["A"] * 3


def test_an_unknown_console_mode_warns_and_the_console_speaks(phaselog: PhaseLog, monkeypatch: Any) -> None:
    from phasewatch import _config

    monkeypatch.setenv("PHASEWATCH_CONSOLE", "loud")
    with pytest.warns(phasewatch.PhasewatchWarning, match="='loud' is taken as auto; it may be auto, plain, live, off"):
        (sink,) = _config._console()
    assert isinstance(sink, phasewatch.sinks.ConsoleSink)


def test_a_console_that_cannot_be_made_is_reported_once(tmp_path: Any) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('not that rich')")
    program = (
        PROGRAM
        + """
import phasewatch
with phasewatch.run("r") as run, phase("B"):
    pass
assert run.status == "completed"
"""
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    assert done.stdout == "work 1\n"
    assert done.stderr.count("Traceback") == 1
    assert "the console could not be made; phases are told to nobody until sinks are configured" in done.stderr


def test_enabled_is_true_or_false(phaselog: PhaseLog) -> None:
    wrong: Any = "no"
    with pytest.raises(TypeError, match="enabled='no' must be True or False"):
        phasewatch.configure(enabled=wrong)


# The ranks of a job.

SPEAKING = "import phasewatch\nwith phasewatch.run(), phasewatch.phase('A'): pass"


@pytest.mark.parametrize(
    ("environment", "speaks"),
    [
        ({}, True), ({"RANK": "0"}, True), ({"RANK": "1"}, False), ({"SLURM_PROCID": "3"}, False),
        ({"RANK": "1", "PHASEWATCH_CONSOLE": "plain"}, True), ({"RANK": "0", "PHASEWATCH_CONSOLE": "off"}, False),
        ({"RANK": "one"}, True), ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False), ({"LOCAL_RANK": "0"}, True),
        ({"OMPI_COMM_WORLD_RANK": "1"}, False), ({"PMI_RANK": "1"}, False), ({"PMIX_RANK": "1"}, False),
        ({"MV2_COMM_WORLD_RANK": "1"}, False), ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, True),
    ],
    ids=str,
)  # fmt: skip
def test_of_the_ranks_of_a_job_the_first_one_speaks_or_whoever_is_asked(environment: dict[str, str], speaks: bool) -> None:
    assert ("[META] PHASE: A" in said(SPEAKING, **environment)) == speaks


def said(code: str, **environment: str) -> str:
    known = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "PHASEWATCH_CONSOLE")
    around = {key: value for key, value in os.environ.items() if key not in known} | {"PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, "-c", code], env=around | environment, capture_output=True, check=True, encoding="utf-8"
    ).stdout


LATER = """
import phasewatch
with phasewatch.phase("BEFORE"): pass
phasewatch.configure(rank={rank})
with phasewatch.phase("AFTER"): pass
"""


@pytest.mark.parametrize(
    ("rank", "environment", "speaks"),
    [(1, {}, False), (0, {}, True), (1, {"PHASEWATCH_CONSOLE": "plain"}, True), (1, {"RANK": "1"}, False)],
    ids=str,
)
def test_a_process_that_learns_its_rank_is_silent_from_then_on_if_it_is_not_the_first_one(
    rank: int, environment: dict[str, str], speaks: bool, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    printed = said(LATER.format(rank=rank), PHASEWATCH_LOG=str(log), **environment)
    assert ("[META] PHASE: AFTER" in printed) == speaks
    assert ("[META] PHASE: BEFORE" in printed) == ("RANK" not in environment)
    places = {node.name: node.place for node in phasewatch.Timeline.from_events(phasewatch.read(log)).nodes()}
    assert places["BEFORE"] is not None
    assert places["AFTER"] is not None
    assert (places["BEFORE"].rank, places["AFTER"].rank) == (rank if environment.get("RANK") else None, rank)


@pytest.mark.parametrize("rank", [-1, 1.0, "1"])
def test_a_rank_that_is_none_is_an_error_and_changes_nothing(rank: Any) -> None:
    with pytest.raises(ValueError, match=r"configure: rank=.* must be a whole number, counted from 0"):
        phasewatch.configure(rank=rank, enabled=False)
    assert _environment.rank() is None
    assert default_tracker.enabled


def test_to_learn_a_rank_takes_away_no_sink_that_was_configured(monkeypatch: pytest.MonkeyPatch, phaselog: PhaseLog) -> None:
    monkeypatch.setattr(_environment, "_told", None)
    phasewatch.configure(rank=3)
    with phase("A"):
        pass
    (node,) = phasewatch.Timeline.from_events(phaselog.events).nodes()
    assert node.place is not None
    assert node.place.rank == 3
    monkeypatch.undo()
    _process.forget_places()
