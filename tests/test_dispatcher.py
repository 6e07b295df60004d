"""Events to sinks: whatever a sink does wrong stays there."""

from __future__ import annotations

import asyncio
import logging

import pytest

from phasewatch import PhaseStarted
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
