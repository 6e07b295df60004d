"""The stack: threads, tasks, forks, clocks and trackers of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import phasewatch
from phasewatch import PhaseEnded, PhaseStarted, PhasewatchWarning, Tracker, current, phase
from phasewatch.testing import FakeClock, MemorySink, PhaseLog


def in_thread(work: Any) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_tracker_of_its_own_keeps_its_phases_apart(phaselog: PhaseLog) -> None:
    sink, clock = MemorySink(), FakeClock()
    tracker = Tracker([sink], clock)
    with phase("PROGRAM"), tracker.phase("LIBRARY", total=2) as library:
        with tracker.phase("PART") as part:
            clock.advance(3)
            assert part.path == ("LIBRARY", "PART")
            with phase("ANYBODY'S") as joined:
                assert joined.path == ("LIBRARY", "PART", "ANYBODY'S")
        library.advance()
    assert [event.name for event in phaselog.events] == ["PROGRAM", "PROGRAM"]
    assert [event.name for event in sink.events if isinstance(event, PhaseStarted)] == ["LIBRARY", "PART", "ANYBODY'S"]
    assert sink.events[0].parent is None
    tracker.close()
    assert sink.closed


def test_without_a_sink_no_event_is_built(mocker: Any) -> None:
    built = mocker.patch("phasewatch._tracker.PhaseInfo")
    with Tracker().phase("A", total=2) as handle:
        handle.advance()
        handle.log(loss=1)
    built.assert_not_called()
    assert handle.done == 1


def test_ctrl_c_before_a_phase_is_open_is_no_mistake_of_its_caller(
    phaselog: PhaseLog, mocker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    mocker.patch.object(phasewatch.Phase, "_place", side_effect=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        phasewatch.Tracker().phase("A").__enter__()
    assert current() is None
    assert not caplog.records


def test_without_a_sink_a_failure_is_known_all_the_same() -> None:
    with pytest.raises(ValueError, match="no"), Tracker().phase("A") as handle:
        raise ValueError("no")
    assert handle.status == "failed"


def test_an_id_that_is_asked_for_after_the_end_is_one_of_this_process() -> None:
    with Tracker().phase("A") as early:
        assert early.id is not None
    with Tracker().phase("A") as late:
        pass
    assert late.id is not None
    assert late.id == late.id
    assert late.id != early.id
    assert late.id.split(".")[0] == early.id.split(".")[0]


def test_a_clock_that_fails_is_reported_once_and_the_work_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def clock() -> float:
        raise OSError("no time")

    sink = MemorySink()
    with Tracker([sink], clock).phase("A") as handle:
        handle.advance()
    assert [event.type for event in sink.events] == ["start", "progress", "end"]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("phasewatch", logging.ERROR)
    assert "time stands still" in record.message
    assert record.exc_info is not None


def test_a_clock_that_runs_backwards_never_gives_a_negative_time() -> None:
    times = iter([10.0, 5.0, 4.0, 3.0])
    sink = MemorySink()
    with Tracker([sink], lambda: next(times)).phase("A") as handle:
        assert handle.elapsed == 0
        handle.advance()
    assert handle.elapsed == 0


def test_a_wall_clock_that_fails_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    class Clock:
        def __call__(self) -> float:
            return 0.0

        def wall(self) -> float:
            raise OSError("no date")

    sink = MemorySink()
    with Tracker([sink], Clock()).phase("A", total=1) as handle:
        handle.advance()
        handle.log(loss=1)
    assert [event.type for event in sink.events] == ["start", "progress", "metrics", "end"]
    (record,) = caplog.records
    assert "the system's time of day stands in" in record.message


def test_a_thread_without_a_context_hangs_under_the_run_opened_last(phaselog: PhaseLog) -> None:
    seen: list[tuple[str, ...]] = []

    def work() -> None:
        with phase("WORKER") as worker:
            seen.append(worker.path)
            assert worker.id is not None

    sink = MemorySink()
    with phasewatch.run("outer", sinks=[]), phasewatch.run("inner", sinks=[sink]):
        in_thread(work)
    assert seen == [("WORKER",)]
    start = next(event for event in sink.events if event.name == "WORKER")
    assert start.parent == sink.events[0].id
    in_thread(work)
    assert [event.name for event in phaselog.events] == ["WORKER", "WORKER"], "with no run open, a root of the default"


def test_threads_have_stacks_of_their_own(phaselog: PhaseLog) -> None:
    barrier = threading.Barrier(4)

    def work(name: str) -> None:
        with phase(name) as outer:
            barrier.wait()
            with phase("INNER") as inner:
                barrier.wait()
                assert inner.path == (name, "INNER")
            assert current() is outer

    threads = [threading.Thread(target=work, args=(f"T{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    starts = {event.id: event for event in phaselog.events if isinstance(event, PhaseStarted)}
    assert len(starts) == 8
    ends = [event for event in phaselog.events if isinstance(event, PhaseEnded)]
    assert {end.id for end in ends} == set(starts)
    assert all(start.name != "INNER" or start.parent in starts for start in starts.values())


def test_current_skips_what_is_closed(phaselog: PhaseLog) -> None:
    outer, inner = phase("OUTER"), phase("INNER")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert current() is inner
    inner.__exit__(None, None, None)
    assert current() is None
    assert [event.type for event in phaselog.events] == ["start", "start", "end", "end"]


def test_current_skips_however_many_are_closed(phaselog: PhaseLog) -> None:
    handles = [phase(name).__enter__() for name in "ABC"]
    for handle in handles:
        handle.__exit__(None, None, None)
    assert current() is None
    with phase("NEXT") as following:
        assert following.path == ("NEXT",)


def test_a_phase_closed_in_another_task_leaves_that_task_as_it_was(phaselog: PhaseLog) -> None:
    async def close(handle: phasewatch.Phase) -> None:
        with phase("OTHER") as other:
            handle.__exit__(None, None, None)
            assert current() is other

    async def main() -> None:
        handle = phase("A").__enter__()
        await asyncio.create_task(close(handle))
        assert current() is None, "it is closed, though this task still holds it"
        with phase("NEXT") as following:
            assert following.path == ("NEXT",)

    asyncio.run(main())


def test_a_caught_exception_and_what_its_frames_hold_are_not_kept_alive(phaselog: PhaseLog) -> None:
    class Tensor:
        pass

    def fail() -> weakref.ref[Tensor]:
        tensor = Tensor()
        alive.append(weakref.ref(tensor))
        raise ValueError

    alive: list[weakref.ref[Tensor]] = []
    with phase("OUTER"):
        try:
            with phase("INNER"):
                fail()
        except ValueError:
            pass
        gc.collect()
        assert alive[0]() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_nothing_is_open_and_new_phases_know_where_they_came_from() -> None:
    sink = MemorySink()
    reading, writing = os.pipe()
    with Tracker([sink], FakeClock()).phase("PARENT") as parent:
        child = os.fork()
        if child == 0:
            try:
                told = [current() is None]
                with Tracker([sink]).phase("CHILD"):
                    told.append(sink.events[-1].parent == sink.events[0].id)
                    told.append(sink.events[-1].id.split(".")[0] != sink.events[0].id.split(".")[0])
                before = len(sink.events)
                parent.__exit__(None, None, None)
                told.append(len(sink.events) == before)
                parent.advance()
                os.write(writing, repr(told).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    assert os.read(reading, 100) == b"[True, True, True, True]"
    os.close(reading)
    os.close(writing)
    assert [event.name for event in sink.events] == ["PARENT", "PARENT"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_forked_child_to_leave_the_parents_phase_is_no_mistake() -> None:
    reading, writing = os.pipe()
    with Tracker().phase("PARENT") as parent:
        child = os.fork()
        if child == 0:
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    parent.__exit__(None, None, None)
                os.write(writing, repr(caught).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    assert os.read(reading, 1000) == b"[]"
    os.close(reading)
    os.close(writing)


def test_disabled_phases_do_nothing_and_give_back_what_they_are_given(phaselog: PhaseLog) -> None:
    @phase("DECORATED WHILE ON")
    def work() -> int:
        return 1

    phasewatch.configure(enabled=False)
    items: Any = [1, 2]
    with phase("A", total=3) as handle, phasewatch.run("r"):
        assert handle.track(items) is items
        handle.advance(questions=1)
        handle.log(loss=1)
        with handle.step(epoch=1):
            pass
        assert current() is None
    assert work() == 1

    def plain() -> None: ...

    assert phase(plain) is plain
    assert phase("A")(plain) is plain
    assert phaselog.events == []
    phasewatch.configure(enabled=True)
    assert work() == 1
    assert [event.name for event in phaselog.events] == ["DECORATED WHILE ON"] * 2


def test_a_disabled_phase_is_entered_and_left_in_every_way_and_swallows_nothing(phaselog: PhaseLog) -> None:
    phasewatch.configure(enabled=False)
    with pytest.raises(ValueError, match="A"), phase("A"):
        raise ValueError("A")
    with pytest.raises(ValueError, match="B"), contextlib.ExitStack() as stack:
        assert stack.enter_context(phase("A")) is phase("A").__enter__() is phase("C")
        raise ValueError("B")
    with phase("A") as outer, phase("B") as inner:
        assert outer is inner
    phase("A").__exit__(None, None, None)
    assert phaselog.events == []


def test_whatever_was_decorated_does_nothing_while_phasewatch_is_off(phaselog: PhaseLog) -> None:
    @phase("WITH AN OPTION", message=lambda n: str(n))
    def option(n: int) -> int:
        return n

    @phasewatch.run("r")
    def main() -> int:
        return 2

    @phase("READ")
    def read() -> Iterator[int]:
        assert current() is None
        yield 3
        assert current() is None

    @phase("FETCH")
    async def fetch() -> int:
        return 4

    phasewatch.configure(enabled=False)
    assert (option(1), main(), list(read()), asyncio.run(fetch())) == (1, 2, [3], 4)
    assert phaselog.events == []


def test_a_failure_of_its_own_never_reaches_the_work(
    phaselog: PhaseLog, mocker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for method in ("_describe", "_finish", "_count", "_begin_tally"):
        mocker.patch.object(phasewatch.Phase, method, side_effect=RuntimeError("a bug"))
    with phase("A") as handle:
        handle.advance()
        handle.log(loss=1)
    mocker.stopall()
    with phase("B") as handle:
        mocker.patch.object(phasewatch.Phase, "_count", side_effect=RuntimeError("a bug"))
        handle.advance()
        assert list(handle.track([1, 2])) == [1, 2]
    assert caplog.records
    assert all(record.name == "phasewatch" for record in caplog.records)


def test_a_warning_is_never_an_exception_in_the_work(phaselog: PhaseLog, caplog: pytest.LogCaptureFixture) -> None:
    # filterwarnings = error is in force here, as it may be in a user's tests
    with phase("A", total=-1) as handle:
        handle.advance("x")  # type: ignore[arg-type]  # the mistake under test
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "phase 'A': total=-1 is left out" in caplog.records[0].message


def test_a_warning_stands_at_the_line_of_the_caller(phaselog: PhaseLog) -> None:
    with pytest.warns(PhasewatchWarning) as caught:
        phase("A", total=-1)
    assert caught[0].filename == __file__


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_phase_knows_its_host_process_rank_and_thread() -> None:
    code = """
import os, sys
import phasewatch
from phasewatch import Tracker
from phasewatch.testing import MemorySink
assert "threading" not in sys.modules
sink = MemorySink()
tracker = Tracker([sink])
def place():
    with tracker.phase("A"):
        return sink.events[-1].phase.place
first = place()
host, process, birth = os.uname().nodename, os.getpid(), phasewatch._lives.birth()
assert first == phasewatch.Place(host=host, process=process, rank=3, thread="MainThread", birth=birth)
import threading
seen = []
def work(): seen.extend([place(), place()])
thread = threading.Thread(target=work, name="loader")
thread.start()
thread.join()
assert [there.thread for there in seen] == ["loader"] * 2
assert seen[0] is seen[1] and place() is first
child = os.fork()
if not child:
    assert place().process == os.getpid() != first.process
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    # -S: what site imports for an editable install is not ours
    path = str(next(iter(phasewatch.__path__)))[: -len("/phasewatch")]
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {path!r})\n{code}"]
    subprocess.run(command, check=True, env={"RANK": "3"})
