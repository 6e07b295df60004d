"""Functions and classes that take one thing more."""

from __future__ import annotations

import asyncio
import functools
import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from phasewatch.integrations._carried import KEYWORD, MARK, carried, carried_class, is_carried

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HOME = __name__
heard: list[Any] = []


@contextmanager
def arrive(sent: str, lasting: bool) -> Iterator[None]:
    """What is imported where the function is called."""
    heard.append((sent, lasting))
    yield
    heard.append("left")


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    heard.clear()


def plain(a: int, b: int = 2, **others: int) -> tuple[int, int, dict[str, int]]:
    """Adds nothing."""
    heard.append("working")
    return a, b, others


def numbers(n: int) -> Iterator[int]:
    heard.append("working")
    yield from range(n)


async def later(n: int) -> int:
    heard.append("working")
    return n


async def numbers_later(n: int) -> AsyncIterator[int]:
    heard.append("working")
    for number in range(n):
        yield number


async def all_of(items: AsyncIterator[int]) -> list[int]:
    return [item async for item in items]


INSIDE = [("sent", False), "working", "left"]
SENT: dict[str, Any] = {KEYWORD: "sent"}


def test_a_call_is_done_inside_of_what_has_arrived() -> None:
    function = carried(plain, HOME)
    assert function(1, c=3, **SENT) == (1, 2, {"c": 3})
    assert heard == INSIDE
    heard.clear()
    assert function(1, c=3) == (1, 2, {"c": 3})
    assert heard == ["working"]


def test_generators_and_coroutines_stay_what_they_are() -> None:
    for function, is_of_kind, value in (
        (numbers, inspect.isgeneratorfunction, [0, 1]),
        (later, inspect.iscoroutinefunction, 2),
        (numbers_later, inspect.isasyncgenfunction, [0, 1]),
    ):
        made = carried(function, HOME)
        assert is_of_kind(made)
        for more, expected in ((SENT, INSIDE), ({}, ["working"])):
            heard.clear()
            if function is numbers:
                result: Any = list(made(2, **more))
            else:
                result = asyncio.run(made(2, **more) if function is later else all_of(made(2, **more)))
            assert (result, heard) == (value, expected)


def test_what_decorators_make_of_a_generator_is_what_is_called() -> None:
    @functools.wraps(numbers)
    def collected(n: int) -> list[int]:
        return list(numbers(n))

    @functools.wraps(later)
    def awaited(n: int) -> int:
        return asyncio.run(later(n))

    @functools.wraps(numbers_later)
    def collected_later(n: int) -> list[int]:
        return asyncio.run(all_of(numbers_later(n)))

    for function, value in ((collected, [0, 1]), (awaited, 2), (collected_later, [0, 1])):
        heard.clear()
        assert carried(function, HOME)(2, **SENT) == value
        assert heard == INSIDE


def test_a_method_whose_decorator_returns_a_generator_is_one_for_the_framework() -> None:
    class Streams:
        @functools.wraps(numbers)
        def numbers(self, n: int) -> Iterator[int]:
            return numbers(n)

        @staticmethod
        @functools.wraps(numbers_later)
        def later(n: int) -> AsyncIterator[int]:
            return numbers_later(n)

    cls = carried_class(Streams, HOME)
    assert inspect.isgeneratorfunction(cls.numbers)  # type: ignore[attr-defined]  # as Streams has
    assert inspect.isasyncgenfunction(cls.later)  # type: ignore[attr-defined]
    streams = cls()
    assert list(streams.numbers(2, **SENT)) == asyncio.run(all_of(streams.later(2, **SENT))) == [0, 1]
    assert heard == INSIDE * 2


async def echo(n: int) -> Any:
    given = n
    while given:
        try:
            given = yield given
        except ValueError:
            given = yield "caught"
    heard.append("working")


def test_a_generator_that_is_closed_has_cleaned_up_inside_of_what_has_arrived() -> None:
    async def until_closed() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            heard.append("cleaned up")

    async def leave() -> None:
        made: Any = carried(until_closed, HOME)(**SENT)
        await made.asend(None)
        await made.aclose()

    asyncio.run(leave())
    assert heard == [("sent", False), "cleaned up", "left"]


def test_what_is_sent_to_a_generator_reaches_it() -> None:
    async def talk() -> list[Any]:
        made = carried(echo, HOME)(1, **SENT)
        said = [await made.asend(None), await made.asend(2), await made.athrow(ValueError()), await made.asend(3)]
        with pytest.raises(StopAsyncIteration):
            await made.asend(None)
        left = carried(echo, HOME)(1)
        said.append(await left.asend(None))
        await left.aclose()
        return said

    assert asyncio.run(talk()) == [1, 2, "caught", 3, 1]
    assert heard == INSIDE


def test_a_generator_that_is_left_leaves_what_has_arrived() -> None:
    made = carried(numbers, HOME)(2, **SENT)
    next(made)
    with pytest.raises(ZeroDivisionError):
        made.throw(ZeroDivisionError)
    assert heard[0] == ("sent", False)


def test_its_name_and_signature_are_those_of_the_function_and_one_thing_more() -> None:
    @functools.wraps(plain)
    def around(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    vars(plain)["noted"] = "here"
    try:
        for function in (plain, around):
            made = carried(function, HOME)
            assert (made.__name__, made.__module__, made.__doc__) == ("plain", __name__, "Adds nothing.")
            assert list(inspect.signature(made).parameters) == ["a", "b", KEYWORD, "others"]
            assert inspect.unwrap(made) is made
            assert vars(made)["noted"] == "here"
    finally:
        del vars(plain)["noted"]


def test_where_there_is_no_phasewatch_the_work_is_done_without() -> None:
    for home in ("no_module_of_this_name", "json"):
        assert carried(plain, home)(1, **SENT) == (1, 2, {})
    assert heard == ["working", "working"]


def test_it_refers_to_nothing_that_another_process_might_not_have() -> None:
    for function in (plain, numbers, later, numbers_later):
        made: Any = carried(function, HOME)
        inner = [cell.cell_contents for cell in made.__closure__ if inspect.isfunction(cell.cell_contents)]
        ours = [made, *(one for one in inner if one is not function)]
        assert len(ours) == 2
        for one in ours:
            unknown = set(one.__code__.co_names) & set(one.__globals__)
            assert not unknown, unknown


class Base:
    def inherited(self) -> str:
        return "inherited"


class Actor(Base):
    """Acts."""

    made = 0

    def __init__(self, size: int) -> None:
        self.size = size

    def work(self, n: int) -> int:
        heard.append("working")
        return n * self.size

    def twice(self) -> int:
        return self.work(2)

    @staticmethod
    def static(n: int) -> int:
        return n

    @classmethod
    def of_class(cls, n: int) -> tuple[str, int]:
        return cls.__name__, n

    @property
    def shown(self) -> int:
        return self.size

    def __len__(self) -> int:
        return self.size


def test_each_method_of_a_class_takes_one_thing_more() -> None:
    cls = carried_class(Actor, HOME)
    assert (cls.__name__, cls.__qualname__, cls.__module__, cls.__doc__) == ("Actor", "Actor", __name__, "Acts.")
    assert issubclass(cls, Actor)
    assert hasattr(cls, MARK)
    actor = cls(3, **SENT)
    assert heard == [("sent", True), "left"]  # what it was made under holds as long as it lives
    heard.clear()
    assert actor.work(2, **SENT) == 6
    assert heard == INSIDE
    assert (actor.static(1, **SENT), cls.of_class(2, **SENT), actor.inherited(**SENT)) == (1, ("Actor", 2), "inherited")
    assert (actor.twice(), actor.shown, len(actor)) == (6, 3, 3)
    assert not hasattr(Actor, MARK)


def test_a_class_without_an_init_can_be_made() -> None:
    class Empty:
        pass

    assert isinstance(carried_class(Empty, HOME)(**SENT), Empty)
    assert heard == [("sent", True), "left"]


def test_a_class_with_a_method_that_cannot_be_wrapped_is_refused() -> None:
    class Odd:
        count = len
        part = functools.partialmethod(dict.get, "a")

    with pytest.raises((TypeError, ValueError)):
        carried_class(Odd, HOME)


def test_dunder_methods_are_left() -> None:
    assert [name for name in ("__init__", "__len__", "work", "_work", "__work") if is_carried(name)] == [
        "__init__", "work", "_work", "__work",
    ]  # fmt: skip
