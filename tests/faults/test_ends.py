"""How phases end: whatever leaves them does what it does unwatched, and is told for what it is."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import phasewatch
from phasewatch import Event, PhaseEnded, Tracker, current, phase
from phasewatch.testing import MemorySink, PhaseLog

needs_groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="groups of exceptions came with 3.11")


def ends(log: PhaseLog | MemorySink) -> dict[str, PhaseEnded]:
    return {event.name: event for event in log.events if isinstance(event, PhaseEnded)}


def statuses(log: PhaseLog | MemorySink) -> dict[str, str]:
    return {name: end.status for name, end in ends(log).items()}


def is_whole(log: PhaseLog) -> bool:
    starts = [event.id for event in log.events if event.type == "start"]
    return sorted(starts) == sorted(event.id for event in log.events if event.type == "end") and current() is None


class Own(Exception):
    """An exception of the program's."""


class OwnInterruption(BaseException):
    """One that is no error."""


class Unspeakable(Exception):
    """One whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Bottomless(Exception):
    """One whose text has no end."""

    def __str__(self) -> str:
        return str(self)


class Proxy(Exception):
    """One that asks for every attribute of something that it does not have: a slip that is often made."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Strict(Exception):
    """One whose attributes raise something of their own."""

    @property
    def exceptions(self) -> Any:
        raise LookupError("no such thing")


KINDS = [
    (ValueError, ("x",), "failed", ("ValueError", "x")),
    (Own, ("a", 2), "failed", ("Own", "('a', 2)")),
    (MemoryError, (), "failed", ("MemoryError", "")),
    (RecursionError, ("deep",), "failed", ("RecursionError", "deep")),
    (StopIteration, (3,), "failed", ("StopIteration", "3")),
    (Unspeakable, (), "failed", ("Unspeakable", "")),
    (Bottomless, (), "failed", ("Bottomless", "")),
    (Proxy, ("x",), "failed", ("Proxy", "x")),
    (Strict, ("x",), "failed", ("Strict", "x")),
    (KeyboardInterrupt, (), "interrupted", ("KeyboardInterrupt", "")),
    (SystemExit, (3,), "interrupted", ("SystemExit", "3")),
    (asyncio.CancelledError, (), "interrupted", ("CancelledError", "")),
    (OwnInterruption, ("x",), "interrupted", ("OwnInterruption", "x")),
    (GeneratorExit, (), "completed", None),
]


CALLERS = ("outcome", "block", "unwatched", "<lambda>")  # in which the call itself stands


def chain(error: BaseException | None) -> list[tuple[Any, ...]]:
    """What an exception says of itself and of what stands behind it, with the places in this file that it passed."""
    links = []
    while error is not None:
        here = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
        lines = [(frame.name, frame.lineno) for frame in here if frame.name not in CALLERS]
        links.append((type(error), error.args, error.__suppress_context__, lines))
        error = error.__cause__ or error.__context__
    return links


def outcome(call: Callable[[], object]) -> tuple[str, object]:
    try:
        return "returned", call()
    except BaseException as error:
        return "raised", chain(error)


@pytest.mark.parametrize(("kind", "given", "status", "said"), KINDS, ids=[kind.__name__ for kind, *_ in KINDS])
def test_whatever_leaves_a_block_goes_on_as_it_was_and_says_how_the_block_ended(
    phaselog: PhaseLog, caplog: pytest.LogCaptureFixture, kind: Any, given: Any, status: str, said: tuple[str, str] | None
) -> None:
    error = kind(*given)

    def work() -> None:
        raise error

    def block() -> None:
        with phase("OUTER"), phase("INNER"):
            work()

    with pytest.raises(kind) as caught:
        block()
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[1:] == ["block", "work"], "a block adds no frame"
    assert statuses(phaselog) == {"OUTER": status, "INNER": status}
    assert ends(phaselog)["INNER"].error == said
    if said is not None:
        assert (ends(phaselog)["INNER"].innermost, ends(phaselog)["OUTER"].innermost) == (True, False)
        assert ends(phaselog)["OUTER"].origin == ("OUTER", "INNER")
    assert is_whole(phaselog)
    with phase("NEXT"):
        pass
    assert statuses(phaselog)["NEXT"] == "completed", "what follows is told as ever"
    assert not caplog.records
    assert phaselog.text


@pytest.mark.parametrize(("kind", "given", "status", "said"), KINDS, ids=[kind.__name__ for kind, *_ in KINDS])
def test_an_exception_that_follows_a_failure_that_was_caught_is_one_of_its_own(
    phaselog: PhaseLog, caplog: pytest.LogCaptureFixture, kind: Any, given: Any, status: str, said: tuple[str, str] | None
) -> None:
    error = kind(*given)

    def work() -> None:
        with phase("OUTER"):
            with contextlib.suppress(Own), phase("INNER"):
                raise Own
            raise error

    with pytest.raises(kind):
        work()
    assert statuses(phaselog) == {"OUTER": status, "INNER": "failed"}
    assert ends(phaselog)["OUTER"].innermost is (said is not None)
    assert is_whole(phaselog)
    assert not caplog.records


# Those that meet another on the way out


def in_a_finally() -> None:
    try:
        raise Own("first")
    finally:
        raise LookupError("last")


def from_a_cause() -> None:
    try:
        raise Own("first")
    except Own as error:
        raise LookupError("last") from error


def from_none() -> None:
    try:
        raise Own("first")
    except Own:
        raise LookupError("last") from None


def ctrl_c_in_a_finally() -> None:
    try:
        raise Own("first")
    finally:
        raise KeyboardInterrupt


def returned_from_a_finally() -> str:
    with contextlib.suppress(Own):
        raise Own("first")
    return "done"


def again() -> None:
    try:
        raise Own("first")
    except Own:
        in_a_finally()


WAYS = [in_a_finally, from_a_cause, from_none, ctrl_c_in_a_finally, returned_from_a_finally, again]


@pytest.mark.parametrize("way", WAYS)
def test_exceptions_on_top_of_each_other_are_chained_as_they_were(phaselog: PhaseLog, way: Callable[[], object]) -> None:
    def block() -> object:
        with phase("OUTER"), phase("INNER"):
            return way()

    def unwatched() -> object:
        return way()

    expected = outcome(unwatched)
    assert outcome(block) == expected
    assert outcome(phase("INNER")(phase("OUTER")(way))) == expected
    assert is_whole(phaselog)


def test_a_phase_in_a_finally_is_told_inside_the_one_that_fails(phaselog: PhaseLog) -> None:
    def work() -> None:
        with phase("OUTER"):
            try:
                with phase("BODY"):
                    raise Own("first")
            finally:
                with phase("CLEAN UP") as handle:
                    assert handle.path == ("OUTER", "CLEAN UP")

    with pytest.raises(Own):
        work()
    assert statuses(phaselog) == {"BODY": "failed", "CLEAN UP": "completed", "OUTER": "failed"}
    assert ends(phaselog)["OUTER"].origin == ("OUTER", "BODY")
    assert is_whole(phaselog)


def test_an_exception_in_a_finally_has_its_own_origin(phaselog: PhaseLog) -> None:
    def work() -> None:
        with phase("OUTER"):
            try:
                with phase("BODY"):
                    raise Own("first")
            finally:
                with phase("CLEAN UP"):
                    raise LookupError("last")

    with pytest.raises(LookupError) as caught:
        work()
    assert isinstance(caught.value.__context__, Own)
    assert ends(phaselog)["OUTER"].error == ("LookupError", "last")
    assert ends(phaselog)["OUTER"].origin == ("OUTER", "CLEAN UP")
    assert ends(phaselog)["CLEAN UP"].innermost


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_what_is_caught_inside_is_nothing_to_those_outside(phaselog: PhaseLog, error: BaseException) -> None:
    with phase("OUTER"):
        try:
            with phase("INNER"):
                raise error
        except BaseException:
            pass
    assert statuses(phaselog) == {"INNER": "interrupted", "OUTER": "completed"}


# Groups


@needs_groups
def test_of_a_group_the_phase_in_which_it_was_made_is_the_origin(phaselog: PhaseLog) -> None:
    groups: Any = builtins

    def work() -> None:
        with phase("OUTER"), phase("INNER"):
            raise groups.ExceptionGroup("several", [Own("a"), groups.ExceptionGroup("more", [ValueError("b")])])

    with pytest.raises(groups.ExceptionGroup) as caught:
        work()
    assert [type(part) for part in caught.value.exceptions] == [Own, groups.ExceptionGroup]
    assert ends(phaselog)["INNER"].error == ("ExceptionGroup", "several (2 sub-exceptions)")
    assert ends(phaselog)["OUTER"].origin == ("OUTER", "INNER")


@needs_groups
def test_a_group_with_an_interruption_in_it_is_an_interruption(phaselog: PhaseLog) -> None:
    groups: Any = builtins

    def work() -> None:
        with phase("A"):
            raise groups.BaseExceptionGroup("several", [Own("a"), KeyboardInterrupt()])

    with pytest.raises(groups.BaseExceptionGroup):
        work()
    assert statuses(phaselog) == {"A": "interrupted"}


@needs_groups
def test_what_is_split_off_a_group_ends_what_it_leaves(phaselog: PhaseLog) -> None:
    groups: Any = builtins
    source = """
def work():
    with phase("OUTER"):
        try:
            with phase("INNER"):
                raise ExceptionGroup("several", [Own("a"), ValueError("b")])
        except* ValueError:
            pass
"""
    names: dict[str, Any] = {"phase": phase, "Own": Own}
    exec(source, names)
    with pytest.raises(groups.ExceptionGroup) as caught:
        names["work"]()
    assert [type(part) for part in caught.value.exceptions] == [Own]
    assert statuses(phaselog) == {"OUTER": "failed", "INNER": "failed"}
    assert is_whole(phaselog)


# Generators and coroutines that are left


def test_a_generator_that_will_not_be_closed_says_so_as_it_did_and_its_phase_has_failed(phaselog: PhaseLog) -> None:
    @phase("STUBBORN")
    def stubborn() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    items: Any = stubborn()
    next(items)
    with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
        items.close()
    assert statuses(phaselog) == {"STUBBORN": "failed"}
    assert is_whole(phaselog)


def test_a_generator_that_fails_while_it_is_closed_has_failed(phaselog: PhaseLog) -> None:
    @phase("READ")
    def read() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise Own("in the clean-up")

    items: Any = read()
    next(items)
    with pytest.raises(Own) as caught:
        items.close()
    assert isinstance(caught.value.__context__, GeneratorExit)
    assert statuses(phaselog) == {"READ": "failed"}
    assert is_whole(phaselog)


def test_a_stop_iteration_inside_a_generator_is_the_runtime_error_that_python_makes_of_it(phaselog: PhaseLog) -> None:
    def read() -> Iterator[int]:
        yield 1
        raise StopIteration(3)

    def block(read: Callable[[], Iterator[int]]) -> list[int]:
        return list(read())

    expected = outcome(lambda: block(read))
    assert expected[0] == "raised"
    assert outcome(lambda: block(phase("READ")(read))) == expected
    assert statuses(phaselog) == {"READ": "failed"}


@pytest.mark.parametrize("error", [Own("x"), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_is_thrown_into_a_coroutine_ends_its_phases(phaselog: PhaseLog, error: BaseException) -> None:
    @phase("OUTER")
    async def outer() -> None:
        with phase("INNER"):
            await asyncio.get_running_loop().create_future()

    async def main() -> None:
        waiting = outer()
        waiting.send(None)
        with pytest.raises(type(error)) as caught:
            waiting.throw(error)
        assert caught.value is error

    asyncio.run(main())
    status = "failed" if isinstance(error, Exception) else "interrupted"
    assert statuses(phaselog) == {"OUTER": status, "INNER": status}
    assert is_whole(phaselog)


def test_a_coroutine_that_is_closed_has_completed_like_a_generator(phaselog: PhaseLog) -> None:
    @phase("WAIT")
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        waiting = wait()
        waiting.send(None)
        waiting.close()

    asyncio.run(main())
    assert statuses(phaselog) == {"WAIT": "completed"}
    assert is_whole(phaselog)


def test_a_cancellation_that_is_refused_is_none(phaselog: PhaseLog) -> None:
    async def stubborn() -> str:
        with phase("STUBBORN"):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "done all the same"
        raise AssertionError

    async def main() -> str:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "done all the same"
    assert statuses(phaselog) == {"STUBBORN": "completed"}


def test_an_asynchronous_generator_that_is_cancelled_in_its_body_is_interrupted_and_whoever_reads_too(
    phaselog: PhaseLog,
) -> None:
    @phase("STREAM")
    async def stream() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()
        yield 2

    async def read() -> None:
        with phase("READER"):
            async for _ in stream():
                pass

    async def main() -> None:
        task = asyncio.create_task(read())
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert statuses(phaselog) == {"STREAM": "interrupted", "READER": "interrupted"}
    assert is_whole(phaselog)


# Where the watching itself is ended


class Raising(MemorySink):
    """A sink that raises at one event."""

    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__()
        self.left, self.error = at, error

    def emit(self, event: Event) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error
        super().emit(event)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(2)])
def test_an_interruption_inside_a_sink_goes_to_the_work_and_leaves_the_stack_right(at: int, error: BaseException) -> None:
    raising, before = Raising(at, error), MemorySink()
    tracker = Tracker([before, raising])
    with pytest.raises(type(error)) as caught:
        with tracker.phase("OUTER"), tracker.phase("INNER"):
            pass
    assert caught.value is error
    assert current() is None
    starts = [event.name for event in before.events if event.type == "start"]
    assert sorted(starts) == sorted(ends(before)), "the sink before it has heard of everything"
    with tracker.phase("NEXT"):
        pass
    assert raising.events[-1].name == "NEXT"


def test_sys_exit_out_of_a_run_keeps_its_code(phaselog: PhaseLog) -> None:
    with pytest.raises(SystemExit) as caught:
        with phasewatch.run("r"), phase("A"):
            sys.exit(7)
    assert caught.value.code == 7
    assert statuses(phaselog) == {"A": "interrupted", "r": "interrupted"}
