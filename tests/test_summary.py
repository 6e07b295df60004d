"""Figures of a run: true, whatever is asked, from events and from a timeline alike."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Work, ended, events_of, info, span, stalled, started, works

import phasewatch
from phasewatch import Event, MetricsLogged, PhaseInfo, PhaseProgressed, Timeline, phase, summarize
from phasewatch.summary import Summary
from phasewatch.testing import recorded

few = settings(max_examples=40)  # programs are run, which takes its time


def figures(summary: Summary) -> dict[str, object]:
    found = summary.as_dict()
    del found["events"]
    return found


def near(value: object) -> object:
    """Return figures to be compared with, numbers nearly."""
    if isinstance(value, dict):
        return {name: near(part) for name, part in value.items()}
    if isinstance(value, list):
        return [near(part) for part in value]
    return pytest.approx(value, abs=1e-6) if isinstance(value, float) else value


# Properties of programs whose phases run one after the other.


@few
@given(works)
def test_own_time_and_the_time_of_what_is_inside_add_up_to_the_whole(work: Work) -> None:
    summary = summarize(events_of(work))
    for kind in summary.kinds:
        inside = sum(
            other.total for other in summary.kinds if other.path and other.path[:-1] == kind.path and other is not kind
        )
        assert kind.own + inside == pytest.approx(kind.total, abs=1e-5)
        assert kind.open_time == pytest.approx(kind.total, abs=1e-5)
    assert sum(kind.own for kind in summary.kinds) == pytest.approx(summary.elapsed, abs=1e-5)


@few
@given(works)
def test_shares_are_parts_of_the_run(work: Work) -> None:
    summary = summarize(events_of(work))
    for kind in summary.kinds:
        if summary.elapsed:
            assert kind.share == pytest.approx(kind.total / summary.elapsed, abs=1e-6)
            assert kind.share is not None
            assert 0 <= kind.share <= 1
        else:
            assert kind.share is None
    tops = sum(kind.share or 0 for kind in summary.kinds if len(kind.path) == 1)
    assert tops <= 1 + 1e-6


@few
@given(works)
def test_counts_and_durations_are_those_of_the_events(work: Work) -> None:
    events = events_of(work)
    took = defaultdict(list)
    for event in events:
        if isinstance(event, phasewatch.PhaseEnded):
            took[event.path].append(event.elapsed)
    summary = summarize(events)
    assert {kind.path: kind.count for kind in summary.kinds} == {path: len(times) for path, times in took.items()}
    for kind in summary.kinds:
        times = sorted(took[kind.path])
        assert (kind.completed, kind.failed, kind.unfinished) == (len(times), 0, 0)
        assert kind.total == pytest.approx(sum(times))
        assert kind.mean == pytest.approx(statistics.fmean(times))
        assert (kind.highest, kind.p95) == (times[-1], times[math.ceil(0.95 * len(times)) - 1])
        assert kind.p50 == times[(len(times) + 1) // 2 - 1]
    assert (summary.status, summary.events) == ("completed", len(events))


@few
@given(works, st.data())
def test_a_timeline_has_the_figures_of_its_events_wherever_the_run_was_cut_off(work: Work, data: st.DataObject) -> None:
    events = events_of(work, run=data.draw(st.booleans()))
    events = events[: data.draw(st.integers(1, len(events)))]
    assert figures(summarize(Timeline.from_events(events))) == near(figures(summarize(events)))
    running = figures(summarize(events, finished=False))
    assert figures(summarize(Timeline.from_events(events, finished=False))) == near(running)


@few
@given(works, st.randoms(use_true_random=False))
def test_of_shuffled_events_a_timeline_has_the_same_figures(work: Work, source: random.Random) -> None:
    events = events_of(work)
    expected = near(figures(summarize(events)))
    shuffled = source.sample(events, len(events))
    assert figures(summarize(Timeline.from_events(shuffled))) == expected


@few
@given(works, st.data())
def test_of_a_killed_run_the_innermost_open_phase_is_told(work: Work, data: st.DataObject) -> None:
    events = events_of(work)
    events = events[: data.draw(st.integers(1, len(events) - 1))]
    open_paths = []
    for event in events:
        if event.type == "start":
            open_paths.append(event.path)
        elif event.type == "end":
            open_paths.pop()
    summary = summarize(events)
    assert summary.status == "lost"
    assert [phase.path for phase in summary.unfinished] == open_paths[-1:]
    assert summary.unfinished[0].last_sign == events[-1].time


def test_an_event_that_was_given_twice_counts_once() -> None:
    events = span(info("a.1", total=2), 1.0, 2.0, done=2)
    assert figures(summarize([*events, *events])) == figures(summarize(events))
    doubled = [events[0], events[0], events[1], events[1], events[0]]
    assert figures(summarize(doubled)) == figures(summarize(events))


# What is known of phases that run at the same time.


def test_phases_at_the_same_time_do_not_make_a_run_longer() -> None:
    run = PhaseInfo("run", id="r", role="run")
    loads = [info(f"a.{number}", "LOAD", "r") for number in range(4)]
    events: list[Event] = [started(run, 0.0), *(started(load, 1.0) for load in loads)]
    events += [ended(load, 5.0 + number, 4.0 + number) for number, load in enumerate(loads)]
    events.append(ended(run, 10.0, 10.0))
    for source in (events, Timeline.from_events(events)):
        summary = summarize(source)
        load = summary.kind("LOAD")
        assert load is not None
        assert (load.total, load.open_time, load.share, load.own) == (22.0, 7.0, 0.7, 22.0)
        whole = summary.kind()
        assert whole is not None
        assert (whole.total, whole.own, summary.elapsed) == (10.0, 3.0, 10.0)


def test_the_night_between_a_killed_run_and_the_next_one_in_its_log_counts_for_neither() -> None:
    def the_run(number: int, at: float) -> list[Event]:
        whole = PhaseInfo("r", f"r{number}", run=f"r{number}", role="run")
        step = PhaseInfo("STEP", f"s{number}", f"r{number}", f"r{number}", ("STEP",))
        return [started(whole, at), started(step, at + 1), ended(step, at + 5, 4.0), ended(whole, at + 10, 10.0)]

    killed, later = the_run(1, 0.0)[:3], the_run(2, 40_000.0)
    summary = summarize([*killed, *later])
    assert summary.elapsed == pytest.approx(15)
    assert [kind.share for kind in summary.kinds] == pytest.approx([1.0, 8 / 15])


def ranked() -> list[Event]:
    events: list[Event] = []
    for rank, seconds in enumerate((10.0, 12.0, 30.0, 14.0)):
        run = info(f"{rank}.1", "run", rank=rank, role="run")
        run.path = ()
        events.append(started(run, 100.0))
        events += span(info(f"{rank}.2", "STEP", f"{rank}.1"), 100.0, seconds)
        if rank == 0:
            events += span(info("0.3", "SAVE", "0.1"), 110.0, 5.0)
        events.append(ended(run, 140.0, 40.0))
    return events


def test_seconds_of_ranks_are_never_added() -> None:
    for source in (ranked(), Timeline.from_events(ranked())):
        summary = summarize(source)
        assert (summary.ranks, summary.elapsed, len(summary.runs)) == ([0, 1, 2, 3], 40.0, 4)
        step, save = summary.kind("STEP"), summary.kind("SAVE")
        assert step is not None
        assert save is not None
        assert (step.count, step.total, step.share, step.mean) == (4, 30.0, 0.75, 16.5)
        assert [(rank.rank, rank.count, rank.total) for rank in step.ranks] == [
            (0, 1, 10.0),
            (1, 1, 12.0),
            (2, 1, 30.0),
            (3, 1, 14.0),
        ]
        assert (save.total, save.share, save.spread) == (5.0, 0.125, None)


def test_ranks_are_told_apart_by_the_slowest_and_how_long_the_others_waited() -> None:
    step = summarize(ranked()).kind("STEP")
    assert step is not None
    assert step.spread is not None
    assert (step.spread.lowest, step.spread.median, step.spread.highest) == (10.0, 13.0, 30.0)
    assert (step.spread.slowest, step.spread.waited) == (2, 17.0)


def test_a_generator_counts_for_as_long_as_it_was_active() -> None:
    a, g, b = info("a.1"), info("a.2", "G", "a.1", "A", "G"), info("a.3", "B", "a.1", "A", "B")
    events = [started(a, 0.0), started(g, 1.0), *span(b, 2.0, 5.0), ended(g, 9.0, 8.0, active=2.0), ended(a, 10.0, 10.0)]
    for source in (events, Timeline.from_events(events)):
        kinds = {kind.name: (kind.total, kind.own) for kind in summarize(source).kinds}
        assert kinds == {"A": (10.0, 3.0), "G": (2.0, 2.0), "B": (5.0, 5.0)}


# What went wrong.


def test_a_failure_is_told_where_it_came_from() -> None:
    with (
        recorded() as log,
        pytest.raises(RuntimeError),
        phasewatch.run("r", sinks=[log.sink], clock=log.clock),
        phase("A"),
        phase("B", step=50, total=28, unit="batch") as b,
    ):
        log.clock.advance(5)
        b.advance(12)
        raise RuntimeError("out of memory")
    summary = summarize(log.events)
    assert (summary.status, summary.failure_count) == ("failed", 1)
    (failure,) = summary.failures
    assert (failure.path, failure.error, failure.step) == (("A", "B"), ("RuntimeError", "out of memory"), 50)
    assert (failure.done, failure.total, failure.seconds, failure.rank) == (12, 28, 5.0, None)
    assert (summary.runs[0].origin, summary.runs[0].status) == (("A", "B"), "failed")
    assert [kind.failed for kind in summary.kinds] == [1, 1, 1]
    assert summary.unfinished == []


def test_a_failure_that_the_program_outlived_is_told_and_the_run_completed() -> None:
    with recorded() as log, phasewatch.run("r", sinks=[log.sink], clock=log.clock):
        for number in range(150):
            with pytest.raises(ValueError, match="no"), phase("TRY", step=number):
                raise ValueError("no")
    summary = summarize(log.events)
    assert (summary.status, summary.failure_count, len(summary.failures)) == ("completed", 150, 100)
    assert summary.failures[0].step == 0


def test_the_worst_of_several_runs_is_the_status() -> None:
    run = [PhaseInfo("run", id=f"r.{number}", role="run") for number in range(3)]
    events: list[Event] = [
        *span(run[0], 0.0, 5.0),
        *span(run[1], 10.0, 5.0, status="interrupted", error=("KeyboardInterrupt", "")),
    ]
    summary = summarize(events)
    assert (summary.status, summary.elapsed) == ("interrupted", 10.0)
    assert summarize([*events, started(run[2], 20.0)]).status == "interrupted"
    assert summarize([events[0], events[1], started(run[2], 20.0)]).status == "lost"
    assert summarize([events[0], events[1], started(run[2], 20.0)], finished=False).status == "running"
    assert summarize([]).status is None
    outside = span(info("a.1"), 30.0, 1.0, status="failed")
    assert summarize([*span(run[0], 0.0, 5.0), *outside]).status == "completed"
    assert summarize(outside).status == "failed"


def test_what_is_worth_a_warning_is_told() -> None:
    class Source(list[Event]):
        def __init__(self, events: list[Event]) -> None:
            super().__init__(events)
            self.skipped = {"broken": 3, "foreign": 0}
            self.dropped = {"progress": 40, "\x1b[31m": 1}

    a, b = info("a.1"), info("a.2")
    events: list[Event] = [started(a, 0.0), started(b, 0.0), ended(info("x"), 5.0, 1.0)]
    events += [stalled(one, 9.0, quiet) for one, quiet in ((a, 60.0), (a, 600.0), (b, 5.0))]
    for source in (Source(events), Timeline.from_events(events)):
        warnings = summarize(source).warnings
        assert warnings[0] == "stalled in 2 phases, for up to 10.0m: A"
        assert warnings[-1] == "phases whose start is not in the log: 1"
    assert summarize(Source(events)).warnings[1:3] == [
        "events that could not be written, and are missing here: 40 progress, 1 \\x1b[31m",
        "lines that could not be read: 3 broken",
    ]


def test_the_longest_phases_are_those_with_the_most_time_of_their_own() -> None:
    events: list[Event] = [started(info("r", "run", role="run"), 0.0), started(info("a.0"), 0.0)]
    for number in range(1, 30):
        events += span(info(f"a.{number}", "B", "a.0", "A", "B", step=number), number * 100.0, float(number))
    events.append(ended(info("a.0"), 5000.0, 5000.0))
    summary = summarize(events)
    assert [(phase.name, phase.step, phase.own) for phase in summary.longest[:3]] == [
        ("A", None, 4565.0),
        ("B", 29, 29.0),
        ("B", 28, 28.0),
    ]
    assert len(summary.longest) == 10


def test_units_and_the_time_of_one_are_told() -> None:
    events = span(info("a.1", unit="batch", start=10), 0.0, 6.0, done=13) + span(
        info("a.2", unit="batch"), 10.0, 8.0, done=2
    )
    (kind,) = summarize(events).kinds
    assert (kind.unit, kind.units, kind.per_unit) == ("batch", 5, 2.8)


def test_rows_stand_below_what_they_are_part_of_in_the_order_of_the_work() -> None:
    work: Work = ("A", 1.0, [("B", 1.0, [("C", 1.0, [], 0.0)], 0.0), ("A", 1.0, [], 0.0), ("B", 1.0, [], 0.0)], 0.0)
    summary = summarize(events_of(work))
    assert [(kind.path, kind.depth) for kind in summary.kinds] == [
        ((), 0), (("A",), 0), (("A", "B"), 1), (("A", "B", "C"), 2), (("A", "A"), 1),
    ]  # fmt: skip


def test_the_mean_of_a_validation_is_kept_by_the_step_at_which_it_ran() -> None:
    with recorded() as log:
        for step, reward in ((10, 0.5), (20, 0.75)):
            with (
                phase("PERIODIC VALIDATION", step=step),
                phase("VALIDATION", total=2, counters={"questions": 4}) as validation,
            ):
                validation.advance(questions=1, reward=0.0)
                validation.advance(questions=3, reward=reward)
    series = summarize(log.events).series[("PERIODIC VALIDATION", "VALIDATION"), "reward"]
    assert series.values() == {10: 0.375, 20: 0.5625}


def test_metrics_are_kept_by_step() -> None:
    a = info("a.1", "STEP", step=3)
    summary = summarize(
        [started(a, 0.0), MetricsLogged(a, 1.0, values={"loss": 0.5}), ended(a, 2.0, 2.0, metrics={"loss": 0.25})]
    )
    assert summary.series[("STEP",), "loss"].values() == {3: 0.25}


# Whatever stands in a log.


def test_figures_are_json_whatever_stands_in_the_log() -> None:
    events: list[Event] = []
    for number, bad in enumerate((float("nan"), float("inf"), -5.0, 1e308, 10**400)):
        one = info(f"a.{number}", "\x1b[31m", step=number)
        events += [started(one, bad), MetricsLogged(one, bad, values={"a": bad})]
        events.append(PhaseProgressed(one, bad, done=10**400, total=-(10**400), elapsed=bad, eta=bad))
        events.append(ended(one, bad, bad, done=10**400, status="failed", error=("E", "\ud800"), active=bad))
    for source in (events, Timeline.from_events(events)):
        text = json.dumps(summarize(source).as_dict(), allow_nan=False)
        assert json.loads(text)["kinds"][0]["count"] == 5


def test_memory_grows_neither_with_the_phases_nor_with_their_names() -> None:
    from phasewatch.summary import Aggregate

    aggregate = Aggregate()
    for number in range(12_000):
        one = info(f"a.{number:x}", f"SHARD {number}")
        for event in span(one, float(number), 1.0):
            aggregate.add(event)
    assert len(aggregate._open) == 0
    assert len(aggregate._ended) == 10_000
    summary = aggregate.summary()
    assert len(summary.kinds) == 5000
    assert summary.warnings == ["phases of further kinds, which are left out: 7000"]
    assert summary.elapsed == 12_000


def test_phases_that_never_end_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from phasewatch import summary as module

    monkeypatch.setattr(module, "_MOST_OPEN", 50)
    aggregate = module.Aggregate()
    for number in range(1000):
        aggregate.add(started(info(f"a.{number:x}"), float(number)))
        assert len(aggregate._open) <= 50
        assert len(aggregate._unfinished) <= 200
    found = aggregate.summary()
    assert (found.unfinished_count, len(found.unfinished), found.kinds[0].unfinished) == (1000, 100, 1000)
    assert found.unfinished[0].last_sign == 999
