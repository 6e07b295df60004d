"""The sink that hands events to an actor, and the actor."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from phasewatch import Tracker, read
from phasewatch.integrations import _collected
from phasewatch.integrations._collected import CollectedSink, Collector, settle
from phasewatch.testing import FakeClock, MemorySink

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from phasewatch import Event

PATIENCE = 10.0  # seconds, for a thread that does not do what it should


def some_events(count: int) -> list[Event]:
    memory = MemorySink()
    tracker = Tracker([memory])
    while len(memory.events) < count:
        with tracker.phase("WORK"):
            pass
    return memory.events[:count]


class Wire:
    """What stands for the cluster: batches arrive when they are let."""

    def __init__(self, *, arrives: bool = True) -> None:
        self.batches: list[list[Event]] = []
        self.sent, self.lets = threading.Event(), threading.Event()
        self.error: Exception | None = None
        if arrives:
            self.lets.set()

    def find(self, name: str) -> Any:
        assert name == "collector"
        return self.send

    def send(self, log: str, events: list[Event]) -> int:
        assert log == "the.log"
        if self.error is not None:
            raise self.error
        self.batches.append(events)
        self.sent.set()
        return len(self.batches)

    def has_arrived(self, batch: int, seconds: float) -> bool:
        if not self.lets.wait(seconds):
            return False
        if self.error is not None:
            raise self.error
        return True

    def sink(self) -> CollectedSink:
        return CollectedSink("collector", "the.log", self.find, self.has_arrived)

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch]


def test_events_are_sent_in_batches_in_order_and_emit_does_not_wait() -> None:
    wire, events = Wire(arrives=False), some_events(20)
    sink = wire.sink()
    sink.emit(events[0])
    assert wire.sent.wait(PATIENCE)
    for event in events[1:]:
        sink.emit(event)
    assert wire.batches == [events[:1]]  # the next one waits until that has arrived
    wire.sent.clear()
    wire.lets.set()
    assert wire.sent.wait(PATIENCE)
    sink.close()
    assert wire.events == events
    assert len(wire.batches) == 2


def test_a_flush_sends_at_once() -> None:
    wire, events = Wire(arrives=False), some_events(3)
    sink = wire.sink()
    sink.emit(events[0])
    assert wire.sent.wait(PATIENCE)
    sink.emit(events[1])
    sink.flush()
    sink.flush()
    assert wire.batches == [events[:1], events[1:2]]
    wire.lets.set()
    sink.emit(events[2])
    sink.close()
    sink.emit(events[2])
    assert wire.events == events


def test_a_collector_that_is_not_there_yet_is_waited_for() -> None:
    wire, events = Wire(), some_events(4)
    asked = threading.Event()

    def find(name: str) -> Any:
        if not asked.is_set():
            asked.set()
            raise ValueError("no actor of this name")
        return wire.find(name)

    sink = CollectedSink("collector", "the.log", find, wire.has_arrived)
    for event in events:
        sink.emit(event)
    assert wire.sent.wait(PATIENCE)
    sink.close()
    assert wire.events == events


def test_a_single_event_is_sent_when_the_collector_is_there_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_collected, "_PATIENCE", 0.0)
    wire, asked = Wire(), 0

    def find(name: str) -> Any:
        nonlocal asked
        asked += 1
        if asked < 3:
            sink.flush()  # a task is over meanwhile
            raise ValueError("no actor of this name")
        return wire.find(name)

    sink = CollectedSink("collector", "the.log", find, wire.has_arrived)
    events = some_events(1)
    sink.emit(events[0])
    assert wire.sent.wait(PATIENCE)
    sink.close()
    assert wire.events == events


def test_the_oldest_events_go_where_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_collected, "_CAPACITY", 3)
    wire, events = Wire(arrives=False), some_events(6)
    sink = wire.sink()
    sink.emit(events[0])
    assert wire.sent.wait(PATIENCE)
    for event in events[1:]:
        sink.emit(event)
    sink.close()
    assert wire.events == [events[0], *events[3:]]
    wire.lets.set()


def test_a_flush_that_finds_the_collector_dead_ends_the_matter_too(caplog: pytest.LogCaptureFixture) -> None:
    wire, events = Wire(arrives=False), some_events(2)
    sink = wire.sink()
    sink.emit(events[0])
    assert wire.sent.wait(PATIENCE)
    sink.emit(events[1])
    wire.error = RuntimeError("dead")
    sink.flush()
    wire.lets.set()
    assert not sink._waiting
    assert caplog.text.count("cannot be reached any more") == 1


def test_the_thread_of_a_sink_that_is_closed_ends_even_where_nothing_waits() -> None:
    waits = threading.Semaphore(0)

    class Wake(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.release()
            return super().wait(timeout)

    sink = Wire().sink()
    sink._wake = Wake()
    sink.emit(some_events(1)[0])
    thread = sink._thread
    assert thread is not None
    assert waits.acquire(timeout=PATIENCE)
    assert waits.acquire(timeout=PATIENCE)  # for a second event, which does not come
    sink.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_dead_collector_ends_the_matter_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    for arrives in (True, False):
        caplog.clear()
        wire, events = Wire(arrives=arrives), some_events(3)
        sink = wire.sink()
        sink.emit(events[0])
        assert wire.sent.wait(PATIENCE)
        if not arrives:
            sink.emit(events[1])  # it waits behind the first
        wire.error = RuntimeError("dead")
        wire.lets.set()
        if arrives:
            sink.emit(events[1])
        assert sink._thread is not None
        sink._thread.join(PATIENCE)
        assert not sink._thread.is_alive()
        sink.emit(events[2])
        sink.flush()
        assert not sink._waiting
        assert caplog.text.count("cannot be reached any more") == 1


def test_the_child_of_a_fork_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    sink = wire.sink()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    sink.emit(some_events(1)[0])
    assert sink._thread is None


def test_the_actor_writes_what_it_takes(tmp_path: Path) -> None:
    collector, events = Collector(), some_events(6)
    first, second = str(tmp_path / "first.jsonl"), str(tmp_path / "second.jsonl")
    collector.take(first, events[:2])
    collector.take(second, events[2:4])
    collector.take(first, events[4:])
    assert (list(read(first)), list(read(second))) == ([*events[:2], *events[4:]], events[2:4])
    assert collector.taken() == 3


def test_what_cannot_be_written_now_is_written_with_what_comes_later(tmp_path: Path) -> None:
    collector, events = Collector(), some_events(4)
    folder = tmp_path / "folder"
    folder.write_text("no folder yet")
    log = str(folder / "the.jsonl")
    collector.take(log, events[:2])
    folder.unlink()
    collector.take(log, events[2:])
    assert list(read(log)) == events


def test_one_waits_until_nothing_more_comes() -> None:
    clock = FakeClock()
    came = iter([1, 2, 2, 3])
    settle(lambda: next(came, 3), clock, clock.advance)
    assert 0.2 < clock() < 0.4


def test_one_does_not_wait_for_ever() -> None:
    clock = FakeClock()
    begun = clock()
    counts = iter(range(10_000))
    settle(lambda: next(counts), clock, clock.advance)
    assert 2 <= clock() - begun < 2.1


def test_a_sink_that_is_closed_sends_what_waits_and_nothing_after_that() -> None:
    wire, events = Wire(), some_events(3)
    sink = wire.sink()
    sink.emit(events[0])
    assert wire.sent.wait(PATIENCE)
    sink.emit(events[1])
    sink.close()
    sink.emit(events[2])
    sink.flush()
    thread = sink._thread
    assert thread is not None
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert wire.events == events[:2]
