"""Events to a tree: in any order, incomplete, damaged."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Work, ended, events_of, info, span, stalled, started, works

import phasewatch
from phasewatch import Event, MetricsLogged, PhaseEnded, PhaseProgressed, Timeline, phase
from phasewatch.testing import recorded
from phasewatch.timeline import Node

Shape = tuple[str, str, float, float, list["Shape"]]


def shape(node: Node) -> Shape:
    return (node.name, node.status, node.start, node.duration, [shape(child) for child in node.children])


def everything(timeline: Timeline) -> list[tuple[object, ...]]:
    return [
        (
            node.id, node.path, node.status, node.step, node.start, node.duration, node.done, node.total, dict(node.metrics),
            dict(node.means), dict(node.counters), node.rank, node.last_sign, node.error, node.stalls,
            [child.id for child in node.children],
        )
        for node in timeline.nodes()
    ]  # fmt: skip


@pytest.fixture(scope="module")
def busy() -> list[Event]:
    """A run with steps, metrics, progress, counters and a failure."""
    with recorded() as log:
        with (
            pytest.raises(ValueError, match="no"),
            phasewatch.run("r", sinks=[log.sink], clock=log.clock),
            phase("TRAINING", total=9, unit="step", counters={"questions": None}) as training,
        ):
            for number in range(5):
                with training.step() as step, phase("GEN"):
                    log.clock.advance(1.5)
                    step.log(loss=1 / (number + 1))
                    training.advance(0, questions=7, reward=number)
                    log.clock.advance(0.5)
                    if number == 4:
                        raise ValueError("no")
    return log.events


def test_a_run_is_a_tree(busy: list[Event]) -> None:
    (run,) = Timeline.from_events(busy).roots
    (training,) = run.children
    assert (run.name, run.role, run.status, run.path) == ("r", "run", "failed", ())
    assert (training.name, training.duration, training.done, training.total) == ("TRAINING", 10.0, 4, 9)
    assert training.counters == {"questions": 35}
    assert training.means == {"reward": 2.0}
    assert [step.step for step in training.children] == [1, 2, 3, 4, 5]
    assert [step.status for step in training.children] == ["completed"] * 4 + ["failed"]
    assert [step.metrics["loss"] for step in training.children] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    last = training.children[-1].children[0]
    assert (last.path, last.step, last.error, last.innermost) == (
        ("TRAINING", "TRAINING STEP", "GEN"),
        5,
        ("ValueError", "no"),
        True,
    )
    assert run.origin == last.path
    assert last.parent is training.children[-1]
    assert last.end == run.end == run.start + 10


@given(st.randoms(use_true_random=False), st.sets(st.integers(0, 30)), st.booleans())
def test_the_order_of_events_and_events_given_twice_do_not_matter(
    busy: list[Event], source: random.Random, left_out: set[int], finished: bool
) -> None:
    events = [event for number, event in enumerate(busy) if number not in left_out]
    shuffled = events + source.sample(events, len(events) // 2)
    source.shuffle(shuffled)
    expected = everything(Timeline.from_events(events, finished=finished))
    assert everything(Timeline.from_events(shuffled, finished=finished)) == expected


@settings(max_examples=40)
@given(works, st.data())
def test_a_run_that_was_cut_off_anywhere_is_a_tree_of_what_was_told(work: Work, data: st.DataObject) -> None:
    events = events_of(work)
    events = events[: data.draw(st.integers(1, len(events)))]
    timeline = Timeline.from_events(events)
    begun = [event.id for event in events if event.type == "start"]
    assert sorted(node.id for node in timeline.nodes()) == sorted(begun)
    assert len(timeline) == len(begun)
    complete = {event.id for event in events if event.type == "end"}
    for node in timeline.nodes():
        assert node.status == ("completed" if node.id in complete else "lost")
        assert node.start <= node.last_sign <= events[-1].time
        if node.status == "lost":
            assert node.last_sign == events[-1].time, "all that is open is around the last event"
            assert node.duration == pytest.approx(events[-1].time - node.start)


def test_what_never_ended_is_running_while_the_stream_is_followed() -> None:
    events = [started(info("a.1"), 5.0)]
    assert Timeline.from_events(events, finished=False).roots[0].status == "running"
    assert Timeline.from_events(events).roots[0].status == "lost"


def test_events_can_be_added_after_the_tree_was_looked_at() -> None:
    timeline = Timeline(finished=False)
    timeline.add(started(info("a.1"), 5.0))
    assert timeline.roots[0].end is None
    timeline.add(started(info("a.2", "B", "a.1", "A", "B"), 6.0))
    assert shape(timeline.roots[0]) == ("A", "running", 5.0, 1.0, [("B", "running", 6.0, 0.0, [])])
    timeline.add(ended(info("a.1"), 9.0, 4.0))
    assert shape(timeline.roots[0]) == ("A", "completed", 5.0, 4.0, [("B", "running", 6.0, 0.0, [])])
    node = timeline.get("a.2")
    assert node is not None
    assert node.parent is timeline.roots[0]
    assert timeline.get("a.9") is None


def test_an_end_whose_start_was_not_seen_is_shown_with_the_time_that_it_tells() -> None:
    phase = phasewatch.PhaseInfo("B", id="a.2", parent="a.1")
    timeline = Timeline.from_events([started(info("a.1"), 5.0), ended(phase, 9.0, 3.0, done=2, total=4)])
    (node,) = timeline.roots[0].children
    assert (node.path, node.start, node.duration, node.done, node.total) == (("A", "B"), 6.0, 3.0, 2, 4)


def test_a_phase_whose_parent_is_unknown_stands_at_the_top() -> None:
    timeline = Timeline.from_events(span(info("a.2", "B", "a.1", "A", "B"), 5.0, 1.0))
    assert [(node.name, node.path, node.parent) for node in timeline.roots] == [("B", ("A", "B"), None)]


def test_phases_that_contain_each_other_are_shown_all_the_same() -> None:
    events = [started(info(a, a, b), 1.0) for a, b in (("x", "y"), ("y", "z"), ("z", "x"), ("own", "own"), ("leaf", "z"))]
    timeline = Timeline.from_events(events)
    assert sorted(node.name for node in timeline.nodes()) == ["leaf", "own", "x", "y", "z"]


def test_a_chain_of_phases_of_any_depth_is_no_trouble() -> None:
    events = [started(phasewatch.PhaseInfo("A", id=f"{n:06}", parent=f"{n - 1:06}"), float(n)) for n in range(20_000)]
    timeline = Timeline.from_events(reversed(events))
    assert len(list(timeline.nodes())) == 20_000
    assert timeline.roots[0].duration == 19_999


def test_a_phase_has_the_rank_and_the_step_of_what_is_around_it() -> None:
    events = [
        started(info("a.1", rank=3, step=7), 1.0),
        started(info("a.2", "B", "a.1"), 1.0),
        started(info("a.3", "C", "a.2"), 1.0),
    ]
    assert [(node.rank, node.step) for node in Timeline.from_events(events).nodes()] == [(3, 7)] * 3


def test_the_latest_figures_count_of_a_phase_that_never_ended() -> None:
    a = info("a.1", total=8)
    events: list[Event] = [started(a, 1.0)]
    for n, loss in ((1, 0.5), (2, 0.25)):
        events.append(PhaseProgressed(a, 1.0 + n, done=n, total=8, elapsed=float(n), eta=None, means={"reward": n / 2}))
        events.append(MetricsLogged(a, 1.5 + n, values={"loss": loss}))
    (node,) = Timeline.from_events(reversed(events)).roots
    assert (node.done, node.total, node.means, node.metrics, node.last_sign) == (2, 8, {"reward": 1.0}, {"loss": 0.25}, 3.5)
    assert node.duration == 2.5


def test_stalls_are_kept_with_their_phase() -> None:
    a = info("a.1")
    stalls = [stalled(a, 1.0 + n, float(n)) for n in (9, 5, 9)]
    (node,) = Timeline.from_events([started(a, 1.0), *stalls]).roots
    assert [stall.quiet for stall in node.stalls] == [5.0, 9.0]


def test_a_generator_counts_for_as_long_as_it_was_active() -> None:
    inner = info("a.2", "G", "a.1", "A", "G")
    events = [started(info("a.1"), 0.0), *span(inner, 1.0, 8.0, active=2.0), ended(info("a.1"), 10.0, 10.0)]
    (node,) = Timeline.from_events(events).roots
    assert (node.children[0].seconds, node.children[0].duration, node.own) == (2.0, 8.0, 8.0)


def broken() -> Iterator[Event]:
    for number, bad in enumerate((float("nan"), float("inf"), -1.0, 1e300, 10**400)):
        phase = info(f"a.{number}", total=10**400)
        yield started(phase, bad)
        yield PhaseProgressed(phase, bad, done=10**400, total=10**400, elapsed=bad, eta=bad)
        yield PhaseEnded(phase, bad, status="failed", done=-1, total=0, elapsed=bad, active=bad)
        yield MetricsLogged(phase, bad, values={"a": bad})
        yield started(info(f"b.{number}"), bad)


def test_times_that_are_none_hurt_nobody() -> None:
    timeline = Timeline.from_events(broken())
    assert len(list(timeline.nodes())) == 10
    for node in timeline.nodes():
        assert 0 <= node.duration <= 1e11
        assert 0 <= node.start <= 1e11
        assert 0 <= node.own <= 1e11
    assert "<Node 'A'" in repr(timeline.roots[0])
