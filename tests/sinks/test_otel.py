"""Phases as spans, in the real SDK."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from programs import stalled

import phasewatch
from phasewatch import phase
from phasewatch.sinks import OtelSink
from phasewatch.testing import FakeClock, recorded

SECOND = 10**9


class Spans:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.sink = OtelSink(self.provider)

    def by_name(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def spans() -> Spans:
    return Spans()


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def seconds(span: ReadableSpan) -> float:
    assert span.end_time is not None
    assert span.start_time is not None
    return (span.end_time - span.start_time) / SECOND


def test_phases_are_spans_with_the_times_of_their_events(spans: Spans) -> None:
    clock = FakeClock()
    with phasewatch.run("r", sinks=[spans.sink], clock=clock):
        clock.advance(1)
        with phase("A", total=3, unit="batch", details={"Batch size": 256}, step=7) as a, phase("B"):
            clock.advance(2)
            a.advance(3, reward=0.5)
            a.log(loss=0.25)
    found = spans.by_name()
    assert (seconds(found["r"]), seconds(found["A"]), seconds(found["B"])) == (3, 2, 2)
    assert found["A"].start_time == (1_767_225_600 + 1) * SECOND
    assert [parent_of(found[name]) for name in "rAB"] == [None, id_of(found["r"]), id_of(found["A"])]
    assert {span.status.status_code for span in found.values()} == {StatusCode.OK}
    told = dict(found["A"].attributes or {})
    assert told["phasewatch.id"] == a.id
    assert (told["phasewatch.done"], told["phasewatch.total"], told["phasewatch.step"]) == (3, 3, 7)
    assert (told["phasewatch.mean.reward"], told["phasewatch.metric.loss"], told["phasewatch.detail.Batch size"]) == (
        0.5,
        0.25,
        256,
    )
    assert (told["phasewatch.status"], told["phasewatch.path"]) == ("completed", "A")


def test_a_failure_is_an_error_with_its_exception(spans: Spans) -> None:
    with pytest.raises(ValueError, match="no"), phasewatch.run("r", sinks=[spans.sink], clock=FakeClock()), phase("A"):
        raise ValueError("no")
    for span in spans.by_name().values():
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError: no")
        assert [(event.name, dict(event.attributes or {})) for event in span.events] == [
            ("exception", {"exception.type": "ValueError", "exception.message": "no"})
        ]


def test_an_interruption_is_an_error(spans: Spans) -> None:
    with pytest.raises(KeyboardInterrupt), phasewatch.run("r", sinks=[spans.sink], clock=FakeClock()):
        raise KeyboardInterrupt
    (span,) = spans.by_name().values()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "KeyboardInterrupt")


def test_the_run_hangs_under_the_span_that_the_program_has_open(spans: Spans) -> None:
    with spans.provider.get_tracer("program").start_as_current_span("job") as job:
        with phasewatch.run("r", sinks=[spans.sink], clock=FakeClock()), phase("A"):
            pass
    found = spans.by_name()
    assert parent_of(found["r"]) == job.get_span_context().span_id
    assert parent_of(found["A"]) == id_of(found["r"])


def test_what_never_ended_ends_with_its_last_sign_of_life_when_the_sink_is_closed(spans: Spans) -> None:
    with recorded() as log, phase("A"), phase("B") as b:
        log.clock.advance(5)
        b.log(loss=1.0)
        log.clock.advance(5)
    for event in log.events[:-2]:
        spans.sink.emit(event)
    spans.sink.close()
    spans.sink.close()
    inner, outer = spans.exporter.get_finished_spans()
    assert (inner.name, outer.name, seconds(inner)) == ("B", "A", 5)
    for span in (inner, outer):
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "never ended")
        assert (span.attributes or {})["phasewatch.status"] == "lost"


def test_a_phase_that_outlives_the_one_around_it_is_not_lost(spans: Spans) -> None:
    with recorded() as log, phasewatch.run("r", sinks=[log.sink], clock=log.clock), phase("A"), phase("B"):
        pass
    run, a, b, b_end, a_end, run_end = log.events
    for event in (run, a, a_end, b, b_end, run_end, b_end):
        spans.sink.emit(event)
    found = spans.by_name()
    assert parent_of(found["B"]) == id_of(found["r"])


def test_stalls_are_events_of_the_span(spans: Spans) -> None:
    with recorded() as log, phase("A"):
        pass
    start, end = log.events
    for event in (start, stalled(start.phase, start.time + 9, 9.0), end):
        spans.sink.emit(event)
    (marked,) = spans.by_name()["A"].events
    assert (marked.name, marked.timestamp) == ("stalled", round((start.time + 9) * SECOND))


def test_values_of_any_kind_are_taken(spans: Spans) -> None:
    with recorded() as log, phase("A", details={"a": [1, {}], "b": None, "c": 10**30, "d": True, "e": "x" * 5000}):
        pass
    for event in log.events:
        spans.sink.emit(event)
    told = spans.by_name()["A"].attributes or {}
    assert (told["phasewatch.detail.a"], told["phasewatch.detail.c"]) == ("[1, {}]", str(10**30))
    assert told["phasewatch.detail.d"] is True
    assert len(str(told["phasewatch.detail.e"])) == 1000


def test_without_opentelemetry_it_is_said_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
from phasewatch import sinks
try:
    sinks.OtelSink
except ImportError as error:
    assert "pip install 'phasewatch[otel]'" in str(error)
else:
    raise SystemExit("imported")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
