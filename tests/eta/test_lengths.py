"""How long work of one kind takes: a model of its durations."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch.eta.lengths import Lengths

seconds = st.floats(min_value=1e-3, max_value=1e6)
many = st.lists(seconds, min_size=1, max_size=80)
counts = st.integers(min_value=1, max_value=10**6)


def lengths_of(durations: Iterable[float]) -> Lengths:
    lengths = Lengths()
    for duration in durations:
        lengths.add(duration)
    return lengths


def left(lengths: Lengths, units: float, whole: float | None = None) -> float:
    told = lengths.left(units, whole)
    assert told is not None
    return told


def noisy(number: int, *, mean: Callable[[int], float] = lambda _: 40.0, spread: float = 0.05, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [mean(one) * math.exp(draw.gauss(0, spread)) for one in range(number)]


def test_nothing_is_known_before_anything_was_seen() -> None:
    lengths = Lengths()
    assert not lengths.is_known
    assert lengths.left(10) is None
    assert lengths.left(0) == 0.0


@given(each=st.integers(min_value=0, max_value=10**6), seen=st.integers(min_value=1, max_value=300), units=counts)
def test_it_is_exact_where_all_take_the_same(each: int, seen: int, units: int) -> None:
    assert lengths_of([float(each)] * seen).left(units) == each * units


@given(many, counts)
def test_it_is_a_number_that_is_never_negative(durations: list[float], units: int) -> None:
    told = left(lengths_of(durations), units)
    assert told >= 0
    assert math.isfinite(told)


# From a tenth of a millisecond on: of what is briefer, several are taken as one.
@given(
    st.lists(st.floats(min_value=0.1, max_value=1e6), min_size=1, max_size=80),
    counts,
    st.sampled_from([1e-3, 0.5, 60.0, 3600.0]),
)
def test_it_scales_with_the_clock(durations: list[float], units: int, factor: float) -> None:
    scaled = left(lengths_of([factor * duration for duration in durations]), units)
    assert scaled == pytest.approx(factor * left(lengths_of(durations), units), rel=1e-4)


@given(st.lists(st.floats(min_value=0, max_value=9e-5), min_size=2, max_size=300), counts)
def test_of_brief_durations_all_but_the_last_tenth_of_a_millisecond_are_in_the_mean(
    durations: list[float], units: int
) -> None:
    lengths = lengths_of(durations)
    taken, briefly = [durations[0]], []
    for duration in durations[1:]:
        briefly.append(duration)
        if sum(briefly) >= 1e-4:
            taken += briefly
            briefly.clear()
    assert lengths.count == 1 or len(taken) > 1
    assert left(lengths, units) >= 0
    assert lengths._seen() == len(taken)
    assert lengths._mean(lengths._first) == pytest.approx(sum(taken) / len(taken))  # type: ignore[arg-type]  # it has seen one


def test_brief_durations_do_not_hide_a_long_one() -> None:
    lengths = lengths_of([1e-6, 1e-6, 1e-6, 10.0])
    assert lengths.left(4) == pytest.approx(10.0, rel=0.01)


def test_where_it_is_open_whether_there_was_a_change_the_forecast_lies_between_the_levels() -> None:
    changed = [*noisy(30, mean=lambda _: 10.0, spread=0.2), *noisy(5, mean=lambda _: 20.0, spread=0.2, seed=1)]
    assert 14.0 < left(lengths_of(changed), 1) < 19.0  # the mean of all is below 12


def test_what_nobody_asks_about_waits_until_it_is_much() -> None:
    lengths = lengths_of([1.0] * 63)
    assert (len(lengths._waiting), lengths._count, lengths.is_known) == (63, 0, True)
    lengths.add(1.0)
    assert (len(lengths._waiting), lengths._count) == (0, 64)
    lengths.add(1.0)
    assert lengths.count == 65


def test_of_many_a_few_that_take_no_second_together_wait_for_the_next_question() -> None:
    lengths = lengths_of(noisy(40, mean=lambda _: 0.04))
    before = left(lengths, 100)
    for _ in range(13):
        lengths.add(0.05)
        assert left(lengths, 100) == before
    lengths.add(0.05)
    assert left(lengths, 100) > before, "these are more than a quarter of all"
    lengths.add(0.05)
    left(lengths, 100)
    assert len(lengths._waiting) == 1
    lengths.add(1.0)
    left(lengths, 100)
    assert len(lengths._waiting) == 0


def test_nobody_looks_at_durations_while_another_thread_does_or_weighs() -> None:
    lengths = lengths_of([1.0, 2.0, 3.0])
    known = left(lengths, 1)
    with lengths._weighing:
        lengths.add(4.0)
        lengths.add(5.0)
        assert left(lengths, 1) == known
        assert lengths.count == 3
    assert lengths.count == 5
    assert lengths._seen() == 5.0
    assert left(lengths, 1) > known


def test_no_duration_is_lost_between_threads(at_once: Callable[[Callable[[int], None], int], None]) -> None:
    several = [Lengths() for _ in range(60)]

    def work(_: int) -> None:
        for lengths in several:
            for number in range(100):
                lengths.add(0.001 * (1 + number % 7))

    at_once(work, 3)
    assert {lengths.count for lengths in several} == {300}


def test_threads_that_add_and_ask_at_once_disturb_nobody(at_once: Callable[[Callable[[int], None], int], None]) -> None:
    several = [Lengths() for _ in range(60)]
    failed = []

    def work(_: int) -> None:
        try:
            for lengths in several:
                for number in range(100):
                    lengths.add(0.001 * (1 + number % 7))
                    lengths.left(10)
        except Exception as error:
            failed.append(error)

    at_once(work, 3)
    assert not failed


@given(st.lists(st.sampled_from([30.0, 40.0]), min_size=2, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_equal_durations_does_not_matter(durations: list[float], draw: random.Random) -> None:
    numbered = list(enumerate(durations))
    draw.shuffle(numbered)
    again = [duration for _, duration in sorted(numbered, key=lambda pair: pair[0])]
    assert lengths_of(durations).left(100) == lengths_of(again).left(100)


@given(many, counts)
def test_it_stays_between_the_extremes_where_no_trend_can_be_seen(durations: list[float], units: int) -> None:
    durations = durations[:5]
    told = left(lengths_of(durations), units)
    assert min(durations) * units * (1 - 1e-9) <= told <= max(durations) * units * (1 + 1e-9)


def test_a_question_changes_nothing() -> None:
    asked, silent = Lengths(), Lengths()
    for duration in noisy(30):
        asked.add(duration)
        silent.add(duration)
        first = asked.left(50)
        assert asked.left(50) == first
    assert asked.left(50, 100) == pytest.approx(left(silent, 50, 100), rel=0.02)


def test_a_first_one_of_three_times_the_length_is_left_out() -> None:
    assert left(lengths_of([120.0, *noisy(1)]), 100) == pytest.approx(4000, rel=0.15)
    assert left(lengths_of([120.0, *noisy(20)]), 100) == pytest.approx(4000, rel=0.03)
    assert lengths_of([120.0, 40.0, 40.0]).left(100) == pytest.approx(4000, rel=1e-9)


def test_several_slow_ones_at_the_beginning_are_left_out_too() -> None:
    assert left(lengths_of([120.0, 90.0, 80.0, 85.0, 80.0, *noisy(30)]), 100) == pytest.approx(4000, rel=0.05)


def test_a_first_one_among_many_that_vary_is_one_of_them() -> None:
    durations = noisy(20, spread=0.8)
    assert left(lengths_of([120.0, *durations]), 1) == pytest.approx((120 + sum(durations)) / 21, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_it_follows_a_jump_within_a_few(seed: int) -> None:
    durations = noisy(87, mean=lambda number: 64.0 if number >= 80 else 40.0, seed=seed)
    assert left(lengths_of(durations), 113, 200) == pytest.approx(113 * 64, rel=0.08)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("end", [2.0, 0.5])
def test_it_follows_a_drift(seed: int, end: float) -> None:
    def mean(number: int) -> float:
        return 40 * (1 + (end - 1) * number / 200)

    true = sum(mean(number) for number in range(100, 200))
    assert left(lengths_of(noisy(100, mean=mean, seed=seed)), 100, 200) == pytest.approx(true, rel=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_one_long_one_is_no_change(seed: int) -> None:
    durations = noisy(60, seed=seed)
    assert left(lengths_of([*durations, 400.0]), 100) == pytest.approx((sum(durations) + 400) / 61 * 100, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_one_in_ten_counts_for_what_it_is(seed: int) -> None:
    durations = noisy(100, mean=lambda number: 160.0 if number % 10 == 9 else 40.0, seed=seed)
    assert left(lengths_of(durations), 100, 200) == pytest.approx(100 * 52, rel=0.1)


@pytest.mark.parametrize("seed", range(10))
def test_a_heavy_tail_keeps_its_mean(seed: int) -> None:
    durations = noisy(400, spread=0.8, seed=seed)
    assert left(lengths_of(durations), 1) == pytest.approx(sum(durations) / 400, rel=0.2)


def test_what_shrinks_never_takes_less_than_nothing() -> None:
    durations = [100 * 0.9**number for number in range(60)]
    assert 0 < left(lengths_of(durations), 10**6) < 10**6


def test_several_units_at_once_weigh_what_they_are() -> None:
    lengths = Lengths()
    for units in (4, 1, 10, 2, 7):
        lengths.add(3.0 * units, units)
    assert lengths.left(10) == 30.0


def test_an_earlier_run_stands_in_until_this_one_shows_its_own_lengths() -> None:
    lengths = Lengths()
    lengths.expect(44.0, 200, 2.0)
    assert lengths.left(100) == 4400
    lengths.add(120.0)  # warms up, as one can see beside the earlier run
    assert lengths.left(100) == 4400
    off = []
    for number, duration in enumerate(noisy(50)):
        lengths.add(duration)
        if number in (0, 5, 49):
            off.append(abs(left(lengths, 100) - 4000))
    assert off[0] > off[-1]
    assert off[-1] < 80


def test_an_earlier_run_holds_out_longer_where_lengths_vary() -> None:
    told = {}
    for spread in (0.05, 0.8):
        lengths = Lengths()
        lengths.expect(80.0, 200, 80 * spread)
        for _ in range(5):
            lengths.add(40.0)
        told[spread] = left(lengths, 1)
    assert 40 < told[0.05] < told[0.8] < 80


@pytest.mark.parametrize("wrong", [(0.0, 5, 1.0), (-3.0, 5, 1.0), (math.nan, 5, 1.0), (math.inf, 5, 1.0), (4.0, 0, 1.0)])
def test_an_earlier_run_that_says_nothing_is_passed_over(wrong: tuple[float, int, float]) -> None:
    lengths = Lengths()
    lengths.expect(*wrong)
    assert not lengths.is_known


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0])
def test_what_is_no_duration_is_passed_over(wrong: float) -> None:
    lengths = lengths_of([40.0, wrong, 40.0])
    assert lengths.left(10) == 400


def test_durations_of_nothing_among_others_are_no_trouble() -> None:
    told = left(lengths_of([0.0, 5.0, 0.0, 0.0, 5.0] * 20), 100)
    assert 0 <= told <= 500


def test_memory_does_not_grow_with_the_durations() -> None:
    def size(lengths: Lengths) -> int:
        total = 0
        seen: list[object] = [lengths]
        while seen:
            one = seen.pop()
            total += sys.getsizeof(one)
            if isinstance(one, list):
                seen += one
            else:
                seen += [getattr(one, name) for name in getattr(type(one), "__slots__", ())]
        return total

    some, more = lengths_of(noisy(2_000)), lengths_of(noisy(40_000))
    some.left(10)
    more.left(10)
    assert size(more) < 1.5 * size(some)


def test_a_question_after_many_durations_is_no_walk_over_them() -> None:
    lengths = lengths_of(noisy(40_000))
    lines = 0

    def count(frame: object, event: str, argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)  # type: ignore[arg-type]  # it returns itself
    try:
        lengths.left(1000)
        first, lines = lines, 0
        lengths.left(1000)
    finally:
        sys.settrace(before)
    assert first < 3000
    assert lines < 100
