"""The stack of open phases against a plain model: threads, tasks and generators that open and close phases in any order.

A context stands for a thread or a task, since that is what each has of its own; what happens in several at once is a
sequence of what happens in each.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from contextvars import Context, copy_context
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from stream import parents, statuses

from phasewatch import Phase, PhasewatchWarning, current, phase
from phasewatch.testing import recorded


class Opened:
    """A phase, as the model knows it."""

    def __init__(self, name: str, parent: Opened | None) -> None:
        self.name = name
        self.parent = parent
        self.status = "running"
        self.handle: Phase | None = None
        self.held = False  # by a body or a block that will leave it

    def end(self, error: BaseException | None) -> None:
        failed = "failed" if isinstance(error, Exception) else "interrupted"
        self.status = "completed" if error is None or isinstance(error, GeneratorExit) else failed


class Place:
    """A thread or a task: its context, and the phases that were opened in it, those that have ended included."""

    def __init__(self, context: Context, stack: list[Opened]) -> None:
        self.context = context
        self.stack = stack
        self.is_running = False


class Reader:
    """A decorated generator, and the phases that were opened in its body."""

    def __init__(self, body: Generator[None, Callable[[], None] | None, None]) -> None:
        self.body = body
        self.phase: Opened | None = None
        self.segment: list[Opened] = []
        self.is_running = False
        self.is_over = False


class Return(Exception):
    """Raised in a body, to have it return."""


NUMBERS = st.integers(0, 7)
ERRORS = st.sampled_from([None, ValueError, asyncio.CancelledError])
LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("open")),
    st.tuples(st.just("hold")),
    st.tuples(st.just("generator")),
    st.tuples(st.just("fork")),
    st.tuples(st.just("leave"), NUMBERS, ERRORS),
    st.tuples(st.just("leave_last"), ERRORS),
    st.tuples(st.just("throw"), NUMBERS, st.sampled_from([ValueError, asyncio.CancelledError, GeneratorExit])),
    st.tuples(st.just("close"), NUMBERS),
)
ACTIONS: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda actions: st.one_of(
        st.tuples(st.just("block"), st.lists(actions, max_size=3), ERRORS, st.booleans()),
        st.tuples(
            st.just("read"), NUMBERS, st.lists(actions, max_size=3), st.sampled_from([None, None, Return, ValueError])
        ),
        st.tuples(st.just("elsewhere"), NUMBERS, st.lists(actions, max_size=3)),
    ),
    max_leaves=6,
)


class Stacks(RuleBasedStateMachine):
    """Does everything twice: with phases, and with lists."""

    def __init__(self) -> None:
        super().__init__()
        self.cleanup = ExitStack()
        self.log = self.cleanup.enter_context(recorded())
        self.places = [Place(copy_context(), []) for _ in range(2)]
        self.readers: list[Reader] = []
        self.phases: list[Opened] = []
        self.stack: list[Opened] = []  # where the work is now
        self.holds: list[list[Opened]] = []  # what the bodies that run will leave
        self.expected: list[str] = []

    # The model.

    def top(self) -> Opened | None:
        return next((opened for opened in reversed(self.stack) if opened.status == "running"), None)

    def is_right(self) -> None:
        top = self.top()
        assert current() is (None if top is None else top.handle)

    def opened(self) -> Opened:
        made = Opened(f"P{len(self.phases)}", self.top())
        self.phases.append(made)
        self.stack.append(made)
        return made

    def leaves(self, left: Opened, error: BaseException | None) -> None:
        """Take it that a phase is left here."""
        top = self.top()
        if top is not left:
            trouble = "in another thread or task" if top is None else f"while {top.name!r} is the innermost"
            self.expected.append(f"phase {left.name!r} is left {trouble}")
        left.end(error)

    @contextmanager
    def warned(self) -> Any:
        self.expected = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        assert [str(warning.message).split(";")[0] for warning in caught] == self.expected
        assert all(warning.category is PhasewatchWarning for warning in caught)

    # What is done.

    def act(self, actions: Iterable[Any]) -> None:
        for action, *options in actions:
            getattr(self, f"do_{action}")(*options)
            self.is_right()

    def do_open(self) -> Opened:
        made = self.opened()
        made.handle = phase(made.name).__enter__()
        return made

    def do_hold(self) -> None:
        if self.holds:
            made = self.do_open()
            made.held = True
            self.holds[-1].append(made)

    def leave(self, left: Opened, error: BaseException | None) -> None:
        assert left.handle is not None
        self.leaves(left, error)
        left.handle.__exit__(None if error is None else type(error), error, None)
        self.is_right()

    def do_leave(self, number: int, error: type[BaseException] | None) -> None:
        free = [opened for opened in self.phases if opened.status == "running" and not opened.held]
        if free:
            self.leave(free[number % len(free)], None if error is None else error())

    def do_leave_last(self, error: type[BaseException] | None) -> None:
        top = self.top()
        if top is not None and not top.held:
            self.leave(top, None if error is None else error())

    def do_block(self, actions: list[Any], error: type[BaseException] | None, is_caught: bool) -> None:
        made = self.opened()
        made.held = True
        try:
            with phase(made.name) as made.handle:
                try:
                    self.is_right()
                    self.act(actions)
                    if error is not None:
                        raise error
                except BaseException as raised:
                    self.leaves(made, raised)
                    raise
                else:
                    self.leaves(made, None)
        except (ValueError, asyncio.CancelledError):
            self.is_right()
            if not is_caught:
                raise

    def do_elsewhere(self, number: int, actions: list[Any]) -> None:
        free = [place for place in self.places if not place.is_running]
        if not free:
            return
        place = free[number % len(free)]
        here, holds = self.stack, self.holds
        self.stack, self.holds, place.is_running = place.stack, [], True
        try:
            place.context.run(self.act, actions)
        except (ValueError, asyncio.CancelledError):
            place.context.run(self.is_right)
        finally:
            place.stack = self.stack
            self.stack, self.holds, place.is_running = here, holds, False

    def do_fork(self) -> None:
        # Not in a body: what goes on around that is whatever reads from it, for a task that was begun in it too.
        if len(self.places) < 6 and not any(reader.is_running for reader in self.readers):
            self.places.append(Place(copy_context(), list(self.stack)))

    # Generators.

    def do_generator(self) -> None:
        number = len(self.readers)

        @phase(f"READ {number}")
        def read() -> Generator[None, Callable[[], None] | None, None]:
            reader = self.readers[number]
            assert reader.phase is not None
            reader.phase.handle = current()
            held: list[Opened] = []
            error: BaseException | None = None
            try:
                while True:
                    work = yield
                    if work is not None:
                        self.is_right()
                        self.holds.append(held)
                        try:
                            work()
                        finally:
                            self.holds.pop()
            except Return:
                return
            except BaseException as raised:
                error = raised
                raise
            finally:
                self.is_right()
                for opened in reversed(held):
                    self.leave(opened, error)

        self.readers.append(Reader(read()))

    @contextmanager
    def inside(self, reader: Reader) -> Any:
        """A block in which the reader's body is what runs."""
        before, reader.is_running = self.stack, True
        self.stack = before + reader.segment
        try:
            if reader.phase is None:
                reader.phase = made = self.opened()
                made.held, made.name = True, f"READ {self.readers.index(reader)}"
            yield
            reader.segment = self.stack[len(before) :]
            self.stack = before
        except (StopIteration, ValueError, asyncio.CancelledError, GeneratorExit) as error:
            self.finish(reader, None if isinstance(error, StopIteration) else error)
            raise
        finally:
            reader.is_running = False

    def finish(self, reader: Reader, error: BaseException | None) -> None:
        assert reader.phase is not None
        reader.is_over = True
        self.leaves(reader.phase, error)

    def suspended(self, number: int, *, begun: bool = True) -> Reader | None:
        """Return a reader that can be read here, or of which the body has begun."""
        free = [reader for reader in self.readers if not reader.is_running and not reader.is_over]
        free = [reader for reader in free if reader.phase is not None or not begun]
        return free[number % len(free)] if free else None

    def do_read(self, number: int, actions: list[Any], error: type[Exception] | None) -> None:
        reader = self.suspended(number, begun=False)
        if reader is None:
            return

        def work() -> None:
            self.act(actions)
            if error is not None:
                raise error

        try:
            with self.inside(reader):
                if reader.phase is not None and reader.phase.handle is None:
                    next(reader.body)
                else:
                    reader.body.send(work)
        except (StopIteration, ValueError, asyncio.CancelledError):
            pass

    def do_throw(self, number: int, error: type[BaseException]) -> None:
        reader = self.suspended(number)
        if reader is not None:
            try:
                with self.inside(reader):
                    reader.body.throw(error())
            except (ValueError, asyncio.CancelledError, GeneratorExit):
                pass

    def do_close(self, number: int) -> None:
        reader = self.suspended(number)
        if reader is not None:
            try:
                with self.inside(reader):
                    reader.body.close()
                    raise StopIteration
            except StopIteration:
                pass

    # What Hypothesis does.

    @rule(place=NUMBERS, actions=st.lists(ACTIONS, min_size=1, max_size=4))
    def work(self, place: int, actions: list[Any]) -> None:
        with self.warned():
            self.do_elsewhere(place, actions)

    @rule(place=NUMBERS, number=NUMBERS, actions=st.lists(ACTIONS, max_size=3))
    def read_on(self, place: int, number: int, actions: list[Any]) -> None:
        with self.warned():
            self.do_elsewhere(place, [("read", number, actions, None)])

    @invariant()
    def everywhere_the_innermost_is_current(self) -> None:
        for place in self.places:
            self.stack = place.stack
            place.context.run(self.is_right)
        self.stack = []
        self.is_right()

    def teardown(self) -> None:
        try:
            with self.warned():
                for _ in self.readers:
                    self.do_elsewhere(0, [("close", 0)])
                for _ in self.phases:
                    self.do_elsewhere(1, [("leave", 0, None)])
            assert parents(self.log.events) == {
                opened.name: None if opened.parent is None else opened.parent.name for opened in self.phases
            }
            assert statuses(self.log.events) == {opened.name: opened.status for opened in self.phases}
        finally:
            self.cleanup.close()


TestStacks = Stacks.TestCase
TestStacks.settings = settings(max_examples=60, stateful_step_count=12)
