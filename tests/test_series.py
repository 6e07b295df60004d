"""Values by step, of runs of any length."""

from __future__ import annotations

from phasewatch._series import Series


def series_of(steps: list[int | None]) -> Series:
    series = Series()
    for step in steps:
        series.add(step, float(step or 0) / 2)
    return series


def test_the_values_of_a_short_run_are_all_kept() -> None:
    assert series_of([3, 1, 2]).values() == {1: 0.5, 2: 1.0, 3: 1.5}


def test_the_last_value_of_a_step_counts() -> None:
    series = Series()
    series.add(1, 5.0)
    series.add(1, 6.0)
    assert series.values() == {1: 6.0}


def test_two_long_runs_of_different_length_keep_steps_that_both_have() -> None:
    a, b = series_of(list(range(1, 100_001))).values(), series_of(list(range(1, 70_002))).values()
    assert len(a) <= 513
    assert len(set(a) & set(b)) >= 250
    assert (max(a), max(b)) == (100_000, 70_001)
    assert all(value == step / 2 for step, value in a.items())


def test_values_that_belong_to_no_step_leave_the_last() -> None:
    series = Series()
    series.add(None, 1.0)
    series.add(None, 2.0)
    assert (series.values(), series.last, series.last_step) == ({}, 2.0, None)
    series.add(4, 3.0)
    series.add(None, 9.0)
    assert (series.values(), series.last) == ({4: 3.0}, 3.0)


def test_hostile_numbers_of_steps_are_taken() -> None:
    steps: list[int | None] = [(2**200) * number for number in range(2000)]
    assert len(series_of(steps).values()) <= 513
