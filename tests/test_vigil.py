"""Heartbeats and stalls: what is said of phases that say nothing themselves. The test looks, no thread does."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phasewatch
from phasewatch import Event, PhaseAlive, PhaseResumed, PhaseStalled, PhasewatchWarning, Tracker, phase
from phasewatch._tracker import look
from phasewatch._vigil import HEARTBEAT, Kind, Kinds, Vigil, limit
from phasewatch.stalls import Spread
from phasewatch.testing import FakeClock, MemorySink, PhaseLog


def wait(log: PhaseLog, seconds: int) -> None:
    """Let time pass, with a look each second."""
    for _ in range(seconds):
        log.clock.advance(1)
        log.look()


def beats(log: PhaseLog) -> list[tuple[str, float]]:
    return [(event.name, event.elapsed) for event in log.events if isinstance(event, PhaseAlive)]


def stalls(log: PhaseLog) -> list[tuple[str, str, float]]:
    return [(event.type, event.name, event.quiet) for event in log.events if isinstance(event, (PhaseStalled, PhaseResumed))]


def test_a_quiet_phase_is_said_to_be_alive_after_10_s_after_30_s_and_then_every_minute(phaselog: PhaseLog) -> None:
    with phase("BUILD"):
        wait(phaselog, 280)
    assert [elapsed for _, elapsed in beats(phaselog)] == [10, 30, 90, 150, 210, 270]


def test_the_innermost_phase_speaks_for_those_around_it(phaselog: PhaseLog) -> None:
    with phasewatch.run("r"), phase("VALIDATION", total=28, unit="batch") as validation:
        phaselog.clock.advance(7)
        validation.advance(7)
        with phase("REWARD"):
            wait(phaselog, 12)
        wait(phaselog, 12)
    assert beats(phaselog) == [("REWARD", 10), ("VALIDATION", 29)]
    lines = [line for line in phaselog.text.splitlines() if "ALIVE" in line]
    assert lines == [
        "💓 [META] ALIVE: VALIDATION > REWARD | Elapsed: 10s",
        "💓 [META] ALIVE: VALIDATION [7/28] (25.0%) | Elapsed: 29s | ETA: 20s",
    ]


def test_the_run_itself_does_not_speak(phaselog: PhaseLog) -> None:
    with phasewatch.run("r"):
        wait(phaselog, 100)
    assert beats(phaselog) == []


def test_who_tells_progress_needs_no_heartbeat(phaselog: PhaseLog) -> None:
    with phase("VALIDATION", total=100) as validation:
        for _ in range(20):
            wait(phaselog, 9)
            validation.advance()
    assert beats(phaselog) == []


def test_progress_of_which_no_line_tells_needs_one(phaselog: PhaseLog) -> None:
    with phase("VALIDATION", total=10_000, every=1000) as validation:
        for _ in range(20):
            wait(phaselog, 1)
            validation.advance()
    assert beats(phaselog) == [("VALIDATION", 10)]


def test_words_of_its_own_begin_the_silence_anew(phaselog: PhaseLog) -> None:
    with phase("A", total=2) as handle:
        wait(phaselog, 35)
        handle.advance()
        wait(phaselog, 35)
    assert [elapsed for _, elapsed in beats(phaselog)] == [10, 30, 45, 65]


def test_each_thread_has_a_phase_that_speaks(phaselog: PhaseLog) -> None:
    entered, leave = threading.Barrier(3), threading.Event()

    def work(name: str) -> None:
        with phase(name):
            entered.wait()
            leave.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("A", "B")]
    with phasewatch.run("r"):
        for thread in threads:
            thread.start()
        entered.wait()
        wait(phaselog, 11)
        leave.set()
        for thread in threads:
            thread.join()
    assert sorted(beats(phaselog)) == [("A", 10), ("B", 10)]


def test_a_look_that_comes_late_makes_up_for_none(phaselog: PhaseLog) -> None:
    with phase("A"):
        wait(phaselog, 1)
        phaselog.clock.advance(600)  # a machine that slept
        phaselog.look()
        phaselog.look()
    assert len(beats(phaselog)) == 1


def test_the_heartbeat_can_be_set_and_switched_off(phaselog: PhaseLog) -> None:
    phasewatch.configure(heartbeat=(5,))
    with phase("A"):
        wait(phaselog, 12)
    phasewatch.configure(heartbeat=False)
    with phase("B"):
        wait(phaselog, 100)
    phasewatch.configure(heartbeat=True)
    with phasewatch.run("r"), phase("C"):
        phasewatch.configure(heartbeat=[2, 20])  # holds for what is open too
        wait(phaselog, 25)
    assert beats(phaselog) == [("A", 5), ("A", 10), ("C", 2), ("C", 22)]


@pytest.mark.parametrize("wrong", [(), (0,), (-1, 5), (30, 10, 60), ("soon",), 7, float("nan"), (float("inf"),)])
def test_a_heartbeat_that_is_none_is_an_error(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"configure: heartbeat=.* must be True, False or seconds"):
        phasewatch.configure(heartbeat=wrong)


def test_stalls_that_are_none_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"configure: stalls='loudly' must be True, False or 'stack'"):
        phasewatch.configure(stalls="loudly")  # type: ignore[arg-type]


def test_a_phase_that_was_said_to_stall_after_some_time_is_announced_then_and_when_it_moves(phaselog: PhaseLog) -> None:
    with phase("GENERATE", total=4, stall_after=20) as generate:
        wait(phaselog, 15)
        generate.advance()
        wait(phaselog, 25)
        generate.advance()
        wait(phaselog, 1)
    # The advance was seen a second later, by the next look.
    assert stalls(phaselog) == [("stalled", "GENERATE", 20), ("resumed", "GENERATE", 25)]
    text = phaselog.text
    assert "⏳ [META] PHASE STALLED: GENERATE\n" in text
    assert "▶️ [META] PHASE RESUMED: GENERATE | Quiet: " in text


def test_a_phase_that_had_stalled_moves_when_a_phase_inside_it_begins(phaselog: PhaseLog) -> None:
    with phase("A", stall_after=20):
        wait(phaselog, 25)
        with phase("B"):
            wait(phaselog, 2)
            # It began a second before the look that tells it.
            assert stalls(phaselog) == [("stalled", "A", 20), ("resumed", "A", 26)]


def test_while_the_end_of_a_phase_is_told_the_one_around_it_is_not_taken_for_quiet() -> None:
    class Slow(MemorySink):
        def emit(self, event: Event) -> None:
            super().emit(event)
            if event.type == "end":
                look()  # the monitor's, which does not wait for a sink

    sink, clock = MemorySink(), FakeClock()
    tracker = Tracker([sink, Slow()], clock)
    tracker.heartbeat = (10.0,)
    with tracker.phase("A", stall_after=20), tracker.phase("B"):
        look()
        clock.advance(30)
    assert [event.name for event in sink.events if event.type in ("alive", "stalled")] == []


def test_a_phase_that_stalls_again_and_again_is_announced_after_twice_as_long_each_time(phaselog: PhaseLog) -> None:
    with phase("A", stall_after=10):
        wait(phaselog, 100)
    assert stalls(phaselog) == [
        ("stalled", "A", 10),
        ("stalled", "A", 20),
        ("stalled", "A", 40),
        ("stalled", "A", 80),
        ("resumed", "A", 100),
    ]


def test_the_second_announcement_shows_where_the_thread_is(phaselog: PhaseLog) -> None:
    with phase("A", stall_after=10):
        wait(phaselog, 25)
    first, second = (event for event in phaselog.events if isinstance(event, PhaseStalled))
    assert first.stack is None
    assert second.stack is not None
    assert "test_the_second_announcement_shows_where_the_thread_is" in second.stack
    assert '\n      File "' in phaselog.text


def test_the_stack_is_shown_at_once_on_request_and_nothing_if_stalls_are_switched_off(phaselog: PhaseLog) -> None:
    phasewatch.configure(stalls="stack")
    with phase("A", stall_after=10):
        wait(phaselog, 11)
    phasewatch.configure(stalls=False)
    with phase("B", stall_after=10):
        wait(phaselog, 11)
    assert [event.stack is not None for event in phaselog.events if isinstance(event, PhaseStalled)] == [True]


def test_what_is_expected_may_take_three_times_as_long_and_a_minute(phaselog: PhaseLog) -> None:
    with phase("SAVE", expect=10):
        wait(phaselog, 89)
        assert stalls(phaselog) == []
        wait(phaselog, 2)
    event = next(event for event in phaselog.events if isinstance(event, PhaseStalled))
    assert (event.quiet, event.expected) == (90, 10)
    assert "Quiet: 1.5m | Expected: 10s | Elapsed: 1.5m" in phaselog.text


def test_a_phase_is_measured_by_its_own_history(phaselog: PhaseLog) -> None:
    for _ in range(30):
        with phase("SAVE"):
            wait(phaselog, 10)
    with phase("SAVE"):
        wait(phaselog, 100)
        assert [name for kind, name, _ in stalls(phaselog) if kind == "stalled"] == ["SAVE"]
    assert stalls(phaselog)[-1][0] == "resumed", "it ended, so it moved"


def test_a_phase_that_counts_is_measured_by_its_units(phaselog: PhaseLog) -> None:
    with phase("VALIDATION", total=1000) as validation:
        for _ in range(30):
            wait(phaselog, 10)
            validation.advance()
        wait(phaselog, 300)
    assert stalls(phaselog)[0][:2] == ("stalled", "VALIDATION")
    assert stalls(phaselog)[0][2] <= 3 * 11 + 60


def test_a_phase_in_which_others_come_and_go_moves(phaselog: PhaseLog) -> None:
    with phase("OUTER", stall_after=15):
        for _ in range(10):
            wait(phaselog, 5)
            with phase("INNER"):
                wait(phaselog, 5)
    assert stalls(phaselog) == []


def test_metrics_are_a_sign_of_life(phaselog: PhaseLog) -> None:
    with phase("A", stall_after=15) as handle:
        for number in range(10):
            wait(phaselog, 10)
            handle.log(loss=number)
    assert stalls(phaselog) == []


def test_a_generator_that_nobody_reads_from_is_not_late(phaselog: PhaseLog) -> None:
    @phase("SOURCE", stall_after=10)
    def source() -> Any:
        yield 1
        yield 2

    items = source()
    next(items)
    wait(phaselog, 100)
    assert list(items) == [2]
    assert stalls(phaselog) == []
    assert beats(phaselog) == []


def test_a_phase_that_fails_has_not_moved(phaselog: PhaseLog) -> None:
    with pytest.raises(OSError, match="gone"), phase("A", stall_after=10):
        wait(phaselog, 11)
        raise OSError("gone")
    assert [kind for kind, _, _ in stalls(phaselog)] == ["stalled"]


@pytest.mark.parametrize("option", ["expect", "stall_after"])
@pytest.mark.parametrize("wrong", [0, -1, "soon", float("nan"), float("inf")])
def test_seconds_that_are_none_warn_and_are_left_out(phaselog: PhaseLog, option: str, wrong: Any) -> None:
    options: dict[str, Any] = {option: wrong}
    with pytest.warns(PhasewatchWarning, match=f"{option}=.* must be a number of seconds"), phase("A", **options):
        wait(phaselog, 100)
    assert stalls(phaselog) == []


def test_kinds_without_number_do_not_fill_the_memory() -> None:
    kinds = Kinds()
    for number in range(20_000):
        kinds.ended.append(((str(number),), 1.0))
    assert kinds.of(("A",)) is not kinds.of(("A",)), "there is no room for it"
    assert len(kinds._kinds) == 500
    assert not kinds.ended


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=60))
def test_a_phase_never_stalls_before_a_minute_of_quiet_unless_that_was_asked_for(durations: list[float]) -> None:
    kind = Kind()
    for seconds in durations:
        kind.durations.add(seconds)
        kind.gaps.add(seconds)
    for elapsed, quiet in ((1000.0, 10.0), (30.0, 30.0), (1e6, 1.0)):
        bounds = limit(kind, elapsed=elapsed, quiet=quiet, counts=False, expect=None, stall_after=None)
        assert bounds is None or bounds[0] >= 60


@given(st.lists(st.floats(0.5, 90), min_size=1, max_size=100), st.sampled_from([HEARTBEAT, (5.0,), (1.0, 2.0)]))
def test_between_two_words_there_is_never_less_silence_than_was_said(waits: list[float], schedule: Any) -> None:
    vigil, now, last = Vigil(0.0, 0), 0.0, 0.0
    for seconds in waits:
        now += seconds
        vigil.see(now, 0, 0, Spread())
        if vigil.beats(now, None, schedule):
            assert now - last >= min(schedule) - 1e-9 or now >= last
            last = now
    if now > schedule[0] + 90:
        assert last > 0
