"""Figures of numbers that come one by one."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch._samples import ERROR, EXACT, Samples

numbers = st.floats(0, 1e9, allow_subnormal=False)


def samples_of(values: list[float]) -> Samples:
    samples = Samples()
    for value in values:
        samples.add(value)
    return samples


def nearest_rank(values: list[float], share: float) -> float:
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@given(st.lists(numbers, min_size=1, max_size=50), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_quantiles_of_few_numbers_are_exact(values: list[float], share: float) -> None:
    samples = samples_of(values)
    assert samples.quantile(share) == nearest_rank(values, share)
    assert samples.is_exact


@given(st.lists(numbers, min_size=2, max_size=50))
def test_mean_and_variance_are_those_of_the_numbers(values: list[float]) -> None:
    samples = samples_of(values)
    assert samples.mean == pytest.approx(statistics.fmean(values))
    assert samples.variance == pytest.approx(statistics.variance(values), rel=1e-6, abs=1e-6)
    assert (samples.lowest, samples.highest, samples.count) == (min(values), max(values), len(values))


@pytest.mark.parametrize("law", ["lognormvariate", "expovariate", "uniform"])
def test_quantiles_of_many_numbers_are_within_the_error_that_is_stated(law: str) -> None:
    source = random.Random(7)
    arguments = {"lognormvariate": (1, 2), "expovariate": (0.1,), "uniform": (1, 9)}[law]
    values = [getattr(source, law)(*arguments) for _ in range(5 * EXACT)] + [0.0]
    samples = samples_of(values)
    assert not samples.is_exact
    for share in (0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0):
        assert samples.quantile(share) == pytest.approx(nearest_rank(values, share), rel=ERROR + 1e-9)
    assert samples.mean == pytest.approx(statistics.fmean(values))


def test_quantiles_stay_exact_up_to_the_number_that_is_stated() -> None:
    samples = samples_of([float(number) for number in range(EXACT)])
    assert samples.is_exact
    samples.add(5.0)
    assert not samples.is_exact


def test_memory_does_not_grow_with_the_numbers() -> None:
    samples = samples_of([10 ** (number % 170 / 10 - 7) for number in range(20_000)])
    assert samples._kept is None
    assert len(samples._buckets) < 1900


def test_of_nothing_there_are_no_figures() -> None:
    samples = Samples()
    assert samples.quantile(0.5) is None
    assert samples.variance is None
    samples.add(3.0)
    assert samples.variance is None
