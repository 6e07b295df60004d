"""Every shape of code: whose phase is current where, which phase it hangs under, and how it ends."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import phasewatch
from phasewatch import PhaseEnded, PhasewatchWarning, current, phase
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


# Tasks


def test_tasks_that_are_gathered_hang_under_who_gathers_them(phaselog: PhaseLog) -> None:
    @phase
    async def fetch(number: int) -> str | None:
        await asyncio.sleep(0)
        with phase(f"PART {number}"):
            await asyncio.sleep(0)
            return name_now()

    async def main() -> list[str | None]:
        with phase("ALL"):
            return await asyncio.gather(*map(fetch, range(3)))

    assert asyncio.run(main()) == ["PART 0", "PART 1", "PART 2"]
    assert tree(phaselog) == {("ALL",), ("ALL", "FETCH"), *(("ALL", "FETCH", f"PART {number}") for number in range(3))}
    assert is_whole(phaselog)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups came with 3.11")
def test_of_a_task_group_the_one_that_fails_has_failed_and_the_others_are_interrupted(phaselog: PhaseLog) -> None:
    async def work(name: str) -> None:
        with phase(name):
            if name == "BROKEN":
                raise OSError(name)
            await asyncio.Event().wait()

    async def main() -> None:
        with phase("GROUP"):
            groups: Any = asyncio
            async with groups.TaskGroup() as group:
                for name in ("A", "B", "BROKEN"):
                    group.create_task(work(name))

    with pytest.raises(BaseException, match="unhandled errors"):
        asyncio.run(main())
    assert ends(phaselog) == {"A": "interrupted", "B": "interrupted", "BROKEN": "failed", "GROUP": "failed"}
    assert is_whole(phaselog)


def test_a_task_that_is_cancelled_is_interrupted_and_one_that_times_out_fails_around(phaselog: PhaseLog) -> None:
    async def wait() -> None:
        with phase("WAIT"):
            await asyncio.Event().wait()

    async def main() -> None:
        with phase("OUTER"):
            await asyncio.wait_for(wait(), 0)

    async def cancelled() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert ends(phaselog) == {"WAIT": "interrupted"}
    with pytest.raises((TimeoutError, asyncio.TimeoutError)):
        asyncio.run(main())
    assert ends(phaselog)["OUTER"] == "failed"
    assert is_whole(phaselog)


def test_a_thread_of_asyncio_hangs_under_its_task_and_a_loop_in_a_thread_is_one_of_its_own(phaselog: PhaseLog) -> None:
    def in_thread() -> str | None:
        with phase("THREAD"):
            return name_now()

    async def nested() -> str | None:
        with phase("NESTED"):
            return await asyncio.to_thread(in_thread)

    def loop_in_thread() -> str | None:
        with phase("WORKER"):
            return asyncio.run(nested())

    async def main() -> tuple[Any, Any]:
        with phase("MAIN"):
            return await asyncio.to_thread(in_thread), await asyncio.to_thread(loop_in_thread)

    assert asyncio.run(main()) == ("THREAD", "THREAD")
    worker = ("MAIN", "WORKER", "NESTED")
    assert tree(phaselog) == {("MAIN",), ("MAIN", "THREAD"), ("MAIN", "WORKER"), worker, (*worker, "THREAD")}
    assert is_whole(phaselog)


def test_threads_of_a_pool_hang_under_the_run(phaselog: PhaseLog) -> None:
    @phase
    def square(number: int) -> int:
        with phase("INNER"):
            return number * number

    with phasewatch.run("r") as run, phase("MAIN"), concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(square, range(20))) == [number * number for number in range(20)]
    assert tree(phaselog) == {(), ("MAIN",), ("SQUARE",), ("SQUARE", "INNER")}
    assert {event.parent for event in phaselog.events if event.name == "SQUARE"} == {run.id}
    assert is_whole(phaselog)


# Every kind of callable


class Trainer:
    steps = 3

    @phase("METHOD")
    def method(self) -> Any:
        return self, name_now()

    @phase("CLASS METHOD")
    @classmethod
    def of_class(cls) -> Any:
        return cls, name_now()

    @classmethod
    @phase("INSIDE CLASS METHOD")
    def inside_class(cls) -> Any:
        return cls, name_now()

    @phase("STATIC")
    @staticmethod
    def static(value: int) -> Any:
        return value, name_now()

    def _total(self) -> Any:
        return self.steps, name_now()

    total: Any = phase("PROPERTY")(property(_total))  # type: ignore[type-var]  # which mypy knows as a decorator only


def test_methods_of_every_kind_return_what_they_did_inside_their_phase(phaselog: PhaseLog) -> None:
    trainer = Trainer()
    assert trainer.method() == (trainer, "METHOD")
    assert Trainer.of_class() == (Trainer, "CLASS METHOD")
    assert trainer.inside_class() == (Trainer, "INSIDE CLASS METHOD")
    assert trainer.static(7) == (7, "STATIC")
    assert trainer.total == (3, "PROPERTY")
    assert is_whole(phaselog)
    assert set(ends(phaselog).values()) == {"completed"}


# In the wrong order


def test_a_block_that_is_held_across_a_yield_is_left_out_of_order_once_warned_and_whole(phaselog: PhaseLog) -> None:
    def plain() -> Iterator[int]:
        with phase("HELD"):
            yield 1
            yield 2

    items = plain()
    next(items)
    with phase("READER") as reader:
        next(items)
        with pytest.warns(PhasewatchWarning, match="'HELD' is left while 'READER' is the innermost"):
            list(items)
        assert current() is reader
        with phase("AFTER"):
            pass
    assert is_whole(phaselog)
    assert set(ends(phaselog).values()) == {"completed"}


def test_a_stack_that_is_left_in_another_order_keeps_current_what_is_open(phaselog: PhaseLog) -> None:
    first, second, third = phase("1"), phase("2"), phase("3")
    for handle in (first, second, third):
        handle.__enter__()
    with pytest.warns(PhasewatchWarning, match="'2' is left while '3' is the innermost"):
        second.__exit__(None, None, None)
    assert current() is third
    third.__exit__(None, None, None)
    assert current() is first
    first.__exit__(None, None, None)
    assert is_whole(phaselog)


@pytest.mark.parametrize("where", ["thread", "task"])
def test_a_handle_that_is_closed_elsewhere_warns_and_is_current_nowhere(phaselog: PhaseLog, where: str) -> None:
    handle = phase("A").__enter__()

    def close() -> None:
        with pytest.warns(PhasewatchWarning, match="'A' is left"):
            other = phase("OTHER").__enter__()
            handle.__exit__(None, None, None)
        other.__exit__(None, None, None)

    async def close_in_task() -> None:
        async def task() -> None:
            close()

        await asyncio.create_task(task())

    if where == "thread":
        thread = threading.Thread(target=close)
        thread.start()
        thread.join()
    else:
        asyncio.run(close_in_task())
    assert is_whole(phaselog)
    with phase("B") as after:
        assert after.path == ("B",)


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
