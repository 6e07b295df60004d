"""Phases of one process under a phase of another. Here both are one process; tests/faults has real ones."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import phasewatch
from phasewatch import Event, PhasewatchWarning, _process, attach, carrier, current, phase
from phasewatch._config import default_tracker
from phasewatch.sinks import JsonlSink, QueuedSink
from phasewatch.testing import MemorySink, PhaseLog, recorded

A = json.dumps({"id": "far.2", "run": "far.1", "path": ["TRAINING", "A"]})
B = json.dumps({"id": "far.3", "run": "far.1", "path": ["B"]})


@pytest.fixture(autouse=True)
def _detached(phaselog: PhaseLog) -> Iterator[None]:
    yield
    if _process.process is not None:
        assert _process.process.attached == {}
        _process.process.lasting.clear()


def kin(event: Event) -> tuple[str | None, str | None, tuple[str, ...]]:
    return event.parent, event.phase.run, event.path


def opened(name: str = "X") -> tuple[str | None, str | None, tuple[str, ...]]:
    """What a phase that is opened now hangs under: parent, run and path."""
    with phase(name) as handle:
        info = handle._describe()
    return info.parent, info.run, info.path


def in_thread(work: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


NOWHERE = (None, None, ("X",))
UNDER_A = ("far.2", "far.1", ("TRAINING", "A", "X"))
UNDER_B = ("far.3", "far.1", ("B", "X"))


def test_phases_of_the_block_hang_under_the_phase_of_the_carrier(phaselog: PhaseLog) -> None:
    with attach(A):
        assert current() is None
        assert opened() == UNDER_A
        with phase("Y") as outer, phase("Z"):
            assert kin(phaselog.events[-1]) == (outer.id, "far.1", ("TRAINING", "A", "Y", "Z"))
    assert opened() == NOWHERE


def test_a_step_hangs_under_its_phase_whatever_is_attached_around_it(phaselog: PhaseLog) -> None:
    with phase("TRAINING", total=2, unit="step") as training:
        with attach(A), training.step() as step:
            assert step.path == ("TRAINING", "TRAINING STEP")
    assert {event.parent for event in phaselog.events if event.name == "TRAINING STEP"} == {training.id}


def test_a_plain_call_holds_for_good(phaselog: PhaseLog) -> None:
    attach(A)
    assert (opened(), in_thread(opened)) == (UNDER_A, UNDER_A)
    attach(B)
    assert (opened(), in_thread(opened)) == (UNDER_B, UNDER_B)
    phasewatch._tracker._current.set(None)


def test_threads_with_nothing_around_them_hang_under_what_the_process_is_attached_to() -> None:
    with attach(A):
        assert in_thread(opened) == UNDER_A
    assert in_thread(opened) == NOWHERE


def test_nested_blocks_go_back_to_what_was_before() -> None:
    with attach(A):
        with attach(B):
            assert (opened(), in_thread(opened)) == (UNDER_B, UNDER_B)
        assert (opened(), in_thread(opened)) == (UNDER_A, UNDER_A)
        with phase("OPEN"), attach(B):
            assert opened() == UNDER_B


def test_blocks_that_overlap_leave_nothing_behind() -> None:
    first, second = attach(A).__enter__(), None

    def overlap() -> None:
        nonlocal second
        second = attach(B).__enter__()

    in_thread(overlap)
    assert second is not None
    first.__exit__(None, None, None)
    assert (opened(), in_thread(opened)) == (UNDER_B, UNDER_B)
    second.__exit__(None, None, None)
    assert (opened(), in_thread(opened)) == (NOWHERE, NOWHERE)


def test_a_block_may_be_left_twice_in_another_thread_or_without_being_entered() -> None:
    block = attach(A).__enter__()
    in_thread(lambda: block.__exit__(None, None, None))
    assert opened() == NOWHERE
    block.__exit__(None, None, None)
    attach(B).__exit__(None, None, None)
    assert (opened(), in_thread(opened)) == (NOWHERE, NOWHERE)


def test_plain_calls_in_a_long_lived_process_do_not_add_up() -> None:
    assert _process.process is None or _process.process.attached == {}
    for _ in range(100):
        attach(A)
    with attach(B):
        assert _process.process is not None
        assert len(_process.process.attached) == 1
        assert len(_process.process.lasting) <= 64
    phasewatch._tracker._current.set(None)


def test_each_task_has_its_own() -> None:
    async def serve(text: str, turn: asyncio.Event, next: asyncio.Event) -> list[Any]:
        with attach(text):
            await turn.wait()
            found = [opened()]
            next.set()
            await asyncio.sleep(0)
            return [*found, opened(), await asyncio.to_thread(opened)]

    async def main() -> list[Any]:
        first, second, last = asyncio.Event(), asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(serve(A, second, last)), asyncio.create_task(serve(B, first, second))]
        await asyncio.sleep(0)
        first.set()
        return [*await asyncio.gather(*tasks)]

    assert asyncio.run(main()) == [[UNDER_A] * 3, [UNDER_B] * 3]


def test_a_run_in_an_attached_process_is_a_record_of_its_own_that_knows_its_parent(phaselog: PhaseLog) -> None:
    with attach(A), phasewatch.run("inner") as run, phase("X"):
        pass
    start, inside = phaselog.events[0], phaselog.events[1]
    assert kin(start) == ("far.2", run.id, ())
    assert kin(inside) == (run.id, run.id, ("X",))


def test_a_thread_that_is_attached_hangs_there_and_not_under_the_run_opened_last() -> None:
    def work() -> Any:
        with attach(A):
            return opened()

    with phasewatch.run("r", sinks=[sink := MemorySink()]) as run:
        assert in_thread(work) == UNDER_A
        assert in_thread(opened) == (run.id, run.id, ("X",))
    assert [event.name for event in sink.events] == ["r", "X", "X", "X", "X", "r"], "it is recorded where the run is"


def test_a_carrier_goes_to_a_thread_too() -> None:
    with phasewatch.run("r") as run, phase("A") as around:
        text = carrier()

        def work() -> Any:
            with attach(text):
                return opened()

        assert in_thread(work) == (around.id, run.id, ("A", "X"))


def test_carriers_name_the_current_phase_else_the_run_opened_last_else_what_the_process_is_attached_to() -> None:
    assert carrier() == ""
    with attach(A):
        assert json.loads(carrier()) == json.loads(A)
    with phasewatch.run("r") as run:
        assert json.loads(carrier()) == {"id": run.id, "run": run.id, "path": []}
        assert json.loads(in_thread(carrier))["id"] == run.id
        with phase("A") as around:
            assert json.loads(carrier()) == {"id": around.id, "run": run.id, "path": ["A"]}
            with attach(B):
                assert json.loads(carrier()) == json.loads(B)


def test_a_carrier_names_the_event_log_behind_a_queue_too(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    for sink in (JsonlSink(log), QueuedSink(JsonlSink(log))):
        with phasewatch.run("r", sinks=[MemorySink(), sink]):
            assert json.loads(carrier())["log"] == log
    phasewatch.configure(sinks=[JsonlSink(log)])
    assert json.loads(carrier()) == {"log": log}


def test_a_process_without_an_event_log_writes_that_of_the_carrier(tmp_path: Path, phaselog: PhaseLog) -> None:
    log = tmp_path / "log"
    with attach(json.dumps({**json.loads(A), "log": str(log)})):
        opened()
        with attach(json.dumps({"id": "far.9", "log": str(log)})):
            opened()
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()] == ["start", "end"] * 2
    assert len(phaselog.events) == 4


def test_a_worker_that_goes_on_to_another_run_goes_on_to_its_log(tmp_path: Path) -> None:
    logs = [tmp_path / "first", tmp_path / "second"]
    for log in logs:
        with attach(json.dumps({**json.loads(A), "log": str(log)})):
            opened(log.name.upper())
    assert [[json.loads(line)["name"] for line in log.read_text().splitlines()] for log in logs] == [
        ["FIRST", "FIRST"],
        ["SECOND", "SECOND"],
    ]
    assert sum(type(sink) is JsonlSink for sink in default_tracker.sinks) == 1


@pytest.mark.parametrize("how", ["configured", "in the run"])
def test_a_process_with_an_event_log_keeps_to_its_own(tmp_path: Path, how: str) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    text = json.dumps({**json.loads(A), "log": str(other)})
    if how == "configured":
        phasewatch.configure(sinks=[JsonlSink(own)])
        with attach(text):
            opened()
    else:
        with phasewatch.run("r", log=own), attach(text):
            opened()
    assert '"X"' in own.read_text()
    assert not other.exists()
    if how == "in the run":
        opened()
        assert not other.exists()


def test_attached_while_phasewatch_is_off_nothing_is_made(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with recorded() as phaselog:
        phasewatch.configure(enabled=False)
        assert carrier() == ""
        with attach(json.dumps({**json.loads(A), "log": str(log)})), phase("A"):
            assert current() is None
        assert default_tracker.sinks == (phaselog.sink,)
    assert not log.exists()


def test_what_is_no_carrier_is_warned_of_at_the_callers_line_and_changes_nothing(phaselog: PhaseLog) -> None:
    wrong: Any = {"id": "far.2"}
    with pytest.warns(PhasewatchWarning, match="attach: .*'far.2'.* is no carrier") as caught, attach(wrong):
        assert opened() == NOWHERE
    assert [warning.filename for warning in caught] == [__file__]
    with attach(""):
        assert opened() == NOWHERE


def test_whatever_fails_does_not_reach_the_work(mocker: Any, caplog: pytest.LogCaptureFixture) -> None:
    mocker.patch.object(type(default_tracker), "use_log", side_effect=OSError)
    with attach(json.dumps({**json.loads(A), "log": "/log"})):
        assert opened() == UNDER_A
    mocker.patch.object(type(default_tracker), "place", side_effect=OSError)
    assert carrier() == ""
    assert len(caplog.records) == 2


def test_the_environment_is_read_by_the_first_phase_and_nothing_of_it_is_imported_without(tmp_path: Path) -> None:
    code = """
import sys
from phasewatch import phase, current
with phase("X") as x:
    print(*x.path, file=sys.stderr)
print("json" in sys.modules, file=sys.stderr)
"""
    environment = {"PHASEWATCH_CONSOLE": "off", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    for text, told in (("", "X\nFalse\n"), (A, "TRAINING A X\nTrue\n")):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**environment, "PHASEWATCH_PARENT": text}, capture_output=True, text=True
        )
        assert done.stderr == told
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "PHASEWATCH_PARENT": "{"}, capture_output=True, text=True
    )
    assert done.stderr.count("PHASEWATCH_PARENT: '{' is no carrier") == 1
    assert done.stderr.endswith("X\nTrue\n")


def test_threads_that_attach_themselves_at_once_leave_nothing_behind(phaselog: PhaseLog, at_once: Any) -> None:
    def work(number: int) -> None:
        carrier = json.dumps({"id": f"far.{number}", "run": "far.1", "path": ["A"]})
        for _ in range(200):
            with attach(carrier):
                assert opened()[0] == f"far.{number}"

    at_once(work, 8)
    assert in_thread(opened) == NOWHERE
    assert _process.process is not None
    assert (_process.process.attached, _process.process.lasting) == ({}, {})
