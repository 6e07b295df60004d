"""Counts and means: figures are true, whatever kind of number they come as."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from phasewatch import Tracker
from phasewatch._tally import NEVER, Logged, Metric, Tally, as_count, as_number, numbers_of


class Scalar:
    """What torch and jax hand out: an object with item(), which may hold one value or many."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def item(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class Broken:
    def __float__(self) -> float:
        raise RuntimeError("no figure")

    def __index__(self) -> int:
        raise RuntimeError("no figure")


class Text(str):
    """As numpy.str_ is."""

    __slots__ = ()


NUMBERS: list[tuple[Any, float]] = [
    (3, 3.0),
    (-3, -3.0),
    (0, 0.0),
    (0.25, 0.25),
    (True, 1.0),
    (False, 0.0),
    (Decimal("0.5"), 0.5),
    (Fraction(3, 4), 0.75),
    (np.float32(0.5), 0.5),
    (np.float64(0.1), 0.1),
    (np.int64(7), 7.0),
    (np.uint8(255), 255.0),
    (np.bool_(True), 1.0),
    (np.array(2.5), 2.5),
    (np.array([2.5]), 2.5),
    (np.array([[7]]), 7.0),
    (Scalar(0.234), 0.234),
    (Scalar(7), 7.0),
    (10**400, math.inf),
    (-(10**400), -math.inf),
    (Fraction(-(10**400), 3), -math.inf),
    (Decimal("1e400"), math.inf),
    (math.inf, math.inf),
    (np.float64("-inf"), -math.inf),
]
NO_NUMBERS: list[Any] = [
    None,
    "3",
    "",
    b"3",
    Text("3"),
    np.str_("3"),
    [1.0],
    (),
    {"a": 1},
    1j,
    np.complex64(1j),
    np.array([1.0, 2.0]),
    np.array([]),
    Scalar(RuntimeError("only one element tensors can be converted to Python scalars")),
    Scalar(None),
    Broken(),
    object(),
    float,
]


@pytest.mark.parametrize(("value", "number"), NUMBERS, ids=lambda value: f"{type(value).__name__} {value!r:.20}")
def test_a_number_of_any_kind_is_taken_as_a_float(value: Any, number: float) -> None:
    taken = as_number(value)
    assert type(taken) is float
    assert taken == number


@pytest.mark.parametrize("value", [math.nan, np.float32("nan"), Decimal("nan"), Scalar(math.nan)], ids=repr)
def test_nan_is_a_number(value: Any) -> None:
    taken = as_number(value)
    assert taken is not None
    assert math.isnan(taken)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_none_and_never_raises(value: Any) -> None:
    assert as_number(value) is None
    assert as_count(value) is None


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (28, 28),
        (28.0, 28),
        (-2, -2),
        (True, 1),
        (np.int64(28), 28),
        (np.float32(28), 28),
        (np.array(28), 28),
        (np.array([28]), 28),
        (Decimal(28), 28),
        (Fraction(28), 28),
        (Scalar(28.0), 28),
        (10**400, 10**400),
        (2**63 + 1, 2**63 + 1),
    ],
    ids=lambda value: f"{type(value).__name__} {value!r:.20}",
)
def test_a_whole_number_of_any_kind_is_taken_as_an_int(value: Any, count: int) -> None:
    taken = as_count(value)
    assert type(taken) is int
    assert taken == count


@pytest.mark.parametrize(
    "value", [0.5, math.nan, math.inf, -math.inf, Decimal("0.5"), np.float64(2.5), Scalar(0.5)], ids=repr
)
def test_what_is_not_whole_is_no_count(value: Any) -> None:
    assert as_count(value) is None


# A mean.

values = st.floats(min_value=-1e9, max_value=1e9)
TINY = 1e-100  # far below any figure: where floats lose their digits
weights = st.one_of(
    st.just(0.0), st.integers(min_value=1, max_value=10**6).map(float), st.floats(min_value=0.01, max_value=1e6)
)
weighted = st.lists(st.tuples(values, weights), min_size=1, max_size=50)


def metric_of(pairs: list[tuple[float, float]]) -> Metric:
    metric = Metric()
    for value, weight in pairs:
        metric.add(value, weight)
    return metric


@given(weighted)
def test_a_mean_is_that_of_all_values_each_by_its_weight(pairs: list[tuple[float, float]]) -> None:
    total = sum(Fraction(weight) for _, weight in pairs)
    assume(total)
    exact = sum(Fraction(value) * Fraction(weight) for value, weight in pairs) / total
    metric = metric_of(pairs)
    largest = max(abs(value) for value, _ in pairs)
    assert metric.mean == pytest.approx(float(exact), rel=1e-9, abs=1e-9 * largest + TINY)
    assert metric.count == len(pairs)
    assert metric.last == pairs[-1][0]


@given(weighted)
def test_a_mean_lies_among_its_values(pairs: list[tuple[float, float]]) -> None:
    weighty = [value for value, weight in pairs if weight]
    assume(weighty)
    slack = 1e-9 * max(abs(value) for value in weighty) + TINY
    assert min(weighty) - slack <= metric_of(pairs).mean <= max(weighty) + slack


@given(weighted, st.floats(allow_nan=False))
@example([(1.0, 1.0)], math.inf)  # infinity without weight is no infinity, and not NaN either
def test_a_value_without_weight_leaves_the_mean_as_it_was(pairs: list[tuple[float, float]], weightless: float) -> None:
    assume(any(weight for _, weight in pairs))
    metric = metric_of(pairs)
    before = metric.mean
    metric.add(weightless, 0.0)
    assert metric.mean == before
    assert metric.last == weightless


def test_before_the_first_value_a_mean_is_nan() -> None:
    metric = Metric()
    assert math.isnan(metric.mean)
    assert math.isnan(metric.last)
    assert metric.count == 0


def test_where_nothing_has_weight_the_mean_is_the_last_value() -> None:
    assert metric_of([(1.0, 0.0), (3.0, 0.0)]).mean == 3.0


@pytest.mark.parametrize(
    ("infinite", "mean"),
    [([math.inf], math.inf), ([-math.inf, 1.0], -math.inf), ([math.inf, -math.inf], math.nan), ([math.nan], math.nan)],
)
def test_what_is_not_finite_shows_in_the_mean_and_never_raises(infinite: list[float], mean: float) -> None:
    metric = metric_of([(1.0, 2.0), *((value, 1.0) for value in infinite)])
    assert metric.mean == pytest.approx(mean, nan_ok=True)
    assert metric.last == pytest.approx(infinite[-1], nan_ok=True)


def test_a_metric_shows_its_figures_when_printed() -> None:
    assert repr(metric_of([(1.0, 1.0), (2.0, 3.0)])) == "Metric(last=2.0, mean=1.75, count=2)"


# What comes with units.


def tally_of(*counters: str, start: int = 0, total: int | None = None) -> Tally:
    return Tally(start, total, counters, 0.0)


def test_a_tally_begins_at_its_start_with_nothing_counted() -> None:
    tally = tally_of("questions", start=3, total=28)
    assert (tally.start, tally.total, tally.counters) == (3, 28, {"questions": 0})
    assert tally.mean_values() == {}


@given(st.integers(0, 10), st.integers(-1, 30), st.lists(st.integers(0, 5), max_size=5))
def test_single_units_pass_up_to_the_last_one_before_the_stop(start: int, stop: int, more: list[int]) -> None:
    tally = tally_of(start=start)
    for n in more:
        tally.add_units(n)
    before = tally.done
    assert before == start + sum(more)
    tally.stop = stop
    passed = len(list(tally.singles()))
    assert passed == max(0, stop - 1 - before)
    assert tally.done == before + passed


def test_without_a_gil_nothing_is_counted_past_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phasewatch._tally._HAS_GIL", False)
    with Tracker().phase("A", total=5) as handle:
        for done in range(1, 6):
            handle.advance()
            assert handle.done == done
            assert next(handle._singles, "none") == "none"


def test_where_nothing_stops_single_units_they_are_counted_for_ever() -> None:
    tally = tally_of(start=2)
    tally.stop = NEVER
    singles = tally.singles()
    for _ in itertools.islice(singles, 1000):
        pass
    assert tally.done == 1002
    tally.stop = tally.done + 2
    assert len(list(tally.singles())) == 1
    next(singles)  # what another thread may still hold counts all the same
    assert tally.done == 1004


@given(st.lists(st.integers(min_value=-(2**53), max_value=2**53)))
def test_whole_counters_add_up_exactly(counts: list[int]) -> None:
    tally = tally_of("tokens")
    for count in counts:
        assert tally.add({"tokens": count}, 1, None) == []
    assert tally.counters == {"tokens": sum(counts)}
    assert type(tally.counters["tokens"]) is int
    assert tally.mean_values() == {}


@given(st.lists(st.floats(min_value=0, max_value=1e9)))
def test_fractional_counters_add_up(amounts: list[float]) -> None:
    tally = tally_of("hours")
    for amount in amounts:
        tally.add({"hours": amount}, 1, None)
    assert tally.counters["hours"] == pytest.approx(math.fsum(amounts))


def test_counters_of_any_kind_of_number_add_up_to_a_plain_one() -> None:
    tally = tally_of("questions", "hours")
    for questions in (np.int64(256), 256.0, Scalar(200), np.array([1])):
        tally.add({"questions": questions, "hours": 0.5}, 1, None)
    assert tally.counters == {"questions": 713, "hours": 2.0}
    assert type(tally.counters["questions"]) is int


def test_each_counter_adds_up_by_itself() -> None:
    tally = tally_of("questions", "tokens")
    tally.add({"questions": 2, "tokens": 30}, 1, None)
    tally.add({"tokens": 12}, 1, None)
    assert tally.counters == {"questions": 2, "tokens": 42}


@pytest.mark.parametrize(
    ("second_call", "weight"),
    [
        ({"n": 5}, 5.0),
        ({"n": 5, "values": {"questions": 61}}, 61.0),
        ({"n": 5, "values": {"tokens": 9, "questions": 61}}, 9.0),  # the first in the call, not in the declaration
        ({"n": 5, "values": {"questions": -1, "tokens": 9}}, 9.0),  # a correction is no weight
        ({"n": 5, "values": {"questions": math.inf, "tokens": 9}}, 9.0),
        ({"n": 5, "values": {"questions": "x"}}, 5.0),
        ({"n": 5, "values": {"questions": 61}, "weight": 2}, 2.0),
        ({"n": 5, "values": {"questions": 61}, "weight": np.float32(2)}, 2.0),
        ({"n": 5, "values": {"questions": 61}, "weight": 0}, 0.0),
        ({"n": 5, "values": {"questions": 0}}, 0.0),
        ({"n": 0}, 0.0),
        ({"n": 5, "values": {"questions": 61}, "weight": "heavy"}, 61.0),
    ],
)
@pytest.mark.parametrize("metric_first", [False, True])
def test_a_value_weighs_what_is_said_else_the_first_counter_else_the_units(
    second_call: dict[str, Any], weight: float, metric_first: bool
) -> None:
    tally = tally_of("questions", "tokens")
    tally.add({"reward": 1.0}, 1, None)
    reward, counters = {"reward": 0.0}, second_call.get("values", {})
    tally.add(
        {**reward, **counters} if metric_first else {**counters, **reward}, second_call["n"], second_call.get("weight")
    )
    assert tally.mean_values() == {"reward": 1 / (1 + weight)}


def test_the_mean_over_questions_is_not_the_mean_over_batches() -> None:
    # The fault of the scheme before: a last batch of 61 counted as much as one of 256.
    tally = tally_of("questions")
    for questions, reward in ((256, 0.5), (256, 0.5), (61, 1.0)):
        tally.add({"questions": questions, "reward": reward}, 1, None)
    assert tally.mean_values()["reward"] == pytest.approx((512 * 0.5 + 61) / 573)


@pytest.mark.parametrize("weight", ["heavy", -1, math.nan, math.inf, [1, 2], Broken()], ids=repr)
def test_a_weight_that_is_none_is_refused_by_name_and_the_value_is_kept(weight: object) -> None:
    tally = tally_of()
    assert tally.add({"reward": 0.5}, 2, weight) == ["weight"]
    assert tally.mean_values() == {"reward": 0.5}


def test_values_that_are_no_numbers_are_refused_by_name_and_the_others_kept() -> None:
    tally = tally_of("questions", "tokens")
    refused = tally.add({"questions": "many", "tokens": 7, "reward": None, "kl": 0.5, "shape": np.zeros(3)}, 1, None)
    assert refused == ["questions", "reward", "shape"]
    assert tally.counters == {"questions": 0, "tokens": 7}
    assert tally.mean_values() == {"kl": 0.5}


def test_the_moment_of_a_count_is_kept_until_the_count_changes() -> None:
    tally = tally_of(start=2)
    tally.note(3, 10.0)
    tally.note(3, 20.0)
    assert (tally.counted, tally.counted_at) == (3, 10.0)


def test_of_values_those_that_are_numbers_are_taken_as_floats() -> None:
    assert numbers_of({"loss": 3, "note": "x", "kl": Scalar(1.0), "lr": 0.5}) == (
        {"loss": 3.0, "kl": 1.0, "lr": 0.5}, ["note"],
    )  # fmt: skip
    floats: dict[str, object] = {"loss": 0.5, "kl": math.inf}
    assert numbers_of(floats) == (floats, [])
    taken, _ = numbers_of({"loss": np.float64(2)})
    assert type(taken["loss"]) is float


def test_logged_metrics_keep_their_last_value_and_a_mean_in_which_all_are_equal() -> None:
    logged = Logged()
    assert (logged.last(), logged.metrics()) == ({}, {})
    once = {"loss": 3.0, "kl": 0.5}
    logged.add(once)
    assert logged.last() is once, "so that nobody has to make its text again"
    logged.add({"loss": 1.0})
    assert logged.last() == {"loss": 1.0, "kl": 0.5}
    metrics = logged.metrics()
    assert (metrics["loss"].mean, metrics["loss"].count, metrics["kl"].count, logged.words) == (2.0, 2, 1, 2)
    assert metrics is logged.metrics(), "whoever has them sees what comes later"


def test_what_was_logged_once_and_looked_at_is_the_last_value_still() -> None:
    logged = Logged()
    logged.add({"loss": 3.0})
    assert logged.metrics()["loss"].last == 3.0
    logged.add({"kl": 1.0})
    assert logged.last() == {"loss": 3.0, "kl": 1.0}


def test_what_several_threads_log_to_one_phase_is_not_lost(at_once: Callable[[Callable[[int], None], int], None]) -> None:
    several = [Logged() for _ in range(100)]

    def work(thread: int) -> None:
        for logged in several:
            for number in range(5):
                logged.add({f"{thread}/{number}": float(number)})
                logged.last()

    at_once(work, 3)
    for logged in several:
        assert {name: metric.count for name, metric in logged.metrics().items()} == {
            f"{thread}/{number}": 1 for thread in range(3) for number in range(5)
        }


def test_metrics_may_be_added_by_another_thread_while_they_are_told() -> None:
    tally = tally_of()

    class Added(Metric):
        @property
        def mean(self) -> float:
            tally.means["later"] = Metric()
            return 1.0

        @property
        def last(self) -> float:
            logged.metrics()["later"] = Metric()
            return 1.0

        @last.setter
        def last(self, value: float) -> None:
            pass

    tally.means["loss"] = Added()
    logged = Logged()
    logged.metrics()["loss"] = Added()
    assert tally.mean_values() == {"loss": 1.0}
    assert logged.last() == {"loss": 1.0}


class Overflowing:
    def __float__(self) -> float:
        raise OverflowError


@pytest.mark.parametrize("value", [Overflowing(), np.array("12"), bytearray(b"12")], ids=lambda value: type(value).__name__)
def test_text_and_what_overflows_are_no_numbers(value: object) -> None:
    assert as_number(value) is None
