"""The queue before a slow sink. Sinks hang at gates that the test opens; nothing here sleeps."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch import MetricsLogged, PhaseEnded, PhaseProgressed, PhaseStarted, Tracker
from phasewatch.events import Event, PhaseAlive, PhaseInfo, PhaseStalled
from phasewatch.sinks import QueuedSink
from phasewatch.testing import MemorySink

LONG = 60.0  # seconds that a test which passes never waits


class Gated(MemorySink):
    """Hangs in each event, and in close, until the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.inside = threading.Event(), threading.Event()
        self.threads: set[str] = set()

    def emit(self, event: Event) -> None:
        self.threads.add(threading.current_thread().name)
        self.inside.set()
        self.gate.wait(LONG)
        super().emit(event)

    def close(self) -> None:
        self.gate.wait(LONG)
        super().close()


@pytest.fixture
def gated() -> Iterator[Gated]:
    sink = Gated()
    yield sink
    sink.gate.set()


def info(number: int) -> PhaseInfo:
    return PhaseInfo("A", id=str(number))


MEASURES: Any = {"done": 0, "total": None, "elapsed": 0.0}
MAKERS: dict[str, Callable[[int], Event]] = {
    "start": lambda n: PhaseStarted(info(n), 0.0),
    "end": lambda n: PhaseEnded(info(n), 0.0, status="completed", **MEASURES),
    "progress": lambda n: PhaseProgressed(info(n), 0.0, eta=None, **MEASURES),
    "alive": lambda n: PhaseAlive(info(n), 0.0, quiet=1.0, eta=None, **MEASURES),
    "stalled": lambda n: PhaseStalled(info(n), 0.0, quiet=1.0, expected=None, eta=None, **MEASURES),
    "metrics": lambda n: MetricsLogged(info(n), 0.0, values={}),
}
RANKS = {"progress": 0, "alive": 0, "metrics": 0, "start": 1, "stalled": 1, "end": 2}


def events(*kinds: str) -> list[Event]:
    return [MAKERS[kind](number) for number, kind in enumerate(kinds)]


def after_blocking(sink: Gated, capacity: int, *kinds: str) -> tuple[QueuedSink, list[tuple[str, str]]]:
    """The queue, and what the sink was given of these events, which came while it hung in an event before them."""
    queued = QueuedSink(sink, capacity=capacity, drain=LONG)
    queued.emit(MAKERS["start"](-1))
    assert sink.inside.wait(LONG)
    for event in events(*kinds):
        queued.emit(event)
    sink.gate.set()
    queued.close()
    assert sink.closed
    return queued, [(event.type, event.id) for event in sink.events[1:]]


# What comes through


def test_every_event_comes_through_in_order_in_one_thread_of_its_own(gated: Gated) -> None:
    kinds = list(MAKERS) * 20
    queued, got = after_blocking(gated, 1000, *kinds)
    assert got == [(kind, str(number)) for number, kind in enumerate(kinds)]
    assert gated.threads == {"phasewatch queue"}
    assert queued.dropped == 0


def test_the_work_does_not_wait_for_a_sink_that_hangs(gated: Gated) -> None:
    queued = QueuedSink(gated, drain=0)
    with Tracker([queued]).phase("A") as handle:
        handle.log(loss=1)
    assert gated.events == []
    queued.close()


def test_without_an_event_there_is_no_thread() -> None:
    before = set(threading.enumerate())
    queued = QueuedSink(MemorySink())
    assert set(threading.enumerate()) <= before
    queued.emit(MAKERS["start"](1))
    (thread,) = set(threading.enumerate()) - before
    assert (thread.name, thread.daemon) == ("phasewatch queue", True)
    queued.close()
    assert not thread.is_alive()


def test_a_sink_that_was_never_given_an_event_is_closed() -> None:
    sink = MemorySink()
    QueuedSink(sink).close()
    assert sink.closed


def test_a_sink_is_closed_once_and_goes_on_if_more_comes(mocker: Any, caplog: pytest.LogCaptureFixture) -> None:
    sink = MemorySink()
    close = mocker.spy(sink, "close")
    queued = QueuedSink(sink)
    for number in (1, 2):
        queued.emit(MAKERS["start"](number))
        queued.close()
        queued.close()
        assert [event.id for event in sink.events] == [str(n + 1) for n in range(number)]
        assert close.call_count == number
    assert (queued.dropped, caplog.records) == (0, [])


def test_events_come_through_as_they_come_and_not_only_at_the_end() -> None:
    class Telling(MemorySink):
        def emit(self, event: Event) -> None:
            told.set()

    told = threading.Event()
    queued = QueuedSink(Telling())
    for number in range(50):  # most of them find the thread asleep
        told.clear()
        queued.emit(MAKERS["start"](number))
        assert told.wait(10)
    queued.close()


def test_a_thread_that_gets_the_number_of_one_that_has_ended_is_heard() -> None:
    sink = MemorySink()
    queued = QueuedSink(sink)
    for number in range(5):
        queued.emit(MAKERS["start"](number))
        queued.close()
        thread = threading.Thread(target=queued.emit, args=(MAKERS["end"](number),))
        thread.start()
        thread.join()
        queued.close()
    assert len(sink.events) == 10


def test_a_queue_that_is_closed_and_let_go_of_is_gone() -> None:
    queued = QueuedSink(MemorySink())
    queued.emit(MAKERS["start"](1))
    queued.close()
    reference = weakref.ref(queued)
    del queued
    gc.collect()
    assert reference() is None


def test_events_of_many_threads_all_come_through() -> None:
    sink = MemorySink()
    queued = QueuedSink(sink, capacity=10**6, drain=LONG)
    tracker = Tracker([queued])

    def work() -> None:
        for _ in range(300):
            with tracker.phase("A"):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queued.close()
    assert len(sink.events) == 8 * 300 * 2
    open_phases = set()
    for event in sink.events:
        if event.type == "start":
            open_phases.add(event.id)
        else:
            open_phases.remove(event.id)
    assert not open_phases


# What is dropped


@pytest.mark.parametrize("passing", ["progress", "alive", "metrics"])
def test_where_the_queue_is_full_the_oldest_progress_goes_first(passing: str, gated: Gated) -> None:
    queued, got = after_blocking(gated, 4, "start", passing, "progress", "end", "start", "end")
    assert got == [("start", "0"), ("end", "3"), ("start", "4"), ("end", "5")]
    assert queued.dropped == 2


def test_progress_never_takes_the_place_of_a_start_or_an_end(gated: Gated) -> None:
    queued, got = after_blocking(gated, 2, "start", "end", "progress", "metrics", "alive")
    assert got == [("start", "0"), ("end", "1")]
    assert queued.dropped == 3


def test_of_starts_and_ends_the_oldest_start_goes_first_and_then_the_oldest_end(gated: Gated) -> None:
    queued, got = after_blocking(gated, 3, "end", "start", "stalled", "end", "end", "start", "end")
    assert got == [("end", "3"), ("end", "4"), ("end", "6")]
    assert queued.dropped == 4


@given(st.lists(st.sampled_from(sorted(MAKERS)), max_size=40), st.integers(1, 8))
def test_what_is_kept_is_what_a_plain_model_keeps(kinds: list[str], capacity: int) -> None:
    sink = Gated()
    queued, got = after_blocking(sink, capacity, *kinds)
    kept: list[tuple[int, str]] = []
    for number, kind in enumerate(kinds):
        kept.append((number, kind))
        if len(kept) > capacity:
            kept.remove(min(kept, key=lambda event: (RANKS[event[1]], event[0] == number, event[0])))
    assert got == [(kind, str(number)) for number, kind in kept]
    assert queued.dropped == len(kinds) - len(kept)


def test_dropping_is_reported_when_it_begins_and_in_all_at_the_end(gated: Gated, caplog: pytest.LogCaptureFixture) -> None:
    after_blocking(gated, 2, *["progress"] * 10)
    assert [(record.name, record.levelno) for record in caplog.records] == [("phasewatch", logging.ERROR)] * 2
    first, last = caplog.messages
    assert first == "the queue of the sink Gated is full: 2 events wait; progress is dropped first"
    assert last == "the sink Gated was too slow: 8 events were dropped in all"


def test_what_was_dropped_is_reported_once_for_each_time_it_is_closed(
    gated: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    queued, _ = after_blocking(gated, 2, *["progress"] * 10)
    queued.emit(MAKERS["start"](1))
    queued.close()
    assert len(caplog.records) == 2
    assert queued.dropped == 8


# Sinks that fail


class Failing(MemorySink):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emit(self, event: Event) -> None:
        super().emit(event)
        raise self.error

    def close(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_a_sink_that_raises_is_reported_once_and_still_offered_what_follows(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Failing(error)
    queued = QueuedSink(sink)
    for event in events("start", "progress", "end"):
        queued.emit(event)
    queued.close()
    assert len(sink.events) == 3
    (record,) = caplog.records
    assert record.message.startswith("the sink Failing could not take an event; the program goes on")
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_sink_that_cannot_be_closed_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    QueuedSink(Failing(OSError("disk full"))).close()
    assert "the sink Failing could not be closed" in caplog.text


def test_closing_a_sink_that_hangs_ends_and_says_what_is_left(gated: Gated, caplog: pytest.LogCaptureFixture) -> None:
    queued = QueuedSink(gated, drain=0)
    for event in events("start", "progress", "end"):
        queued.emit(event)
    assert gated.inside.wait(LONG)
    queued.close()
    assert caplog.messages == [
        "the sink Gated was not done 0 seconds after it was to close; it is left alone, and 3 events with it"
    ]
    queued.emit(MAKERS["start"](9))
    queued.close()
    assert (queued.dropped, len(caplog.records)) == (4, 1), "it was given up"
    gated.gate.set()
    for thread in threading.enumerate():
        if thread.name == "phasewatch queue":
            thread.join(LONG)
    assert (len(gated.events), gated.closed) == (1, True), "it comes back, and is closed"


def test_closing_a_sink_that_hangs_in_its_close_ends(gated: Gated, caplog: pytest.LogCaptureFixture) -> None:
    QueuedSink(gated, drain=0).close()
    assert "the sink Gated was not done" in caplog.text
    assert "0 events with it" in caplog.text


def test_what_a_sink_causes_by_taking_an_event_is_not_told_to_it(caplog: pytest.LogCaptureFixture) -> None:
    class Recursive(MemorySink):
        def emit(self, event: Event) -> None:
            super().emit(event)
            with tracker.phase("CAUSED"):
                queued.close()  # which it cannot wait for

    sink, other = Recursive(), MemorySink()
    queued = QueuedSink(sink, drain=LONG)
    tracker = Tracker([queued, other])
    with tracker.phase("A"):
        pass
    queued.close()
    assert [event.name for event in sink.events] == ["A", "A"]
    assert sorted(event.name for event in other.events) == ["A"] * 2 + ["CAUSED"] * 4
    assert caplog.records == []


def test_a_signal_in_the_middle_of_queueing_may_queue_too() -> None:
    sink = MemorySink()
    queued = QueuedSink(sink)

    def emit_twice() -> None:
        with queued._lock:  # as if in the middle of the first
            queued.emit(MAKERS["start"](1))
            queued._rouse()

    emitting = threading.Thread(target=emit_twice, daemon=True)
    emitting.start()
    emitting.join(LONG)
    assert not emitting.is_alive(), "it waits for itself"
    queued.close()
    assert len(sink.events) == 1


# What is no queue


def test_what_makes_no_queue_is_refused() -> None:
    nothing: Any = object()
    with pytest.raises(TypeError, match=r"QueuedSink: <object .*> is no sink"):
        QueuedSink(nothing)
    with pytest.raises(ValueError, match="capacity=0 must be at least 1"):
        QueuedSink(MemorySink(), capacity=0)
    for drain in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be seconds, at least 0"):
            QueuedSink(MemorySink(), drain=drain)


# Processes that end, and processes that fork


def printed(program: str) -> tuple[int, list[str], str]:
    prelude = """
import os, sys, threading
import phasewatch
from phasewatch import phase
from phasewatch.sinks import QueuedSink
class Printing:
    def emit(self, event):
        os.write(1, f"{event.type} {event.name}\\n".encode())
    def close(self):
        os.write(1, b"closed\\n")
class Hanging(Printing):
    def emit(self, event):
        threading.Event().wait()
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", prelude + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_at_the_end_of_the_interpreter_the_queue_is_written_and_the_sink_closed() -> None:
    code, out, err = printed("""
phasewatch.configure(sinks=[QueuedSink(Printing())])
with phase("A"): pass
sys.exit(7)
""")
    assert (code, out, err) == (7, ["start A", "end A", "closed"], "")


def test_a_program_ends_though_its_sink_hangs() -> None:
    code, out, err = printed("""
phasewatch.configure(sinks=[QueuedSink(Hanging(), drain=0.1)])
with phase("A"): pass
print("done")
""")
    assert (code, out) == (0, ["done"])
    assert err == "the sink Hanging was not done 0.1 seconds after it was to close; it is left alone, and 2 events with it\n"


def test_an_event_after_the_end_is_dropped_without_a_word() -> None:
    code, out, err = printed("""
import atexit
def late():
    with phase("LATE"): pass
    print(queued.dropped)
atexit.register(late)  # which is called after what was registered later
queued = QueuedSink(Printing())
phasewatch.configure(sinks=[queued])
with phase("A"): pass
""")
    assert (code, out, err) == (0, ["start A", "end A", "closed", "2"], "")


def test_the_child_of_a_fork_writes_its_own_events_alone_with_no_lock_held() -> None:
    code, out, err = printed("""
import signal
queued = QueuedSink(Hanging())
phasewatch.configure(sinks=[queued])
with phase("PARENT"):
    with queued._lock:
        child = os.fork()
        if not child:
            signal.alarm(20)
            queued._sink = Printing()
            with phase("CHILD"): pass
            queued.close()
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
""")
    assert (code, out, err) == (0, ["start CHILD", "end CHILD", "closed"], "")


def test_a_process_of_multiprocessing_writes_its_queue_before_it_ends() -> None:
    code, out, err = printed("""
import multiprocessing
def work():
    with phase("CHILD"): pass
phasewatch.configure(sinks=[QueuedSink(Printing())])
with phase("PARENT"):
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
""")
    assert (code, err) == (0, "")
    assert [line for line in out if "PARENT" not in line] == ["start CHILD", "end CHILD", "closed", "closed"]


def test_a_child_that_has_no_events_leaves_the_sink_alone() -> None:
    code, out, err = printed("""
phasewatch.configure(sinks=[QueuedSink(Printing())])
with phase("A"): pass
if not os.fork():
    sys.exit(0)
os.wait()
""")
    assert (code, out.count("closed"), err) == (0, 1, "")
