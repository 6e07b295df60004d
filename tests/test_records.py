"""Events to JSON and back: nothing is lost, and whatever a file holds is told apart without harm."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phasewatch import (
    Event,
    MetricsLogged,
    PhaseAlive,
    PhaseEnded,
    PhaseInfo,
    PhaseProgressed,
    PhaseResumed,
    PhaseStalled,
    PhaseStarted,
    Place,
    Position,
    _records,
)
from phasewatch._records import KINDS, RecordError, Records, dropped_record, encoded, line_of, parsed, record_of

# Text as it comes: controls, quotes, lone surrogates. Two that make a pair are one character in JSON.
texts = st.text(st.characters(exclude_categories=()), max_size=20).map(
    lambda text: text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if _has_pair(text) else text
)
ints = st.integers() | st.sampled_from([2**64, -(10**4000)])
counts = st.integers(min_value=0) | st.just(2**64)
floats = st.floats()
numbers = floats | ints
maybe_counts, maybe_texts, maybe_numbers = st.none() | counts, st.none() | texts, st.none() | numbers
mappings = st.dictionaries(texts, numbers, max_size=3)


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no")

    def __repr__(self) -> str:
        return "Unprintable()"


class Printable:
    def __repr__(self) -> str:
        return "an object"


details = st.dictionaries(
    texts | st.integers() | st.none(),
    st.recursive(
        st.none() | st.booleans() | numbers | texts | st.binary(max_size=3) | st.just(Unprintable()) | st.just(Printable()),
        lambda parts: (
            st.lists(parts, max_size=3) | st.tuples(parts) | st.dictionaries(texts | st.integers(), parts, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=3,
)
positions = st.builds(
    Position, counts, maybe_counts, texts, epoch=maybe_counts, epochs=maybe_counts, elapsed=numbers, eta=maybe_numbers
)
places = st.builds(Place, host=maybe_texts, process=maybe_counts, rank=maybe_counts, thread=maybe_texts)
phases = st.builds(
    PhaseInfo,
    texts,
    id=texts,
    parent=maybe_texts,
    run=maybe_texts,
    path=st.lists(texts, max_size=3).map(tuple),
    role=st.sampled_from(["run", "phase", "step"]),
    total=maybe_counts,
    unit=texts,
    start=counts,
    counters=st.dictionaries(texts, maybe_numbers, max_size=2),
    details=details,
    message=maybe_texts,
    step=st.none() | ints,
    emoji=maybe_texts,
    attributes=details,
    position=st.none() | positions,
    announced=st.none() | st.dictionaries(st.sampled_from(["emoji", "opens"]), st.booleans() | texts),
    place=st.none() | places,
)
measures = {
    "time": numbers, "done": counts, "total": maybe_counts, "elapsed": numbers, "counters": mappings, "means": mappings,
}  # fmt: skip
under_way = {**measures, "eta": maybe_numbers}
quiet = {**under_way, "quiet": numbers}


def later_events(phase: PhaseInfo) -> st.SearchStrategy[Event]:
    one = st.just(phase)
    return st.one_of(
        st.builds(PhaseProgressed, one, **under_way),
        st.builds(PhaseAlive, one, **quiet),
        st.builds(PhaseStalled, one, expected=maybe_numbers, stack=maybe_texts, **quiet),
        st.builds(PhaseResumed, one, **quiet),
        st.builds(MetricsLogged, one, numbers, values=mappings),
        ends_of(phase),
    )


def ends_of(phase: PhaseInfo) -> st.SearchStrategy[PhaseEnded]:
    return st.builds(
        PhaseEnded,
        st.just(phase),
        status=st.sampled_from(["completed", "failed", "interrupted"]),
        metrics=mappings,
        error=st.none() | st.tuples(texts, texts),
        innermost=st.booleans(),
        origin=st.none() | st.lists(texts, max_size=2).map(tuple),
        active=maybe_numbers,
        deviations=st.dictionaries(texts, st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=2),
        **measures,
    )


def _has_pair(text: str) -> bool:
    return any("\ud800" <= one <= "\udbff" and "\udc00" <= other <= "\udfff" for one, other in pairwise(text))


def refuse(token: str) -> None:
    raise AssertionError(f"{token} is no JSON")


def through(event: Event, records: Records) -> Event:
    """The event after it was a line."""
    line = line_of(event)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert not any(byte < 32 for byte in line[:-1])
    loaded = json.loads(line, parse_constant=refuse)
    assert loaded == record_of(event), "both ways of writing agree"
    assert line == encoded(record_of(event)), "to the byte"
    back = records.event(parsed(line.decode()))
    assert back is not None
    return back


def as_json(value: Any) -> Any:
    """What a value of a detail is in JSON, by another way than ours."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): as_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    if isinstance(value, Unprintable):
        return "<Unprintable>"
    if isinstance(value, (bytes, Printable)):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def same(one: object, other: object) -> bool:
    """Whether two records hold the same; NaN is NaN."""
    if isinstance(one, dict) and isinstance(other, dict):  # of whichever kind
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if type(one) is not type(other):
        return False
    if hasattr(one, "_fields"):
        return same(one._fields(), other._fields())  # type: ignore[attr-defined]  # of the same type
    if isinstance(one, float):
        return one == other or (one != one and other != other)
    return one == other


@given(st.data(), phases)
def test_every_event_comes_back_as_it_was(data: st.DataObject, phase: PhaseInfo) -> None:
    events = [PhaseStarted(phase, data.draw(numbers)), *data.draw(st.lists(later_events(phase), max_size=3))]
    records = Records()
    phase_back = None
    for event in events:
        back = through(event, records)
        assert type(back) is type(event)
        if phase_back is None:
            phase_back = back.phase
            phase.details, phase.attributes = as_json(phase.details), as_json(phase.attributes)
            assert same(back, event)
        assert same(back, event)
        assert back.phase is phase_back


@given(st.data(), phases)
def test_an_event_whose_start_was_not_seen_has_what_its_line_tells(data: st.DataObject, phase: PhaseInfo) -> None:
    event = data.draw(later_events(phase))
    back = through(event, Records())
    known: dict[str, object] = {"name": phase.name, "id": phase.id}
    if isinstance(event, PhaseEnded):
        known |= {"parent": phase.parent, "run": phase.run, "role": phase.role}
    assert same(back.phase, PhaseInfo(**known))  # type: ignore[arg-type]  # as given
    back.phase = phase
    assert same(back, event)


values = st.recursive(st.none() | st.booleans() | numbers | texts, lambda parts: st.lists(parts, max_size=2) | mappings)


@given(st.data(), phases)
def test_a_damaged_record_is_told_apart_and_never_anything_worse(data: st.DataObject, phase: PhaseInfo) -> None:
    record = record_of(data.draw(later_events(phase) | st.just(PhaseStarted(phase, 1.0))))
    for _ in range(data.draw(st.integers(1, 3))):
        target = record
        key = data.draw(st.sampled_from(sorted(record)))
        if isinstance(record[key], dict) and record[key] and data.draw(st.booleans()):
            target = record[key]
            key = data.draw(st.sampled_from(sorted(target)))
        if data.draw(st.booleans()):
            del target[key]
            if not record:
                break
        else:
            target[key] = data.draw(values)
    records = Records()
    try:
        event = records.event(record)
    except RecordError:
        return
    if event is not None:
        assert json.loads(line_of(event)) == record_of(event)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (5, "foreign"),
        (None, "foreign"),
        ([], "foreign"),
        ({}, "foreign"),
        ({"v": "1", "event": "start"}, "foreign"),
        ({"v": True, "event": "start"}, "foreign"),
        ({"v": 1, "event": 5}, "foreign"),
        ({"v": 2, "event": "start", "id": 5}, "unknown"),
        ({"v": 1, "event": "teleported", "time": 1.0, "id": "1", "name": "A"}, "unknown"),
        ({"v": 1, "event": "start"}, "broken"),
        ({"v": 1, "event": "start", "time": "soon", "id": "1", "name": "A"}, "broken"),
        ({"v": 1, "event": "start", "time": "12", "id": "1", "name": "A"}, "broken"),
        ({"v": 1, "event": "start", "time": 1.0, "id": "1", "name": "A", "total": 1.5}, "broken"),
        ({"v": 1, "event": "start", "time": 1.0, "id": "1", "name": "A", "total": True}, "broken"),
        ({"v": 1, "event": "start", "time": 1.0, "id": "1", "name": "A", "role": "king"}, "broken"),
        ({"v": 1, "event": "start", "time": 1.0, "id": "1", "name": "A", "path": "AB"}, "broken"),
        ({"v": 1, "event": "end", "time": 1.0, "id": "1", "name": "A", "done": 0, "elapsed": 1.0}, "broken"),
        (
            {"v": 1, "event": "end", "time": 1.0, "id": "1", "name": "A", "done": 0, "elapsed": 1.0, "status": "running"},
            "broken",
        ),
        ({"v": 1, "event": "dropped", "time": 1.0, "counts": {"start": "x"}}, "broken"),
    ],
    ids=str,
)
def test_what_is_no_event_tells_why(record: object, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        Records().event(record)
    assert caught.value.reason == reason


def test_fields_that_came_later_are_no_trouble() -> None:
    record = {**record_of(PhaseStarted(PhaseInfo("A", id="1"), 1.0)), "colour": "red"}
    assert Records().event(record) == PhaseStarted(PhaseInfo("A", id="1"), 1.0)


def test_a_line_of_what_was_dropped_is_counted_and_is_no_event() -> None:
    records = Records()
    for _ in range(2):
        line = encoded(dropped_record({"progress": 3, "end": 1}, 1.0, 2.0, process=7))
        assert records.event(parsed(line.decode())) is None
    assert records.dropped == {"progress": 6, "end": 2}


def test_every_type_of_event_has_a_record() -> None:
    def all_below(kind: type[Event]) -> list[type[Event]]:
        return [kind, *(found for below in kind.__subclasses__() for found in all_below(below))]

    assert {kind.type: kind for kind in all_below(Event) if hasattr(kind, "type")} == KINDS


def test_a_detail_that_holds_itself_or_goes_deep_becomes_text_somewhere() -> None:
    loop: list[object] = []
    loop.append(loop)
    deep: object = 1
    for _ in range(10_000):
        deep = [deep]
    event = PhaseStarted(PhaseInfo("A", id="1", details={"loop": loop, "deep": deep}), 1.0)
    details = through(event, Records()).phase.details
    assert "[[...]]" in str(details["loop"])
    assert str(details["deep"]).startswith("[" * 19)


@pytest.mark.parametrize("number", [10**5000, -(10**5000)], ids=["+", "-"])
def test_a_whole_number_with_more_digits_than_python_writes_comes_back(number: int) -> None:
    records = Records()
    phase = PhaseInfo("A", id="1", total=abs(number), attributes={"n": number})
    through(PhaseStarted(phase, 1.0), records)
    back = through(PhaseProgressed(phase, 1.0, done=abs(number), total=None, elapsed=number, eta=None), records)
    assert isinstance(back, PhaseProgressed)
    assert (back.done, back.elapsed, back.phase.total) == (abs(number), number, abs(number))
    assert back.phase.attributes == {"n": hex(number)}


def test_the_encoder_is_that_of_json_where_the_fast_one_is_missing(mocker: Any) -> None:
    event = PhaseStarted(PhaseInfo("A\x1b", id="1", message="é"), math.inf)
    line = line_of(event)
    mocker.patch("json.encoder.c_make_encoder", None)
    mocker.patch.object(_records, "_encode", _records._make_encode())
    assert line_of(event) == line


class Half(float):
    def __repr__(self) -> str:
        return "one half"


class Two(int):
    def __repr__(self) -> str:
        return "two"


class Name(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return "a name"


@pytest.mark.parametrize(
    "figures",
    [
        {"done": Two(2), "elapsed": Half(0.5)},
        {"done": True, "elapsed": 1},
        {"counters": MappingProxyType({"n": 1})},
        {"means": {"n": Half(0.5), "two": Two(2)}},
        {"means": {1: 2.0}},
        {"status": Name("completed"), "origin": (Name("A"),)},
        {"error": (Name("ValueError"), "no"), "innermost": True},
        {"total": 0, "active": 0.0, "origin": ()},
    ],
    ids=repr,
)
def test_what_is_less_usual_is_written_as_a_mapping_of_it_is(figures: dict[str, Any]) -> None:
    phase = PhaseInfo(Name("A"), id="1", parent=Name("0"), path=(Name("A"),), place=Place(host=Name("h"), process=Two(2)))
    usual: dict[str, Any] = {"status": "completed", "done": 0, "total": None, "elapsed": 0.5}
    for event in (PhaseStarted(phase, Half(0.5)), PhaseEnded(phase, Half(0.5), **{**usual, **figures})):
        assert line_of(event) == encoded(record_of(event))


def test_what_is_usual_is_written_without_a_mapping(mocker: Any) -> None:
    mocker.patch.object(_records, "_raw", side_effect=AssertionError)
    place, position = (
        Place(host="h", process=2, rank=1, thread="Main"),
        Position(1, 3, "step", epoch=1, elapsed=1.5, eta=2.0),
    )
    phase = PhaseInfo(
        "A", id="1", parent="0", run="0", path=("A",), total=3, details={"n": [1]}, position=position, place=place
    )
    figures: dict[str, Any] = {"done": 1, "total": 3, "elapsed": 0.5, "counters": {"n": 1.0}, "means": {"m": 0.5}}
    for event in (
        PhaseStarted(phase, 1.5),
        PhaseProgressed(phase, 1.5, eta=None, **figures),
        MetricsLogged(phase, 1.5, values={"m": 0.5}),
        PhaseEnded(phase, 1.5, status="failed", innermost=True, **figures),
    ):
        assert json.loads(line_of(event))["event"] == event.type


def test_metrics_that_are_told_again_are_not_taken_for_others() -> None:
    phase = PhaseInfo("A", id="1")
    first, second = {"loss": 0.5}, {"loss": 0.25}
    for values in (first, first, second, first, {}):
        logged = json.loads(line_of(MetricsLogged(phase, 1.0, values=values)))
        ended = json.loads(line_of(PhaseEnded(phase, 2.0, "completed", 0, None, 1.0, metrics=values)))
        assert (logged.get("values", {}), ended.get("metrics", {})) == (values, values)


def test_metrics_that_are_changed_between_two_events_are_told_as_they_are() -> None:
    phase, values = PhaseInfo("A", id="1"), {"loss": 0.5}
    for values["loss"] in (0.5, 0.25):
        assert json.loads(line_of(MetricsLogged(phase, 1.0, values=values)))["values"] == values


def test_what_many_phases_share_is_remembered_as_long_as_it_is_and_not_without_end(mocker: Any) -> None:
    mocker.patch.object(_records, "_MOST_TEXTS", 3)
    for number in range(50):  # one may be where the one before it was
        info = PhaseInfo("A", id="1", place=Place(host=f"h{number}"), announced={"emoji": f"e{number}"})
        for _ in range(2):
            record = json.loads(line_of(PhaseStarted(info, 1.0)))
            assert (record["place"], record["announced"]) == ({"host": f"h{number}"}, {"emoji": f"e{number}"})
        assert len(_records._texts) <= 3
        del info


@pytest.mark.parametrize(
    "figure",
    [
        {"counters": {"n": 1.0}}, {"means": {"m": 0.5}}, {"error": ("ValueError", "no")}, {"active": 0.5}, {"total": 3},
        {"deviations": {"A": (1, 2)}}, {"innermost": True}, {"metrics": {"m": 0.5}}, {"origin": ("A",)},
    ],
    ids=repr,
)  # fmt: skip
def test_an_end_tells_each_figure_of_its_own(figure: dict[str, Any]) -> None:
    known: dict[str, Any] = {"total": None, **figure}
    event = PhaseEnded(PhaseInfo("A", id="1"), 1.0, status="completed", done=0, elapsed=0.5, **known)
    assert line_of(event) == encoded(record_of(event))


# Reading many phases.


def start(number: int) -> PhaseStarted:
    return PhaseStarted(PhaseInfo(f"P{number}", id=str(number), message="only here"), 1.0)


def end(number: int) -> PhaseEnded:
    return PhaseEnded(start(number).phase, 2.0, status="completed", done=0, total=None, elapsed=1.0)


def test_a_last_word_after_the_end_knows_its_phase_for_a_while(mocker: Any) -> None:
    mocker.patch.object(_records, "_MOST_ENDED", 2)
    records = Records()
    for number in (1, 2, 3):
        through(start(number), records)
        through(end(number), records)
    assert [through(end(number), Records()).phase.message for number in (1,)] == [None]
    messages = [through(MetricsLogged(start(n).phase, 3.0, values={}), records).phase.message for n in (1, 2, 3)]
    assert messages == [None, "only here", "only here"]


def test_memory_is_bounded_by_what_is_open_and_that_too(mocker: Any) -> None:
    mocker.patch.object(_records, "_MOST_ENDED", 2)
    mocker.patch.object(_records, "_MOST_OPEN", 3)
    records = Records()
    for number in range(100):
        through(start(number), records)
        if number % 2:
            through(end(number), records)
            through(end(number), records)
    assert len(records._phases) <= 5
    assert len(records._ended) <= 2


# Lines.


@given(phases, st.data())
@example(PhaseInfo("A", id="1", details={"v": 1}), None)
def test_a_whole_line_after_half_of_another_is_found(phase: PhaseInfo, data: st.DataObject | None) -> None:
    line = line_of(PhaseStarted(phase, 1.0)).decode()
    cut = len(line) // 2 if data is None else data.draw(st.integers(0, len(line) - 2))
    assert parsed(line[:cut] + line) == json.loads(line)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"v":1,"event":"sta', "broken"),
        ("step:12 - loss:0.5", "foreign"),
        ("", "foreign"),
        ("[" * 100_000, "foreign"),
        ('{"v":' * 100_000, "broken"),
    ],
    ids=["torn", "foreign", "empty", "deep", "deep and ours"],
)
def test_a_line_that_is_no_json_tells_whether_it_was_one_of_ours(line: str, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        parsed(line)
    assert caught.value.reason == reason
