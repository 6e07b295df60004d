"""The thread that looks after what is under way. No test waits for it: each looks itself."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from phasewatch import PhaseProgressed, Tracker, _overseen
from phasewatch._monitor import Monitor
from phasewatch._tally import Tally
from phasewatch.testing import FakeClock, MemorySink


class Thing:
    """Something that is looked at, inside another thing or none."""

    def __init__(self, around: Thing | None = None) -> None:
        self.looks = 0
        self.around = around
        self.was_innermost = False

    def _look(self, *, is_innermost: bool, by_hand: bool) -> None:
        self.looks += 1
        self.was_innermost = is_innermost

    def _enclosing(self) -> Thing | None:
        return self.around


def watch(monitor: Monitor, thing: Any) -> None:
    monitor.open[id(thing)] = thing


def unwatch(monitor: Monitor, thing: Any) -> None:
    monitor.open.pop(id(thing))


class Ticks:
    """An event that nobody sets, for so many waits."""

    def __init__(self, ticks: int) -> None:
        self.ticks = ticks

    def wait(self, seconds: float) -> bool:
        self.ticks -= 1
        return self.ticks < 0


@pytest.fixture
def monitor(mocker: Any) -> Monitor:
    """A monitor in place of the one of the process, whose thread never starts."""
    monitor = Monitor()
    mocker.patch.object(monitor, "_start")
    mocker.patch.object(_overseen, "monitor", monitor)
    return monitor


def told(sink: MemorySink) -> list[int]:
    return [event.done for event in sink.events if isinstance(event, PhaseProgressed)]


def test_what_is_watched_is_looked_at_until_it_is_not(monitor: Monitor) -> None:
    thing = Thing()
    watch(monitor, thing)
    watch(monitor, thing)
    monitor.look()
    unwatch(monitor, thing)
    monitor.look()
    assert thing.looks == 1


def test_what_cannot_be_looked_at_is_reported_and_let_go(monitor: Monitor, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Thing):
        def _look(self, **_: bool) -> None:
            raise ValueError("a bug")

    thing = Thing()
    watch(monitor, Broken())
    watch(monitor, thing)
    monitor.look()
    monitor.look()
    assert thing.looks == 2
    assert len(caplog.records) == 1


def test_a_phase_that_has_ended_is_watched_no_more(monitor: Monitor) -> None:
    with Tracker([MemorySink()]).phase("A", total=100) as handle:
        assert monitor.open == {id(handle): handle}
    assert not monitor.open
    watch(monitor, handle)  # as a look does that began before the phase ended
    monitor.look()
    vigil = handle._more().vigil
    assert vigil is not None
    assert vigil.counted == 0


def test_what_has_nothing_open_inside_it_is_the_innermost(monitor: Monitor) -> None:
    outer = Thing()
    inner, beside = Thing(outer), Thing(outer)
    for thing in (outer, inner, beside):
        watch(monitor, thing)
    monitor.look()
    assert (outer.was_innermost, inner.was_innermost, beside.was_innermost) == (False, True, True)


def test_the_thread_ends_when_there_has_been_nothing_to_look_at_for_a_while(monitor: Monitor) -> None:
    thing = Thing()
    watch(monitor, thing)
    monitor.is_running = True
    work: Any = monitor._work
    work(Ticks(30))
    assert thing.looks == 30
    assert monitor.is_running
    unwatch(monitor, thing)
    ticks = Ticks(30)
    work(ticks)
    assert 30 - ticks.ticks == 10, "the next phase often follows soon"
    assert not monitor.is_running


def test_the_thread_goes_on_for_what_is_opened_in_the_moment_in_which_it_would_end(monitor: Monitor) -> None:
    class Opening(dict[int, Any]):
        asked = 0

        def __bool__(self) -> bool:
            self.asked += 1
            return self.asked > 10  # once the thread has said that it does not run

    monitor.open = Opening()
    work: Any = monitor._work
    ticks = Ticks(15)
    work(ticks)
    assert monitor.is_running
    assert ticks.ticks < 0


def test_a_thread_is_started_once_and_stops_when_it_is_told() -> None:
    monitor = Monitor()
    before = set(threading.enumerate())
    monitor.start()
    monitor.start()
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    monitor.stop()
    assert not thread.is_alive()


def test_there_is_one_clean_up_for_all_threads(mocker: Any) -> None:
    registered = mocker.patch("atexit.register")
    started = mocker.patch("threading.Thread")
    monitor = Monitor()
    monitor.start()
    work: Any = monitor._work
    work(Ticks(20))
    monitor.start()
    assert started.call_count == 2, "the first one has ended"
    registered.assert_called_once_with(monitor.stop)


def test_a_thread_that_cannot_be_started_is_reported_and_the_program_goes_on(
    mocker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    mocker.patch("atexit.register")
    mocker.patch("threading.Thread", side_effect=RuntimeError("can't start new thread"))
    monitor = Monitor()
    monitor.start()
    monitor.start()
    assert len(caplog.records) == 1


def test_a_loop_on_the_systems_clock_tells_progress_when_it_is_looked_at(monitor: Monitor) -> None:
    sink = MemorySink()
    with Tracker([sink]).phase("A", total=100) as handle:
        for number in handle.track(range(100)):
            if number in (0, 30, 31):
                monitor.look()
    assert told(sink) == [30, 31, 100], "nothing is done in the first item; the last count is told at the end"
    monitor.look()
    assert told(sink) == [30, 31, 100], "and nothing after the end"
    assert sink.events[-1].type == "end"


def test_what_is_told_of_an_item_counts_it_so_that_counts_and_counters_agree(monitor: Monitor) -> None:
    sink = MemorySink()

    def loader() -> Any:
        for _ in range(3):
            monitor.look()  # while the next batch is fetched
            yield 256

    with Tracker([sink]).phase("A", total=3, counters={"questions": None}) as handle:
        for size in handle.track(loader()):
            handle.advance(questions=size)
    progress = [event for event in sink.events if isinstance(event, PhaseProgressed)]
    assert [(event.done, event.counters["questions"]) for event in progress] == [(1, 256), (2, 512), (3, 768)]


def test_a_look_dates_what_was_done_since_the_last_one_in_between() -> None:
    tally = Tally(0, 10, (), 0.0)
    tally.look(1, 1.0)
    assert (tally.counted, tally.counted_at) == (1, 0.5)
    tally.look(1, 2.0)
    tally.look(101, 3.0)
    assert (tally.counted, tally.counted_at) == (101, 2.995)


def test_an_eta_after_a_look_goes_by_when_the_units_were_done_and_not_by_when_somebody_asks(monitor: Monitor) -> None:
    clock = FakeClock()
    with Tracker(clock=clock).phase("A") as handle:  # nobody listens, so that the loop is left to itself
        watch(monitor, handle)
        for number in handle.track(range(4)):
            if number == 1:
                monitor.look(by_hand=True)
                clock.advance(5)
                assert handle.eta == 10, "three of 5 seconds, one of which is late already"
            clock.advance(10)


def test_advance_on_the_systems_clock_tells_the_first_then_one_for_each_look_and_the_last(monitor: Monitor) -> None:
    sink = MemorySink()
    with Tracker([sink]).phase("A", total=100) as handle:
        for number in range(100):
            if number in (40, 41):
                handle._tally.shown_at = -1e9  # type: ignore[union-attr]  # as if a second had passed
                monitor.look()
            handle.advance()
    assert told(sink) == [1, 41, 42, 100]


def test_every_is_kept_on_the_systems_clock(monitor: Monitor) -> None:
    sink = MemorySink()
    with Tracker([sink]).phase("A", every=40) as handle:
        for _ in range(100):
            handle.advance()
    with Tracker([sink]).phase("A", every=40) as handle:
        assert len(list(handle.track([0] * 100))) == 100
    assert told(sink) == [40, 80] * 2


def test_steps_announce_themselves_and_are_not_looked_at(monitor: Monitor) -> None:
    sink = MemorySink()
    with Tracker([sink]).phase("TRAINING", total=3, unit="step") as training:
        for _ in training.track([1, 2, 3]):
            with training.step():
                monitor.look()
    assert told(sink) == []
    assert training.done == 3


def test_a_phase_that_nobody_hears_of_starts_no_thread() -> None:
    code = """
import threading
from phasewatch import Tracker
with Tracker().phase("A", total=3) as a:
    a.advance()
    list(a.track([1, 2]))
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_program_ends_while_its_phases_are_being_watched() -> None:
    code = """
import sys
from phasewatch import phase
handle = phase("A", total=100).__enter__()
for _ in handle.track(iter(range(5))):
    handle.advance(loss=1)
sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (7, b"")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_fork_takes_no_watched_phase_and_no_held_lock_along() -> None:
    code = """
import os, sys
from phasewatch import Tracker, _overseen
from phasewatch.testing import MemorySink
with Tracker([MemorySink()]).phase("A", total=10**6) as a:
    a.advance()
    for _ in range(50):
        child = os.fork()
        if not child:
            assert _overseen.monitor.open == {} and not _overseen.monitor.is_running
            with Tracker([MemorySink()]).phase("B", total=3) as b:
                b.advance()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert _overseen.monitor.open
"""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], check=True)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_after_a_fork_the_parents_phases_are_looked_at_as_before() -> None:
    code = """
import os, threading
from phasewatch import Tracker, _overseen
from phasewatch.testing import MemorySink
with Tracker([MemorySink()]).phase("A", total=9) as a:
    a.advance()
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    thread = threading.Thread(target=_overseen.monitor.look, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it waits for a lock"
"""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], check=True)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_fork_waits_for_what_is_under_way_under_a_lock() -> None:
    code = """
import os, threading
from phasewatch import Tracker
from phasewatch._forks import ForkSafeLock
from phasewatch.testing import MemorySink
lock, inside, go, state = ForkSafeLock(order=1), threading.Event(), threading.Event(), []
def write():
    with lock:
        state.append("half")
        inside.set()
        go.wait()
        state[:] = ["whole"]
with Tracker([MemorySink()]).phase("A"):
    os.register_at_fork(before=go.set)  # what was registered last is called first
    thread = threading.Thread(target=write)
    thread.start()
    inside.wait()
    child = os.fork()
    if not child:
        os._exit(0 if state == ["whole"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
"""
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], check=True)


def test_where_the_interpreter_allows_no_more_threads_at_its_end_nothing_is_reported(
    mocker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor()
    at_shutdown = RuntimeError("can't create new thread at interpreter shutdown")  # of Python 3.12 and later
    mocker.patch("threading.Thread.start", side_effect=[at_shutdown, RuntimeError("can't start new thread")])
    monitor.start()
    assert monitor.is_running, "it is not tried again"
    assert not caplog.records
    monitor.is_running = False
    monitor.start()
    assert len(caplog.records) == 1
    monitor.stop()  # which waits for no thread that never was
