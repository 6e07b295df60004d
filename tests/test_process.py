"""The identity of a process, and what the child of a fork takes along. Real forks."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

import phasewatch
from phasewatch import _process, attach, carrier, current, phase
from phasewatch._process import Process
from phasewatch.testing import PhaseLog

# Python 3.12 warns of each fork beside a thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
FAR = json.dumps({"id": "far.2", "run": "far.1", "path": ["FAR"]})


def forked(work: Callable[[], object]) -> Any:
    """What work returns in the child of a fork, by way of JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(text)


def opened() -> list[Any]:
    """What a phase that is opened now hangs under: parent, run and path."""
    with phase("X") as handle:
        info = handle._describe()
    return [info.parent, info.run, list(info.path)]


def in_thread(work: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_ids_of_one_process_differ_and_so_do_those_of_two() -> None:
    first, second = Process(), Process()
    ids = [process.new_id() for process in (first, second) for _ in range(1000)]
    assert len(set(ids)) == 2000
    assert len({id.split(".")[0] for id in ids}) == 2


def test_the_random_numbers_of_the_program_are_its_own() -> None:
    import random

    random.seed(5)
    state = random.getstate()
    Process()
    assert random.getstate() == state


def test_of_the_phases_to_which_a_process_is_attached_the_last_one_counts() -> None:
    infos: Any = ["lasting", "outer", "inner"]
    process = Process(infos[0])
    assert process.origin == "lasting"
    process.attached = dict(enumerate(infos[1:]))
    assert process.origin == "inner"


@needs_fork
def test_a_child_hangs_under_what_was_current_where_it_was_forked(phaselog: PhaseLog) -> None:
    with phasewatch.run("r") as run:
        assert forked(opened) == [run.id, run.id, ["X"]]
        with phase("A") as around:
            assert forked(opened) == [around.id, run.id, ["A", "X"]]
            assert forked(lambda: in_thread(opened)) == [around.id, run.id, ["A", "X"]], "its threads too"
            assert forked(lambda: forked(opened)) == [around.id, run.id, ["A", "X"]], "and its children"
    assert forked(opened) == [None, None, ["X"]]


@needs_fork
def test_a_child_of_a_thread_with_nothing_around_it_hangs_under_the_run(phaselog: PhaseLog) -> None:
    with phasewatch.run("outer"), phasewatch.run("inner") as run, phase("A"):
        assert in_thread(lambda: forked(opened)) == [run.id, run.id, ["X"]]


@needs_fork
def test_a_child_of_a_task_hangs_under_the_phase_of_the_task(phaselog: PhaseLog) -> None:
    async def work(name: str) -> Any:
        with phase(name) as around:
            await asyncio.sleep(0)
            return bool(forked(opened) == [around.id, None, [name, "X"]])

    async def main() -> list[bool]:
        return [*await asyncio.gather(work("A"), work("B"))]

    assert asyncio.run(main()) == [True, True]


@needs_fork
def test_a_child_of_an_attached_process_hangs_where_its_parent_does(phaselog: PhaseLog) -> None:
    with attach(FAR):
        assert forked(opened) == ["far.2", "far.1", ["FAR", "X"]]
        assert in_thread(lambda: forked(opened)) == ["far.2", "far.1", ["FAR", "X"]]
        with phase("A") as around:
            assert forked(opened) == [around.id, "far.1", ["FAR", "A", "X"]]


@needs_fork
def test_a_child_may_leave_the_blocks_that_it_was_forked_in_and_be_attached_itself(phaselog: PhaseLog) -> None:
    block = attach(FAR).__enter__()
    around = phase("A").__enter__()

    def work() -> list[Any]:
        around.__exit__(None, None, None)
        block.__exit__(None, None, None)
        found = [opened()]
        with attach(json.dumps({"id": "far.9"})):
            found.append(opened())
        return [*found, opened()]

    where = [around.id, "far.1", ["FAR", "A", "X"]]
    assert forked(work) == [where, ["far.9", None, ["X"]], where]
    around.__exit__(None, None, None)
    block.__exit__(None, None, None)
    assert len(phaselog.events) == 2


@needs_fork
def test_in_a_child_nothing_is_open_whatever_context_it_works_in(phaselog: PhaseLog) -> None:
    with phase("A") as around:
        copy = contextvars.copy_context()
        assert forked(lambda: [current() is None, copy.run(current) is None, around.status]) == [True, True, "running"]
        assert forked(lambda: copy.run(opened)) == [around.id, None, ["A", "X"]]


@needs_fork
def test_a_child_makes_carriers_of_what_it_hangs_under(phaselog: PhaseLog) -> None:
    with phasewatch.run("r") as run, phase("A") as around:
        assert json.loads(forked(carrier)) == {"id": around.id, "run": run.id, "path": ["A"]}


@needs_fork
def test_a_generator_that_a_child_goes_on_with_does_no_harm(phaselog: PhaseLog, caplog: pytest.LogCaptureFixture) -> None:
    @phase("NUMBERS")
    def numbers() -> Any:
        yield 1
        with phase("INSIDE"):
            yield 2
        yield 3

    reading = numbers()
    next(reading)
    assert forked(lambda: [*reading, current() is None]) == [2, 3, True]
    assert [*reading] == [2, 3]
    assert [event.name for event in phaselog.events] == ["NUMBERS", "INSIDE", "INSIDE", "NUMBERS"]
    assert not caplog.records


@needs_fork
def test_a_child_has_an_identity_a_place_and_a_log_of_its_own(phaselog: PhaseLog) -> None:
    with phase("A"):
        assert _process.process is not None
        _process.process.log = "/log"

        def work() -> list[Any]:
            assert _process.process is not None
            place = _process.place()
            return [_process.process.token, _process.process.log, place.process == os.getpid(), place.thread]

        token, log, own_number, thread = forked(work)
        assert token != _process.process.token
        assert (log, own_number, thread) == ("/log", True, "MainThread")
        _process.process.log = None
