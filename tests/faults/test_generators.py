"""Generators: whose phase is current, here and there; and that no block changes what happens in it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from phasewatch import PhaseEnded, current, phase
from phasewatch.testing import PhaseLog


def name_now() -> str | None:
    now = current()
    return None if now is None else now.name


def tree(log: PhaseLog) -> set[tuple[str, ...]]:
    return {event.path for event in log.events if event.type == "start"}


def ends(log: PhaseLog) -> dict[str, str]:
    return {event.name: event.status for event in log.events if isinstance(event, PhaseEnded)}


def is_whole(log: PhaseLog) -> bool:
    starts = [event.id for event in log.events if event.type == "start"]
    return sorted(starts) == sorted(event.id for event in log.events if event.type == "end") and current() is None


def end_of(log: PhaseLog, name: str) -> PhaseEnded:
    (end,) = [event for event in log.events if isinstance(event, PhaseEnded) and event.name == name]
    return end


# Generators


@phase("SOURCE")
def source(log: PhaseLog) -> Iterator[str | None]:
    log.clock.advance(1)
    yield name_now()
    log.clock.advance(1)
    with phase("INNER"):
        yield name_now()
        yield name_now()
    yield name_now()


def test_a_generators_phase_is_current_in_its_body_and_not_for_who_reads(phaselog: PhaseLog) -> None:
    with phase("READER"):
        seen = []
        for inside in source(phaselog):
            seen.append((inside, name_now()))
            phaselog.clock.advance(10)
            with phase("BETWEEN"):
                pass
    assert seen == [("SOURCE", "READER"), ("INNER", "READER"), ("INNER", "READER"), ("SOURCE", "READER")]
    innermost = ("READER", "SOURCE", "INNER")
    assert tree(phaselog) == {("READER",), ("READER", "SOURCE"), innermost, ("READER", "BETWEEN")}
    assert is_whole(phaselog)


def test_a_generators_end_tells_the_time_inside_its_body_beside_the_whole(phaselog: PhaseLog) -> None:
    for _ in source(phaselog):
        phaselog.clock.advance(10)
    end = end_of(phaselog, "SOURCE")
    assert (end.elapsed, end.active) == (42, 2)
    assert end_of(phaselog, "INNER").active is None, "it is no generator"
    assert "Total time: 42s | Active time: 2.0s" in phaselog.text


def test_a_generator_that_is_closed_early_has_completed_and_one_that_is_thrown_into_has_failed(phaselog: PhaseLog) -> None:
    early = source(phaselog)
    next(early)
    early.close()  # type: ignore[attr-defined]  # a generator
    assert ends(phaselog) == {"SOURCE": "completed"}
    thrown: Any = source(phaselog)
    next(thrown)
    next(thrown)
    with pytest.raises(KeyError):
        thrown.throw(KeyError("x"))
    assert ends(phaselog) == {"SOURCE": "failed", "INNER": "failed"}
    assert is_whole(phaselog)


def test_generators_that_take_turns_keep_apart(phaselog: PhaseLog) -> None:
    @phase
    def one() -> Iterator[str | None]:
        with phase("IN ONE"):
            yield name_now()
            yield name_now()

    @phase
    def two() -> Iterator[str | None]:
        with phase("IN TWO"):
            yield name_now()
            yield name_now()

    pairs = list(zip(one(), two(), strict=True))
    assert pairs == [("IN ONE", "IN TWO")] * 2
    assert tree(phaselog) == {("ONE",), ("TWO",), ("ONE", "IN ONE"), ("TWO", "IN TWO")}
    assert is_whole(phaselog)


def test_a_generator_that_is_read_in_another_thread_has_its_phase_there(phaselog: PhaseLog) -> None:
    items = source(phaselog)
    assert next(items) == "SOURCE"
    seen: list[Any] = []

    def read() -> None:
        seen.extend(items)
        seen.append(name_now())

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert seen == ["INNER", "INNER", "SOURCE", None]
    assert is_whole(phaselog)


def test_an_asynchronous_generator_is_like_any_other(phaselog: PhaseLog) -> None:
    @phase("STREAM")
    async def stream() -> AsyncIterator[str | None]:
        with phase("INNER"):
            phaselog.clock.advance(1)
            yield name_now()
            await asyncio.sleep(0)
            phaselog.clock.advance(1)
            yield name_now()

    async def read() -> list[Any]:
        seen = []
        with phase("READER"):
            async for inside in stream():
                phaselog.clock.advance(5)
                seen.append((inside, name_now()))
        return seen

    assert asyncio.run(read()) == [("INNER", "READER")] * 2
    assert (end_of(phaselog, "STREAM").elapsed, end_of(phaselog, "STREAM").active) == (12, 2)
    assert is_whole(phaselog)


# Nothing is changed


def results(make: Callable[[], Any]) -> tuple[Any, ...]:
    try:
        return "returned", make()
    except BaseException as error:
        chain = []
        one: BaseException | None = error
        while one is not None:
            chain.append((type(one), one.args, one.__suppress_context__))
            one = one.__cause__ or one.__context__
        return "raised", chain


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), MemoryError()])
def test_an_exception_and_what_stands_behind_it_is_what_it_was(phaselog: PhaseLog, error: BaseException) -> None:
    def broken() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise error from None if isinstance(error, SystemExit) else OSError("cause")

    def in_a_finally() -> None:
        try:
            broken()
        finally:
            raise LookupError("last")

    for fn in (broken, in_a_finally):
        assert results(phase(fn)) == results(fn)

        def block(fn: Callable[[], None] = fn) -> None:
            with phase("OUTER"), phase("INNER"):
                fn()

        assert results(block) == results(fn)
    assert is_whole(phaselog)


def test_a_context_that_was_copied_in_a_body_may_go_on_reading_from_it(phaselog: PhaseLog) -> None:
    @phase("SOURCE")
    def source() -> Iterator[Any]:
        yield contextvars.copy_context()
        yield current()
        yield name_now()

    items = source()
    inside = next(items)
    handle = inside.run(next, items)
    assert handle.name == "SOURCE"
    assert handle._outer is not handle, "who walks outward would walk in a circle"
    assert inside.run(list, items) == ["SOURCE"]
    assert name_now() is None
    assert inside.run(name_now) is None
    assert is_whole(phaselog)
