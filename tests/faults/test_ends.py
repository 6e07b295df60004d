"""Ends of every kind: what leaves a phase is what would have left the code without it, and is told as what it is."""

from __future__ import annotations

import asyncio
import builtins
import gc
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from stream import ends, parents, statuses

import phasewatch
from phasewatch import Event, current, phase
from phasewatch.testing import MemorySink, PhaseLog

ENDS = [
    (ValueError("no"), "failed"),
    (MemoryError(), "failed"),
    (StopIteration(1), "failed"),
    (StopAsyncIteration(), "failed"),
    (KeyboardInterrupt(), "interrupted"),
    (SystemExit(3), "interrupted"),
    (asyncio.CancelledError("stop"), "interrupted"),
    (GeneratorExit(), "completed"),
]


def in_block(error: BaseException) -> None:
    with phase("A"):
        raise error


@phase("A")
def in_function(error: BaseException) -> None:
    raise error


@phase("A")
async def in_coroutine_function(error: BaseException) -> None:
    raise error


def in_coroutine(error: BaseException) -> None:
    in_coroutine_function(error).send(None)


@phase("A")
def in_generator_function(error: BaseException) -> Iterator[int]:
    yield 1
    raise error


def in_generator(error: BaseException) -> None:
    list(in_generator_function(error))


@pytest.mark.parametrize(("error", "status"), ENDS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("shape", [in_block, in_function, in_coroutine, in_generator])
def test_what_ends_the_work_leaves_it_as_it_was_and_the_phase_says_how(
    phaselog: PhaseLog, shape: Callable[[BaseException], None], error: BaseException, status: str
) -> None:
    is_changed = (isinstance(error, StopIteration) and shape in (in_coroutine, in_generator)) or False
    with phase("OUTER"):
        with pytest.raises(RuntimeError if is_changed else type(error)) as caught:
            shape(error)
        assert is_changed or caught.value is error  # Python makes a RuntimeError of it where it would be a return
        handle = current()
        assert handle is not None
        assert handle.name == "OUTER"
    assert parents(phaselog.events) == {"OUTER": None, "A": "OUTER"}
    assert statuses(phaselog.events) == {"OUTER": "completed", "A": status}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=lambda error: type(error).__name__)
def test_what_ends_the_program_in_a_task_interrupts_every_phase_on_its_way(phaselog: PhaseLog, error: BaseException) -> None:
    async def stop() -> None:
        with phase("STOP"):
            raise error

    async def wait() -> None:
        with phase("WAIT"):
            await asyncio.Event().wait()

    async def main() -> None:
        with phase("MAIN"):
            await asyncio.gather(wait(), stop())

    with pytest.raises(type(error)) as caught, phase("OUTER"):
        asyncio.run(main())
    assert caught.value is error
    gc.collect()
    assert set(statuses(phaselog.events).values()) == {"interrupted"}
    assert parents(phaselog.events) == {"OUTER": None, "MAIN": "OUTER", "WAIT": "MAIN", "STOP": "MAIN"}


def test_an_exception_in_a_finally_has_its_own_phase_and_keeps_its_context(phaselog: PhaseLog) -> None:
    first, second = ValueError("first"), OSError("second")
    with pytest.raises(OSError, match="second") as caught, phase("OUTER"):
        try:
            with phase("WORK"):
                raise first
        finally:
            with phase("CLEAN UP"):
                raise second
    assert caught.value is second
    assert second.__context__ is first
    found = ends(phaselog.events)
    assert {name: (end.error, end.innermost) for name, end in found.items()} == {
        "WORK": (("ValueError", "first"), True),
        "CLEAN UP": (("OSError", "second"), True),
        "OUTER": (("OSError", "second"), False),
    }
    assert found["OUTER"].origin == ("OUTER", "CLEAN UP")


def test_an_exception_in_a_finally_inside_the_block_is_the_one_that_is_told(phaselog: PhaseLog) -> None:
    with pytest.raises(OSError, match="second"), phase("WORK"):
        try:
            raise KeyboardInterrupt
        finally:
            raise OSError("second")
    assert statuses(phaselog.events) == {"WORK": "failed"}
    assert ends(phaselog.events)["WORK"].error == ("OSError", "second")


def test_a_return_in_a_finally_takes_the_exception_and_only_the_phases_that_it_passed_have_failed(
    phaselog: PhaseLog,
) -> None:
    @phase("OUTER")
    def work() -> str:
        try:
            with phase("WORK"):
                raise ValueError("no")
        except ValueError:
            pass
        finally:
            result = "done"
        return result

    assert work() == "done"
    assert statuses(phaselog.events) == {"WORK": "failed", "OUTER": "completed"}


def test_an_exception_in_the_clean_up_of_a_generator_that_is_closed_is_told_as_its_failure(phaselog: PhaseLog) -> None:
    @phase("READ")
    def read() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise OSError("no")

    numbers: Any = read()
    with phase("OUTER"):
        next(numbers)
        with pytest.raises(OSError, match="no"):
            numbers.close()
    assert statuses(phaselog.events) == {"OUTER": "completed", "READ": "failed"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_generator_that_will_not_be_closed_is_refused_as_python_does(phaselog: PhaseLog) -> None:
    def stubborn() -> Iterator[int]:
        while True:
            try:
                yield 1
            except GeneratorExit:
                yield 2
                return

    bare: Any = stubborn()
    watched: Any = phase("STUBBORN")(stubborn)()
    for numbers in (bare, watched):
        next(numbers)
        with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
            numbers.close()
    assert statuses(phaselog.events) == {"STUBBORN": "failed"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([ValueError("no")], "failed"),
        ([KeyboardInterrupt()], "interrupted"),
        ([ValueError("no"), SystemExit(1)], "interrupted"),
    ],
)
def test_a_group_ends_a_phase_as_what_it_is(phaselog: PhaseLog, parts: list[BaseException], status: str) -> None:
    group: BaseException = getattr(builtins, "BaseExceptionGroup")("several", parts)  # noqa: B009  # not there in 3.10
    with pytest.raises(type(group)) as caught, phase("OUTER"), phase("A"):
        raise group
    assert caught.value is group
    assert statuses(phaselog.events) == {"OUTER": status, "A": status}
    error = ends(phaselog.events)["A"].error
    assert error is not None
    assert error[0] == type(group).__name__


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
@pytest.mark.parametrize(("depth", "width"), [(3000, 1), (100, 2)])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_group_nested_deeper_than_calls_may_be_or_holding_one_thing_many_times_loses_no_end(
    phaselog: PhaseLog, depth: int, width: int, is_told: bool
) -> None:
    make: Any = getattr(builtins, "ExceptionGroup")  # noqa: B009  # not there in 3.10
    group: Exception | None = None
    with pytest.raises(make) as caught, phase("OUTER"):
        try:
            with phase("PART"):
                raise ValueError("no")
        except ValueError as error:
            group = error if is_told else ValueError("another")
        for _ in range(depth):
            group = make("deep", [group] * width)
        raise group
    assert caught.value is group
    end = ends(phaselog.events)["OUTER"]
    assert (end.status, end.innermost) == ("failed", not is_told)
    assert end.origin == (("OUTER", "PART") if is_told else ("OUTER",))


@pytest.mark.parametrize("failure", [MemoryError, RecursionError, OSError])
@pytest.mark.parametrize("kind", ["start", "progress", "metrics", "end"])
def test_a_sink_without_memory_costs_the_work_nothing_and_the_other_sinks_no_event(
    phaselog: PhaseLog, caplog: pytest.LogCaptureFixture, kind: str, failure: type[Exception]
) -> None:
    class Full:
        def emit(self, event: Event) -> None:
            if event.type == kind:
                raise failure

        def close(self) -> None: ...

    sink = MemorySink()
    with caplog.at_level(logging.ERROR, "phasewatch"), phasewatch.run("r", sinks=[Full(), sink]):
        for n in range(2):
            with phase(f"A{n}", total=2) as handle:
                handle.advance(2)
                handle.log(loss=1.0)
    assert [event.type for event in sink.events if event.name == "A0"] == ["start", "progress", "metrics", "end"]
    assert parents(sink.events) == {"r": None, "A0": "r", "A1": "r"}
    assert set(statuses(sink.events).values()) == {"completed"}
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_in_a_sink_at_the_end_of_a_phase_leaves_the_stack_right(
    phaselog: PhaseLog, error: type[BaseException]
) -> None:
    class Interrupted:
        def emit(self, event: Event) -> None:
            if (event.name, event.type) == ("A", "end"):
                raise error

        def close(self) -> None: ...

    sink = MemorySink()
    with pytest.raises(error), phasewatch.run("r", sinks=[sink, Interrupted()]), phase("OUTER") as outer:
        try:
            with phase("A"):
                pass
        finally:
            assert current() is outer
    assert statuses(sink.events) == {"A": "completed", "OUTER": "interrupted", "r": "interrupted"}


@pytest.mark.parametrize("trouble", [RuntimeError("no text"), MemoryError(), RecursionError()])
@pytest.mark.parametrize("base", [Exception, KeyboardInterrupt])
def test_an_exception_whose_text_cannot_be_made_leaves_every_phase_and_is_told_by_its_type(
    phaselog: PhaseLog, base: Any, trouble: Exception
) -> None:
    class Wordless(base):  # type: ignore[misc]  # of whichever base
        def __str__(self) -> str:
            raise trouble

        __repr__ = __str__

    error = Wordless()
    with pytest.raises(Wordless) as caught, phase("OUTER"), phase("A"):
        raise error
    assert caught.value is error
    assert {name: end.error for name, end in ends(phaselog.events).items()} == dict.fromkeys(
        ["A", "OUTER"], ("Wordless", "")
    )
    assert "Wordless" in phaselog.text


def test_an_exception_whose_text_is_no_text_is_told_by_its_type(phaselog: PhaseLog) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            return 3  # type: ignore[return-value]  # the mistake

    with pytest.raises(Odd), phase("A"):
        raise Odd
    assert ends(phaselog.events)["A"].error == ("Odd", "")


def test_an_exception_that_is_like_any_other_is_told_apart_all_the_same(phaselog: PhaseLog) -> None:
    class Equal(Exception):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("not to be compared")

        def __hash__(self) -> int:
            raise RuntimeError("not to be hashed")

    error = Equal("no")
    with pytest.raises(Equal) as caught, phase("OUTER"), phase("A"):
        raise error
    assert caught.value is error
    assert ends(phaselog.events)["OUTER"].origin == ("OUTER", "A")


def test_an_exception_that_is_raised_again_later_ends_what_it_passes_then(phaselog: PhaseLog) -> None:
    kept: list[BaseException] = []
    try:
        with phase("FIRST"):
            raise ValueError("no")
    except ValueError as error:
        kept.append(error)
    with phase("BETWEEN"):
        pass
    with pytest.raises(ValueError, match="no"), phase("LATER"):
        raise kept[0]
    assert statuses(phaselog.events) == {"FIRST": "failed", "BETWEEN": "completed", "LATER": "failed"}
    assert ends(phaselog.events)["LATER"].innermost
