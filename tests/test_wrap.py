"""The decorator: a phase around each call, and nothing else changed."""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from phasewatch import PhaseEnded, PhaseStarted, PhasewatchWarning, current, phase
from phasewatch.testing import PhaseLog


def stream(log: PhaseLog) -> list[str]:
    return [f"{event.type} {event.name}" for event in log.events]


def last_end(log: PhaseLog) -> PhaseEnded:
    end = log.events[-1]
    assert isinstance(end, PhaseEnded)
    return end


def test_a_bare_decorator_names_the_phase_after_the_function(phaselog: PhaseLog) -> None:
    @phase
    def save_checkpoint(path: str, *, fast: bool = False) -> str:
        """Save it."""
        return f"{path} {fast}"

    assert save_checkpoint("a", fast=True) == "a True"
    assert stream(phaselog) == ["start SAVE CHECKPOINT", "end SAVE CHECKPOINT"]
    assert (save_checkpoint.__name__, save_checkpoint.__doc__) == ("save_checkpoint", "Save it.")
    assert str(inspect.signature(save_checkpoint)) == "(path: 'str', *, fast: 'bool' = False) -> 'str'"


@pytest.mark.parametrize(
    ("function_name", "name"), [("_validate", "VALIDATE"), ("__call__", "CALL"), ("fit", "FIT"), ("<lambda>", "LAMBDA")]
)
def test_a_name_is_made_of_the_words_of_the_functions(phaselog: PhaseLog, function_name: str, name: str) -> None:
    def function() -> None: ...

    function.__name__ = function_name
    phase(function)()
    phase()(function)()
    assert {event.name for event in phaselog.events} == {name}


def test_a_function_whose_name_has_no_words_is_a_phase(phaselog: PhaseLog) -> None:
    @phase
    def _() -> None: ...

    _()
    assert stream(phaselog) == ["start PHASE", "end PHASE"]


def test_a_partial_and_a_callable_object_can_be_decorated(phaselog: PhaseLog) -> None:
    class Loader:
        def __call__(self, n: int) -> int:
            return n

    def load_shard(n: int) -> int:
        return n

    assert phase(functools.partial(load_shard, 3))() == 3
    assert phase("OBJECT")(Loader())(4) == 4
    assert stream(phaselog) == ["start LOAD SHARD", "end LOAD SHARD", "start OBJECT", "end OBJECT"]


def test_each_call_is_a_phase_of_its_own_recursion_included(phaselog: PhaseLog) -> None:
    @phase("DIVE")
    def dive(depth: int) -> int:
        here = current()
        assert here is not None
        assert len(here.path) == 3 - depth
        return dive(depth - 1) if depth else 0

    dive(2)
    assert len({event.id for event in phaselog.events}) == 3


def test_methods_of_every_kind_and_properties_are_wrapped(phaselog: PhaseLog) -> None:
    class Trainer:
        @phase("METHOD")
        def method(self) -> str:
            return type(self).__name__

        @phase("CLASS ABOVE")
        @classmethod
        def above(cls) -> str:
            return cls.__name__

        @classmethod
        @phase("CLASS BELOW")
        def below(cls) -> str:
            return cls.__name__

        @phase("STATIC")
        @staticmethod
        def static(n: int) -> int:
            return n

        @phase("PROPERTY")  # type: ignore[prop-decorator]  # not supported by the checker
        @property
        def best(self) -> int:
            """The best."""
            return 1

    trainer = Trainer()
    assert (trainer.method(), trainer.above(), trainer.below(), trainer.static(2), trainer.best) == (
        "Trainer", "Trainer", "Trainer", 2, 1,
    )  # fmt: skip
    assert inspect.getdoc(Trainer.best) == "The best."
    assert [event.name for event in phaselog.events if isinstance(event, PhaseStarted)] == [
        "METHOD", "CLASS ABOVE", "CLASS BELOW", "STATIC", "PROPERTY",
    ]  # fmt: skip


def test_a_property_keeps_its_setter_and_its_deleter(phaselog: PhaseLog) -> None:
    class Trainer:
        def __init__(self) -> None:
            self.rate = 0.1

        def get(self) -> float:
            return self.rate

        def put(self, rate: float) -> None:
            self.rate = rate

        def drop(self) -> None:
            del self.rate

        learning_rate = phase("READ")(property(get, put, drop))  # type: ignore[type-var]  # not supported by the checker

    trainer = Trainer()
    trainer.learning_rate = 0.5
    assert trainer.learning_rate == 0.5
    del trainer.learning_rate
    assert not hasattr(trainer, "rate")
    assert stream(phaselog) == ["start READ", "end READ"]


@pytest.mark.parametrize("thing", [int, type("Trainer", (), {})])
def test_a_class_cannot_be_decorated(thing: Any) -> None:
    with pytest.raises(TypeError, match=f"cannot decorate the class {thing.__name__}; decorate its methods"):
        phase("X")(thing)


def test_what_is_no_function_cannot_be_decorated() -> None:
    with pytest.raises(TypeError, match="it is no function"):
        phase("X")(3)  # type: ignore[type-var]  # the mistake under test
    with pytest.raises(TypeError, match="no getter"):
        phase("X")(property())  # type: ignore[type-var]  # the mistake under test


def test_options_may_depend_on_the_arguments_of_the_call(phaselog: PhaseLog) -> None:
    class Trainer:
        global_step = 50

        @phase(
            "CHECKPOINT SAVING",
            step=lambda self: self.global_step,
            message=lambda path: f"to {path}",
            total=lambda trainer, where: len(where),
        )
        def save(self, path: str, shards: int = 3) -> None: ...

        @phase("ALL", total=lambda *args, **kwargs: len(args) + len(kwargs))
        def everything(self, *args: int, **kwargs: int) -> None: ...

        @phase("DEFAULT", total=lambda shards: shards)
        def default(self, shards: int = 3) -> None: ...

    Trainer().save("disk")
    info = phaselog.events[0].phase
    assert (info.step, info.message, info.total) == (50, "to disk", 4)
    Trainer().everything(1, 2, x=3)
    assert phaselog.events[2].phase.total == 4
    Trainer().default()
    assert phaselog.events[4].phase.total == 3


def test_an_option_may_take_what_it_names_and_any_further_names(phaselog: PhaseLog) -> None:
    @phase("SAVE", message=lambda path, **rest: f"{path} {rest}")
    def save(shards: int, path: str) -> None: ...

    save(3, "disk")
    assert phaselog.events[0].phase.message == "disk {}"


def test_an_option_may_have_parameters_that_are_given_by_position_only_and_others_of_its_own(phaselog: PhaseLog) -> None:
    @phase("SAVE", message=lambda path, /: f"to {path}", total=lambda where, *, factor=2: factor * len(where))
    def save(path: str, shards: int) -> None: ...

    save("disk", 3)
    info = phaselog.events[0].phase
    assert (info.message, info.total) == ("to disk", 8)


def test_an_option_that_raises_warns_and_the_call_goes_on(phaselog: PhaseLog) -> None:
    @phase("SAVE", step=lambda self: self.global_step, message="kept")
    def save(self: object) -> str:
        return "saved"

    with pytest.warns(PhasewatchWarning, match=r"phase 'SAVE': step= raised AttributeError.* is left out"):
        assert save(object()) == "saved"
    assert (phaselog.events[0].phase.step, phaselog.events[0].phase.message) == (None, "kept")


def test_a_function_that_is_interrupted_leaves_its_phase(phaselog: PhaseLog) -> None:
    @phase("WORK")
    def work() -> None:
        raise KeyboardInterrupt

    with phase("OUTER") as outer:
        with pytest.raises(KeyboardInterrupt):
            work()
        assert current() is outer
    assert [event.status for event in phaselog.events if isinstance(event, PhaseEnded)] == ["interrupted", "completed"]


def test_a_decorator_adds_exactly_one_frame_to_a_traceback(phaselog: PhaseLog) -> None:
    @phase
    def plain() -> None:
        raise ValueError("no")

    @phase
    async def coroutine() -> None:
        raise ValueError("no")

    @phase
    def generator() -> Iterator[int]:
        yield 1
        raise ValueError("no")

    for call in (plain, lambda: asyncio.run(coroutine()), lambda: list(generator())):
        with pytest.raises(ValueError, match="no") as caught:
            call()
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        own = [frame for frame in traceback.extract_tb(caught.value.__traceback__) if frame.filename.endswith("/_wrap.py")]
        assert len(own) == 1, frames
        assert last_end(phaselog).status == "failed"
        assert last_end(phaselog).innermost


def test_a_function_stays_what_it_is(phaselog: PhaseLog) -> None:
    async def coroutine() -> None: ...
    def generator() -> Iterator[None]:
        yield

    async def async_generator() -> AsyncIterator[None]:
        yield

    def plain() -> None: ...

    checks = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    for function in (coroutine, generator, async_generator, plain):
        assert [check(phase(function)) for check in checks] == [check(function) for check in checks]
        assert [check(phase("X", total=1)(function)) for check in checks] == [check(function) for check in checks]


def test_a_coroutines_phase_lasts_while_it_is_awaited_and_tasks_do_not_mix(phaselog: PhaseLog) -> None:
    @phase("FETCH", message=lambda n: str(n))
    async def fetch(n: int) -> tuple[str, ...]:
        await asyncio.sleep(0)
        with phase(f"PART {n}") as part:
            await asyncio.sleep(0)
            assert current() is part
            return part.path

    async def main() -> list[tuple[str, ...]]:
        with phase("ALL"):
            return await asyncio.gather(*(fetch(n) for n in range(3)))

    assert asyncio.run(main()) == [("ALL", "FETCH", f"PART {n}") for n in range(3)]


def test_the_phase_of_a_partial_of_a_coroutine_lasts_while_it_is_awaited(phaselog: PhaseLog) -> None:
    async def fetch(seconds: float) -> float:
        await asyncio.sleep(0)
        phaselog.clock.advance(seconds)
        return seconds

    assert asyncio.run(phase("FETCH")(functools.partial(functools.partial(fetch), 3))()) == 3
    assert last_end(phaselog).elapsed == 3


def test_a_cancelled_coroutine_is_interrupted(phaselog: PhaseLog) -> None:
    @phase("WAIT")
    async def wait() -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), 0.001)

    asyncio.run(main())
    assert (last_end(phaselog).name, last_end(phaselog).status) == ("WAIT", "interrupted")


def test_a_generators_phase_is_current_while_its_body_runs_and_not_while_it_is_suspended(phaselog: PhaseLog) -> None:
    seen = []

    @phase("READ")
    def read() -> Iterator[int]:
        for n in range(2):
            with phase("PARSE") as parse:
                seen.append(parse.path)
            yield n

    with phase("OUTER") as outer:
        for _ in read():
            assert current() is outer
            with phase("USE") as use:
                assert use.path == ("OUTER", "USE")
    assert seen == [("OUTER", "READ", "PARSE")] * 2
    assert stream(phaselog)[-2:] == ["end READ", "end OUTER"]


def test_a_generator_gives_way_to_the_phase_in_which_it_is_read_now(phaselog: PhaseLog) -> None:
    @phase("READ")
    def read() -> Iterator[int]:
        yield from range(3)

    numbers = read()
    with phase("FIRST"):
        next(numbers)
    with phase("SECOND") as second:
        next(numbers)
        assert current() is second
        assert list(numbers) == [2]
        assert current() is second


def test_a_generator_whose_phase_was_ended_from_outside_does_not_open_it_again(phaselog: PhaseLog) -> None:
    seen = []

    @phase("READ")
    def read() -> Iterator[int]:
        seen.append(current())
        yield 1
        seen.append(current())

    numbers = read()
    next(numbers)
    assert seen[0] is not None
    seen[0].__exit__(None, None, None)
    with phase("OUTER") as outer:
        with pytest.warns(PhasewatchWarning, match="phase 'READ' is left, but it is completed"):
            list(numbers)
        assert seen[1] is outer
        assert current() is outer


def test_a_generator_gets_what_is_sent_thrown_and_returns_what_it_returned(phaselog: PhaseLog) -> None:
    @phase("TALK")
    def talk() -> Any:
        got = yield "first"
        try:
            yield got
        except KeyError as error:
            yield f"caught {error}"
        return "done"

    conversation = talk()
    assert next(conversation) == "first"
    assert conversation.send("hello") == "hello"
    assert conversation.throw(KeyError("x")) == "caught 'x'"
    with pytest.raises(StopIteration) as stop:
        next(conversation)
    assert stop.value.value == "done"
    assert last_end(phaselog).status == "completed"


def test_a_generator_closed_early_completes_and_one_thrown_into_fails(phaselog: PhaseLog) -> None:
    closed = []

    @phase("READ")
    def read() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(current())

    for _ in read():
        break
    assert last_end(phaselog).status == "completed"
    assert closed[0] is not None
    assert closed[0].name == "READ", "its clean-up is part of it"
    thrown = read()
    next(thrown)
    with pytest.raises(ValueError, match="no"):
        thrown.throw(ValueError("no"))  # type: ignore[attr-defined]  # a generator, typed as an iterator
    assert last_end(phaselog).status == "failed"


def test_an_asynchronous_generator_is_driven_like_a_plain_one(phaselog: PhaseLog) -> None:
    @phase("STREAM")
    async def stream_items() -> Any:
        try:
            got = yield 1
            try:
                yield got
            except KeyError:
                yield "caught"
            await asyncio.sleep(0)
            yield "last"
        finally:
            phaselog.clock.advance(1)

    async def main() -> None:
        items = stream_items()
        assert await items.__anext__() == 1
        assert current() is None
        assert await items.asend("hello") == "hello"
        assert await items.athrow(KeyError()) == "caught"
        assert [item async for item in items] == ["last"]
        early = stream_items()
        await early.__anext__()
        await early.aclose()

    asyncio.run(main())
    assert stream(phaselog) == ["start STREAM", "end STREAM"] * 2
    assert (last_end(phaselog).status, last_end(phaselog).elapsed) == ("completed", 1)


def test_the_clean_up_of_an_asynchronous_generator_is_part_of_its_phase(phaselog: PhaseLog) -> None:
    @phase("STREAM")
    async def stream_items() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            with phase("CLEAN UP") as clean_up:
                assert clean_up.path == ("STREAM", "CLEAN UP")

    async def main() -> None:
        items: Any = stream_items()
        await items.__anext__()
        await items.aclose()
        assert current() is None

    asyncio.run(main())
    assert stream(phaselog) == ["start STREAM", "start CLEAN UP", "end CLEAN UP", "end STREAM"]


def test_track_counts_asynchronous_iterables(phaselog: PhaseLog) -> None:
    async def source() -> AsyncIterator[int]:
        for n in range(3):
            yield n

    async def main() -> None:
        with phase("A") as handle:
            assert [item async for item in handle.track(source())] == [0, 1, 2]
            assert handle.done == 3

    asyncio.run(main())


def test_a_handle_that_decorates_may_be_used_for_several_functions(phaselog: PhaseLog) -> None:
    shared = phase("SHARED", total=2)

    @shared
    def one() -> None: ...

    @shared
    def two() -> None:
        one()

    two()
    assert stream(phaselog) == ["start SHARED", "start SHARED", "end SHARED", "end SHARED"]


def test_what_is_a_descriptor_and_no_function_cannot_be_decorated() -> None:
    with pytest.raises(TypeError, match="it is no function"):
        phase(functools.cached_property(lambda self: 3))  # type: ignore[call-overload]  # the mistake under test
