"""The options of a phase: what cannot be taken costs a warning and is left out."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from phasewatch import PhasewatchWarning
from phasewatch._spec import APART, PhaseSpec, make_spec

# What is there when an option is left out.
LEFT_OUT: dict[str, object] = {"total": None, "step": None, "start": 0, "every": None, "counters": {}, "details": {}}
WHOLE = "must be a whole number, or None"
NOT_NEGATIVE = "must be a whole number of at least 0, or None"


@contextmanager
def no_warning() -> Iterator[None]:
    # Under the filter "error" a warning of phasewatch is logged, not raised: so it is asked for.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("total", -1, NOT_NEGATIVE),
        ("total", 2.5, NOT_NEGATIVE),
        ("total", float("nan"), NOT_NEGATIVE),
        ("total", float("inf"), NOT_NEGATIVE),
        ("total", "many", NOT_NEGATIVE),
        ("total", [28], NOT_NEGATIVE),
        ("step", "first", WHOLE),
        ("step", 1.5, WHOLE),
        ("start", -1, NOT_NEGATIVE),
        ("start", "half", NOT_NEGATIVE),
        ("every", 0, "must be a whole number of at least 1, or None"),
        ("every", -5, "must be a whole number of at least 1, or None"),
        ("every", "often", "must be a whole number of at least 1, or None"),
        ("counters", 7405, "must be a mapping of names to values"),
        ("counters", "questions", "must be a mapping of names to values"),
        ("counters", ["questions"], "must be a mapping of names to values"),
        ("details", 256, "must be a mapping of names to values"),
        ("details", "Batch size", "must be a mapping of names to values"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_an_option_that_cannot_be_taken_warns_with_name_and_advice_and_is_left_out(
    option: str, value: object, advice: str
) -> None:
    said = re.escape(f"phase 'VALIDATION': {option}={value!r} is left out; it {advice}")
    with pytest.warns(PhasewatchWarning, match=f"^{said}$") as caught:
        spec = PhaseSpec("VALIDATION", **{option: value})  # type: ignore[arg-type]  # the mistake under test
    assert len(caught) == 1
    assert getattr(spec, option) == LEFT_OUT[option]


@pytest.mark.parametrize("total", [-1, "many", 2.5])
def test_a_counter_whose_total_cannot_be_taken_is_counted_without_one(total: Any) -> None:
    said = re.escape(f"phase 'VALIDATION': counters['questions']={total!r} is left out; it {NOT_NEGATIVE}")
    with pytest.warns(PhasewatchWarning, match=said):
        spec = PhaseSpec("VALIDATION", counters={"questions": total, "tokens": 10})
    assert spec.counters == {"questions": None, "tokens": 10}


def test_one_bad_option_costs_no_other() -> None:
    with pytest.warns(PhasewatchWarning) as caught:
        spec = PhaseSpec("A", total=-1, start="x", step=7, every=2, unit="batch")  # type: ignore[arg-type]  # the mistake
    assert len(caught) == 2
    assert (spec.total, spec.start, spec.step, spec.every, spec.unit) == (None, 0, 7, 2, "batch")


@pytest.mark.parametrize("whole", [28, 28.0, np.int64(28), np.float32(28), np.array(28)], ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("option", ["total", "step", "start", "every"])
def test_whole_numbers_of_any_kind_are_kept_as_ints(option: str, whole: Any) -> None:
    with no_warning():
        spec = PhaseSpec("A", counters={"questions": whole}, **{option: whole})
    assert getattr(spec, option) == spec.counters["questions"] == 28
    assert type(getattr(spec, option)) is int


def test_options_that_can_be_taken_are_kept_as_given() -> None:
    with no_warning():
        spec = PhaseSpec(
            "A", total=0, unit="batch", counters={"questions": None}, details={"Batch size": 256}, message="m", step=0,
            emoji="🧮", attributes={"epochs": 3},
        )  # fmt: skip
    assert (spec.total, spec.unit, spec.message, spec.step, spec.emoji) == (0, "batch", "m", 0, "🧮")
    assert (spec.counters, spec.details, spec.attributes) == ({"questions": None}, {"Batch size": 256}, {"epochs": 3})


def test_pairs_are_a_mapping_too_and_names_become_text() -> None:
    pairs: Any = [("questions", 7405), (7, None)]
    with no_warning():
        spec = PhaseSpec("A", counters=pairs, details=pairs)
    assert spec.counters == {"questions": 7405, "7": None}
    assert spec.details == {"questions": 7405, 7: None}


def test_what_the_caller_changes_later_does_not_change_the_spec() -> None:
    counters: dict[str, float | None] = {"questions": 7405}
    details = {"Batch size": 256}
    spec = PhaseSpec("A", counters=counters, details=details)
    counters["tokens"] = 1
    details.clear()
    assert (spec.counters, spec.details) == ({"questions": 7405}, {"Batch size": 256})


def test_a_unit_and_a_message_become_text() -> None:
    spec = PhaseSpec("A", unit="", message=3.5)
    assert (spec.unit, spec.message) == ("item", "3.5")
    assert PhaseSpec("A", message=None).message is None


# Options that depend on the call.


def ask(option: Callable[..., object]) -> object:
    return option()


@pytest.mark.parametrize("option", ["total", "message", "step"])
def test_an_option_that_is_a_callable_depends_on_the_call(option: str) -> None:
    options: dict[str, Any] = {option: lambda: 3}
    with no_warning():
        spec = PhaseSpec("A", **options)
    assert spec.depends_on_call
    assert not APART.depends_on_call
    assert not spec.resolve("A", ask).depends_on_call


def test_callables_are_replaced_by_what_they_return_and_the_rest_is_kept() -> None:
    spec = PhaseSpec(
        "A", total=lambda: np.int64(28), message=lambda: 7, step=lambda: None, unit="batch", counters={"questions": 9},
        details={"a": 1}, start=2, emoji="🧮", every=5, attributes={"epochs": 3},
    )  # fmt: skip
    with no_warning():
        resolved = spec.resolve("A", ask)
    assert (resolved.total, resolved.message, resolved.step) == (28, "7", None)
    for option in ("unit", "counters", "details", "start", "emoji", "every", "attributes"):
        assert getattr(resolved, option) == getattr(spec, option)
    assert callable(spec.total), "the spec serves every call of the function"


@pytest.mark.parametrize("option", ["total", "message", "step"])
def test_a_callable_that_raises_warns_and_its_option_is_left_out(option: str) -> None:
    def fail() -> object:
        raise AttributeError("no global_step")

    options: dict[str, Any] = {"total": 1, "message": "m", "step": 2, option: fail}
    spec = PhaseSpec("CHECKPOINT SAVING", **options)
    said = rf"^phase 'CHECKPOINT SAVING': {option}= raised AttributeError\('no global_step'\) and is left out; .* arguments"
    with pytest.warns(PhasewatchWarning, match=said) as caught:
        resolved = spec.resolve("CHECKPOINT SAVING", ask)
    assert len(caught) == 1
    assert {name: getattr(resolved, name) for name in options} == {**options, option: None}


def test_what_a_callable_returns_is_checked_as_if_it_were_given() -> None:
    with pytest.warns(PhasewatchWarning, match="phase 'A': total=-1 is left out"):
        assert PhaseSpec("A", total=lambda: -1).resolve("A", ask).total is None


def test_an_interruption_in_a_callable_is_not_contained() -> None:
    def interrupt() -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PhaseSpec("A", total=interrupt).resolve("A", ask)


def test_options_that_are_not_those_of_a_phase_are_its_attributes() -> None:
    spec = make_spec("A", {"total": 3, "epochs": 2, "shard": "a"})
    assert (spec.total, spec.attributes) == (3, {"epochs": 2, "shard": "a"})
    # "attributes" itself is a name like any other
    assert make_spec("A", {"attributes": 1}).attributes == {"attributes": 1}


def test_a_phase_without_options_shares_one_spec() -> None:
    assert make_spec("A", {}) is APART
    assert (APART.total, APART.unit, APART.counters, APART.start) == (None, "item", {}, 0)
