"""At the limit of recursion, and where memory runs out, there is no room to tell anything: it is told a little later."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

import phasewatch
from phasewatch import Event, Tracker, current, phase
from phasewatch.sinks import ConsoleSink
from phasewatch.testing import MemorySink, recorded


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
