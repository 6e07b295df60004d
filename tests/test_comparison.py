"""Two runs side by side: what changed, and what is noise."""

from __future__ import annotations

import json
import random

import pytest
from programs import info, span

from phasewatch import Event, MetricsLogged, Timeline, diff, summarize
from phasewatch._samples import Samples
from phasewatch.comparison import Comparison, student_tail, welch


def steps(times: list[float], name: str = "STEP", loss: float = 1.0, **known: object) -> list[Event]:
    events: list[Event] = []
    now = 0.0
    for number, seconds in enumerate(times, 1):
        one = info(f"{name}.{number:x}", name, step=number)
        begin, end = span(one, now, seconds, **known)
        events += [begin, MetricsLogged(one, now, values={"loss": loss / number}), end]
        now += seconds
    return events


def noisy(mean: float, count: int, seed: int, spread: float = 0.1) -> list[float]:
    source = random.Random(seed)
    return [max(0.0, source.gauss(mean, mean * spread)) for _ in range(count)]


def verdict(a: list[float], b: list[float]) -> str:
    (kind,) = diff(steps(a), steps(b)).kinds
    return kind.verdict


# From the tables of Student's distribution, two-sided.
@pytest.mark.parametrize(
    ("t", "freedom", "chance"),
    [
        (12.7062, 1, 0.05), (63.6567, 1, 0.01), (4.30265, 2, 0.05), (9.92484, 2, 0.01), (2.57058, 5, 0.05),
        (4.03214, 5, 0.01), (2.22814, 10, 0.05), (3.16927, 10, 0.01), (2.04227, 30, 0.05), (2.75000, 30, 0.01),
        (1.95996, 1e7, 0.05), (2.57583, 1e7, 0.01), (0.0, 7, 1.0),
    ],
)  # fmt: skip
def test_the_test_has_the_chances_of_the_tables(t: float, freedom: float, chance: float) -> None:
    assert student_tail(t, freedom) == pytest.approx(chance, rel=1e-4)
    assert student_tail(-t, freedom) == pytest.approx(chance, rel=1e-4)


def test_welch_gives_the_chance_of_a_worked_example() -> None:
    # Means 20.82 and 22.99, t = -2.46, 24.99 degrees of freedom: two-sided p = 0.0214 (R: t.test).
    a, b = Samples(), Samples()
    for number in (27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4):
        a.add(number)
    for number in (27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4):
        b.add(number)
    assert welch(a, b) == pytest.approx(0.021378, abs=1e-5)


def test_what_is_slower_by_more_than_noise_is_called_so() -> None:
    assert verdict(noisy(10, 40, 1), noisy(12, 40, 2)) == "slower"
    assert verdict(noisy(12, 40, 1), noisy(10, 40, 2)) == "faster"


def test_two_like_runs_differ_by_no_more_than_noise() -> None:
    verdicts = [verdict(noisy(10, 20, 2 * seed), noisy(10, 20, 2 * seed + 1)) for seed in range(200)]
    assert verdicts.count("same") >= 194


def test_of_too_few_phases_nothing_can_be_told() -> None:
    assert verdict([1.0, 1.0], [9.0, 9.0, 9.0]) == "too few"
    assert verdict([1.0, 1.1, 0.9], [9.0, 9.1]) == "too few"
    assert verdict([1.0, 1.1, 0.9], [9.0, 9.1, 8.9]) == "slower"


def test_phases_of_which_one_log_tells_no_time_are_neither_slower_nor_faster() -> None:
    for a, b in (([0.0] * 5, [5.0, 5.1, 5.2]), ([5.0, 5.1, 5.2], [0.0] * 5)):
        (kind,) = (kind for kind in diff(steps(a), steps(b)).kinds if kind.path)
        assert (kind.verdict, kind.ratio, kind.p) == ("untimed", None, None)
    tested = diff(steps([0.0] * 5) + steps([1.0, 1.1, 1.2], "B"), steps([5.0] * 5) + steps([1.0, 1.1, 1.2], "B"))
    assert [kind.verdict for kind in tested.kinds] == ["untimed", "same"]


def test_durations_without_any_noise_differ_if_they_differ() -> None:
    assert verdict([1.0] * 5, [1.0] * 5) == "same"
    assert verdict([1.0] * 5, [1.1] * 5) == "slower"
    assert verdict([0.0] * 5, [0.0] * 5) == "same"
    assert verdict([0.1 + 0.2] * 5, [0.3] * 5) == "same"


def test_of_many_kinds_the_one_that_differs_by_chance_is_not_called_different() -> None:
    a, b = noisy(10, 10, 1), noisy(11.7, 10, 2)
    alone = diff(steps(a), steps(b)).kinds[0]
    assert alone.p is not None
    assert 0.0002 < alone.p < 0.01
    assert alone.verdict == "slower"
    many_a, many_b = steps(a), steps(b)
    for number in range(60):
        many_a += steps(a, f"OTHER {number}")
        many_b += steps(a, f"OTHER {number}")
    among = diff(many_a, many_b).kinds[0]
    assert (among.p, among.verdict) == (alone.p, "same")


def test_times_are_of_one_unit_where_both_count_units() -> None:
    a = steps([10.0, 12.0, 11.0], done=10)
    b = steps([20.0, 24.0, 22.0], done=20)
    (kind,) = diff(a, b).kinds
    assert [kind.a, kind.b, kind.ratio] == pytest.approx([1.1, 1.1, 1.0])
    assert (kind.per, kind.verdict) == ("item", "same")
    (kind,) = diff(a, steps([20.0, 24.0, 22.0])).kinds
    assert kind.per == "phase"
    assert kind.ratio == pytest.approx(2.0)


def test_what_ran_in_one_only_is_told() -> None:
    a, b = steps([1.0]) + steps([2.0], "SAVE"), steps([1.0]) + steps([2.0], "VALIDATION")
    comparison = diff(a, b)
    assert (comparison.only_a, comparison.only_b) == ([("SAVE",)], [("VALIDATION",)])
    assert [kind.path for kind in comparison.kinds] == [("STEP",)]


def test_metrics_are_compared_at_the_last_step_that_both_have() -> None:
    (metric,) = diff(steps([1.0] * 5), steps([1.0] * 8)).metrics
    assert (metric.name, metric.steps, metric.step, metric.a, metric.b, metric.parted) == ("loss", 5, 5, 0.2, 0.2, None)
    (metric,) = diff(steps([1.0] * 5), steps([1.0] * 3, loss=2.0)).metrics
    assert (metric.step, metric.a, metric.b, metric.parted) == (3, 1 / 3, 2 / 3, 1)


def test_a_metric_without_steps_is_compared_by_its_last_value() -> None:
    def one(value: float) -> list[Event]:
        a = info("a.1")
        begin, end = span(a, 0.0, 1.0)
        return [begin, MetricsLogged(a, 0.5, values={"loss": value}), end]

    (metric,) = diff(one(1.0), one(2.0)).metrics
    assert (metric.steps, metric.step, metric.a, metric.b) == (0, None, 1.0, 2.0)


def test_values_that_are_no_numbers_are_equal_to_themselves() -> None:
    (metric,) = diff(steps([1.0], loss=float("nan")), steps([1.0], loss=float("nan"))).metrics
    assert metric.parted is None


def test_only_what_is_slower_by_more_than_noise_and_more_than_allowed_fails() -> None:
    comparison = diff(
        steps(noisy(10, 40, 1)) + steps([1.0], "ONCE") + steps([5.0] * 5, "QUICKER"),
        steps(noisy(12, 40, 2)) + steps([9.0], "ONCE") + steps([1.0] * 5, "QUICKER"),
    )
    assert [kind.path for kind in comparison.slower_than(0.1)] == [("STEP",)]
    assert comparison.slower_than(0.3) == []


def test_summaries_timelines_and_events_can_be_compared() -> None:
    a, b = steps([1.0, 2.0, 3.0]), steps([2.0, 3.0, 4.0])
    expected = diff(a, b)
    assert diff(summarize(a), iter(b)) == expected
    of_timelines = diff(Timeline.from_events(a), Timeline.from_events(b))
    assert (of_timelines.kinds, of_timelines.metrics) == (expected.kinds, expected.metrics)


def test_a_comparison_is_json() -> None:
    comparison = diff(steps([0.0] * 3, loss=float("inf")), steps([1.0] * 3))
    found = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    assert found["kinds"][0]["verdict"] == "untimed"
    assert found["kinds"][0]["ratio"] is None
    assert found["metrics"][0]["a"] is None
    assert isinstance(comparison, Comparison)
