"""When a phase is stalled: false alarms are the enemy, and a hang is told all the same."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phasewatch.stalls import Spread, stalled_after

seconds = st.floats(min_value=0, max_value=1e7)
histories = st.lists(seconds, min_size=3, max_size=80)


def spread_of(*lengths: float) -> Spread:
    spread = Spread()
    for length in lengths:
        spread.add(length)
    return spread


def threshold_of(*lengths: float) -> float:
    threshold = spread_of(*lengths).threshold()
    assert threshold is not None
    return threshold


def steady(n: int, length: float = 100.0) -> list[float]:
    rng = random.Random(7)
    return [length * (1 + 0.05 * rng.uniform(-1, 1)) for _ in range(n)]


def test_nothing_is_known_before_the_first_and_nothing_said_before_the_third() -> None:
    assert Spread().usual is None
    for n in range(3):
        assert spread_of(*steady(n)).threshold() is None
    assert spread_of(*steady(3)).threshold() is not None


def test_the_usual_length_of_equal_ones_is_theirs() -> None:
    assert spread_of(*[20.0] * 50).usual == pytest.approx(20.0)
    assert spread_of(0.004).usual == pytest.approx(0.004)


def test_nine_in_ten_take_no_longer_than_the_usual_length() -> None:
    rng = random.Random(1)
    usual = spread_of(*(40 * rng.lognormvariate(0, 0.5) for _ in range(1000))).usual
    assert usual == pytest.approx(40 * math.exp(1.2816 * 0.5), rel=0.2)


@pytest.mark.parametrize("length", [-1.0, math.nan, math.inf, -math.inf, 1e300])
def test_what_is_no_length_is_ignored(length: float) -> None:
    spread = spread_of(10.0, 11.0, 10.0, 12.0)
    before = (spread.count, spread.usual, spread.threshold())
    spread.add(length)
    assert (spread.count, spread.usual, spread.threshold()) == before


@given(lengths=histories)
@example(lengths=[0.0, 0.0, 0.0])
@example(lengths=[1e7, 0.0, 0.0, 0.0])
def test_a_threshold_is_a_number_and_no_less_than_a_minute(lengths: list[float]) -> None:
    assert 60 <= threshold_of(*lengths) < math.inf


@given(lengths=st.lists(st.floats(min_value=10_000, max_value=34_000), min_size=3, max_size=25))
@example(lengths=[10_000.0] * 24 + [34_000.0])
@example(lengths=[10_000.0] * 8 + [34_000.0] + [10_000.0] * 16)
def test_what_was_healthy_among_the_last_is_so_again(lengths: list[float]) -> None:
    # Up to lengths that are too far from the rest to be believed.
    assert threshold_of(*[10_000.0] * 100, *lengths) >= max(lengths)
    assert threshold_of(*lengths) >= max(lengths)


@given(lengths=histories)
def test_the_usual_length_is_no_longer_than_the_longest(lengths: list[float]) -> None:
    usual = spread_of(*lengths).usual
    assert usual is not None
    assert 0 <= usual <= max(lengths)


def test_the_moments_are_those_of_the_logarithms_without_the_first() -> None:
    rng = random.Random(5)
    lengths = [0.0, *(rng.lognormvariate(3, 0.4) for _ in range(40))]
    spread = spread_of(5000.0, *lengths[1:])
    logs = [math.log1p(length) for length in lengths[1:]]
    mean = math.fsum(logs) / len(logs)
    central = [math.fsum((value - mean) ** power for value in logs) / len(logs) for power in (2, 3, 4)]
    assert spread._mean == pytest.approx(mean)
    assert [spread._variance, spread._cube, spread._fourth] == pytest.approx(central)


def test_a_long_tail_raises_the_threshold_and_a_second_kind_does_not() -> None:
    # Exponential logarithms (a Pareto), and two lengths of the same mean and deviation of the logarithms.
    rng = random.Random(2)
    logs = [-math.log((n + 0.5) / 60) for n in range(60)]
    rng.shuffle(logs)
    tail = [math.exp(7 + 0.4 * value) for value in logs]
    values = [math.log(length) for length in tail]
    mean = math.fsum(values) / 60
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / 60)
    two = [math.exp(mean + deviation * (3 if n % 10 == 9 else -1 / 3)) for n in range(60)]
    even = [math.exp(mean + deviation * (1 if n % 2 else -1)) for n in range(60)]
    assert threshold_of(*tail) > 3 * threshold_of(*two)
    assert threshold_of(*two) < 1.5 * threshold_of(*even)


@given(lengths=st.lists(st.floats(min_value=100, max_value=1e5), min_size=3, max_size=50))
def test_long_lengths_scale_and_the_minute_does_not(lengths: list[float]) -> None:
    once, twice = threshold_of(*lengths), threshold_of(*(2 * length for length in lengths))
    # The logarithms are those of a second more, which these lengths hardly notice.
    assert once * 0.97 <= twice <= 2 * once * 1.05


def test_the_more_is_known_of_a_steady_kind_the_sooner_a_hang_is_told() -> None:
    thresholds = [threshold_of(*[600.0] * n) for n in range(3, 200)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[0] == 8 * 600  # a longer one may be yet to come
    assert thresholds[60] <= 3 * 600 + 60
    assert thresholds[-1] > 2 * 600  # a kind may change


def test_the_threshold_comes_from_the_spread() -> None:
    rng = random.Random(3)
    draws = [rng.gauss(0, 1) for _ in range(150)]
    thresholds = [threshold_of(*(600 * math.exp(sigma * draw) for draw in draws)) for sigma in (0.1, 0.3, 0.5, 0.8)]
    assert thresholds == sorted(thresholds)
    assert thresholds[-1] > 3 * thresholds[0]


def test_a_first_that_warms_up_tells_little_of_the_rest() -> None:
    assert threshold_of(300.0, *steady(60)) <= 3 * 100 * 1.064 * 1.1 + 60


def test_a_second_kind_that_comes_every_tenth_time_is_healthy_from_the_first_on() -> None:
    spread = Spread()
    for place, length in enumerate(steady(100, 600.0)):
        length *= 4 if place % 10 == 9 else 1
        threshold = spread.threshold()
        assert threshold is None or length < threshold
        spread.add(length)
    assert threshold is not None
    assert threshold < 3 * 4 * 600 + 60  # where the long ones are the usual ones


@pytest.mark.parametrize("place", [0, 1, 2, 40])
def test_a_laptop_that_slept_does_not_silence_the_kind_for_ever(place: int) -> None:
    lengths = steady(400)
    lengths[place] = 30_000.0
    assert threshold_of(*lengths[:60]) < 10 * 100 * 1.064
    assert threshold_of(*lengths) < 5 * 100 * 1.064 + 60


def test_a_kind_that_has_become_longer_is_learnt() -> None:
    lengths = steady(100) + steady(20, 1000.0)
    alarms = [length > threshold_of(*lengths[:place]) for place, length in enumerate(lengths) if place >= 3]
    assert 1 <= sum(alarms) <= 8
    assert not any(alarms[-8:])


def test_what_is_known_takes_no_more_memory_the_more_it_is() -> None:
    few, many = spread_of(*steady(10)), spread_of(*steady(5000))
    assert not hasattr(many, "__dict__")
    assert all(type(getattr(many, name)) in (int, float) for name in Spread.__slots__)
    assert sys.getsizeof(few) == sys.getsizeof(many)


def test_what_the_user_says_counts_before_what_was_seen() -> None:
    spread = spread_of(*steady(50))
    assert stalled_after(spread, expect=1000.0) == 3060.0
    assert stalled_after(spread, stall_after=5.0) == 5.0
    assert stalled_after(spread, expect=1000.0, stall_after=5.0) == 5.0
    assert stalled_after(None, expect=0.0) == 60.0
    assert stalled_after(None, stall_after=math.inf) == math.inf
    assert stalled_after(spread) == spread.threshold()
    assert stalled_after(None) is None


@pytest.mark.parametrize("nonsense", [-1.0, math.nan])
def test_a_hint_that_is_no_length_is_as_none(nonsense: float) -> None:
    spread = spread_of(*steady(50))
    assert stalled_after(spread, expect=nonsense, stall_after=nonsense) == spread.threshold()
    assert stalled_after(None, expect=20.0, stall_after=nonsense) == 120.0


# Kinds of run: seconds of the usual one, lengths in units of it, and what nine in ten stay below at the end of the run.
RUNS, PHASES = 150, 120
KINDS: dict[str, tuple[float, Callable[[random.Random, int], float], float | None]] = {
    "steady": (600.0, lambda rng, n: rng.gauss(1, 0.05), 1.064),
    "milliseconds": (0.02, lambda rng, n: rng.lognormvariate(0, 0.8), 2.79),
    "lognormal 0.3": (600.0, lambda rng, n: rng.lognormvariate(0, 0.3), 1.47),
    "lognormal 0.5, short": (10.0, lambda rng, n: rng.lognormvariate(0, 0.5), 1.9),
    "lognormal 0.5": (600.0, lambda rng, n: rng.lognormvariate(0, 0.5), None),
    "gamma": (40.0, lambda rng, n: rng.gammavariate(4, 0.25), None),
    "Pareto, short": (1.0, lambda rng, n: rng.paretovariate(3), 2.15),
    "drift": (600.0, lambda rng, n: rng.gauss(1, 0.05) * (1 + n / PHASES), 2.1),
    "jump": (600.0, lambda rng, n: rng.gauss(1, 0.05) * (1.6 if n >= 0.4 * PHASES else 1), 1.7),
    "warm-up": (600.0, lambda rng, n: rng.gauss(1, 0.05) * (3 if n == 0 else 1), 1.064),
}


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_than_one_healthy_run_in_a_hundred_raises_an_alarm_and_a_hang_is_told(kind: str) -> None:
    unit, length_at, usual = KINDS[kind]
    rng = random.Random(11)
    alarmed, told = 0, []
    for _ in range(RUNS):
        spread, alarm = Spread(), False
        for place in range(PHASES):
            length = unit * length_at(rng, place)
            # No threshold is below a minute, and most need not be asked for.
            if length > 60 and not alarm:
                threshold = spread.threshold()
                alarm = threshold is not None and length > threshold
            spread.add(length)
        alarmed += alarm
        told.append(spread.threshold() or math.inf)
    assert alarmed / RUNS < 0.01
    if usual is not None:  # where healthy ones leave room for it
        assert sorted(told)[RUNS // 2] <= 1.05 * (3 * usual * unit + 60)
        assert sorted(told)[RUNS * 9 // 10] <= 1.5 * (3 * usual * unit + 60)
