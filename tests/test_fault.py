"""Which phase an exception came from, told without keeping it alive."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest

from phasewatch._fault import Fault, told

PATH = ("TRAINING", "VALIDATION")


def fail() -> None:
    raise ValueError


def fail_elsewhere() -> None:
    raise ValueError


def fail_at(place: int) -> None:
    if place == 1:
        raise ValueError
    raise ValueError


def raised_by(function: Callable[[], object]) -> Exception:
    """Return the exception as a handler around the call sees it, from the function's own frame on."""
    try:
        function()
    except Exception as error:
        return without_outermost_frame(error)
    raise AssertionError("it did not raise")


def without_outermost_frame(error: Exception) -> Exception:
    assert error.__traceback__ is not None
    return error.with_traceback(error.__traceback__.tb_next)


def posing_as(fault: Fault, error: BaseException) -> Fault:
    """Return the fault as it is when the memory of its exception, long gone, was given to another."""
    fault.error_id = id(error)
    return fault


def test_an_exception_is_recognised_where_it_was_seen() -> None:
    error = raised_by(fail)
    assert Fault(error, PATH).is_of(error)
    assert Fault(error, PATH).path == PATH


def test_an_exception_is_recognised_on_its_way_through_further_frames() -> None:
    faults: list[Fault] = []

    def inner() -> None:
        try:
            fail()
        except ValueError as error:
            faults.append(Fault(error, PATH))
            raise

    def outer() -> None:
        try:
            inner()
        finally:
            pass

    error = raised_by(outer)
    assert faults[0].is_of(error)


def test_an_exception_that_is_raised_again_elsewhere_is_still_the_same() -> None:
    error = raised_by(fail)
    fault = Fault(error, PATH)

    def again() -> None:
        raise error

    assert raised_by(again) is error
    assert fault.is_of(error)


def test_another_exception_of_the_same_place_is_another() -> None:
    first, second = raised_by(fail), raised_by(fail)
    assert not Fault(first, PATH).is_of(second)


def test_an_exception_chained_to_another_is_another() -> None:
    first = raised_by(fail)

    def translate() -> None:
        raise RuntimeError from first

    assert not Fault(first, PATH).is_of(raised_by(translate))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(fail, fail_elsewhere, id="in another function"),
        pytest.param(lambda: fail_at(1), lambda: fail_at(2), id="by way of another function"),
    ],
)
def test_a_new_exception_in_the_memory_of_the_old_is_told_by_its_place(
    first: Callable[[], None], second: Callable[[], None]
) -> None:
    fault, error = Fault(raised_by(first), PATH), raised_by(second)
    assert not posing_as(fault, error).is_of(error)


def test_a_new_exception_in_the_memory_of_the_old_is_told_by_its_line_within_one_function() -> None:
    def of_line(place: int) -> Exception:
        return without_outermost_frame(raised_by(lambda: fail_at(place)))

    fault, error = Fault(of_line(1), PATH), of_line(2)
    assert not posing_as(fault, error).is_of(error)
    assert posing_as(Fault(of_line(2), PATH), error).is_of(error), "the same line is all that can be known"


def test_an_exception_that_was_never_raised_is_known_until_it_is() -> None:
    error = ValueError()
    fault = Fault(error, PATH)
    assert fault.is_of(error)
    assert not fault.is_of(ValueError())
    assert not posing_as(fault, raised := raised_by(fail)).is_of(raised)


def test_an_exception_that_lost_its_traceback_is_not_taken_for_the_same() -> None:
    error = raised_by(fail)
    fault = Fault(error, PATH)
    assert not fault.is_of(error.with_traceback(None))


def test_neither_the_exception_nor_what_its_frames_hold_is_kept_alive() -> None:
    class Tensor:
        pass

    class OutOfMemory(Exception):
        pass

    alive: list[weakref.ref[object]] = []

    def allocate() -> None:
        tensor = Tensor()
        alive.append(weakref.ref(tensor))
        raise OutOfMemory

    def seen() -> Fault:
        error = raised_by(allocate)
        alive.append(weakref.ref(error))
        return Fault(error, PATH)

    fault = seen()
    gc.collect()
    assert [reference() for reference in alive] == [None, None]
    assert fault.path == PATH


def test_an_exception_is_told_by_type_and_message() -> None:
    assert told(ValueError("no\nfile")) == ("ValueError", "no\nfile")
    assert told(KeyboardInterrupt()) == ("KeyboardInterrupt", "")


def test_an_exception_whose_text_cannot_be_made_is_told_by_its_type() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert told(Mute()) == ("Mute", "")
