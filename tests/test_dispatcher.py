"""Events to sinks: whatever a sink does wrong stays there."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from phasewatch import PhaseStarted, Tracker, _dispatcher
from phasewatch._dispatcher import Dispatcher
from phasewatch.events import Event, PhaseInfo
from phasewatch.testing import MemorySink


class Failing(MemorySink):
    """Raises at the calls of these numbers, counted from 1, and in close if told so."""

    def __init__(self, *at: int, in_close: bool = False, error: BaseException | None = None) -> None:
        super().__init__()
        self.at = at
        self.in_close = in_close
        self.error = OSError("disk full") if error is None else error

    def emit(self, event: Event) -> None:
        super().emit(event)
        if len(self.events) in self.at:
            raise self.error

    def close(self) -> None:
        super().close()
        if self.in_close:
            raise self.error


ALWAYS = range(1, 100)


def started(number: int) -> PhaseStarted:
    return PhaseStarted(PhaseInfo("A", id=str(number)), float(number))


@pytest.mark.parametrize(
    "failing",
    [
        pytest.param(lambda: Failing(*ALWAYS), id="always"),
        pytest.param(lambda: Failing(3), id="at the third event"),
        pytest.param(lambda: Failing(in_close=True), id="in close"),
        pytest.param(lambda: Failing(*ALWAYS, in_close=True), id="always and in close"),
    ],
)
def test_a_sink_that_raises_stops_no_other_and_is_reported_once(
    failing: type[Failing], caplog: pytest.LogCaptureFixture
) -> None:
    before, broken, after = MemorySink(), failing(), MemorySink()
    dispatcher = Dispatcher([before, broken, after])
    events = [started(number) for number in range(5)]
    for event in events:
        dispatcher.emit(event)
    dispatcher.close()
    for sink in (before, broken, after):
        assert sink.events == events, "a disk that was full has room again: later events are still offered"
        assert sink.closed
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("phasewatch", logging.ERROR)
    assert "the sink Failing" in record.message
    assert record.exc_info is not None
    assert record.exc_info[1] is broken.error
    assert "Traceback" in caplog.text


def test_a_report_says_what_could_not_be_done(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = Dispatcher([Failing(1), Failing(in_close=True)])
    dispatcher.emit(started(1))
    dispatcher.close()
    assert "could not take an event" in caplog.records[0].message
    assert "could not be closed" in caplog.records[1].message


def test_each_sink_that_raises_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = Dispatcher([Failing(*ALWAYS), Failing(*ALWAYS)])
    for number in range(3):
        dispatcher.emit(started(number))
    assert len(caplog.records) == 2


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interruption_is_not_contained(interruption: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = Dispatcher([Failing(1, in_close=True, error=interruption())])
    with pytest.raises(interruption):
        dispatcher.emit(started(1))
    with pytest.raises(interruption):
        dispatcher.close()
    assert caplog.records == []


def test_some_sinks_can_be_closed_alone() -> None:
    kept, given = MemorySink(), MemorySink()
    Dispatcher([kept, given]).close([given])
    assert (kept.closed, given.closed) == (False, True)


def test_a_dispatcher_without_sinks_does_nothing() -> None:
    dispatcher = Dispatcher()
    dispatcher.emit(started(1))
    dispatcher.close()
    assert dispatcher.sinks == ()


def test_sinks_that_come_from_a_generator_are_kept() -> None:
    sink = MemorySink()
    dispatcher = Dispatcher(sink for _ in range(1))
    dispatcher.emit(started(1))
    dispatcher.emit(started(2))
    assert len(sink.events) == 2


def test_a_failure_to_report_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no log either")

    monkeypatch.setattr(logging.getLogger("phasewatch"), "error", fail)
    sink = MemorySink()
    Dispatcher([Failing(1), sink]).emit(started(1))
    assert sink.events == [started(1)]


# Sinks that cause events


class Causing(MemorySink):
    """Does something while it takes an event."""

    def __init__(self, cause: Callable[[Event], object]) -> None:
        super().__init__()
        self.cause = cause

    def emit(self, event: Event) -> None:
        super().emit(event)
        self.cause(event)


def names(sink: MemorySink) -> list[str]:
    return [f"{event.name} {event.type}" for event in sink.events]


A_PHASE = ["A start", "A end"]


def test_what_a_sink_causes_is_told_to_the_others_when_all_have_taken_the_event() -> None:
    def open_a_phase(event: Event) -> None:
        with tracker.phase("CAUSED") as caused:
            caused.log(loss=1)
            caused.advance()

    before, causing, after = MemorySink(), Causing(open_a_phase), MemorySink()
    tracker = Tracker([before, causing, after])
    with tracker.phase("A"):
        pass
    assert names(causing) == A_PHASE
    caused = [f"CAUSED {kind}" for kind in ("start", "metrics", "progress", "end")]
    assert names(before) == names(after) == ["A start", *caused, "A end", *caused], "the cause before the effect"


def test_sinks_that_cause_events_for_each_other_come_to_an_end(caplog: pytest.LogCaptureFixture) -> None:
    def causing(name: str) -> Causing:
        return Causing(lambda event: tracker.phase(name).__enter__().__exit__(None, None, None))

    sinks = [causing("1"), causing("2"), causing("3")]
    tracker = Tracker(sinks)
    with tracker.phase("A"):
        pass
    for number, sink in enumerate(sinks, 1):
        assert f"{number} start" not in names(sink)
        assert names(sink).count("A start") == 1
        # Of two others, each causes one phase for each of the two events, and two more for each of those of the other.
        assert len(sink.events) == 2 + 2 * (2 * 2 + 2 * 2 * 2)
    assert caplog.records == []


def test_a_sink_that_emits_through_another_tracker_is_not_told_of_it_there() -> None:
    causing = Causing(lambda event: other.phase("CAUSED").__enter__().__exit__(None, None, None))
    sink = MemorySink()
    other = Tracker([causing, sink])
    with Tracker([causing]).phase("A"):
        pass
    assert names(causing) == A_PHASE
    assert names(sink) == ["CAUSED start", "CAUSED end"] * 2


def test_a_tracker_that_a_sink_opens_and_closes_tells_all_before_it_is_closed() -> None:
    inner: list[MemorySink] = []

    def use_a_tracker(event: Event) -> None:
        sink = MemorySink()
        inner.append(sink)
        tracker = Tracker([sink])
        with tracker.phase("CAUSED"):
            pass
        tracker.close()
        assert names(sink) == ["CAUSED start", "CAUSED end"]

    causing, after = Causing(use_a_tracker), MemorySink()
    with Tracker([causing, after]).phase("A"):
        pass
    assert [sink.closed for sink in inner] == [True, True]
    assert names(causing) == names(after) == A_PHASE


def test_a_sink_that_logs_into_a_logger_that_opens_phases_is_told_of_none_of_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Feeding(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with tracker.phase("LOGGED"):
                pass

    logger, handler = logging.getLogger("some program"), Feeding()
    sink = MemorySink()
    causing = Causing(lambda event: logger.warning("took %s", event.name))
    tracker = Tracker([causing, sink])
    logger.addHandler(handler)
    try:
        with tracker.phase("A"):
            pass
    finally:
        logger.removeHandler(handler)
    assert names(causing) == A_PHASE
    assert len(caplog.records) == 2
    assert names(sink).count("LOGGED start") == names(sink).count("LOGGED end") == 2


def test_a_report_that_feeds_the_sink_that_failed_is_made_once(caplog: pytest.LogCaptureFixture) -> None:
    class Feeding(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with tracker.phase("REPORTED"):
                pass

    sink, handler = MemorySink(), Feeding()
    tracker = Tracker([Failing(*ALWAYS), sink])
    logging.getLogger("phasewatch").addHandler(handler)
    try:
        with tracker.phase("A"):
            pass
    finally:
        logging.getLogger("phasewatch").removeHandler(handler)
    assert len(caplog.records) == 1
    assert names(sink) == ["A start", "REPORTED start", "REPORTED end", "A end"]


def test_what_a_sink_causes_in_another_thread_is_told_to_it() -> None:
    def in_a_thread(event: Event) -> None:
        if event.name == "A":
            thread = threading.Thread(target=lambda: tracker.phase("OTHER").__enter__().__exit__(None, None, None))
            thread.start()
            thread.join()

    causing = Causing(in_a_thread)
    tracker = Tracker([causing])
    with tracker.phase("A"):
        pass
    assert names(causing) == ["A start", "OTHER start", "OTHER end", "A end", "OTHER start", "OTHER end"]


def test_while_a_sink_takes_an_event_other_threads_are_told_of_theirs() -> None:
    inside, go = threading.Event(), threading.Event()

    def hang(event: Event) -> None:
        if event.name == "SLOW":
            inside.set()
            go.wait(60)

    sink = Causing(hang)
    tracker = Tracker([sink])
    thread = threading.Thread(target=lambda: tracker.phase("SLOW").__enter__().__exit__(None, None, None))
    thread.start()
    inside.wait(60)
    with tracker.phase("A"):
        pass
    assert names(sink) == ["SLOW start", *A_PHASE]
    go.set()
    thread.join()


def test_after_an_interruption_nothing_that_was_caused_is_lost() -> None:
    def cause_and_interrupt(event: Event) -> None:
        if event.name == "A":
            with tracker.phase("CAUSED"):
                pass
            raise KeyboardInterrupt

    causing, sink = Causing(cause_and_interrupt), MemorySink()
    tracker = Tracker([sink, causing])
    with pytest.raises(KeyboardInterrupt):
        tracker.phase("A").__enter__()
    tracker.close()
    assert sorted(names(sink)) == ["A end", "A start", *["CAUSED end"] * 2, *["CAUSED start"] * 2]
    with tracker.phase("B"):
        pass
    assert names(causing)[-2:] == ["B start", "B end"]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
@pytest.mark.parametrize("as_method", [False, True])
def test_what_a_signal_handler_does_while_a_sink_takes_an_event_is_told_to_it_at_once(as_method: bool) -> None:
    class Handler:
        def __call__(self, number: int, frame: object) -> None:
            with tracker.phase("HANDLED"):
                pass

    def be_interrupted(event: Event) -> None:
        if event.name == "A":
            signal.raise_signal(signal.SIGUSR1)
        with tracker.phase("CAUSED"):
            pass

    handler = Handler()
    sink, other = Causing(be_interrupted), MemorySink()
    tracker = Tracker([sink, other])
    before = signal.signal(signal.SIGUSR1, handler.__call__ if as_method else handler)
    try:
        with tracker.phase("A"):
            pass
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert names(sink) == ["A start", "HANDLED start", "HANDLED end", "A end", "HANDLED start", "HANDLED end"]
    assert names(other).count("CAUSED start") == names(other).count("CAUSED end") == 6
    assert not _dispatcher._taking
    assert not _dispatcher._causes
    assert not _dispatcher._waiting


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_a_sink_forks_and_a_thread_with_a_number_of_the_parents_are_told_of_everything() -> None:
    code = """
import os
from phasewatch import Tracker, _dispatcher
from phasewatch.testing import MemorySink
codes = []
class Forking(MemorySink):
    def emit(self, event):
        super().emit(event)
        if event.name != "A":
            return
        with tracker.phase("CAUSED"): pass
        _dispatcher._taking[1] = self  # as another thread in the middle of an event
        child = os.fork()
        if not child:
            with tracker.phase("CHILD"): pass
            names = [event.name for event in self.events[-2:]]
            right = names == ["CHILD"] * 2 and 1 not in _dispatcher._taking and other.events[-2:] == self.events[-2:]
            codes.append(right and "CAUSED" not in [event.name for event in other.events[-3:]])
            return
        del _dispatcher._taking[1]
        codes.append(os.waitpid(child, 0)[1])
sink, other = Forking(), MemorySink()
tracker = Tracker([other, sink])
with tracker.phase("A"):
    if codes == [True]:
        with tracker.phase("AFTER"): pass
        os._exit(sink.events[-1].name != "AFTER")
if codes == [0, True]: os._exit(0)
assert codes == [0, 0], codes
assert [event.name for event in other.events] == ["A", "CAUSED", "CAUSED"] * 2
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
