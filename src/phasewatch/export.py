"""A run in the formats of other tools: a trace for Perfetto and chrome://tracing, OTLP for a collector, a table.

All three hold what never ended too, up to its last sign of life.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
import math
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from .events import Measured, MetricsLogged, PhaseStalled
from .summary import shown_path
from .timeline import Timeline, sane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from .events import Event, Place
    from .timeline import Node

    Process = tuple[int | None, str | None, int | None]  # rank, host and number, each if known

_LONGEST = 1000  # characters of an attribute's text
_RELATIVE = 1e8  # seconds; a log that knows no time of day counts from its beginning
_JITTER = 0.001  # seconds by which phases may overlap that follow each other: two clocks are involved
_NAN_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # as protobuf's JSON calls them
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # what spreadsheets take for one

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


# The trace format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU


def chrome(events: Iterable[Event]) -> Iterator[str]:
    """Yield the pieces of a trace in the JSON format of chrome://tracing, which Perfetto opens too.

    Ranks, or else processes, are its processes, threads its tracks; phases of one thread that overlap, as those of
    coroutines do, get tracks of their own. Counts, counters and metrics are counter tracks. A phase that never ended is a
    slice up to its last sign of life, with its status in the arguments. Times are microseconds since the first event.
    """
    timeline = Timeline()
    counters: list[tuple[str, float, Mapping[str, float]]] = []
    for event in events:
        timeline.add(event)
        # The figures alone are kept: which process they belong to, and when it all began, is known at the end.
        if isinstance(event, (Measured, MetricsLogged)):
            counters.append(
                (event.id, sane(event.time), event.values if isinstance(event, MetricsLogged) else _counts(event))
            )
    nodes = list(timeline.nodes())
    first = min((node.start for node in nodes), default=0.0)
    tracks = _Tracks(nodes)
    yield '{"displayTimeUnit":"ms","traceEvents":[\n'
    separator = ""
    for record in _records(nodes, tracks, counters, first):
        yield separator + _encode(record)
        separator = ",\n"
    yield f'\n],"otherData":{{"producer":"phasewatch","start":{_encode(_moment(first))}}}}}\n'


def _records(
    nodes: list[Node], tracks: _Tracks, counters: list[tuple[str, float, Mapping[str, float]]], first: float
) -> Iterator[dict[str, Any]]:
    for (rank, host, process), pid in tracks.processes.items():
        told = [text for text in (host, None if process is None else f"pid {process}") if text]
        name = f"rank {rank}" if rank is not None else "process"
        yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": _text(" ".join([name, *told]))}}
        yield {"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": pid}}
    for (pid, thread, lane), tid in tracks.threads.items():
        name = (thread or "main") + (f" ({lane + 1})" if lane else "")
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": _text(name)}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}
    for node in nodes:
        place = tracks.of[node.id]
        yield {
            "ph": "X",
            "cat": node.role,
            "name": _text(node.name),
            "pid": place.pid,
            "tid": place.tid,
            "ts": _microseconds(node.start - first),
            # Of two rounded moments: a slice that is a nanosecond too long is dropped for crossing another.
            "dur": _microseconds(_rounded(place.end - first) - _rounded(node.start - first)),
            "args": {name: value if isinstance(value, int) else _text(value) for name, value in _attributes(node).items()},
        }
        for stall in node.stalls:
            yield {
                "ph": "i", "s": "t", "cat": "stall", "name": _text(f"stalled: {node.name}"), "pid": place.pid,
                "tid": place.tid, "ts": _microseconds(sane(stall.time) - first),
            }  # fmt: skip
    for id, time, values in counters:
        place = tracks.of[id]
        for name, value in values.items():
            number = _number(value)
            if number is not None:
                yield {
                    "ph": "C", "name": _text(f"{shown_path(place.node.path)}: {name}"), "pid": place.pid,
                    "ts": _microseconds(time - first), "args": {"value": number},
                }  # fmt: skip


def _counts(event: Measured) -> dict[str, float]:
    """Return the figures of an event that tells how far its phase is; nothing of a phase that counts nothing."""
    done = {"done": event.done} if event.done or event.total is not None else {}
    return {**done, **event.counters, **event.means}


def _rounded(seconds: float) -> float:
    return round(max(0.0, seconds), 9)


def _microseconds(seconds: float) -> float:
    return round(max(0.0, seconds) * 1e6, 3)


class _Slice:
    """A phase on its track; where clocks differ a little it ends with what is around it, or when the next one begins."""

    __slots__ = ("end", "lane", "node", "pid", "tid")

    def __init__(self, node: Node, pid: int) -> None:
        self.node, self.pid, self.tid, self.lane = node, pid, 0, 0
        self.end = node.start + node.duration


class _Tracks:
    """Gives each phase a process and a thread of the trace.

    A slice of a trace lies inside or behind each other one of its thread: phases that overlap get several.
    """

    def __init__(self, nodes: list[Node]) -> None:
        places = _places(nodes)
        known = {process for process, _ in places.values()}
        ordered = sorted(known, key=lambda process: tuple((part is not None, part or 0) for part in process))
        # From 1: a process 0 is the idle one.
        self.processes = {process: number for number, process in enumerate(ordered, 1)}
        self.threads: dict[tuple[int, str | None, int], int] = {}
        self.of: dict[str, _Slice] = {}
        lanes: dict[tuple[int, str | None], _Lanes] = {}  # of each thread
        # What is around a phase comes before it, as it does in the tree.
        for node in sorted(nodes, key=lambda node: node.start):
            process, thread = places[node.id]
            place = self.of[node.id] = _Slice(node, self.processes[process])
            parent = node.parent
            shares = parent is not None and places[parent.id] == places[node.id]
            around = self.of.get(parent.id) if parent is not None and shares else None  # none if it began later
            lanes.setdefault((place.pid, thread), _Lanes()).put(place, around)
            # Perfetto takes the numbers of threads as those of the whole machine.
            place.tid = self.threads.setdefault((place.pid, thread, place.lane), len(self.threads) + 1)


class _Lanes:
    """The tracks of one thread: on each the slices that are open, one inside the other."""

    def __init__(self) -> None:
        self._open: list[list[_Slice]] = []
        self._ends: list[tuple[float, int]] = []  # a heap: when the outermost slice of a lane is over
        self._free: list[int] = []  # a heap of lanes that are empty

    def put(self, new: _Slice, around: _Slice | None) -> None:
        """Put a slice on the lane of the phase around it, else on the first that is free."""
        start = new.node.start
        if around is not None:
            lane = self._open[around.lane]
            _end_slices(lane, start, around)
            if lane and lane[-1] is around and new.end <= around.end + _JITTER:
                new.end, new.lane = min(new.end, around.end), around.lane
                lane.append(new)
                return
        while self._ends and self._ends[0][0] <= start + _JITTER:
            _, number = heappop(self._ends)
            _end_slices(self._open[number], start)
            heappush(self._free, number)
        if not self._free:
            self._free.append(len(self._open))
            self._open.append([])
        new.lane = heappop(self._free)
        self._open[new.lane].append(new)
        heappush(self._ends, (new.end, new.lane))


def _end_slices(lane: list[_Slice], start: float, around: _Slice | None = None) -> None:
    """Take from a lane what is over when a slice begins; not what is around that one and ends at this very moment."""
    while lane and lane[-1].end <= start + _JITTER and (lane[-1] is not around or around.end < start):
        over = lane.pop()
        over.end = min(over.end, max(start, over.node.start))


def _places(nodes: list[Node]) -> dict[str, tuple[Process, str | None]]:
    """Return the process and thread of each phase, of what is around it where it does not tell; outer ones come first."""
    told: dict[str, Place | None] = {}
    found: dict[str, tuple[Process, str | None]] = {}
    for node in nodes:
        place = told[node.id] = node.place if node.place is not None or node.parent is None else told[node.parent.id]
        if place is None:
            found[node.id] = (node.rank, None, None), None
        else:
            found[node.id] = (node.rank, place.host, place.process), place.thread
    return found


# OTLP: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding


def otlp_json(events: Iterable[Event]) -> Iterator[str]:
    """Yield the pieces of an ExportTraceServiceRequest, as an OpenTelemetry collector takes it by HTTP or from a file.

    Each phase is a span. Its ids are hashes of ours: one trace for each run. One that did not complete has the status
    ERROR; a phase that never ended ends with its last sign of life and says so in its status and in ``phasewatch.status``.
    """
    nodes = list(Timeline.from_events(events).nodes())
    tops: dict[str, Node] = {}
    spans: dict[Process, list[Node]] = {}
    places = _places(nodes)
    for node in nodes:
        tops[node.id] = node if node.parent is None else tops[node.parent.id]
        spans.setdefault(places[node.id][0], []).append(node)
    yield '{"resourceSpans":['
    for number, (process, inside) in enumerate(spans.items()):
        resource = _encode({"attributes": _otlp_attributes(_resource(process))})
        yield (
            "," if number else ""
        ) + f'\n{{"resource":{resource},"scopeSpans":[{{"scope":{{"name":"phasewatch"}},"spans":['
        for count, node in enumerate(inside):
            yield (",\n" if count else "\n") + _encode(_span(node, tops[node.id]))
        yield "]}]}"
    yield "]}\n"


def _resource(process: Process) -> dict[str, object]:
    rank, host, number = process
    told = {"service.name": "phasewatch", "host.name": host, "process.pid": number, "phasewatch.rank": rank}
    return {name: value for name, value in told.items() if value is not None}


def _span(node: Node, top: Node) -> dict[str, Any]:
    span: dict[str, Any] = {
        "traceId": _hashed(node.phase.run or top.phase.run or top.id, 16),
        "spanId": _hashed(node.id, 8),
        "name": _text(node.name),
        "kind": 1,  # internal
        "startTimeUnixNano": _nanoseconds(node.start),
        "endTimeUnixNano": _nanoseconds(node.start + node.duration),
        "attributes": _otlp_attributes({f"phasewatch.{name}": value for name, value in _attributes(node).items()}),
        "status": _otlp_status(node),
    }
    if node.phase.parent is not None:
        span["parentSpanId"] = _hashed(node.phase.parent, 8)
    told = [_stalled(stall) for stall in node.stalls]
    if node.error is not None:
        attributes = {"exception.type": node.error[0], "exception.message": node.error[1]}
        end = _nanoseconds(node.start + node.duration)
        told.append({"timeUnixNano": end, "name": "exception", "attributes": _otlp_attributes(attributes)})
    if told:
        span["events"] = told
    return span


def _stalled(stall: PhaseStalled) -> dict[str, Any]:
    attributes = _otlp_attributes({"phasewatch.quiet": sane(stall.quiet)})
    return {"timeUnixNano": _nanoseconds(sane(stall.time)), "name": "stalled", "attributes": attributes}


def _otlp_status(node: Node) -> dict[str, Any]:
    if node.status == "completed":
        return {"code": 1}
    message = "never ended" if node.status == "lost" else node.status
    return {"code": 2, "message": _text(message if node.error is None else ": ".join(filter(None, node.error)))}


def _otlp_attributes(values: Mapping[str, object]) -> list[dict[str, Any]]:
    return [{"key": _text(name), "value": _otlp_value(value)} for name, value in values.items()]


def _otlp_value(value: object) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _NAN_NAMES[repr(value)]}
    return {"stringValue": _text(value)}


def _hashed(id: str, size: int) -> str:
    """Return an id as so many bytes in hexadecimal, never all zero."""
    return hashlib.blake2b(id.encode("utf-8", "replace"), digest_size=size, person=b"phasewatch").hexdigest()


def _nanoseconds(seconds: float) -> str:
    whole = math.floor(seconds)
    return str(whole * 1_000_000_000 + round((seconds - whole) * 1e9))


# A table.

_COLUMNS: dict[str, Callable[[Node], object]] = {
    "id": lambda node: node.id,
    "parent": lambda node: node.phase.parent,
    "run": lambda node: node.phase.run,
    "path": lambda node: shown_path(node.path),
    "name": lambda node: node.name,
    "role": lambda node: node.role,
    "step": lambda node: node.step,
    "status": lambda node: node.status,
    "start": lambda node: _moment(node.start) if node.start > _RELATIVE else None,
    "start_seconds": lambda node: round(node.start, 6),
    "duration_seconds": lambda node: round(node.duration, 6),
    "own_seconds": lambda node: round(node.own, 6),
    "done": lambda node: node.done,
    "total": lambda node: node.total,
    "unit": lambda node: node.unit,
    "rank": lambda node: node.rank,
    "host": lambda node: None if node.place is None else node.place.host,
    "process": lambda node: None if node.place is None else node.place.process,
    "thread": lambda node: None if node.place is None else node.place.thread,
    "error": lambda node: None if node.error is None else node.error[0],
    "error_message": lambda node: None if node.error is None else node.error[1],
    "metrics": lambda node: json.dumps({_text(name): _json_number(value) for name, value in node.metrics.items()}),
}


def table(events: Iterable[Event]) -> Iterator[str]:
    """Yield the lines of a CSV table with a row for each phase.

    Quoting is that of RFC 4180. A text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    line = io.StringIO()
    writer = csv.writer(line)
    writer.writerow(_COLUMNS)
    for node in Timeline.from_events(events).nodes():
        writer.writerow([_cell(value_of(node)) for value_of in _COLUMNS.values()])
        yield line.getvalue()
        line.seek(0)
        line.truncate()
    yield line.getvalue()


def _cell(value: object) -> object:
    if value is None or isinstance(value, (int, float)):
        return _text(value) if value is not None else ""
    text = _text(value).replace("\0", "")
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


# What they share.

FORMATS: dict[str, Callable[[Iterable[Event]], Iterator[str]]] = {"chrome": chrome, "otlp-json": otlp_json, "csv": table}


def _attributes(node: Node) -> dict[str, object]:
    """Return what is known of a phase, as plain values by name."""
    phase = node.phase
    told: dict[str, object] = {
        "id": node.id, "status": node.status, "role": node.role, "path": shown_path(node.path), "step": node.step,
        "rank": node.rank, "message": phase.message, "unit": phase.unit if node.total is not None or node.done else None,
        "done": node.done if node.total is not None or node.done else None, "total": node.total, "active": node.active,
    }  # fmt: skip
    if node.error is not None:
        told["error.type"], told["error.message"] = node.error
    for group, values in (
        ("counter", node.counters), ("mean", node.means), ("metric", node.metrics), ("detail", phase.details),
        ("attribute", phase.attributes),
    ):  # fmt: skip
        told.update({f"{group}.{name}": value for name, value in values.items()})
    return {name: value for name, value in told.items() if value is not None}


def _moment(seconds: float) -> str:
    """Return a moment in UTC, as ISO 8601 has it."""
    moment = dt.datetime.fromtimestamp(0, dt.timezone.utc) + dt.timedelta(seconds=round(seconds, 6))
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _number(value: object) -> float | None:
    """Return what a track can draw, or None."""
    try:
        number = float(value)  # type: ignore[arg-type]  # or it raises
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _json_number(value: object) -> object:
    number = _number(value)
    return _text(value) if number is None else number


def _text(value: object) -> str:
    """Return a value as text that UTF-8 can hold, not all of it if it is long."""
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception:  # of a foreign class, or more digits than Python turns into text
        text = f"<{type(value).__name__}>"
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return text.encode("utf-8", "replace").decode()
