"""At the limit of recursion, and where memory runs out, there is no room to tell anything: it is told a little later."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from rich.console import Console

import phasewatch
from phasewatch import Event, Tracker, current, phase
from phasewatch.sinks import ConsoleSink
from phasewatch.testing import FakeClock, MemorySink, recorded


@pytest.fixture(autouse=True)
def _limit() -> Iterator[None]:
    limit = sys.getrecursionlimit()
    with recorded():
        yield
    sys.setrecursionlimit(limit)


def descend(depth: int = 0) -> None:
    with phase("P", total=2) as handle:
        handle.advance()
        descend(depth + 1)


def depth_now() -> int:
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def kinds(sink: MemorySink) -> tuple[list[str], list[str]]:
    starts = [event.id for event in sink.events if event.type == "start"]
    ends = [event.id for event in sink.events if event.type == "end"]
    return starts, ends


@pytest.mark.parametrize("room", range(150, 190, 3))
def test_a_recursion_without_end_is_the_error_that_it_was_and_every_start_has_its_end(room: int) -> None:
    sink, out = MemorySink(), io.StringIO()
    phasewatch.configure(sinks=[sink, ConsoleSink(Console(file=out), mode="plain")])
    sys.setrecursionlimit(depth_now() + room)
    with pytest.raises(RecursionError):
        descend()
    sys.setrecursionlimit(10_000)
    starts, ends = kinds(sink)
    assert len(starts) > 20
    assert sorted(starts) == sorted(ends)
    assert len(set(starts)) == len(starts)
    assert current() is None
    assert out.getvalue().count("🔹 [META] PHASE: P\n") == len(starts), "the console got all of them too"
    assert out.getvalue().count("❌ [META] PHASE FAILED: P\n") == 1


class Forgetful(MemorySink):
    """A sink for which the memory does not suffice, for some time."""

    room = False

    def emit(self, event: Event) -> None:
        if not self.room:
            raise MemoryError
        super().emit(event)


def test_events_for_which_a_sink_has_no_memory_follow_in_order(caplog: pytest.LogCaptureFixture) -> None:
    forgetful, beside = Forgetful(), MemorySink()
    tracker = Tracker([forgetful, beside])
    with tracker.phase("A"), tracker.phase("B"):
        pass
    assert (forgetful.events, len(beside.events)) == ([], 4)
    forgetful.room = True
    with tracker.phase("C"):
        pass
    assert [(event.type, event.name) for event in forgetful.events] == [
        ("start", "A"), ("start", "B"), ("end", "B"), ("end", "A"), ("start", "C"), ("end", "C"),
    ]  # fmt: skip
    assert len(beside.events) == 6
    assert not caplog.records


def test_what_waits_too_long_is_given_up_and_that_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    forgetful = Forgetful()
    tracker = Tracker([forgetful])
    for _ in range(600):
        with tracker.phase("A"):
            pass
    assert len(caplog.records) == 1
    forgetful.room = True
    tracker.close()
    assert len(forgetful.events) == 1000, "the last ones were kept"


def test_what_is_owed_to_the_end_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker([Forgetful()])
    with tracker.phase("A"):
        pass
    tracker.close()
    assert len(caplog.records) == 1


def test_a_memory_error_of_the_work_is_a_failure_like_any_other() -> None:
    sink = MemorySink()
    tracker = Tracker([sink])
    with pytest.raises(MemoryError), tracker.phase("A"):
        raise MemoryError
    end: Any = sink.events[-1]
    assert (end.status, end.error) == ("failed", ("MemoryError", ""))


# One phase at every distance from the limit, and nothing inside it


def room_for(fn: Callable[[], object], limit: int = 250) -> dict[int, str]:
    """What becomes of a call at every depth below the limit: its result, or that there was no room for it."""

    def at(depth: int) -> Any:
        return fn() if depth == 0 else at(depth - 1)

    results = {}
    below = depth_now()
    for room in range(60):
        sys.setrecursionlimit(below + limit)
        try:
            results[room] = at(limit - room - 3)
        except RecursionError:
            results[room] = "no room"
        finally:
            sys.setrecursionlimit(10_000)
    return results


made = phase("LEAF", total=3)


def block() -> str:
    with phase("LEAF"):
        return "done"


def handle_made_before() -> str:
    with made:
        return "done"


@phase("LEAF")
def decorated() -> str:
    return "done"


@phase("LEAF", message=lambda: "asked", total=lambda: 3)
def with_options() -> str:
    return "done"


def block_with_options() -> str:
    with phase("LEAF", total=lambda: 3, message=lambda: "asked"):
        return "done"


def talkative() -> str:
    with phase("LEAF", total=3) as handle:
        handle.log(loss=1)
        handle.advance()
    return "done"


def generating() -> str:
    @phase("LEAF")
    def generate() -> Iterator[str]:
        yield "done"

    (item,) = generate()
    return item


LEAVES = [block, handle_made_before, decorated, with_options, block_with_options, talkative, generating]


@pytest.mark.parametrize("clock", [None, FakeClock()], ids=["the system's clock", "a clock of its own"])
@pytest.mark.parametrize("leaf", LEAVES)
def test_a_phase_at_any_distance_from_the_limit_is_told_whole_or_not_at_all(
    leaf: Callable[[], str], clock: FakeClock | None, caplog: pytest.LogCaptureFixture
) -> None:
    sink, out = MemorySink(), io.StringIO()
    tracker = phasewatch._config.default_tracker
    phasewatch.configure(sinks=[sink, ConsoleSink(Console(file=out), mode="plain")])
    tracker._use_clock(clock)
    with phasewatch.run("r"), phase("OUTER") as outer:

        def watched() -> str:
            return leaf()

        results = room_for(watched)
        assert current() is outer
    caught = [result for room, result in sorted(results.items())]
    assert caught == ["no room"] * caught.count("no room") + ["done"] * caught.count("done"), "from some room on, it runs"
    assert 0 < caught.count("no room") < 20
    told = [(event.type, event.id) for event in sink.events]
    starts, ends = kinds(sink)
    assert sorted(starts) == sorted(ends)
    assert len(set(starts)) == len(starts)
    assert len(starts) - 2 >= caught.count("done") - 10, "not at all: where there is not even room to begin"
    for start in starts:
        of_this = [kind for kind, phase_id in told if phase_id == start]
        assert (of_this[0], of_this[-1]) == ("start", "end"), "nothing is told of a phase before its start"
    for event in sink.events:
        assert not callable(event.phase.total)
        assert not callable(event.phase.message)
    assert not caplog.records
    assert out.getvalue().count("PHASE: LEAF") == len(starts) - 2


@pytest.mark.parametrize("clock", [None, FakeClock()], ids=["the system's clock", "a clock of its own"])
def test_a_step_at_the_limit_counts_once(clock: FakeClock | None) -> None:
    tracker = Tracker([MemorySink()], clock)
    with tracker.phase("ALL", total=1000) as outer:

        def step() -> str:
            with outer.step():
                pass
            return "done"

        done = list(room_for(step).values()).count("done")
    assert done - 3 <= outer.done <= done, "those for which there was not even room to begin are none"


def test_threads_that_pay_at_once_what_is_owed_tell_each_end_once() -> None:
    sink = MemorySink()
    tracker = Tracker([sink])
    outer = tracker.phase("OUTER").__enter__()
    room_for(lambda: tracker.phase("LEAF").__enter__().__exit__(None, None, None))
    owed = len(tracker.owed)
    starts_before = threading.Barrier(8)

    def work() -> None:
        starts_before.wait()
        for _ in range(20):
            with tracker.phase("BESIDE"):
                pass

    phases = [tracker.phase("OWED").__enter__() for _ in range(150)]
    for handle in reversed(phases):
        handle._stopped, handle._live = handle._started, phasewatch._process.COMPLETED
        tracker.owed.append((handle, None))
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outer.__exit__(None, None, None)
    assert owed == 0, "those further out were told by those that came after"
    starts, ends = kinds(sink)
    assert sorted(starts) == sorted(ends)
    assert len(set(starts)) == len(starts)


class Diver(MemorySink):
    """A sink that recurses without end over one kind of event."""

    def emit(self, event: Event) -> None:
        if event.name == "POISON":
            self.emit(event)
        super().emit(event)


def test_a_sink_that_fills_the_stack_by_itself_is_reported_and_gets_what_follows(caplog: pytest.LogCaptureFixture) -> None:
    diver, beside = Diver(), MemorySink()
    tracker = Tracker([diver, beside])
    with tracker.phase("A"):
        with tracker.phase("POISON"), tracker.phase("B"):
            pass
    assert [event.name for event in diver.events] == ["A", "B", "B", "A"]
    assert len(beside.events) == 6
    (record,) = caplog.records
    assert "the sink Diver could not take an event" in record.message


def test_ctrl_c_in_a_sink_at_the_limit_stays_ctrl_c() -> None:
    class Interrupting(MemorySink):
        def emit(self, event: Event) -> None:
            raise KeyboardInterrupt

    tracker = Tracker([Interrupting()], FakeClock())

    def leaf() -> str:
        try:
            with tracker.phase("A"):
                return "done"
        except KeyboardInterrupt:
            return "interrupted"

    results = list(room_for(leaf).values())
    assert results[-1] == "interrupted"
    assert set(results) <= {"no room", "done", "interrupted"}
    assert current() is None


# Each place at which the room may end, one by one


@contextlib.contextmanager
def no_room(method: str, times: int = sys.maxsize, of: type = phasewatch.Phase) -> Iterator[None]:
    """Have calls of a method fail, as they would at the limit."""
    real = getattr(of, method)
    left = [times]

    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise RecursionError
        return real(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of, method, fail)
        yield


def stream(sink: MemorySink) -> list[str]:
    return [f"{event.type} {event.name}" for event in sink.events]


WHOLE = ["start A", "start B", "end B", "end A"]


@pytest.mark.parametrize("method", ["_close", "_finish", "_more", "_begin", "_tell_start", "_tell_end", "_describe"])
@pytest.mark.parametrize("clock", [None, FakeClock()], ids=["the system's clock", "a clock of its own"])
def test_wherever_the_room_ends_it_is_told_with_the_phase_around_it(
    method: str, clock: FakeClock | None, caplog: pytest.LogCaptureFixture
) -> None:
    sink = MemorySink()
    tracker = Tracker([sink], clock)
    with tracker.phase("A") as outer:
        with no_room(method):
            with tracker.phase("B") as inner:
                assert current() is inner
        assert current() is outer
        assert inner.status == "completed"
    assert stream(sink) == WHOLE
    assert not caplog.records


@pytest.mark.parametrize("method", ["_close", "_finish"])
def test_an_error_for_whose_phase_there_is_no_room_is_told_as_what_it_was(method: str) -> None:
    sink = MemorySink()
    tracker = Tracker([sink])
    error = ValueError("x")
    with tracker.phase("A"):
        with no_room(method):
            with pytest.raises(ValueError, match="x") as caught, tracker.phase("B"):
                raise error
    assert caught.value is error
    end: Any = sink.events[2]
    assert (end.name, end.status, end.error) == ("B", "failed", ("ValueError", "x"))


@pytest.mark.parametrize("method", ["_place", "_take_options"])
def test_a_phase_for_which_there_is_no_room_at_all_is_none_and_nobody_is_blamed(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = MemorySink()
    tracker = Tracker([sink])
    with tracker.phase("A") as outer:
        inner = tracker.phase("B", total=lambda: 3)
        with no_room(method, of=type(inner)), inner:
            assert current() is outer
            assert (inner.id, inner.path, inner.elapsed, inner.eta, inner.status) == (None, ("B",), 0.0, None, "pending")
        with inner:
            assert inner.total == 3, "with room it is a phase again"
    assert stream(sink) == WHOLE
    assert not caplog.records


def test_a_phase_that_could_not_be_opened_is_reported_once_and_leaving_it_is_no_mistake(
    mocker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sink = MemorySink()
    mocker.patch.object(phasewatch.Phase, "_place", side_effect=RuntimeError("a bug"))
    with Tracker([sink]).phase("A"):
        pass
    assert len(caplog.records) == 1
    assert sink.events == []


def test_a_clock_for_which_there_is_no_room_leaves_no_phase_half_open() -> None:
    sink = MemorySink()
    tracker = Tracker([sink], FakeClock())
    with tracker.phase("A") as outer:
        now, tracker.now = tracker.now, mock.Mock(side_effect=RecursionError)
        with tracker.phase("B"):
            assert current() is outer
        tracker.now = now
    assert stream(sink) == ["start A", "end A"]


def test_a_handle_whose_end_is_owed_is_told_before_it_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    sink = MemorySink()
    tracker = Tracker([sink])
    handle = tracker.phase("B")
    with tracker.phase("A") as outer:
        with no_room("_finish"):
            with handle:
                pass
            with handle:
                assert current() is outer, "as long as there is no room for that, it is not entered"
        with handle:
            assert current() is handle
    assert stream(sink) == ["start A", "start B", "end B", "start B", "end B", "end A"]
    assert not caplog.records


def test_a_start_that_is_owed_is_told_before_those_inside_and_before_all_else_that_is_told_of_it() -> None:
    sink = MemorySink()
    tracker = Tracker([sink], FakeClock())
    with no_room("_tell_start", times=1), tracker.phase("A"), tracker.phase("B"):
        pass
    assert stream(sink) == WHOLE
    with no_room("_tell_start", times=1), tracker.phase("C") as handle:
        handle.log(loss=1)
    with no_room("_tell_start", times=1), tracker.phase("D", total=2) as handle:
        handle.advance()
        handle.advance()
    assert [line for line in stream(sink)[4:] if not line.startswith("progress")] == [
        "start C", "metrics C", "end C", "start D", "end D",
    ]  # fmt: skip
    assert stream(sink)[7:9] == ["start D", "progress D"]


def test_a_start_that_is_told_late_tells_when_it_was_and_comes_after_that_around_it() -> None:
    sink, clock = MemorySink(), FakeClock()
    tracker = Tracker([sink], clock)
    with no_room("_tell_start", times=2), tracker.phase("A"):
        clock.advance(5)
        with tracker.phase("B") as handle:
            clock.advance(2)
            handle.log(loss=1)
            clock.advance(1)
    assert stream(sink) == ["start A", "start B", "metrics B", "end B", "end A"]
    begun = clock.wall() - 8
    assert [event.time - begun for event in sink.events] == [0, 5, 7, 8, 8]


def test_ctrl_c_where_there_is_no_room_to_leave_is_not_replaced() -> None:
    class Interrupting(MemorySink):
        def emit(self, event: Event) -> None:
            raise KeyboardInterrupt

    with no_room("_close"), pytest.raises(KeyboardInterrupt), Tracker([Interrupting()]).phase("A"):
        pass
    assert current() is None


def test_at_the_end_of_the_process_one_phase_without_room_costs_no_other_its_end() -> None:
    sink = MemorySink()
    tracker = Tracker([sink])
    outer, inner = tracker.phase("A").__enter__(), tracker.phase("B").__enter__()
    with no_room("_close", times=1):
        phasewatch._tracker.end_all(KeyboardInterrupt())
    assert stream(sink)[-1] == "end A"
    inner.__exit__(None, None, None)
    assert outer.status == "interrupted"


def test_a_sink_at_the_limit_costs_the_others_nothing() -> None:
    sink, beside = Forgetful(), MemorySink()
    tracker = Tracker([sink, beside])
    with no_room("_give_up", of=phasewatch._dispatcher.Dispatcher), tracker.phase("A"):
        pass
    sink.room = True
    tracker.close()
    assert stream(beside) == ["start A", "end A"]
    assert stream(sink) == ["start A", "end A"]


def test_what_is_owed_when_the_sinks_are_closed_is_told_before() -> None:
    sink = MemorySink()
    tracker = Tracker([sink])
    with no_room("_finish"), tracker.phase("A"):
        pass
    tracker.close()
    assert stream(sink) == ["start A", "end A"]


def test_what_is_owed_is_bounded_and_that_some_is_lost_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    sink = MemorySink()
    tracker = Tracker([sink])
    with no_room("_finish"):
        for _ in range(300):
            with tracker.phase("A"):
                pass
    assert len(tracker.owed) == 200
    with tracker.phase("B"):
        pass
    assert stream(sink).count("end A") == 200
    assert "only the last 200 are told" in caplog.records[-1].message
