"""When it will be done: arithmetic over past durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch.eta import time_left

units = st.integers(min_value=1, max_value=10**6)
seconds = st.floats(min_value=0, max_value=1e7)
TINY = 1e-100  # far below any time: where floats lose their digits


def test_nothing_is_known_without_a_total() -> None:
    assert time_left(None, 5, 10.0, 0.0) is None


def test_nothing_is_known_before_the_first_unit_is_done() -> None:
    assert time_left(10, 0, 0.0, 5.0) is None


@pytest.mark.parametrize("left", [0, -1, -100])
@pytest.mark.parametrize("done", [0, 7])
def test_nothing_left_takes_no_time_whatever_is_known(left: int, done: int) -> None:
    assert time_left(left, done, 42.0, 3.0) == 0.0


def test_the_example_of_the_specification() -> None:
    # One step of 42 s is done, the second of 35 begins: 34 are left.
    assert time_left(34, 1, busy=42.0, waiting=0.0) == 34 * 42.0


@given(left=units, done=units, each=st.integers(min_value=0, max_value=10**6))
def test_it_is_exact_where_every_unit_takes_the_same(left: int, done: int, each: int) -> None:
    assert time_left(left, done, float(done * each), 0.0) == left * each


@given(left=st.integers(max_value=10**6), done=units, busy=seconds, waiting=seconds)
def test_it_is_never_negative(left: int, done: int, busy: float, waiting: float) -> None:
    estimate = time_left(left, done, busy, waiting)
    assert estimate is not None
    assert estimate >= 0


@given(left=units, done=units, busy=seconds, waiting=seconds, factor=st.sampled_from([0.001, 0.5, 2.0, 60.0, 3600.0]))
def test_it_scales_with_the_clock(left: int, done: int, busy: float, waiting: float, factor: float) -> None:
    estimate = time_left(left, done, busy, waiting)
    scaled = time_left(left, done, busy * factor, waiting * factor)
    assert estimate is not None
    # Near the moment at which the wait reaches a unit's time, a difference of two roundings is all that is left.
    assert scaled == pytest.approx(estimate * factor, rel=1e-9, abs=1e-9 * (busy + waiting) * factor + TINY)


@given(left=units, done=units, busy=seconds, waiting=seconds, more=seconds)
def test_it_counts_down_while_waiting_and_stops_where_the_unit_is_overdue(
    left: int, done: int, busy: float, waiting: float, more: float
) -> None:
    before, after = time_left(left, done, busy, waiting), time_left(left, done, busy, waiting + more)
    assert before is not None
    assert after is not None
    each = busy / done
    slack = 1e-9 * (before + waiting + more + 1)
    assert after <= before
    assert before - after <= more + slack
    if waiting + more <= each:
        assert before - after == pytest.approx(more, abs=slack)
    assert after >= (left - 1) * each, "the units after the one under way are still to come"


@given(left=units, done=units, busy=seconds, waiting=seconds)
def test_one_more_unit_takes_one_more_mean(left: int, done: int, busy: float, waiting: float) -> None:
    few, many = time_left(left, done, busy, waiting), time_left(left + 1, done, busy, waiting)
    assert few is not None
    assert many is not None
    assert many - few == pytest.approx(busy / done, abs=1e-9 * (many + 1))
