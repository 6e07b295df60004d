"""Loops that are counted from outside."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch import Tracker
from phasewatch._loops import Loop
from phasewatch.testing import FakeClock, MemorySink


class Loader:
    """An iterable with a length that makes an iterator of its own, as a DataLoader does."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        yield from self.items


class Odd(list[Any]):
    """A list that iterates as it likes."""

    def __iter__(self) -> Iterator[Any]:
        return iter(["own"])


SOURCES: dict[str, Callable[[list[Any]], Iterable[Any]]] = {
    "list": list,
    "tuple": tuple,
    "range": lambda items: range(len(items)),
    "generator": lambda items: (item for item in items),
    "dict view": lambda items: dict(enumerate(items)).values(),
    "loader": Loader,
    "iterator": iter,
}


def begun(iterable: Iterable[Any]) -> tuple[Loop, Iterator[Any]]:
    loop = Loop(iterable)
    items, loop.items = loop.items, None
    assert items is not None
    return loop, items


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
@given(items=st.lists(st.sampled_from([0, None, "", False, 1]), max_size=6), taken=st.integers(0, 8))
def test_what_was_handed_out_is_known_at_any_moment(
    make: Callable[[list[Any]], Iterable[Any]], items: list[Any], taken: int
) -> None:
    loop, iterator = begun(make(items))
    expected = list(make(items))
    got = []
    for count in range(min(taken, len(items))):
        assert loop.handed() == count
        got.append(next(iterator))
    assert got == expected[:taken]
    assert loop.is_under_way()
    if taken > len(items):
        assert next(iterator, "end") == "end"
        assert loop.handed() == len(items)
    del iterator
    assert not loop.is_under_way()
    assert loop.handed() == min(taken, len(items))


def test_a_list_that_grows_or_shrinks_while_it_is_iterated_is_counted_right() -> None:
    items = [1, 2, 3]
    loop, iterator = begun(items)
    for count, item in enumerate(iterator, start=1):
        assert loop.handed() == count
        if item == 1:
            items += [4, 5]
        if item == 4:
            items.pop()
    assert loop.handed() == 4


def test_a_list_that_shrinks_below_what_was_handed_out_is_counted_right() -> None:
    items = [1, 2, 3, 4, 5]
    loop, iterator = begun(items)
    for _ in range(3):
        next(iterator)
    del items[1:]
    assert loop.handed() == 3


def test_a_subclass_iterates_as_it_likes() -> None:
    loop, iterator = begun(Odd([1, 2, 3]))
    assert list(iterator) == ["own"]
    assert loop.handed() == 1


def test_an_iterator_shared_by_threads_is_counted_whole() -> None:
    loop, iterator = begun(iter(range(20_000)))
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(iterator)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(20_000))
    assert loop.handed() == 20_000


def test_a_generators_clean_up_comes_when_it_would_have() -> None:
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    loop, iterator = begun(source())
    for item in iterator:
        if item == 2:
            break
    del iterator
    assert closed == [True], "though the loop is still there to be asked"
    assert loop.handed() == 3


# Through the public handle, on the system's clock


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_the_final_count_is_exact_however_a_loop_is_left(make: Callable[[list[Any]], Iterable[Any]]) -> None:
    with Tracker().phase("A") as whole:
        for _ in whole.track(make([0] * 10)):
            pass
        assert whole.done == 10
    with Tracker().phase("A") as left:
        for number, _ in enumerate(left.track(make([0] * 10)), start=1):
            assert left.done == number - 1
            if number == 4:
                break
        left.advance(2)
        assert left.done == 6, "after the loop, units count again"
    with pytest.raises(ValueError, match="4"), Tracker().phase("A") as raised:
        for number, _ in enumerate(raised.track(make([0] * 10)), start=1):
            if number == 4:
                raise ValueError(number)
    assert (whole.done, left.done, raised.done) == (10, 6, 4)


def test_units_inside_a_loop_are_not_counted_a_second_time_after_others_outside_it() -> None:
    with Tracker().phase("A") as handle:
        handle.advance(10)
        for _ in handle.track([1, 2]):
            handle.advance()
        assert handle.done == 12


@pytest.mark.parametrize(("total", "length"), [(5, 3), (3, 5)])
def test_sources_longer_or_shorter_than_announced_are_counted_as_they_are(total: int, length: int, recwarn: Any) -> None:
    with Tracker().phase("A", total=total, unit="batch") as handle:
        assert list(handle.track(iter(range(length)))) == list(range(length))
    assert (handle.done, handle.total) == (length, total)


def test_a_list_whose_iterator_is_kept_is_done_when_it_is_exhausted() -> None:
    with Tracker().phase("A", total=6) as handle:
        items = handle.track([1, 2, 3])
        for _ in items:
            pass
        assert handle.done == 3
        handle.advance(3)
        assert handle.done == 6


def test_a_tuple_whose_iterator_is_kept_is_done_when_it_is_exhausted() -> None:
    with Tracker().phase("A") as handle:
        items = handle.track((1, 2, 3))
        for _ in items:
            pass
        assert handle.done == 3


def test_an_exact_list_is_handed_out_as_it_is() -> None:
    with Tracker().phase("A") as handle:
        assert type(handle.track([1])) is type(iter([1]))


def test_a_loop_that_was_left_holds_on_to_nothing_of_its_generator() -> None:
    class Batch:
        pass

    def source() -> Iterator[Batch]:
        while True:
            yield Batch()

    with Tracker().phase("A") as handle:
        for batch in handle.track(source()):
            alive = weakref.ref(batch)
            break
        del batch
        gc.collect()
        assert alive() is None
        assert handle.done == 1


@pytest.mark.parametrize("options", [{"every": 100}, {"every": 3}, {}], ids=str)
def test_a_loop_that_is_counted_one_by_one_is_not_counted_twice(options: dict[str, Any]) -> None:
    async def stream() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    async def read(handle: Any) -> None:
        async for _ in handle.track(stream()):
            handle.advance()
            handle.advance(reward=0.5)

    with Tracker([MemorySink()]).phase("A", **options) as handle:
        handle.advance()
        for _ in handle.track(iter(range(10))):
            handle.advance()
            handle.advance(2)
        assert handle.done == 11
        handle.advance()
        asyncio.run(read(handle))
        handle.advance()
        assert handle.done == 18


def test_many_loops_one_after_the_other_are_added_up_and_let_go() -> None:
    with Tracker().phase("A") as handle:
        for epoch in range(1, 51):
            for _ in handle.track([1, 2, 3]):
                pass
            assert handle.done == 3 * epoch
        assert handle._tally is not None
        assert handle._tally.loops is not None
        assert len(handle._tally.loops._loops) == 1


def test_what_is_told_in_one_loop_says_nothing_of_the_next() -> None:
    with Tracker().phase("A") as handle:
        for _ in handle.track([1, 2, 3]):
            handle.advance(loss=1)
        for number, _ in enumerate(handle.track([1, 2, 3, 4])):
            assert handle.done == 3 + number


def test_nothing_is_done_of_a_loop_that_has_only_begun() -> None:
    with Tracker().phase("A") as handle:
        for _ in handle.track([1, 2, 3]):
            pass
        items = handle.track([1, 2])
        assert handle.done == 3
        next(items)
        assert handle.done == 3


def test_the_time_of_an_item_that_was_told_of_is_that_of_the_telling() -> None:
    clock = FakeClock()
    with Tracker(clock=clock).phase("A") as handle:  # nobody listens, so that the loop is left to itself
        for number in handle.track(range(4)):
            clock.advance(10)
            handle.advance(loss=1)
            clock.advance(4)
            if number == 0:
                assert handle.eta == 26, "three of 10 seconds, of which 4 are over"


def test_a_loop_that_has_handed_out_nothing_has_nothing_in_work() -> None:
    with Tracker().phase("A") as handle:
        first, second = handle.track([1, 2]), handle.track([3])
        next(first)
        assert handle.done == 0
        del first, second
