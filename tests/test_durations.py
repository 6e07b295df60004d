"""Durations: the short form of a log line, its unit boundaries, and the way back."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phasewatch.durations import UNKNOWN, format_average, format_duration, parse_duration

MINUTE, HOUR, DAY = 60, 3600, 86400
UNITS = {"ms": 0.001, "s": 1, "m": MINUTE, "h": HOUR, "d": DAY}

# Where the last digit shown turns: next to these, one rounding must not say what another denies.
TURNS = [0.0005, 0.0015, 0.9995, 1.0, 9.95, 10.0, 59.5, 59.95, 60.0, 3597.0, 3600.0, 86382.0, 86400.0]
near_a_turn = st.builds(
    lambda turn, steps: turn + steps * math.ulp(turn), st.sampled_from(TURNS), st.integers(min_value=-3, max_value=3)
)
seconds = st.one_of(
    st.floats(min_value=0, max_value=100),
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0, max_value=1e15),
    near_a_turn,
)

SHOWN = re.compile(
    r"0s|[1-9]\d{0,2}ms|[1-9]\.\ds|[1-5]\ds|([1-9]|[1-5]\d)\.\dm|([1-9]|1\d|2[0-3])\.\d\dh|[1-9]\d*\.\dd",
)
SHOWN_AVERAGE = re.compile(SHOWN.pattern.replace(r"[1-5]\ds", r"[1-5]\d\.\ds"))


@pytest.mark.parametrize(
    ("given_seconds", "shown"),
    [
        (0, "0s"),
        (0.0, "0s"),
        (0.0004, "0s"),
        (0.0006, "1ms"),
        (0.84, "840ms"),
        (0.999, "999ms"),
        (0.9994, "999ms"),
        (0.9996, "1.0s"),
        (1, "1.0s"),
        (4.2, "4.2s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (10, "10s"),
        (42, "42s"),
        (59.4, "59s"),
        (59.6, "1.0m"),
        (60, "1.0m"),
        (90, "1.5m"),
        (23.8 * MINUTE, "23.8m"),
        (59.94 * MINUTE, "59.9m"),
        (59.96 * MINUTE, "1.00h"),
        (HOUR, "1.00h"),
        (1.23 * HOUR, "1.23h"),
        (23.994 * HOUR, "23.99h"),
        (23.996 * HOUR, "1.0d"),
        (DAY, "1.0d"),
        (2.1 * DAY, "2.1d"),
        (1000 * DAY, "1000.0d"),
    ],
)
def test_a_duration_is_shown_in_the_unit_that_it_fits(given_seconds: float, shown: str) -> None:
    assert format_duration(given_seconds) == shown


@pytest.mark.parametrize(
    ("given_seconds", "shown"),
    [
        (0, "0s"),
        (0.84, "840ms"),
        (4.2, "4.2s"),
        (10, "10.0s"),
        (41.1, "41.1s"),
        (59.7, "59.7s"),  # in whole seconds that would be a minute
        (59.94, "59.9s"),
        (59.96, "1.0m"),
        (60, "1.0m"),
        (1.23 * HOUR, "1.23h"),
    ],
)
def test_an_average_has_one_decimal_below_a_minute(given_seconds: float, shown: str) -> None:
    assert format_average(given_seconds) == shown


@pytest.mark.parametrize("form", [format_duration, format_average])
@pytest.mark.parametrize("unknown", [None, math.nan, math.inf, -math.inf], ids=str)
def test_what_is_not_known_is_two_dashes(form: type[str], unknown: float | None) -> None:
    assert form(unknown) == "--"


@pytest.mark.parametrize("form", [format_duration, format_average])
def test_a_time_below_zero_is_none_at_all(form: type[str]) -> None:
    assert [form(seconds) for seconds in (-0.0, -1e-9, -0.5, -42, -1e9)] == ["0s"] * 5


@given(seconds)
def test_a_value_that_would_round_to_the_next_unit_is_shown_in_it(given_seconds: float) -> None:
    # The patterns have no room for 60s, 60.0m, 24.00h or 1000ms, nor for 0.9m or 0ms.
    assert SHOWN.fullmatch(format_duration(given_seconds))
    assert SHOWN_AVERAGE.fullmatch(format_average(given_seconds))


@pytest.mark.parametrize("form", [format_duration, format_average])
@given(pair=st.tuples(seconds, seconds))
def test_what_takes_longer_is_never_shown_as_shorter(form: type[str], pair: tuple[float, float]) -> None:
    shorter, longer = (parse_duration(form(value)) for value in sorted(pair))
    assert shorter is not None
    assert longer is not None
    assert shorter <= longer


@pytest.mark.parametrize("form", [format_duration, format_average])
@given(given_seconds=seconds)
@example(59.6)
@example(3599.0)
@example(86399.0)
def test_a_printed_duration_parses_back_within_half_of_its_last_digit(form: type[str], given_seconds: float) -> None:
    text = form(given_seconds)
    parsed = parse_duration(text)
    assert parsed is not None
    number = text.rstrip("mshd")
    digit = UNITS[text[len(number) :]] * 10.0 ** -len(number.partition(".")[2])
    # Half a digit, and what floating point itself loses.
    assert abs(parsed - given_seconds) <= digit / 2 + 1e-12 + 1e-12 * given_seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("840ms", 0.84), ("4.2s", 4.2), ("42s", 42.0), ("23.8m", 1428.0), ("1.23h", 4428.0), ("2.1d", 181440.0), ("0s", 0.0)],
)
def test_each_form_of_the_specification_is_read(text: str, expected: float) -> None:
    assert parse_duration(text) == pytest.approx(expected)
    assert parse_duration(f" {text}\n") == pytest.approx(expected)


def test_two_dashes_are_read_as_unknown() -> None:
    assert parse_duration(UNKNOWN) is None
    assert parse_duration(" -- ") is None


@pytest.mark.parametrize(
    "text",
    ["", " ", "42", "s", ".s", "-5s", "+5s", "4.2.1s", "1e3s", "nan", "infs", "42 s", "42sec", "7x", "1:30", "1_0s", "-"],
)
def test_what_is_no_duration_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration: .*; expected a form such as 840ms, 4.2s") as refusal:
        parse_duration(text)
    assert repr(text.strip()) in str(refusal.value)


def test_a_huge_negative_duration_is_zero() -> None:
    assert format_duration(-1e308) == "0s"
