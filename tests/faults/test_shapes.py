"""Every shape of code: where a phase is current, what it hangs under and how it ends, whoever runs the code, and when."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
from stream import ends, parents, statuses

import phasewatch
from phasewatch import PhasewatchWarning, current, phase
from phasewatch.testing import PhaseLog


def name() -> str | None:
    """Return the name of the current phase."""
    handle = current()
    return None if handle is None else handle.name


def in_thread(work: Callable[[], object]) -> None:
    """Run it in a thread of its own, and wait for that."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert not failures, failures
    assert not thread.is_alive()


# Functions of every kind


class Model:
    rate = 3

    @phase("METHOD")
    def method(self) -> str | None:
        return self.inner()

    @phase("INNER")
    def inner(self) -> str | None:
        return name()

    @phase("CLASS METHOD")
    @classmethod
    def of_class(cls) -> tuple[int, str | None]:
        return cls.rate, name()

    @classmethod
    @phase("INSIDE CLASS METHOD")
    def inside_class(cls) -> tuple[int, str | None]:
        return cls.rate, name()

    @staticmethod
    @phase("STATIC METHOD")
    def of_nobody(rate: int) -> tuple[int, str | None]:
        return rate, name()

    @property
    @phase("PROPERTY")
    def attribute(self) -> str | None:
        return name()

    @phase("ASYNC METHOD")
    async def later(self) -> str | None:
        await asyncio.sleep(0)
        return name()

    @phase("BATCHES")
    def batches(self) -> Iterator[str | None]:
        yield name()

    @phase("CALL")
    def __call__(self) -> str | None:
        return name()


class Child(Model):
    rate = 5

    @phase("OVERRIDDEN")
    def method(self) -> str | None:
        return super().method()


def test_a_method_and_the_one_that_it_overrides_nest(phaselog: PhaseLog) -> None:
    with phase("OUTER"):
        assert Child().method() == "INNER"
        assert name() == "OUTER"
    assert parents(phaselog.events) == {
        "OUTER": None,
        "OVERRIDDEN": "OUTER",
        "METHOD": "OVERRIDDEN",
        "INNER": "METHOD",
    }


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (lambda: Child.of_class(), (5, "CLASS METHOD")),
        (lambda: Child().inside_class(), (5, "INSIDE CLASS METHOD")),
        (lambda: Child.of_nobody(7), (7, "STATIC METHOD")),
        (lambda: Child().attribute, "PROPERTY"),
        (lambda: asyncio.run(Child().later()), "ASYNC METHOD"),
        (lambda: next(Child().batches()), "BATCHES"),
        (lambda: list(Child().batches()).pop(), "BATCHES"),
        (lambda: Child()(), "CALL"),
    ],
)
def test_whatever_is_decorated_runs_inside_its_phase_and_that_under_the_callers(
    phaselog: PhaseLog, call: Callable[[], object], result: object
) -> None:
    with phase("OUTER"):
        assert call() == result
        gc.collect()
        assert name() == "OUTER"
    inside = result[1] if isinstance(result, tuple) else result
    assert parents(phaselog.events) == {"OUTER": None, inside: "OUTER"}
    assert set(statuses(phaselog.events).values()) == {"completed"}


def test_what_is_decorated_twice_is_two_phases_one_inside_the_other(phaselog: PhaseLog) -> None:
    @phase("A")
    @phase("B")
    def numbers() -> Iterator[str | None]:
        yield name()
        yield name()

    for inside in numbers():
        assert inside == "B"
        assert name() is None
    assert parents(phaselog.events) == {"A": None, "B": "A"}


def test_a_context_manager_made_of_a_decorated_generator_is_not_current_in_its_block(phaselog: PhaseLog) -> None:
    @contextmanager
    @phase("RESOURCE")
    def resource() -> Iterator[str | None]:
        yield name()
        phaselog.clock.advance(2)

    with phase("OUTER"), resource() as inside:
        assert inside == "RESOURCE"
        assert name() == "OUTER", "its body is suspended"
        phaselog.clock.advance(3)
    end = ends(phaselog.events)["RESOURCE"]
    assert (end.elapsed, end.active) == (5, 2)


# Generators


def test_a_generators_end_says_how_long_its_body_ran_beside_how_long_it_was_there(phaselog: PhaseLog) -> None:
    @phase("READ")
    def read() -> Iterator[int]:
        for n in range(3):
            phaselog.clock.advance(1)
            yield n
        phaselog.clock.advance(0.5)

    numbers = read()
    phaselog.clock.advance(100)  # nothing runs until it is read
    for _ in numbers:
        phaselog.clock.advance(10)
    end = ends(phaselog.events)["READ"]
    assert (end.elapsed, end.active) == (33.5, 3.5)


def test_an_asynchronous_generators_end_says_the_same_and_counts_what_it_awaits(phaselog: PhaseLog) -> None:
    async def fetch() -> None:
        await asyncio.sleep(0)
        phaselog.clock.advance(1)

    @phase("STREAM")
    async def stream() -> AsyncIterator[str | None]:
        for _ in range(2):
            await fetch()
            yield name()

    async def main() -> None:
        async for inside in stream():
            assert inside == "STREAM"
            assert name() is None
            phaselog.clock.advance(10)

    asyncio.run(main())
    end = ends(phaselog.events)["STREAM"]
    assert (end.elapsed, end.active) == (22, 2)


def test_what_is_no_generator_has_no_time_of_a_body(phaselog: PhaseLog) -> None:
    with phase("A"):
        phaselog.clock.advance(1)
    assert ends(phaselog.events)["A"].active is None


@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "completed"),
        (ValueError("no"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (asyncio.CancelledError(), "interrupted"),
        (GeneratorExit(), "completed"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_suspended_generator_that_is_closed_completes_and_one_thrown_into_says_so(
    phaselog: PhaseLog, kind: str, error: BaseException | None, status: str
) -> None:
    @phase("READ")
    def read() -> Iterator[int]:
        try:
            yield 1
        finally:
            phaselog.clock.advance(2)

    @phase("READ")
    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            phaselog.clock.advance(2)

    def plain() -> None:
        numbers: Any = read()
        next(numbers)
        phaselog.clock.advance(10)
        assert name() == "OUTER"
        if error is None:
            numbers.close()
        else:
            with pytest.raises(type(error)) as caught:
                numbers.throw(error)
            assert caught.value is error
        assert name() == "OUTER"

    async def asynchronous() -> None:
        numbers: Any = stream()
        await numbers.__anext__()
        phaselog.clock.advance(10)
        assert name() == "OUTER"
        if error is None:
            await numbers.aclose()
        else:
            with pytest.raises(type(error)) as caught:
                await numbers.athrow(error)
            assert caught.value is error
        assert name() == "OUTER"

    with phase("OUTER"):
        plain() if kind == "plain" else asyncio.run(asynchronous())
    assert statuses(phaselog.events) == {"OUTER": "completed", "READ": status}
    end = ends(phaselog.events)["READ"]
    assert (end.elapsed, end.active) == (12, 2)


def test_a_generator_that_is_forgotten_while_suspended_completes(phaselog: PhaseLog) -> None:
    @phase("READ")
    def read() -> Iterator[int]:
        yield 1

    with phase("OUTER"):
        next(read())
        gc.collect()
        assert name() == "OUTER"
    assert parents(phaselog.events) == {"OUTER": None, "READ": "OUTER"}
    assert statuses(phaselog.events)["READ"] == "completed"


def test_a_generator_that_is_never_read_is_no_phase(phaselog: PhaseLog) -> None:
    @phase("READ")
    def read() -> Iterator[int]:
        yield 1

    read()
    unread: Any = read()
    unread.close()
    assert phaselog.events == []


def test_a_phase_held_open_in_a_decorated_body_across_a_yield_goes_to_sleep_with_it(phaselog: PhaseLog) -> None:
    @phase("READ")
    def read() -> Iterator[str | None]:
        with phase("FILE"):
            yield name()
            with phase("SHARD"):
                yield name()
            yield name()
        yield name()

    seen = []
    with phase("OUTER"):
        for inside in read():
            seen.append(inside)
            assert name() == "OUTER"
            with phase(f"USE {len(seen)}"):
                pass
    assert seen == ["FILE", "SHARD", "FILE", "READ"]
    assert parents(phaselog.events) == {
        "OUTER": None,
        "READ": "OUTER",
        "FILE": "READ",
        "SHARD": "FILE",
        **{f"USE {n}": "OUTER" for n in (1, 2, 3, 4)},
    }


def test_a_phase_held_open_in_an_asynchronous_body_across_a_yield_does_too(phaselog: PhaseLog) -> None:
    @phase("READ")
    async def read() -> AsyncIterator[str | None]:
        with phase("FILE"):
            yield name()
            await asyncio.sleep(0)
            yield name()

    async def main() -> None:
        async for inside in read():
            assert inside == "FILE"
            assert name() is None
            with phase("USE"):
                await asyncio.sleep(0)

    asyncio.run(main())
    assert parents(phaselog.events) == {"READ": None, "FILE": "READ", "USE": None}


def test_generators_that_are_read_in_turns_do_not_mix(phaselog: PhaseLog) -> None:
    def reader(title: str) -> Iterator[str | None]:
        @phase(title)
        def read() -> Iterator[str | None]:
            with phase(f"{title} FILE"):
                yield name()
                yield name()

        return read()

    with phase("OUTER"):
        for pair in zip(reader("A"), reader("B"), strict=True):
            assert pair == ("A FILE", "B FILE")
            assert name() == "OUTER"
    assert parents(phaselog.events) == {"OUTER": None, "A": "OUTER", "B": "OUTER", "A FILE": "A", "B FILE": "B"}


def test_a_chain_of_generators_is_a_chain_of_phases(phaselog: PhaseLog) -> None:
    @phase("LINES")
    def lines() -> Iterator[int]:
        for n in range(2):
            phaselog.clock.advance(1)
            yield n

    @phase("TOKENS")
    def tokens(source: Iterator[int]) -> Iterator[int]:
        for line in source:
            phaselog.clock.advance(10)
            yield line
            yield line

    with phase("OUTER"):
        assert list(tokens(lines())) == [0, 0, 1, 1]
    assert parents(phaselog.events) == {"OUTER": None, "TOKENS": "OUTER", "LINES": "TOKENS"}
    assert ends(phaselog.events)["LINES"].active == 2
    assert ends(phaselog.events)["TOKENS"].active == 22, "what it reads runs inside its body"


def test_a_generator_that_delegates_is_current_throughout(phaselog: PhaseLog) -> None:
    @phase("INNER")
    def inner() -> Any:
        got = yield name()
        return got

    @phase("OUTER")
    def outer() -> Any:
        result = yield from inner()
        yield name(), result

    conversation = outer()
    assert next(conversation) == "INNER"
    assert name() is None
    assert conversation.send("hello") == ("OUTER", "hello")
    conversation.close()
    assert parents(phaselog.events) == {"OUTER": None, "INNER": "OUTER"}


def test_a_generator_may_be_read_by_one_thread_after_the_other(phaselog: PhaseLog) -> None:
    @phase("READ")
    def read() -> Iterator[str | None]:
        with phase("FILE"):
            yield name()
            yield name()

    numbers = read()
    seen: list[tuple[str | None, str | None]] = []

    def take() -> None:
        with phase("TAKE"):
            seen.append((next(numbers, None), name()))

    with phase("OUTER"):
        for _ in range(3):
            in_thread(take)
            assert name() == "OUTER"
    assert seen == [("FILE", "TAKE"), ("FILE", "TAKE"), (None, "TAKE")]
    assert statuses(phaselog.events) == {"OUTER": "completed", "READ": "completed", "FILE": "completed", "TAKE": "completed"}


def test_an_asynchronous_generator_that_was_left_is_closed_with_its_loop_and_warns_of_nothing(phaselog: PhaseLog) -> None:
    @phase("STREAM")
    async def stream() -> AsyncIterator[int]:
        with phase("FILE"):
            yield 1

    kept = []

    async def main() -> None:
        items: Any = stream()
        kept.append(items)
        with phase("OUTER"):
            await items.__anext__()

    asyncio.run(main())
    assert statuses(phaselog.events) == {"OUTER": "completed", "STREAM": "completed", "FILE": "completed"}
    assert parents(phaselog.events) == {"OUTER": None, "STREAM": "OUTER", "FILE": "STREAM"}


def test_a_fixture_of_an_asynchronous_context_manager_is_not_current_in_its_block(phaselog: PhaseLog) -> None:
    @asynccontextmanager
    @phase("SERVER")
    async def server() -> AsyncIterator[None]:
        yield

    async def main() -> None:
        async with server():
            assert name() is None
            with pytest.raises(ValueError, match="no"):
                async with server():
                    raise ValueError("no")

    asyncio.run(main())
    assert [end.status for end in phaselog.events if isinstance(end, phasewatch.PhaseEnded)] == ["failed", "completed"]


# Tasks


def test_tasks_that_are_gathered_hang_under_the_phase_around_them_and_not_under_each_other(phaselog: PhaseLog) -> None:
    @phase("FETCH")
    async def fetch(n: int) -> None:
        with phase(f"PART {n}"):
            for _ in range(3):
                await asyncio.sleep(0)
                assert name() == f"PART {n}"

    async def main() -> None:
        with phase("GATHER"):
            await asyncio.gather(*(fetch(n) for n in range(5)))
            assert name() == "GATHER"

    asyncio.run(main())
    assert parents(phaselog.events) == {"GATHER": None, "FETCH": "GATHER", **{f"PART {n}": "FETCH" for n in range(5)}}
    starts = {event.id: event for event in phaselog.events if isinstance(event, phasewatch.PhaseStarted)}
    assert len({event.parent for event in starts.values() if event.name.startswith("PART")}) == 5


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups came with Python 3.11")
def test_in_a_task_group_the_one_that_fails_is_failed_and_its_siblings_are_interrupted(phaselog: PhaseLog) -> None:
    TaskGroup: Any = getattr(asyncio, "TaskGroup", None)

    @phase("WAIT")
    async def wait() -> None:
        await asyncio.Event().wait()

    @phase("FAIL")
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def main() -> None:
        with phase("GROUP"):
            async with TaskGroup() as group:
                group.create_task(wait())
                group.create_task(fail())

    with pytest.raises(BaseException, match="unhandled errors") as caught:
        asyncio.run(main())
    assert isinstance(caught.value, Exception)
    assert statuses(phaselog.events) == {"GROUP": "failed", "WAIT": "interrupted", "FAIL": "failed"}
    assert parents(phaselog.events) == {"GROUP": None, "WAIT": "GROUP", "FAIL": "GROUP"}


def test_a_task_that_outlives_the_phase_in_which_it_began_still_hangs_under_it(phaselog: PhaseLog) -> None:
    async def later(go: asyncio.Event) -> None:
        with phase("BEFORE"):
            await go.wait()
            assert name() == "BEFORE"
        assert name() is None, "what was around it has ended"
        with phase("AFTER"):
            pass

    async def main() -> None:
        go = asyncio.Event()
        with phase("BEGIN"):
            task = asyncio.create_task(later(go))
            await asyncio.sleep(0)
        go.set()
        await task

    asyncio.run(main())
    assert parents(phaselog.events) == {"BEGIN": None, "BEFORE": "BEGIN", "AFTER": None}


def test_a_cancelled_task_is_interrupted_up_to_whoever_takes_the_cancellation(phaselog: PhaseLog) -> None:
    async def work() -> None:
        with phase("TAKES IT"):
            try:
                with phase("WAIT"):
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                with phase("CLEAN UP"):
                    await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert statuses(phaselog.events) == {"WAIT": "interrupted", "CLEAN UP": "completed", "TAKES IT": "completed"}
    assert parents(phaselog.events)["CLEAN UP"] == "TAKES IT"


def test_what_runs_out_of_time_is_interrupted_and_what_gave_it_the_time_has_failed(phaselog: PhaseLog) -> None:
    @phase("SLOW")
    async def slow() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        with phase("OUTER"):
            await asyncio.wait_for(slow(), timeout=0.001)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(main())
    assert statuses(phaselog.events) == {"OUTER": "failed", "SLOW": "interrupted"}
    assert parents(phaselog.events) == {"OUTER": None, "SLOW": "OUTER"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with Python 3.11")
def test_a_phase_inside_a_timeout_is_interrupted_and_one_around_it_has_failed(phaselog: PhaseLog) -> None:
    timeout: Any = getattr(asyncio, "timeout", None)

    async def main() -> None:
        with phase("OUTER"):
            async with timeout(0):
                with phase("SLOW"):
                    await asyncio.Event().wait()

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(main())
    assert statuses(phaselog.events) == {"OUTER": "failed", "SLOW": "interrupted"}


def test_a_phase_in_a_task_that_is_shielded_goes_on_after_the_one_that_waited(phaselog: PhaseLog) -> None:
    async def save(go: asyncio.Event) -> None:
        with phase("SAVE"):
            await go.wait()

    async def main() -> None:
        go = asyncio.Event()
        saving = asyncio.create_task(save(go))

        async def wait() -> None:
            with phase("WAIT"):
                await asyncio.shield(saving)

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        go.set()
        await saving

    asyncio.run(main())
    assert statuses(phaselog.events) == {"WAIT": "interrupted", "SAVE": "completed"}


def test_callbacks_of_the_loop_run_under_the_phase_in_which_they_were_asked_for(phaselog: PhaseLog) -> None:
    seen = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with phase("ASK"):
            loop.call_soon(lambda: seen.append(name()))
            await asyncio.sleep(0)
            loop.call_soon(lambda: seen.append(name()))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == ["ASK", None], "the second one came when the phase had ended"


# Threads


def test_what_is_sent_to_a_thread_by_asyncio_hangs_under_its_senders_phase(phaselog: PhaseLog) -> None:
    @phase("BLOCKING")
    def block() -> str | None:
        return name()

    async def main() -> None:
        with phase("SEND"):
            assert {*await asyncio.gather(asyncio.to_thread(block), asyncio.to_thread(block))} == {"BLOCKING"}
            assert name() == "SEND"

    asyncio.run(main())
    assert parents(phaselog.events) == {"SEND": None, "BLOCKING": "SEND"}
    assert len(phaselog.events) == 6


def test_in_a_pool_and_in_plain_threads_phases_hang_under_the_run_and_the_senders_stays_as_it_was(
    phaselog: PhaseLog,
) -> None:
    @phase("JOB")
    def job(n: int) -> str | None:
        with phase(f"PART {n}"):
            return name()

    with phasewatch.run("r"), phase("SEND"):
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(job, range(6))) == [f"PART {n}" for n in range(6)]
        in_thread(lambda: job(6))
        assert name() == "SEND"
    found = parents(phaselog.events)
    assert (found["JOB"], found["SEND"]) == ("r", "r")
    assert {found[f"PART {n}"] for n in range(7)} == {"JOB"}


def test_a_thread_of_a_pool_has_nothing_current_left_of_its_last_job(phaselog: PhaseLog) -> None:
    def fail() -> None:
        with phase("FAIL"):
            raise ValueError("no")

    with ThreadPoolExecutor(1) as pool:
        assert isinstance(pool.submit(fail).exception(), ValueError)
        assert pool.submit(name).result() is None


def test_a_job_that_is_sent_with_its_context_hangs_under_the_senders_phase(phaselog: PhaseLog) -> None:
    @phase("JOB")
    def job() -> None: ...

    with phase("SEND"), ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.copy_context().run, job).result()
    assert parents(phaselog.events) == {"SEND": None, "JOB": "SEND"}


def test_a_loop_inside_a_thread_inside_a_loop_keeps_each_stack_apart(phaselog: PhaseLog) -> None:
    async def inside() -> None:
        with phase("INSIDE"):
            await asyncio.gather(part(1), part(2))
            assert name() == "INSIDE"

    @phase("PART")
    async def part(n: int) -> None:
        with phase(f"PART {n}"):
            await asyncio.sleep(0)

    async def outside() -> None:
        with phase("OUTSIDE"):
            await asyncio.to_thread(asyncio.run, inside())
            assert name() == "OUTSIDE"

    asyncio.run(outside())
    assert parents(phaselog.events) == {
        "OUTSIDE": None,
        "INSIDE": "OUTSIDE",
        "PART": "INSIDE",
        "PART 1": "PART",
        "PART 2": "PART",
    }


# Left in the wrong order


def only_warning(caught: pytest.WarningsRecorder) -> str:
    messages = [str(warning.message) for warning in caught if warning.category is PhasewatchWarning]
    assert len(messages) == 1, messages
    assert "is left " in messages[0]
    return messages[0]


def test_a_block_across_a_yield_of_an_undecorated_generator_warns_once_and_loses_nothing(phaselog: PhaseLog) -> None:
    def read() -> Iterator[int]:
        for n in range(2):
            with phase(f"FILE {n}"):
                yield n

    with pytest.warns(PhasewatchWarning) as caught:
        with phase("OUTER"):
            numbers = read()
            next(numbers)
            with phase("USE"):
                pass
        assert name() == "FILE 0", "it is open still"
        next(numbers)
        numbers.close()  # type: ignore[attr-defined]  # a generator, typed as an iterator
    assert only_warning(caught) == (
        "phase 'OUTER' is left while 'FILE 0' is the innermost; leave phases where they were entered, in the reverse order"
    )
    assert name() is None
    assert parents(phaselog.events) == {"OUTER": None, "FILE 0": "OUTER", "USE": "FILE 0", "FILE 1": None}
    assert set(statuses(phaselog.events).values()) == {"completed"}


def test_an_exit_stack_in_another_order_warns_once_and_loses_nothing(phaselog: PhaseLog) -> None:
    with pytest.warns(PhasewatchWarning) as caught, phase("AROUND"):
        first, second = ExitStack(), ExitStack()
        first.enter_context(phase("A"))
        second.enter_context(phase("B"))
        first.close()
        assert name() == "B"
        with phase("C"):
            pass
        second.close()
        assert name() == "AROUND"
        with phase("D"):
            pass
    assert "'A' is left while 'B' is the innermost" in only_warning(caught)
    assert parents(phaselog.events) == {"AROUND": None, "A": "AROUND", "B": "A", "C": "B", "D": "AROUND"}


def test_leaving_several_in_the_order_in_which_they_were_entered_warns_of_each_and_of_the_last_not(
    phaselog: PhaseLog,
) -> None:
    handles = [phase(letter).__enter__() for letter in "ABC"]
    with pytest.warns(PhasewatchWarning) as caught:
        for handle in handles:
            handle.__exit__(None, None, None)
    assert [str(warning.message).split(";")[0] for warning in caught] == [
        "phase 'A' is left while 'C' is the innermost",
        "phase 'B' is left while 'C' is the innermost",
    ]
    assert name() is None
    assert parents(phaselog.events) == {"A": None, "B": "A", "C": "B"}


def test_a_handle_that_another_thread_closes_warns_once_and_loses_nothing(phaselog: PhaseLog) -> None:
    with phase("OUTER"):
        handle = phase("HANDED OVER").__enter__()
        with pytest.warns(PhasewatchWarning) as caught:
            in_thread(lambda: handle.__exit__(None, None, None))
        assert "in another thread or task" in only_warning(caught)
        assert name() == "OUTER"
        with phase("AFTER"):
            pass
    assert parents(phaselog.events) == {"OUTER": None, "HANDED OVER": "OUTER", "AFTER": "OUTER"}


def test_a_handle_that_another_task_closes_with_an_error_warns_once_and_has_failed(phaselog: PhaseLog) -> None:
    async def main() -> None:
        handle = phase("HANDED OVER")

        async def enter() -> None:
            handle.__enter__()
            assert name() == "HANDED OVER"

        async def leave() -> None:
            with phase("LEAVER"):
                handle.__exit__(ValueError, ValueError("no"), None)
                assert name() == "LEAVER"

        await asyncio.create_task(enter())
        assert name() is None
        await asyncio.create_task(leave())

    with pytest.warns(PhasewatchWarning) as caught:
        asyncio.run(main())
    assert "'HANDED OVER' is left while 'LEAVER' is the innermost" in only_warning(caught)
    assert statuses(phaselog.events) == {"HANDED OVER": "failed", "LEAVER": "completed"}
    assert parents(phaselog.events) == {"HANDED OVER": None, "LEAVER": None}


def test_an_undecorated_asynchronous_generator_that_its_loop_closes_warns_once_and_loses_nothing(
    phaselog: PhaseLog,
) -> None:
    async def stream() -> AsyncIterator[int]:
        with phase("STREAM"):
            yield 1

    kept = []

    async def main() -> None:
        items: Any = stream()
        kept.append(items)
        await items.__anext__()

    with pytest.warns(PhasewatchWarning) as caught:
        asyncio.run(main())
    assert "in another thread or task" in only_warning(caught)
    assert parents(phaselog.events) == {"STREAM": None}
    assert name() is None


def test_a_phase_left_open_in_a_decorated_body_is_warned_of_and_ends_when_it_is_left(phaselog: PhaseLog) -> None:
    handles = []

    @phase("READ")
    def read() -> Iterator[int]:
        handles.append(phase("FORGOTTEN").__enter__())
        yield 1

    with phase("OUTER"), pytest.warns(PhasewatchWarning) as caught:
        for _ in read():
            assert name() == "OUTER"
        assert name() == "FORGOTTEN", "it is open, and the innermost"
        handles[0].__exit__(None, None, None)
        assert name() == "OUTER"
    assert "'READ' is left while 'FORGOTTEN' is the innermost" in only_warning(caught)
    assert parents(phaselog.events) == {"OUTER": None, "READ": "OUTER", "FORGOTTEN": "READ"}


def test_right_order_in_any_shape_warns_of_nothing(phaselog: PhaseLog) -> None:
    def bare() -> Iterator[int]:
        with phase("BARE"):
            yield 1
            yield 2

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ExitStack() as stack:
            stack.enter_context(phase("A"))
            stack.enter_context(phase("B"))
            for _ in bare():
                with phase("USE"):
                    pass
    assert parents(phaselog.events) == {"A": None, "B": "A", "BARE": "B", "USE": "BARE"}
