"""Phases as spans of OpenTelemetry. Needs the extra ``otel``."""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import opentelemetry.trace as trace
except ImportError as error:
    raise ImportError("OtelSink needs OpenTelemetry: pip install 'phasewatch[otel]'") from error

from ..events import Measured, PhaseEnded, PhaseStalled, PhaseStarted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..events import Event, PhaseInfo

_LONGEST = 1000  # characters of an attribute


class OtelSink:
    """Makes each phase a span, with its start and end as the events tell them.

    A phase inside another is its child; the outermost is a child of whatever span is current where it begins. A failed or
    interrupted phase has the status ERROR, and the exception as a span event. What is open when the sink is closed ends
    with its last sign of life, with the status ERROR and ``phasewatch.status`` as ``lost``. Spans that the program makes of
    its own inside a phase are not its children: a sink cannot set what is current around it.

    Args:
        tracer_provider: whose spans they are; by default the global one.

    Raises:
        ImportError: opentelemetry-api is not installed.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("phasewatch", tracer_provider=tracer_provider)
        self._open: dict[str, _OpenSpan] = {}

    def emit(self, event: Event) -> None:
        """Begin, mark or end a span."""
        if isinstance(event, PhaseStarted):
            self._start(event)
            return
        entry = self._open.get(event.id)
        if entry is None:
            return
        entry.last = max(entry.last, _nanoseconds(event.time))
        if isinstance(event, PhaseEnded):
            del self._open[event.id]
            entry.end(event)
        elif isinstance(event, PhaseStalled):
            told = {"phasewatch.quiet": event.quiet}
            entry.span.add_event("stalled", told, timestamp=_nanoseconds(event.time))

    def close(self) -> None:
        """End the spans of phases that are open still, the innermost first."""
        for id in reversed(list(self._open)):
            self._open.pop(id).give_up()

    def _start(self, event: PhaseStarted) -> None:
        phase = event.phase
        # What outlives the phase around it hangs under the run.
        outer = self._open.get(phase.parent or "") or (self._open.get(phase.run or "") if phase.parent is not None else None)
        start = _nanoseconds(event.time)
        span = self._tracer.start_span(
            phase.name,
            context=None if outer is None else trace.set_span_in_context(outer.span),  # None: that which is current
            attributes=_attributes(phase),
            start_time=start,
        )
        self._open[phase.id] = _OpenSpan(span, start)


class _OpenSpan:
    """A span that has not ended."""

    __slots__ = ("last", "span", "start")

    def __init__(self, span: trace.Span, start: int) -> None:
        self.span = span
        self.start = self.last = start  # nanoseconds since 1970

    def end(self, event: PhaseEnded) -> None:
        """End it as its phase ended."""
        span = self.span
        # By the monotonic clock: the time of day may have been set in between.
        end = self.start + max(0, _nanoseconds(event.elapsed))
        span.set_attribute("phasewatch.status", event.status)
        span.set_attributes(_measures(event))
        if event.error is not None:
            kind, message = event.error
            span.add_event("exception", {"exception.type": kind, "exception.message": message[:_LONGEST]}, timestamp=end)
        if event.status == "completed":
            span.set_status(trace.StatusCode.OK)
        else:
            told = event.status if event.error is None else ": ".join(filter(None, event.error))
            span.set_status(trace.StatusCode.ERROR, told[:_LONGEST])
        span.end(end)

    def give_up(self) -> None:
        """End it with the last sign of life."""
        self.span.set_attribute("phasewatch.status", "lost")
        self.span.set_status(trace.StatusCode.ERROR, "never ended")
        self.span.end(self.last)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _attributes(phase: PhaseInfo) -> dict[str, str | int | float | bool]:
    position, place = phase.position, phase.place
    told: Mapping[str, object] = {
        "id": phase.id, "role": phase.role, "path": " > ".join(phase.path), "message": phase.message,
        "unit": phase.unit if phase.total is not None else None, "total": phase.total,
        "step": phase.step if phase.step is not None or position is None else position.number,
        "rank": None if place is None else place.rank,
        **{f"detail.{name}": value for name, value in phase.details.items()},
        **{f"attribute.{name}": value for name, value in phase.attributes.items()},
    }  # fmt: skip
    return {f"phasewatch.{name}": _value(value) for name, value in told.items() if value is not None}


def _measures(event: Measured) -> dict[str, str | int | float | bool]:
    told: dict[str, object] = {
        **{f"counter.{name}": value for name, value in event.counters.items()},
        **{f"mean.{name}": value for name, value in event.means.items()},
    }
    if isinstance(event, PhaseEnded):
        told |= {f"metric.{name}": value for name, value in event.metrics.items()}
    if event.done or event.total is not None:
        told["done"] = event.done
    if event.total is not None:
        told["total"] = event.total
    return {f"phasewatch.{name}": _value(value) for name, value in told.items()}


def _value(value: object) -> str | int | float | bool:
    if isinstance(value, (bool, float)) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    return str(value)[:_LONGEST]
