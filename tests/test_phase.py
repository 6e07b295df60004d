"""The with-block and its handle, as a person uses them."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import math
import pickle
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import phasewatch
from phasewatch import (
    MetricsLogged,
    PhaseEnded,
    PhaseProgressed,
    PhaseStarted,
    PhasewatchWarning,
    Tracker,
    current,
    phase,
)
from phasewatch._config import default_tracker
from phasewatch._spec import APART, PLAIN
from phasewatch._tracker import DISABLED
from phasewatch.testing import MemorySink, PhaseLog, recorded


def ends(log: PhaseLog) -> dict[str, PhaseEnded]:
    return {event.name: event for event in log.events if isinstance(event, PhaseEnded)}


def progress(log: PhaseLog) -> list[PhaseProgressed]:
    return [event for event in log.events if isinstance(event, PhaseProgressed)]


def test_the_signature_is_the_contract() -> None:
    expected = "(name, /, *, total, unit, counters, details, message, step, start, emoji, every, **attributes)"
    parameters = inspect.signature(phase).parameters
    assert list(parameters) == expected.strip("()").replace("/, *, ", "").replace("**", "").split(", ")
    assert parameters["unit"].default == "item"
    assert all(p.kind is p.KEYWORD_ONLY for name, p in parameters.items() if name not in ("name", "attributes"))


def test_a_block_has_a_start_and_an_end_with_its_time(phaselog: PhaseLog) -> None:
    with phase("DOWNLOAD", total=3, unit="file", message="from the mirror", step=7, shard="a") as download:
        assert download.status == "running"
        phaselog.clock.advance(2.5)
        assert download.elapsed == 2.5
    start, end = phaselog.events
    assert isinstance(start, PhaseStarted)
    assert isinstance(end, PhaseEnded)
    info = start.phase
    assert (info.name, info.total, info.unit, info.message, info.step) == ("DOWNLOAD", 3, "file", "from the mirror", 7)
    assert info.attributes == {"shard": "a"}
    assert info.path == ("DOWNLOAD",)
    assert (end.status, end.elapsed, end.time - start.time) == ("completed", 2.5, 2.5)
    assert end.id == start.id == download.id
    assert (download.status, download.elapsed, download.eta) == ("completed", 2.5, 0.0)


def test_blocks_nest(phaselog: PhaseLog) -> None:
    assert current() is None
    with phase("A") as outer:
        assert current() is outer
        with phase("B") as inner:
            assert current() is inner
            assert inner.path == ("A", "B")
        assert current() is outer
    assert current() is None
    a, b = phaselog.events[0], phaselog.events[1]
    assert (a.parent, b.parent) == (None, a.id)


def test_a_handle_is_pending_before_it_is_entered(phaselog: PhaseLog) -> None:
    pending = phase("A", total=4, start=1)
    assert (pending.status, pending.id, pending.done, pending.total, pending.elapsed, pending.eta) == (
        "pending", None, 1, 4, 0.0, None,
    )  # fmt: skip
    assert pending.metrics == {}
    assert phaselog.events == []


def test_a_total_that_is_not_made_yet_is_unknown_and_units_before_the_start_are_known_at_once(phaselog: PhaseLog) -> None:
    pending = phase("A", total=lambda: 3, start=2)
    assert pending.total is None
    with pending as handle:
        assert (handle.done, handle.total) == (2, 3)
    with phase("B", start=5) as handle:
        assert handle.done == 5


def test_time_stands_still_for_a_phase_that_has_ended(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        phaselog.clock.advance(2)
    phaselog.clock.advance(10)
    assert handle.elapsed == 2


def test_entering_a_closed_handle_again_starts_anew(phaselog: PhaseLog) -> None:
    again = phase("A", total=4)
    with again:
        again.advance(3)
        again.log(loss=1)
        first = again.id
    with again:
        assert (again.status, again.done, again.metrics) == ("running", 0, {})
        assert again.id != first
    assert [event.type for event in phaselog.events].count("start") == 2


def test_entering_an_open_handle_warns_and_keeps_the_block_whole(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        with pytest.warns(PhasewatchWarning, match=r"phase 'A' is entered while it is open; make a new one"), handle:
            pass
        assert handle.status == "running"
    assert [event.type for event in phaselog.events] == ["start", "end"]


def test_a_handle_that_was_entered_three_times_is_left_with_the_first_block(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        with pytest.warns(PhasewatchWarning, match="is entered while it is open"), handle:
            with handle:
                pass
            assert handle.status == "running"
        assert handle.status == "running"
    assert [event.type for event in phaselog.events] == ["start", "end"]


def test_leaving_twice_warns(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        pass
    with pytest.warns(PhasewatchWarning, match="phase 'A' is left, but it is completed"):
        handle.__exit__(None, None, None)
    assert [event.type for event in phaselog.events] == ["start", "end"]


@pytest.mark.parametrize("call", [lambda p: p.advance(), lambda p: p.log(a=1), lambda p: list(p.track([1, 2]))])
@pytest.mark.parametrize("entered", [False, True])
def test_telling_a_phase_that_is_not_open_warns_and_does_no_harm(phaselog: PhaseLog, call: Any, entered: bool) -> None:
    handle = phase("A")
    if entered:
        with handle:
            pass
    state = "completed" if entered else "pending"
    with pytest.warns(PhasewatchWarning, match=f"phase 'A' .* but it is {state}; .* its block") as caught:
        call(handle)
        call(handle)
    assert len(caught) == 1, "once"
    assert handle.done == 0


@pytest.mark.parametrize("tracker", [Tracker(), Tracker([MemorySink()])], ids=["nobody listens", "a sink listens"])
def test_what_is_told_after_the_end_is_not_counted_however_far_off_the_next_line_was(tracker: Tracker) -> None:
    with tracker.phase("A", every=100) as handle:
        handle.advance()
    with pytest.warns(PhasewatchWarning, match="is told to advance, but it is completed"):
        handle.advance()
    assert handle.done == 1


# Endings


class Odd(BaseException):
    """An exception that is no Exception."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(0), "interrupted"),
        (Odd(), "interrupted"),
        (GeneratorExit(), "completed"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_exception_that_leaves_is_the_very_object_and_says_how_it_ended(
    phaselog: PhaseLog, error: BaseException, status: str
) -> None:
    cause, context = OSError("cause"), OSError("context")
    error.__cause__, error.__context__ = cause, context
    with pytest.raises(type(error)) as caught, phase("A"):
        raise error
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (cause, context)
    assert [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)] == [
        "test_the_exception_that_leaves_is_the_very_object_and_says_how_it_ended"
    ]
    assert error.__dict__ == {}, "nothing is hung on the exception"
    end = ends(phaselog)["A"]
    assert end.status == status
    assert end.error == (None if status == "completed" else (type(error).__name__, str(error)))


def test_every_phase_that_an_exception_passes_is_failed_and_the_innermost_is_told_apart(phaselog: PhaseLog) -> None:
    with pytest.raises(ValueError, match="no"), phase("A"), phase("B"), phase("C"):
        raise ValueError("no")
    assert {name: (end.status, end.innermost) for name, end in ends(phaselog).items()} == {
        "C": ("failed", True),
        "B": ("failed", False),
        "A": ("failed", False),
    }
    assert ends(phaselog)["A"].origin == ("A", "B", "C")


def test_failures_that_are_caught_again_and_again_do_not_fill_the_memory(phaselog: PhaseLog) -> None:
    with phase("A") as outer:
        for _ in range(100):
            try:
                with phase("B"):
                    raise ValueError
            except ValueError:
                pass
        assert 0 < len(outer._more().faults) < 50


def test_an_exception_that_was_caught_is_not_taken_for_the_next_one(phaselog: PhaseLog) -> None:
    with pytest.raises(ValueError, match="again"), phase("A"):
        try:
            with phase("B"):
                raise ValueError("caught")
        except ValueError:
            pass
        raise ValueError("again")
    assert ends(phaselog)["A"].innermost
    assert ends(phaselog)["A"].origin == ("A",)


def test_another_exception_on_the_way_out_has_its_own_origin(phaselog: PhaseLog) -> None:
    with pytest.raises(RuntimeError), phase("A"):
        try:
            with phase("B"):
                raise ValueError("first")
        except ValueError as error:
            raise RuntimeError("second") from error
    assert ends(phaselog)["A"].innermost
    assert ends(phaselog)["B"].innermost


def test_concurrent_failures_are_each_told_once_and_the_path_is_that_of_the_one_that_comes_by(phaselog: PhaseLog) -> None:
    async def fail(name: str) -> None:
        with phase(name):
            await asyncio.sleep(0)
            raise ValueError(name)

    async def main() -> None:
        with phase("P"):
            await asyncio.gather(fail("A"), fail("B"))

    with pytest.raises(ValueError, match="A"), phasewatch.run("r"):
        asyncio.run(main())
    assert [line[2:] for line in phaselog.text.splitlines() if "FAILED" in line] == [
        "[META] PHASE FAILED: A",
        "[META] PHASE FAILED: B",
        "[META] RUN FAILED - in P > A",
    ]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_a_group_of_failures_that_were_told_is_not_told_again(phaselog: PhaseLog) -> None:
    TaskGroup: Any = getattr(asyncio, "TaskGroup", None)
    ExceptionGroup: Any = getattr(builtins, "ExceptionGroup", None)

    async def fail(name: str) -> None:
        with phase(name):
            raise ValueError(name)

    async def main() -> None:
        with phase("P"):
            async with TaskGroup() as group:
                group.create_task(fail("A"))
                group.create_task(fail("B"))

    with pytest.raises(ExceptionGroup), phasewatch.run("r"):
        asyncio.run(main())
    assert "PHASE FAILED: P" not in phaselog.text
    assert "RUN FAILED - in P > A\n" in phaselog.text
    with pytest.raises(ExceptionGroup), phase("Q"):
        raise ExceptionGroup("own", [ValueError("x")])
    assert "PHASE FAILED: Q" in phaselog.text


def test_ctrl_c_in_a_sink_leaves_the_stack_right(phaselog: PhaseLog) -> None:
    class Interrupted:
        def emit(self, event: phasewatch.Event) -> None:
            if event.name == "B" and event.type == "start":
                raise KeyboardInterrupt

        def close(self) -> None: ...

    sink = MemorySink()
    with phasewatch.run("r", sinks=[sink, Interrupted()]), phase("A") as outer:
        with pytest.raises(KeyboardInterrupt):
            phase("B").__enter__()
        assert current() is outer
        with phase("C") as following:
            assert following.path == ("A", "C")
    assert [event.type for event in sink.events if event.name == "B"] == ["start", "end"]


def test_an_exception_whose_text_cannot_be_made_is_told_by_its_type(phaselog: PhaseLog) -> None:
    class Wordless(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(Wordless), phase("A"):
        raise Wordless
    assert ends(phaselog)["A"].error == ("Wordless", "")


# Progress


def test_declared_counters_add_up_and_other_numbers_are_means_over_what_they_cover(phaselog: PhaseLog) -> None:
    with phase("VALIDATION", total=2, unit="batch", counters={"questions": 300}) as validation:
        validation.advance(questions=256, reward=0.5)
        validation.advance(questions=44, reward=1.0)
        assert validation.metrics["reward"].mean == pytest.approx((256 * 0.5 + 44 * 1.0) / 300)
        assert (validation.metrics["reward"].last, validation.metrics["reward"].count) == (1.0, 2)
    end = ends(phaselog)["VALIDATION"]
    assert (end.done, end.counters) == (2, {"questions": 300})
    assert end.means["reward"] == pytest.approx(0.57333333)


def test_a_weight_may_be_given(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        handle.advance(loss=1.0, weight=3)
        handle.advance(2, loss=2.0)
        assert handle.metrics["loss"].mean == pytest.approx((3 * 1 + 2 * 2) / 5)


def test_a_value_that_is_no_number_warns_once_and_is_left_out(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        with pytest.warns(PhasewatchWarning, match="phase 'A' is given 'loss' with a value that is no number") as caught:
            handle.advance(loss="low")
            handle.advance(loss=[1, 2])
        assert len(caught) == 1
        with pytest.warns(PhasewatchWarning, match="'kl'"):
            handle.log(kl=None, loss=2)
        assert list(handle.metrics) == ["loss"]
        assert handle.done == 2, "the units count all the same"


@pytest.mark.parametrize("n", [-1, 1.5, "two", math.nan])
def test_units_that_cannot_be_counted_warn_and_keep_the_values(phaselog: PhaseLog, n: Any) -> None:
    with phase("A", counters={"questions": None}) as handle:
        with pytest.warns(PhasewatchWarning, match="phase 'A' cannot advance by"):
            handle.advance(n, questions=3)
        assert handle.done == 0
    assert ends(phaselog)["A"].counters == {"questions": 3}


@pytest.mark.parametrize("n", [(), (1,), (None,)])
def test_to_say_nothing_of_units_is_to_say_one(n: tuple[Any, ...]) -> None:
    with Tracker().phase("A", total=10) as handle:
        handle.advance(*n)
        handle.advance(*n, reward=0.5)
        assert handle.done == 2


def test_what_has_ended_counts_no_more() -> None:
    with Tracker().phase("A", total=10) as handle:
        handle.advance()
        handle.advance()
    with pytest.warns(PhasewatchWarning, match="is told to advance, but it is completed"):
        handle.advance()
    assert handle.done == 2


def test_threads_that_advance_one_phase_lose_nothing(at_once: Any) -> None:
    with Tracker().phase("A", total=10_000) as handle:

        def work(number: int) -> None:
            for _ in range(2500):
                handle.advance()

        at_once(work, 4)
        assert handle.done == 10_000


def test_units_are_never_taken_back(phaselog: PhaseLog) -> None:
    with Tracker().phase("A", total=10) as handle:
        handle.advance(5)
        with pytest.warns(PhasewatchWarning, match="phase 'A' cannot advance by -2"):
            handle.advance(-2)
        assert handle.done == 5


def test_a_metric_that_is_both_logged_and_given_to_advance_is_shown_as_logged_and_kept_as_both(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        handle.log(loss=1)
        handle.advance(loss=3)
        assert handle.metrics["loss"].last == 1
    assert (ends(phaselog)["A"].metrics, ends(phaselog)["A"].means) == ({"loss": 1}, {"loss": 3})


def test_going_past_the_total_warns_once_and_counts_on(phaselog: PhaseLog) -> None:
    with phase("A", total=2, unit="batch") as handle:
        with pytest.warns(PhasewatchWarning, match="phase 'A' has counted 3, past its total of 2") as caught:
            for _ in range(4):
                handle.advance()
        assert len(caught) == 1
        assert (handle.done, handle.eta) == (4, 0.0)


@pytest.mark.parametrize("tracker", [Tracker(), Tracker([MemorySink()])], ids=["nobody listens", "a sink listens"])
def test_going_past_the_total_warns_however_far_off_the_next_line_is(tracker: Tracker) -> None:
    with tracker.phase("A", total=2, every=100) as handle:
        handle.advance(2)
        with pytest.warns(PhasewatchWarning, match="past its total of 2"):
            handle.advance()
        assert handle.done == 3


@pytest.mark.filterwarnings("ignore:phase 'A' has counted 3, past its total")
def test_the_total_is_told_when_it_is_reached_and_what_comes_after_it_no_faster_than_before(phaselog: PhaseLog) -> None:
    with phase("A", total=2) as handle:
        handle.advance()
        handle.advance()
        assert [event.done for event in progress(phaselog)] == [1, 2]
        for _ in range(3):
            handle.advance()
        assert [event.done for event in progress(phaselog)] == [1, 2]
    assert [event.done for event in progress(phaselog)] == [1, 2, 5]


def test_units_a_second_apart_are_all_told(phaselog: PhaseLog) -> None:
    with phase("A", total=9) as handle:
        for _ in range(4):
            phaselog.clock.advance(1)
            handle.advance()
    assert [event.done for event in progress(phaselog)] == [1, 2, 3, 4]


@pytest.mark.parametrize("total", [-1, 2.5, "many", math.inf])
def test_a_total_that_is_none_warns_and_is_left_out(phaselog: PhaseLog, total: Any) -> None:
    with pytest.warns(PhasewatchWarning, match=r"phase 'A': total=.* is left out; it must be a whole number of at least 0"):
        handle = phase("A", total=total)
    with handle:
        assert handle.total is None


def test_an_option_with_a_slip_in_its_name_warns_and_is_kept_as_an_attribute(phaselog: PhaseLog) -> None:
    with pytest.warns(PhasewatchWarning, match=r"phase 'A': totl= is kept as an attribute, .*; did you mean total=\?"):
        handle = phase("A", totl=4, epochs=3)
    with handle:
        assert handle.total is None
    assert phaselog.events[0].phase.attributes == {"totl": 4, "epochs": 3}


def test_a_name_that_is_no_text_warns_and_is_taken_as_text(phaselog: PhaseLog) -> None:
    with pytest.warns(PhasewatchWarning, match="must be a text, not 12"):
        handle = phase(12)  # type: ignore[call-overload]  # the mistake under test
    with handle:
        assert handle.name == "12"


def test_a_block_without_a_name_warns(phaselog: PhaseLog) -> None:
    with pytest.warns(PhasewatchWarning, match="has no name; give one"), phase():
        pass
    assert phaselog.events[0].name == "PHASE"


def test_progress_is_told_first_last_and_no_more_than_once_a_second(phaselog: PhaseLog) -> None:
    with phase("A", total=100) as handle:
        for _ in range(100):
            phaselog.clock.advance(0.3)
            handle.advance()
    assert [event.done for event in progress(phaselog)] == [1, *range(5, 98, 4), 100]


def test_the_last_count_is_told_even_where_no_total_says_that_it_is_the_last(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        for _ in range(7):
            handle.advance()
    assert [event.done for event in progress(phaselog)] == [1, 7]


def test_a_failed_phase_has_no_last_progress_line(phaselog: PhaseLog) -> None:
    with pytest.raises(ValueError, match="no"), phase("A", total=9) as handle:
        for _ in range(7):
            handle.advance()
        raise ValueError("no")
    assert [event.done for event in progress(phaselog)] == [1]
    assert ends(phaselog)["A"].done == 7


@pytest.mark.parametrize("kept", [False, True], ids=["the loop is gone", "its iterator is kept"])
@pytest.mark.parametrize("on_the_systems_clock", [False, True])
def test_a_loop_that_fails_in_its_first_item_tells_no_progress(
    phaselog: PhaseLog, kept: bool, on_the_systems_clock: bool
) -> None:
    tracker = Tracker([phaselog.sink], None if on_the_systems_clock else phaselog.clock)
    with pytest.raises(ValueError, match="no"), tracker.phase("A", total=9) as handle:
        items = handle.track(range(9))
        if kept:
            next(items)
        else:
            for _ in items:
                del items
                raise ValueError("no")
        raise ValueError("no")
    assert not progress(phaselog)
    assert ends(phaselog)["A"].done == 1


@pytest.mark.parametrize(("n", "told"), [(1, [10, 20]), (4, [12, 20, 32])])
def test_every_says_at_which_counts_progress_is_told(phaselog: PhaseLog, n: int, told: list[int]) -> None:
    with phase("A", total=35, every=10) as handle:
        for _ in range(28 if n == 1 else 8):
            phaselog.clock.advance(30)
            handle.advance(n)
    assert [event.done for event in progress(phaselog)] == told


def test_units_done_before_count_for_the_position_and_not_for_the_speed(phaselog: PhaseLog) -> None:
    with phase("TRAINING", total=110, unit="step", start=100) as training:
        assert (training.done, training.eta) == (100, None)
        phaselog.clock.advance(5)
        training.advance()
        assert (training.done, training.eta) == (101, 9 * 5)


def test_the_eta_is_unknown_counts_down_and_leaves_out_what_was_done_beside_the_units(phaselog: PhaseLog) -> None:
    clock = phaselog.clock
    with phase("TRAINING", total=4, unit="step") as training:
        unknown = training.eta
        assert unknown is None
        with training.step():
            clock.advance(10)
        assert training.eta == 30
        with phase("PERIODIC VALIDATION"):
            clock.advance(500)
        assert training.eta == 30
        clock.advance(4)
        assert training.eta == 26
        clock.advance(100)
        assert training.eta == 20, "a late unit never counts for less than nothing"
    assert training.eta == 0


def test_the_eta_of_units_that_are_phases_of_their_own_is_that_of_the_units(phaselog: PhaseLog) -> None:
    with phase("CRAWL", total=4) as crawl:
        with phase("FETCH"):
            phaselog.clock.advance(10)
        crawl.advance()
        assert crawl.eta == 30
    with phase("CRAWL", total=3) as crawl:
        for number, _ in enumerate(crawl.track(range(3))):
            if number == 1:
                assert crawl.eta == 20
            with phase("FETCH"):
                phaselog.clock.advance(10)


def test_what_comes_before_the_first_step_is_no_part_of_its_length(phaselog: PhaseLog) -> None:
    with phase("TRAINING", total=3, unit="step") as training:
        with phase("PRE-TRAINING VALIDATION"):
            phaselog.clock.advance(500)
        with training.step():
            phaselog.clock.advance(10)
        assert training.eta == 20


def test_units_that_were_counted_before_the_first_step_are_part_of_the_speed(phaselog: PhaseLog) -> None:
    with phase("TRAINING", total=4, unit="step") as training:
        phaselog.clock.advance(10)
        training.advance()
        with training.step():
            phaselog.clock.advance(10)
        assert training.eta == 20


def test_phases_beside_steps_that_overlap_never_make_an_eta_negative(phaselog: PhaseLog) -> None:
    async def fetch() -> None:
        with phase("FETCH"):
            await asyncio.sleep(0)  # both begin, then time passes
            if phaselog.clock() < 10:
                phaselog.clock.advance(10)

    async def main() -> None:
        with phase("TRAINING", total=4, unit="step") as training:
            with training.step():
                pass
            await asyncio.gather(fetch(), fetch())
            with training.step():
                phaselog.clock.advance(1)
            assert training.eta == 0

    asyncio.run(main())


# Hostile options


class Mute:
    """A value whose text cannot be made."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__


HOSTILE: list[dict[str, Any]] = [
    *({option: Mute()} for option in ("total", "step", "start", "every", "unit", "message", "details", "counters")),
    {"details": np.array([1, 2])},
    {"counters": {Mute(): 1}},
    {"total": -(10**5000)},
    {"unit": None},
    {"emoji": Mute()},
]


@pytest.mark.filterwarnings("ignore::phasewatch.PhasewatchWarning")
@pytest.mark.parametrize("options", HOSTILE, ids=lambda options: next(iter(options)))
def test_no_option_whatever_it_is_breaks_the_work(phaselog: PhaseLog, options: dict[str, Any]) -> None:
    with phase("A", **options) as handle:
        handle.advance()
    assert phaselog.events[-1].type == "end"
    assert "PHASE: A" in phaselog.text


@pytest.mark.filterwarnings("ignore::phasewatch.PhasewatchWarning")
def test_no_name_and_no_error_of_an_option_breaks_the_work(phaselog: PhaseLog) -> None:
    class Unspeakable(Exception):
        __repr__ = Mute.__repr__

    def fail() -> int:
        raise Unspeakable

    mute: Any = Mute()
    with phase(mute):
        pass
    assert phase("A", total=fail)(lambda: 1)() == 1
    assert [event.name for event in phaselog.events] == ["<Mute>", "<Mute>", "A", "A"]


def test_log_takes_slashed_names_and_tells_at_once(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        handle.log({"actor/kl": 0.5, "critic/loss": math.nan}, loss=math.inf)
        handle.log(loss=2)
        (first, second) = [event for event in phaselog.events if isinstance(event, MetricsLogged)]
        assert list(first.values) == ["actor/kl", "critic/loss", "loss"]
        assert second.values == {"loss": 2.0}
        assert (handle.metrics["loss"].last, handle.metrics["loss"].count) == (2.0, 2)
    assert ends(phaselog)["A"].metrics["loss"] == 2.0


def test_a_counter_may_have_the_name_of_a_logged_metric(phaselog: PhaseLog) -> None:
    with phase("A", counters={"loss": None}) as handle:
        handle.log(loss=0.5)
        handle.advance(loss=3)
    assert (ends(phaselog)["A"].counters, ends(phaselog)["A"].metrics) == ({"loss": 3}, {"loss": 0.5})


def test_names_of_logged_metrics_are_taken_as_text(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        handle.log({1: 0.5, "loss": 2})  # type: ignore[dict-item]  # whoever does not check types
        assert list(handle.metrics) == ["1", "loss"]
    assert ends(phaselog)["A"].metrics == {"1": 0.5, "loss": 2.0}


def test_what_only_logs_counts_nothing(phaselog: PhaseLog) -> None:
    with phase("A", unit="step") as training:
        training.log(loss=1)
        assert (training.done, training.total, training.eta) == (0, None, None)
        assert set(training.metrics) == {"loss"}
    end = ends(phaselog)["A"]
    assert (end.done, end.total, end.counters, end.means, end.metrics) == (0, None, {}, {}, {"loss": 1.0})


def test_where_nothing_that_was_logged_is_a_number_there_is_nothing_to_tell(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        with pytest.warns(PhasewatchWarning, match="'loss'"):
            handle.log(loss="low")
        handle.log()
    assert [event.type for event in phaselog.events] == ["start", "end"]


def test_units_that_are_given_by_name_warn_since_they_are_taken_as_a_metric(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        with pytest.warns(PhasewatchWarning, match=r"given n=; it is taken as a metric. .* advance\(3\)"):
            handle.advance(n=3)
        assert handle.done == 1


def test_a_counter_may_be_named_n(phaselog: PhaseLog) -> None:
    with phase("A", counters={"n": None}) as handle:
        handle.advance(n=3)
    assert ends(phaselog)["A"].counters == {"n": 3}
    assert not handle._more().warned


@pytest.mark.parametrize("mapping", [5, [("a", 1, 2)], "text"])
def test_what_is_no_mapping_warns_once_and_is_not_logged(phaselog: PhaseLog, mapping: Any) -> None:
    with phase("A") as handle:
        with pytest.warns(PhasewatchWarning, match="phase 'A' is given .* to log; it takes a mapping") as caught:
            handle.log(mapping, loss=1)
            handle.log(mapping)
        assert len(caught) == 1
        assert list(handle.metrics) == ["loss"]


# track


def test_track_counts_each_item_when_its_turn_is_over_and_learns_the_total(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        for number, item in enumerate(handle.track("abc")):
            assert (item, handle.done, handle.total) == ("abc"[number], number, 3)
        assert handle.done == 3
    assert ends(phaselog)["A"].total == 3


def test_an_item_at_which_a_loop_is_left_is_the_last_that_counts(phaselog: PhaseLog) -> None:
    with phase("BREAK") as handle:
        for item in handle.track(range(10)):
            if item == 4:
                break
        assert handle.done == 5
    with pytest.raises(ValueError, match="4"), phase("RAISE") as handle:
        for item in handle.track(range(10)):
            if item == 4:
                raise ValueError(item)
    assert {name: end.done for name, end in ends(phaselog).items()} == {"BREAK": 5, "RAISE": 5}


def test_inside_track_advance_and_step_do_not_count_a_second_time(phaselog: PhaseLog) -> None:
    with phase("VALIDATION", unit="batch", counters={"questions": None}) as validation:
        for _ in validation.track([1, 2, 3]):
            validation.advance(questions=10)
    assert (ends(phaselog)["VALIDATION"].done, ends(phaselog)["VALIDATION"].counters) == (3, {"questions": 30})
    with phase("TRAINING", unit="step") as training:
        for number in training.track([1, 2]):
            with training.step() as step:
                assert step.path == ("TRAINING", "TRAINING STEP")
            assert training.done == number - 1
    assert ends(phaselog)["TRAINING"].done == 2


def test_a_source_that_raises_is_left_alone(phaselog: PhaseLog) -> None:
    closed = []

    def source() -> Any:
        try:
            yield 1
            yield 2
            raise LookupError("gone")
        finally:
            closed.append(True)

    with pytest.raises(LookupError, match="gone"), phase("A") as handle:
        list(handle.track(source()))
    assert closed
    assert ends(phaselog)["A"].done == 2


def test_track_takes_falsy_items_and_sources_of_unknown_length(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        assert list(handle.track(iter([0, None, "", False]))) == [0, None, "", False]
        assert (handle.done, handle.total) == (4, None)


def test_two_loops_one_after_the_other_add_up(phaselog: PhaseLog) -> None:
    with phase("A", total=5) as handle:
        list(handle.track([1, 2]))
        list(handle.track([1, 2, 3]))
        assert handle.done == 5


def test_a_total_that_was_given_is_kept_whatever_the_length_of_what_is_iterated(phaselog: PhaseLog) -> None:
    with phase("A", total=5) as handle:
        list(handle.track([1, 2, 3]))
        assert (handle.done, handle.total) == (3, 5)


def test_what_can_be_iterated_both_ways_is_iterated_the_plain_way(phaselog: PhaseLog) -> None:
    class Both:
        def __iter__(self) -> Any:
            return iter([1, 2])

        def __aiter__(self) -> Any:
            raise AssertionError

    both: Any = Both()
    with phase("A") as handle:
        assert list(handle.track(both)) == [1, 2]
        assert handle.done == 2


def test_a_loop_inside_a_loop_leaves_the_outer_ones_item_in_work() -> None:
    with Tracker([MemorySink()]).phase("A", total=100, every=100) as handle:
        for _ in handle.track([1, 2]):
            for _ in handle.track([1, 2]):
                pass
            handle.advance()
        assert handle.done == 6, "what is tracked is not advanced a second time"


def test_an_item_of_a_loop_that_outlives_its_phase_is_counted_there_and_nowhere_else(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        items = handle.track([1, 2, 3, 4])
        next(items)
    assert ends(phaselog)["A"].done == handle.done == 1
    next(items)
    assert handle.done == 1
    with handle:
        next(items)
        assert handle.done == 0
    assert phaselog.events[-1].type == "end"


def test_an_asynchronous_loop_that_was_left_is_over_when_its_iterator_is_closed(phaselog: PhaseLog) -> None:
    async def source() -> Any:
        for n in range(9):
            yield n

    async def main() -> None:
        with phase("A") as handle:
            items: Any = handle.track(source())
            async for n in items:
                if n == 1:
                    break
            await items.aclose()
            assert handle.done == 2
            handle.advance(3)
            assert handle.done == 5

    asyncio.run(main())


def test_a_second_loop_adds_its_length_to_a_total_that_nobody_gave(phaselog: PhaseLog) -> None:
    with phase("TRAINING", unit="batch") as training:
        for epoch in (1, 2):
            for _ in training.track([1, 2, 3]):
                pass
            assert (training.done, training.total) == (3 * epoch, 3 * epoch)
        list(training.track(iter([1])))
        assert (training.done, training.total) == (7, None)


# step


def test_a_step_is_a_child_that_knows_where_it_stands(phaselog: PhaseLog) -> None:
    with phase("TRAINING", total=35, unit="step", epochs=3) as training:
        with training.step(epoch=1):
            phaselog.clock.advance(42)
        with training.step(epoch=2) as second:
            pass
    starts = [event.phase for event in phaselog.events if isinstance(event, PhaseStarted)]
    one, two = starts[1].position, starts[2].position
    assert one is not None
    assert two is not None
    assert starts[1].name == second.name == "TRAINING STEP"
    assert (one.number, one.total, one.epoch, one.epochs, one.elapsed, one.eta) == (1, 35, 1, 3, 0, None)
    assert (two.number, two.epoch, two.elapsed, two.eta) == (2, 2, 42, 34 * 42)
    assert ends(phaselog)["TRAINING"].done == 2
    assert not progress(phaselog), "the steps have announced themselves"


def test_a_step_takes_the_options_of_a_phase(phaselog: PhaseLog) -> None:
    with phase("TRAINING", unit="step") as training, training.step(message="with warm-up", unit="batch", total=2):
        pass
    start = phaselog.events[1]
    assert (start.phase.message, start.phase.unit, start.phase.total) == ("with warm-up", "batch", 2)


def test_every_says_after_how_many_steps_progress_is_told_too(phaselog: PhaseLog) -> None:
    with phase("TRAINING", total=5, unit="step", every=2) as training:
        for _ in range(5):
            with training.step():
                pass
    assert [event.done for event in progress(phaselog)] == [2, 4]


def test_units_that_are_counted_beside_steps_warn_past_the_total_at_once(phaselog: PhaseLog) -> None:
    with Tracker().phase("TRAINING", total=3, unit="step") as training:
        training.advance()
        for _ in range(2):
            with training.step():
                pass
        with pytest.warns(PhasewatchWarning, match="has counted 4, past its total of 3"):
            training.advance()
        assert training.done == 4


def test_a_step_that_raises_leaves_the_count_where_it_was(phaselog: PhaseLog) -> None:
    with phase("TRAINING", total=3, unit="step") as training:
        for number in range(3):
            try:
                with training.step():
                    if number == 1:
                        raise ValueError
            except ValueError:
                pass
        assert training.done == 2


def test_a_step_may_have_a_number_of_its_own_and_hangs_under_its_parent_wherever_it_is_taken(phaselog: PhaseLog) -> None:
    with phase("TRAINING", total=200, unit="step", start=100) as training, phase("EPOCH") as epoch:
        with training.step(step=101) as step:
            assert current() is step
            assert step.path == ("TRAINING", "TRAINING STEP")
        assert current() is epoch
        assert training.done == 101


def test_a_step_outside_its_parents_block_warns_and_runs(phaselog: PhaseLog) -> None:
    training = phase("TRAINING", unit="step")
    phaselog.clock.advance(1000)
    with pytest.warns(PhasewatchWarning, match="is a step of 'TRAINING', which is pending"), training.step():
        pass
    assert "Step 1 | Elapsed: 0s\n" in phaselog.text
    assert ends(phaselog)["TRAINING STEP"].status == "completed"


def test_a_step_of_a_phase_that_is_not_open_is_no_unit_of_the_one_around_it(phaselog: PhaseLog) -> None:
    with phase("TRAINING", total=3, unit="step") as training:
        with training.step():
            phaselog.clock.advance(10)
        with pytest.warns(PhasewatchWarning, match="is a step of 'OTHER'"), phase("OTHER", unit="step").step():
            phaselog.clock.advance(500)
        assert (training.done, training.eta) == (1, 20)


@pytest.mark.parametrize("option", ["step", "epoch"])
def test_a_number_of_a_step_that_is_none_warns_and_is_left_out(phaselog: PhaseLog, option: str) -> None:
    wrong: Any = {option: "second"}
    with phase("TRAINING", total=3, unit="step") as training:
        with pytest.warns(PhasewatchWarning, match=f"phase 'TRAINING': {option}='second' is left out"):
            step = training.step(**wrong)
        with step:
            pass
    assert "\nStep 1/3 (33.3%) | " in phaselog.text


def test_a_step_may_be_a_decorator_and_keeps_its_number_and_epoch(phaselog: PhaseLog) -> None:
    with phase("TRAINING", total=9, unit="step", epochs=3) as training:

        @training.step(step=7, epoch=3)
        def work() -> None: ...

        work()
        assert training.done == 1
    assert "\n[Epoch 3/3] Step 7/9 (77.8%) | " in phaselog.text


# Properties

ENDINGS = st.sampled_from(["completed", "failed", "interrupted", "caught"])
TREES: st.SearchStrategy[Any] = st.recursive(
    st.tuples(ENDINGS, st.just([])), lambda children: st.tuples(ENDINGS, st.lists(children, max_size=3)), max_leaves=12
)


def act(tree: Any, log: PhaseLog, depth: int = 0) -> None:
    """Open a phase, advance, act out its children and end as the tree says."""
    ending, children = tree
    try:
        with phase(f"P{depth}", counters={"questions": None}) as handle:
            log.clock.advance(1)
            for child in children:
                handle.advance(2, questions=3)
                act(child, log, depth + 1)
            if ending != "completed":
                raise KeyboardInterrupt if ending == "interrupted" else ValueError("no")
    except ValueError:
        if ending == "failed":
            raise


@given(TREES)
def test_any_nesting_with_any_endings_gives_a_well_formed_stream(tree: Any) -> None:
    with recorded() as log:
        try:
            act(tree, log)
        except (ValueError, KeyboardInterrupt):
            pass
        open_phases: list[PhaseStarted] = []
        for event in log.events:
            if isinstance(event, PhaseStarted):
                assert event.parent == (open_phases[-1].id if open_phases else None)
                open_phases.append(event)
            else:
                # What happens to a phase happens while it is open and innermost, so parents enclose their children.
                assert event.id == open_phases[-1].id
            if isinstance(event, PhaseEnded):
                start = open_phases.pop()
                assert event.elapsed >= 0
                assert event.elapsed == pytest.approx(event.time - start.time)
                assert event.done * 3 == event.counters["questions"] * 2
                assert (event.error is None) == (event.status == "completed")
        assert not open_phases, "every start has its end"
        starts = [event.id for event in log.events if isinstance(event, PhaseStarted)]
        assert len(set(starts)) == len(starts)
        assert current() is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 300), st.floats(0, 1)), min_size=1, max_size=30))
def test_counts_add_up_and_means_stay_among_their_values(advances: list[tuple[int, int, float]]) -> None:
    with recorded() as log:
        with phase("A", counters={"questions": None}) as handle:
            for n, questions, reward in advances:
                handle.advance(n, questions=questions, reward=reward)
        end = ends(log)["A"]
        assert end.done == sum(n for n, _, _ in advances)
        assert end.counters["questions"] == sum(questions for _, questions, _ in advances)
        values = [reward for _, _, reward in advances]
        assert min(values) - 1e-9 <= end.means["reward"] <= max(values) + 1e-9
        assert [event.done for event in progress(log)] == sorted(event.done for event in progress(log))


def test_the_example_of_the_design_works(phaselog: PhaseLog) -> None:
    plan = phasewatch.TrainingPlan(3, epochs=1)
    with phasewatch.run("grpo", plan=plan, sinks=[phaselog.sink], clock=phaselog.clock):
        with phase("TRAINING", total=plan.total_steps, unit="step", epochs=3) as training:
            for _ in range(3):
                with training.step(epoch=1) as step:
                    step.log(loss=0.234, kl=0.012)
        with phase("VALIDATION", total=28, unit="batch", counters={"questions": 7405}) as validation:
            for _ in validation.track(range(28)):
                pass
    assert ends(phaselog)["VALIDATION"].done == 28
    assert phaselog.sink.closed


def test_a_step_left_after_its_parent_has_ended_changes_nothing_of_it(phaselog: PhaseLog) -> None:
    training = phase("TRAINING", total=5, every=1, unit="step").__enter__()
    step = training.step().__enter__()
    training.__exit__(None, None, None)
    step.__exit__(None, None, None)
    assert training.done == 0
    assert [event.type for event in phaselog.events] == ["start", "start", "end", "end"]


class Both:
    """Something that is iterated with and without ``async``."""

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in (1, 2, 3):
            yield number


def test_what_can_be_iterated_either_way_is_counted_either_way(phaselog: PhaseLog) -> None:
    async def read() -> list[int]:
        with phase("B") as handle:
            items: Any = handle.track(Both())
            return [number async for number in items]

    with phase("A") as handle:
        assert list(handle.track(Both())) == [1, 2]
    assert asyncio.run(read()) == [1, 2, 3]
    assert [event.done for event in phaselog.events if isinstance(event, PhaseEnded)] == [2, 3]


def test_loops_inside_one_another_promise_no_total_and_warn_of_none(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        for _ in handle.track([1, 2]):
            for _ in handle.track([1, 2, 3]):
                assert handle.total is None
    assert phaselog.events[-1].done == 8  # type: ignore[attr-defined]  # an end has it


def test_a_list_that_is_emptied_after_its_loop_was_as_long_as_it_was() -> None:
    tracker = Tracker()
    with tracker.phase("A") as handle:
        batches = [1, 2, 3]
        for batch in handle.track(batches):
            batches += [4] * (batch == 1)
        assert handle.done == 4
    with tracker.phase("B") as handle:
        for _ in handle.track(batches):
            pass
        batches.clear()
        assert handle.done == 4


def test_the_item_at_which_a_loop_is_left_has_its_line_if_each_has_one(phaselog: PhaseLog) -> None:
    for every in (1, 2, 3):
        with phase("A", every=every) as handle:
            for number in handle.track(range(10)):
                if number == 3:
                    break
    shown = [event.done for event in phaselog.events if isinstance(event, PhaseProgressed)]
    assert shown == [1, 2, 3, 4, 2, 4, 3]


# A decorated function that is sent to another process by value (cloudpickle does so) takes along what these are of.


def test_what_a_decorator_holds_can_be_sent_to_another_process() -> None:
    for one in (default_tracker, DISABLED, PLAIN, APART):
        assert pickle.loads(pickle.dumps(one)) is one
    for sent in (phase("SHARD"), phase("SHARD", total=3, unit="row", device="cpu")):
        made = pickle.loads(pickle.dumps(sent))
        assert (made.name, made.status, made._home) == ("SHARD", "pending", default_tracker)
        assert made._spec.total == sent._spec.total
        assert made._spec.attributes == sent._spec.attributes
        assert (made._spec is PLAIN) == (sent._spec is PLAIN)
    unnamed = pickle.loads(pickle.dumps(phase(None)))
    assert unnamed(test_what_a_decorator_holds_can_be_sent_to_another_process).__name__.startswith("test")
    assert type(unnamed) is type(phase(None))


def test_what_is_open_belongs_to_its_process(phaselog: PhaseLog) -> None:
    with phase("OPEN") as opened:
        with pytest.raises(TypeError, match=r"phase 'OPEN' belongs to this process; give another one phasewatch.carrier"):
            pickle.dumps(opened)
    with pytest.raises(TypeError, match="run 'r' belongs to this process"):
        pickle.dumps(phasewatch.run("r"))
