"""How long at least one of several spans was open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch._spans import Spans

spans = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 300)), max_size=60)


def union(given: list[tuple[int, int]]) -> float:
    """Count, second by second."""
    return len({second for begin, length in given for second in range(begin, begin + length)})


def measured(given: list[tuple[int, int]]) -> float:
    spans = Spans()
    for begin, length in sorted(given, key=sum):
        spans.add(begin + length, length)
    return spans.seconds


@given(spans)
def test_the_union_is_as_long_as_the_seconds_that_are_covered(given: list[tuple[int, int]]) -> None:
    assert measured(given) == pytest.approx(union(given))


@given(spans, spans)
def test_what_never_ended_may_be_given_last(given: list[tuple[int, int]], lost: list[tuple[int, int]]) -> None:
    spans = Spans()
    for begin, length in (*sorted(given, key=sum)[:30], *lost[:30]):
        spans.add(begin + length, length)
    assert spans.seconds == pytest.approx(union([*sorted(given, key=sum)[:30], *lost[:30]]))


def test_a_run_that_was_killed_does_not_last_until_the_next_one_in_its_log() -> None:
    spans = Spans()
    spans.add(100_010.0, 10.0)
    spans.add(7.0, 5.0)  # of the killed one
    assert spans.seconds == 15.0
    many = Spans()
    for number in range(500):
        many.add(number * 10 + 5.0, 5.0)
    many.add(103.0, 96.0)  # lies in what was merged
    assert many.seconds == pytest.approx(2500 + 48, abs=10)
    moments = Spans()
    for number in range(100):
        moments.add(50.0 + number // 99, 0.0)
    moments.add(50.0, 20.0)
    assert moments.seconds == 20.0
    before = many.seconds
    many.add(-10.0, 5.0)
    assert many.seconds == pytest.approx(before + 5, abs=1e-6)


def test_spans_that_follow_each_other_add_up_though_two_clocks_differ_a_little() -> None:
    spans = Spans()
    for number in range(1000):
        spans.add(1.7e9 + number + number % 3 * 1e-5, 1.0)
    assert spans.seconds == pytest.approx(1000, abs=1e-9)


def test_a_span_around_all_before_it_covers_them_whatever_was_forgotten() -> None:
    many = [(number * 10, 5) for number in range(500)]
    assert measured([*many, (0, 6000)]) == 6000


def test_a_span_that_reaches_into_what_was_forgotten_is_estimated() -> None:
    many = [(number * 10, 5) for number in range(500)]
    for begin in (55, 1000, 2222, 4500):
        given = [*many, (begin, 6000 - begin)]
        assert measured(given) == pytest.approx(union(given), abs=10)
        assert measured([*given, (7000, 10)]) == pytest.approx(union(given) + 10, abs=10)


def test_memory_does_not_grow_with_the_number_of_spans() -> None:
    spans = Spans()
    for number in range(10_000):
        spans.add(number * 10.0, 5.0)
    assert spans.seconds == 50_000
    assert len(spans._spans) <= 64
