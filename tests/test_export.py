"""A run in the formats of other tools, read by readers that are not ours."""

from __future__ import annotations

import base64
import csv
import io
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from perfetto_queries import query
from programs import Work, ended, events_of, info, span, started, works

import phasewatch
from phasewatch import Event, MetricsLogged, PhaseInfo, PhaseStalled, Place, Timeline, phase
from phasewatch.export import FORMATS, _Tracks, chrome, otlp_json, table
from phasewatch.testing import recorded

IDS = {"traceId", "spanId", "parentSpanId"}


def killed_run() -> list[Event]:
    """A run on two ranks that failed in one, and was killed in the other."""
    with recorded() as log:
        with (
            pytest.raises(ValueError, match="no"),
            phasewatch.run("r", sinks=[log.sink], clock=log.clock),
            phase("TRAINING", total=3, unit="step") as training,
        ):
            for number in range(3):
                with training.step() as step:
                    log.clock.advance(2)
                    step.log(loss=1.0 / (number + 1))
                    if number == 2:
                        raise ValueError("no")
    other = info("b.1", "LOAD", rank=1, total=5, message="\x1b[31m")
    stall = PhaseStalled(other, 1_767_225_604.0, quiet=3.0, expected=1.0, done=2, total=5, elapsed=3.0, eta=None)
    return [*log.events, started(other, 1_767_225_601.0), stall]


def trace_of(events: list[Event]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads("".join(chrome(events)))["traceEvents"]
    return found


def slices(events: list[Event]) -> dict[str, dict[str, Any]]:
    return {record["args"]["id"]: record for record in trace_of(events) if record["ph"] == "X"}


def as_protobuf_has_it(value: Any) -> Any:
    """Return OTLP's JSON with its one deviation from that of protobuf undone: ids are hexadecimal, not base64."""
    if isinstance(value, list):
        return [as_protobuf_has_it(part) for part in value]
    if isinstance(value, dict):
        return {
            name: base64.b64encode(bytes.fromhex(part)).decode() if name in IDS else as_protobuf_has_it(part)
            for name, part in value.items()
        }
    return value


def request_of(text: str) -> Any:
    return json_format.ParseDict(as_protobuf_has_it(json.loads(text)), ExportTraceServiceRequest())


def spans_of(events: list[Event]) -> list[Any]:
    request = request_of("".join(otlp_json(events)))
    return [one for resource in request.resource_spans for scope in resource.scope_spans for one in scope.spans]


def attributes(values: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in values}


# chrome


def test_each_phase_is_a_slice_of_its_process_and_thread() -> None:
    found = trace_of(killed_run())
    names = {(one["name"], one["pid"]): one["args"].get("name") for one in found if one["ph"] == "M"}
    assert [name for (kind, _), name in names.items() if kind == "process_name"][1].startswith("rank 1 h pid 101")
    sliced = [one for one in found if one["ph"] == "X"]
    assert [(one["name"], one["ts"], one["dur"]) for one in sliced] == [
        ("r", 0.0, 6e6), ("TRAINING", 0.0, 6e6), ("TRAINING STEP", 0.0, 2e6), ("TRAINING STEP", 2e6, 2e6),
        ("TRAINING STEP", 4e6, 2e6), ("LOAD", 1e6, 3e6),
    ]  # fmt: skip
    assert len({(one["pid"], one["tid"]) for one in sliced[:5]}) == 1
    assert sliced[5]["pid"] != sliced[0]["pid"]


def test_a_phase_that_never_ended_is_a_slice_up_to_its_last_sign_of_life() -> None:
    last = list(slices(killed_run()).values())[-1]
    assert (last["name"], last["dur"], last["args"]["status"], last["args"]["done"]) == ("LOAD", 3e6, "lost", 2)
    assert [one["name"] for one in trace_of(killed_run()) if one["ph"] == "i"] == ["stalled: LOAD"]


def test_counts_and_metrics_are_counter_tracks() -> None:
    counted = [one for one in trace_of(killed_run()) if one["ph"] == "C"]
    losses = [(one["ts"], one["args"]["value"]) for one in counted if one["name"] == "TRAINING > TRAINING STEP: loss"]
    assert losses == [(2e6, 1.0), (4e6, 0.5), (6e6, 1 / 3)]
    assert [one["args"]["value"] for one in counted if one["name"] == "LOAD: done"] == [2]


@pytest.mark.trainers  # for what it needs, not for what it does
def test_perfetto_finds_each_phase_in_its_process_and_thread_and_each_count(tmp_path: Path) -> None:
    events = killed_run()
    slices, processes, counters, faults = query(
        "".join(chrome(events)),
        tmp_path,
        "select slice.name, slice.ts, slice.dur, parent.name, upid from slice left join slice parent"
        " on parent.id = slice.parent_id join thread_track on slice.track_id = thread_track.id join thread using (utid)"
        " where slice.dur > 0",
        "select name from process where name is not null",
        "select counter_track.name, value from counter join counter_track on track_id = counter_track.id order by ts",
        "select name, value from stats where severity in ('error', 'data_loss') and value > 0",
    )
    nodes = list(Timeline.from_events(events).nodes())
    assert faults == []
    assert Counter((name, duration) for name, _, duration, _, _ in slices) == Counter(
        (node.name, round(node.duration * 1e9)) for node in nodes
    )
    around = {node.name: node.parent.name if node.parent is not None else None for node in nodes}
    assert {(name, parent) for name, _, _, parent, _ in slices} == set(around.items())
    assert len({process for *_, process in slices}) == 2
    assert [name for (name,) in processes if name.startswith("rank 1 h pid 101")]
    losses = [
        value for name, value in counters if name == "TRAINING > TRAINING STEP: loss value"
    ]  # and how it is called there
    assert losses == [1.0, 0.5, 1 / 3]


def tracks_are_nested(found: list[dict[str, Any]]) -> None:
    """Check it as strictly as Perfetto does: to the nanosecond."""
    by_track: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for one in found:
        if one["ph"] == "X":
            by_track.setdefault((one["pid"], one["tid"]), []).append(
                (round(one["ts"] * 1000), round(one["ts"] * 1000) + round(one["dur"] * 1000))
            )
    for track in by_track.values():
        open_until: list[int] = []
        for begin, end in sorted(track, key=lambda pair: (pair[0], -pair[1])):
            while open_until and open_until[-1] <= begin:
                open_until.pop()
            assert not open_until or end <= open_until[-1], "slices of one track lie inside or behind each other"
            open_until.append(end)


# Whole seconds, which meet often, and fractions of which the last digits are lost.
moments = st.one_of(st.integers(0, 50), st.floats(0, 50))


@given(st.lists(st.tuples(moments, moments, st.integers(0, 20)), max_size=25))
def test_slices_of_one_track_never_cross_each_other(given: list[tuple[float, float, int]]) -> None:
    events: list[Event] = []
    for number, (begin, length, parent) in enumerate(given):
        inside = f"a.{parent}" if parent < number else None
        events += span(info(f"a.{number}", "A", inside), 1.7e9 + begin, float(length))
    found = trace_of(events)
    assert len([one for one in found if one["ph"] == "X"]) == len(given)
    tracks_are_nested(found)


@settings(max_examples=30)
@given(works)
def test_phases_one_after_the_other_share_one_track(work: Work) -> None:
    found = [one for one in trace_of(events_of(work)) if one["ph"] == "X"]
    assert len({(one["pid"], one["tid"]) for one in found}) == 1
    tracks_are_nested(found)


def test_where_two_clocks_differ_a_little_a_phase_ends_with_what_is_around_it() -> None:
    a, b, c = info("a"), info("b", "B", "a"), info("c", "C", "a")
    events = [
        started(a, 0.0),
        started(b, 0.0),
        ended(b, 5.0, 5.0002),
        started(c, 5.0),
        ended(c, 9.0, 4.0005),
        ended(a, 9.0, 9.0),
    ]
    found = slices(events)
    assert len({one["tid"] for one in found.values()}) == 1
    assert (found["b"]["dur"], found["c"]["dur"]) == (5e6, 4e6)


def test_a_coroutine_beside_another_has_a_track_of_its_own_with_what_is_inside_it() -> None:
    a, b, inner = info("a"), info("b", "B"), info("c", "C", "b")
    events = [
        started(a, 0.0),
        started(b, 1.0),
        started(inner, 2.0),
        ended(inner, 3.0, 1.0),
        ended(a, 4.0, 4.0),
        ended(b, 6.0, 5.0),
    ]
    found = slices(events)
    assert found["b"]["tid"] == found["c"]["tid"] != found["a"]["tid"]


# otlp


def test_a_reader_of_otlp_takes_each_phase_as_a_span() -> None:
    spans = spans_of(killed_run())
    run, training, first, *_, load = spans
    assert [one.name for one in spans] == ["r", "TRAINING", *["TRAINING STEP"] * 3, "LOAD"]
    assert {len(one.trace_id) for one in spans} == {16}
    assert {len(one.span_id) for one in spans} == {8}
    assert len({one.span_id for one in spans}) == 6
    assert run.parent_span_id == b""
    assert (training.parent_span_id, first.parent_span_id) == (run.span_id, training.span_id)
    assert {one.trace_id for one in spans[:5]} == {run.trace_id} != {load.trace_id}
    assert run.start_time_unix_nano == 1_767_225_600 * 10**9
    assert (first.end_time_unix_nano - first.start_time_unix_nano, first.kind) == (2 * 10**9, 1)


def test_the_status_of_a_span_is_that_of_its_phase() -> None:
    run, _, first, _, last, load = spans_of(killed_run())
    assert (first.status.code, last.status.code, last.status.message) == (1, 2, "ValueError: no")
    assert (run.status.code, load.status.code, load.status.message) == (2, 2, "never ended")
    assert attributes(last.events[0].attributes) == {"exception.type": "ValueError", "exception.message": "no"}
    told = attributes(load.attributes)
    assert (told["phasewatch.status"], told["phasewatch.done"], told["phasewatch.message"]) == ("lost", 2, "\x1b[31m")
    assert load.events[0].name == "stalled"
    assert attributes(first.attributes)["phasewatch.metric.loss"] == 1.0


def test_each_process_is_a_resource() -> None:
    request = request_of("".join(otlp_json(killed_run())))
    ours, other = (attributes(one.resource.attributes) for one in request.resource_spans)
    assert ours["service.name"] == "phasewatch"
    assert other == {"service.name": "phasewatch", "host.name": "h", "process.pid": 101, "phasewatch.rank": 1}


def test_times_are_exact_to_the_nanosecond_as_far_as_they_are_known() -> None:
    one = info("a")
    (found,) = spans_of(span(one, 1.0, 0.000_001))
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (10**9, 10**9 + 1000)


# csv


def rows_of(events: list[Event]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(table(events)), newline="")))


def test_a_table_has_a_row_for_each_phase() -> None:
    rows = rows_of(killed_run())
    assert [row["name"] for row in rows] == ["r", "TRAINING", *["TRAINING STEP"] * 3, "LOAD"]
    first, last = rows[2], rows[-1]
    assert (first["path"], first["step"], first["duration_seconds"]) == ("TRAINING > TRAINING STEP", "1", "2.0")
    assert (first["start"], first["start_seconds"]) == ("2026-01-01T00:00:00.000000Z", "1767225600.0")
    assert json.loads(first["metrics"]) == {"loss": 1.0}
    assert (rows[4]["error"], rows[4]["error_message"], rows[4]["status"]) == ("ValueError", "no", "failed")
    assert (last["status"], last["rank"], last["thread"]) == ("lost", "1", "MainThread")
    assert (last["host"], last["process"]) == ("h", "101")


def test_a_log_that_knows_no_time_of_day_has_none_in_the_table() -> None:
    (row,) = rows_of(span(info("a"), 5.0, 1.0))
    assert (row["start"], row["start_seconds"]) == ("", "5.0")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "＋1", "－1", "＠1"])
def test_no_text_of_the_table_is_a_formula(name: str) -> None:
    (row,) = rows_of(span(info("a", name), 1.0, 1.0, status="failed", error=(name, name)))
    assert row["name"] == row["error"] == row["error_message"] == f"'{name}"


@given(st.text(max_size=20))
def test_any_name_comes_back_from_the_table(name: str) -> None:
    (row,) = rows_of(span(info("a", name), 1.0, 1.0))
    expected = name.replace("\0", "").encode("utf-8", "replace").decode()
    assert row["name"] in (expected, f"'{expected}")
    assert row["done"] == "0"


# All of them.


@pytest.mark.parametrize("to", FORMATS)
def test_an_empty_log_has_an_empty_export(to: str) -> None:
    text = "".join(FORMATS[to]([]))
    if to == "csv":
        assert text.count("\n") == 1
    else:
        assert json.loads(text)


@pytest.mark.parametrize("to", FORMATS)
def test_whatever_stands_in_a_log_can_be_exported(to: str) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    events: list[Event] = []
    for number, bad in enumerate((float("nan"), float("inf"), -5.0, 1e308, 10**400)):
        one = info(
            f"a.{number}", "\ud800</script>\0" * 500, total=10**400, details={"a": Odd(), "b": [1], "c": True, "d": bad}
        )
        events += [started(one, bad), MetricsLogged(one, bad, values={"a": bad, "\ud800": 10**400})]
        events.append(ended(one, bad, bad, done=10**400, total=10**400, means={"a": bad}))
    events.append(started(PhaseInfo("A", id="\ud800", parent="x"), 1.0))
    text = "".join(FORMATS[to](events))
    text.encode("utf-8")
    if to == "otlp-json":
        request_of(text)
    elif to == "chrome":
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_nothing_is_lost_on_the_way() -> None:
    events = killed_run()
    count = len(Timeline.from_events(events))
    assert len(slices(events)) == len(spans_of(events)) == len(rows_of(events)) == count == 6


@pytest.mark.parametrize("kind", ["inside each other", "at once"])
def test_a_log_of_very_many_phases_takes_no_time_that_grows_with_their_square(kind: str) -> None:
    parents = {n: f"a.{n - 1}" if n and kind == "inside each other" else None for n in range(10_000)}
    phases = [PhaseInfo("A", id=f"a.{n}", parent=parent, path=("A",)) for n, parent in parents.items()]
    nodes = list(Timeline.from_events([started(one, 1.0 + number) for number, one in enumerate(phases)]).nodes())
    for node in nodes:
        node.duration = 1e6 - 2 * node.start
    began = time.process_time()
    tracks = _Tracks(nodes)
    assert time.process_time() - began < 2  # ten times as long as it takes; the square would take ten times that
    assert len(tracks.threads) == (1 if kind == "inside each other" else 10_000)


def tracks_of(*phases: tuple[PhaseInfo, float, float]) -> list[tuple[int, float]]:
    """Return the track of each phase, and how long it is there."""
    events = [event for one, begin, seconds in phases for event in span(one, begin, seconds)]
    return [(found["tid"], found["dur"] / 1e6) for found in slices(events).values()]


def test_a_phase_that_outlives_what_is_around_it_has_a_track_of_its_own() -> None:
    assert tracks_of((info("a"), 1.0, 5.0), (info("b", parent="a"), 3.0, 10.0)) == [(1, 5.0), (2, 10.0)]


def test_a_track_that_is_free_is_used_again() -> None:
    assert [tid for tid, _ in tracks_of(*((info(f"{n}"), float(n), 1.5 - n % 2) for n in range(1, 9)))] == [
        1,
        1,
        2,
        1,
        2,
        1,
        2,
        1,
    ]


def test_what_begins_as_what_is_around_it_ends_stays_in_it() -> None:
    assert tracks_of((info("a"), 1.0, 5.0), (info("b", parent="a"), 6.0, 0.0)) == [(1, 5.0), (1, 0.0)]


def test_a_phase_that_does_not_tell_where_it_ran_is_where_what_is_around_it_is() -> None:
    outer = PhaseInfo("A", id="a", path=("A",), place=Place(host="h", process=7, thread="t"))
    events: list[Event] = [started(outer, 1.0), started(info("b", parent="a"), 2.0)]
    first, second = slices(events).values()
    assert (first["pid"], first["tid"]) == (second["pid"], second["tid"])
    assert len(request_of("".join(otlp_json(events))).resource_spans) == 1


def test_a_phase_in_another_thread_than_what_is_around_it_has_a_track_there() -> None:
    one, other = (Place(host="h", process=7, thread=thread) for thread in "tu")
    phases = [PhaseInfo("A", id=id, path=("A",), place=one) for id in "ab"]
    events = [event for phase in phases for event in span(phase, 1.0, 9.0)]
    events += span(PhaseInfo("B", id="c", parent="b", path=("A", "B"), place=other), 2.0, 3.0)
    assert [(found["name"], found["tid"]) for found in slices(events).values()] == [("A", 1), ("A", 2), ("B", 3)]
