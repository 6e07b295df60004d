"""The records of what happened: equal by what they hold, readable, and whole."""

from __future__ import annotations

import copy
import pickle
import unittest.mock

import pytest

from phasewatch import Event, MetricsLogged, PhaseEnded, PhaseInfo, PhaseProgressed, PhaseStarted, Position, Sink
from phasewatch.events import SCHEMA_VERSION
from phasewatch.testing import MemorySink


def info(**options: object) -> PhaseInfo:
    return PhaseInfo("VALIDATION", **{"id": "7.1", "path": ("TRAINING", "VALIDATION"), "parent": "7.0", **options})  # type: ignore[arg-type]  # as given


def events() -> list[Event]:
    return [
        PhaseStarted(info(), 10.0),
        PhaseProgressed(info(), 11.0, done=1, total=28, elapsed=1.0, eta=27.0),
        MetricsLogged(info(), 12.0, values={"loss": 0.5}),
        PhaseEnded(info(), 13.0, status="completed", done=28, total=28, elapsed=3.0),
    ]


def test_each_kind_of_event_has_a_type() -> None:
    assert [event.type for event in events()] == ["start", "progress", "metrics", "end"]


def test_an_event_names_its_phase() -> None:
    for event in events():
        assert (event.name, event.id, event.parent, event.path) == ("VALIDATION", "7.1", "7.0", ("TRAINING", "VALIDATION"))


def test_records_that_hold_the_same_are_equal() -> None:
    assert events() == events()
    assert Position(1, 35, "step") == Position(1, 35, "step")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PhaseStarted(info(), 1.0), PhaseStarted(info(), 2.0)),
        (PhaseStarted(info(), 1.0), PhaseStarted(info(id="7.2"), 1.0)),
        (PhaseStarted(info(), 1.0), Event(info(), 1.0)),
        (PhaseStarted(info(), 1.0), 1.0),
        (info(), info(details={"a": 1})),
        (info(position=Position(1, 2, "step")), info(position=Position(2, 2, "step"))),
        (Position(1, 35, "step"), Position(1, 35, "step", eta=0.0)),
        (Position(1, 35, "step"), None),
        (MetricsLogged(info(), 1.0, values={"a": 1.0}), MetricsLogged(info(), 1.0, values={"a": 2.0})),
        (
            PhaseProgressed(info(), 1.0, done=1, total=2, elapsed=1.0, eta=None),
            PhaseProgressed(info(), 1.0, done=1, total=2, elapsed=1.0, eta=1.0),
        ),
        (
            PhaseEnded(info(), 1.0, status="failed", done=1, total=2, elapsed=1.0),
            PhaseEnded(info(), 1.0, status="failed", done=1, total=2, elapsed=1.0, innermost=True),
        ),
    ],
)
def test_records_that_differ_in_any_part_or_kind_are_not_equal(one: object, other: object) -> None:
    assert one != other
    assert other != one


@pytest.mark.parametrize("record", [*events(), info(), Position(1, 35, "step")], ids=lambda record: type(record).__name__)
def test_records_are_not_hashable_since_they_hold_mappings(record: object) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(record)


@pytest.mark.parametrize("record", [*events(), info(), Position(1, 35, "step")], ids=lambda record: type(record).__name__)
def test_records_can_be_copied_and_sent_to_another_process(record: object) -> None:
    assert copy.deepcopy(record) == record
    assert pickle.loads(pickle.dumps(record)) == record


def test_a_record_is_printed_with_all_its_parts_and_those_of_its_kind_last() -> None:
    position = Position(1, 35, "step", epoch=1, epochs=3, elapsed=42.0, eta=None)
    assert repr(position) == ("Position(elapsed=42.0, epoch=1, epochs=3, eta=None, number=1, total=35, unit='step')")
    logged = repr(MetricsLogged(info(), 1.5, values={"loss": 0.5}))
    assert logged.startswith("MetricsLogged(phase=PhaseInfo(")
    assert logged.endswith("), time=1.5, values={'loss': 0.5})")
    ended = repr(events()[-1])
    assert all(f"{part}=" in ended for part in ("status", "done", "total", "elapsed", "counters", "means", "origin"))


def test_mappings_that_are_not_given_are_empty() -> None:
    phase = info()
    assert (phase.counters, phase.details, phase.attributes) == ({}, {}, {})
    ended = PhaseEnded(phase, 1.0, status="completed", done=0, total=None, elapsed=1.0)
    assert (ended.counters, ended.means, ended.metrics) == ({}, {}, {})


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("update", ({"a": 1},)), ("setdefault", ("a", 1)), ("__setitem__", ("a", 1)), ("__ior__", ({"a": 1},))],
)
def test_what_one_record_has_nothing_of_cannot_be_filled_for_all(method: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match="make a dict of it first"):
        getattr(info().counters, method)(*arguments)
    assert info().counters == {}


def test_records_have_no_room_for_misspelt_fields() -> None:
    with pytest.raises(AttributeError):
        info().totl = 3  # type: ignore[attr-defined]  # the mistake under test


def test_whoever_has_the_two_methods_is_a_sink() -> None:
    sink: Sink = MemorySink()
    sink.emit(events()[0])
    sink.close()


def test_the_schema_has_a_version() -> None:
    assert SCHEMA_VERSION == 1


def test_an_event_leaves_comparing_with_other_types_to_them() -> None:
    assert PhaseStarted(PhaseInfo("A", id="1"), 0.0) == unittest.mock.ANY
    assert PhaseStarted(PhaseInfo("A", id="1"), 0.0) != "A"
