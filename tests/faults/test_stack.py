"""The stack of phases against a plain model: a list for each context, whatever is opened and closed where and when.

A context is what a thread or a task has; here the test steps into each by turns.
"""

from __future__ import annotations

import contextvars
import warnings
from collections.abc import Callable, Generator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from phasewatch import Phase, PhaseEnded, PhasewatchWarning, current, phase
from phasewatch.testing import recorded

ERRORS = {"completed": None, "failed": ValueError("x"), "interrupted": KeyboardInterrupt()}
Command = Callable[[list[Phase]], None]


class Place:
    """A context, and in the model what is open in it, the innermost last."""

    def __init__(self, context: contextvars.Context, stack: list[Phase]) -> None:
        self.context = context
        self.stack = stack

    def innermost(self, closed: set[Phase]) -> Phase | None:
        return next((handle for handle in reversed(self.stack) if handle not in closed), None)


@phase("BODY")
def body(inside: list[Phase]) -> Generator[Phase | None, Command, None]:
    """A generator that does what it is sent, and tells what is current in it."""
    inside.append(current() or phase("NOTHING"))
    try:
        command = yield current()
        while True:
            command(inside)
            command = yield current()
    finally:
        for handle in reversed(inside[1:]):
            if handle.status == "running":
                handle.__exit__(None, None, None)


class Stack(RuleBasedStateMachine):
    """Opens and closes phases in several contexts and generators, in and out of order."""

    @initialize()
    def begin(self) -> None:
        self.recording = recorded()
        self.log = self.recording.__enter__()
        self.places = [Place(contextvars.copy_context(), [])]
        self.bodies: list[tuple[Any, list[Phase]]] = []
        self.handles: list[Phase] = []
        self.closed: set[Phase] = set()
        self.parents: dict[str, Phase | None] = {}
        self.statuses: dict[str, str] = {}

    def teardown(self) -> None:
        if not hasattr(self, "log"):
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PhasewatchWarning)
                for generator, _ in self.bodies:
                    self.places[0].context.run(generator.close)
                for handle in reversed(self.handles):
                    if handle.status == "running":
                        handle.__exit__(None, None, None)
            self.check_events()
        finally:
            self.recording.__exit__(None, None, None)

    def check_events(self) -> None:
        starts = [event for event in self.log.events if event.type == "start"]
        ends = [event for event in self.log.events if isinstance(event, PhaseEnded)]
        assert sorted(event.id for event in starts) == sorted(event.id for event in ends)
        assert len({event.id for event in starts}) == len(starts)
        for event in starts:
            if event.id in self.parents:
                parent = self.parents[event.id]
                assert event.parent == (None if parent is None else parent.id)
        for end in ends:
            assert end.status == self.statuses.get(end.id, end.status)

    def opened(self, handle: Phase, parent: Phase | None) -> None:
        assert handle.id is not None
        self.handles.append(handle)
        self.parents[handle.id] = parent

    def place(self, number: int) -> Place:
        return self.places[number % len(self.places)]

    @rule(number=st.integers(0, 9))
    def open(self, number: int) -> None:
        place = self.place(number)
        parent = place.innermost(self.closed)
        handle = phase(f"P{len(self.handles)}")
        place.context.run(handle.__enter__)
        self.opened(handle, parent)
        place.stack.append(handle)

    @precondition(lambda self: len(self.places) < 6)
    @rule(number=st.integers(0, 9))
    def copy(self, number: int) -> None:
        """A task begins: it has what is open around it."""
        place = self.place(number)
        self.places.append(Place(place.context.run(contextvars.copy_context), list(place.stack)))

    @precondition(lambda self: self.handles)
    @rule(number=st.integers(0, 9), which=st.integers(0, 99), status=st.sampled_from(sorted(ERRORS)))
    def close(self, number: int, which: int, status: str) -> None:
        """Close any phase that is open, innermost or not, in any context."""
        is_open = [handle for handle in self.handles if handle not in self.closed]
        if not is_open:
            return
        place, handle, error = self.place(number), is_open[-1 - which % len(is_open)], ERRORS[status]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PhasewatchWarning)
            place.context.run(handle.__exit__, type(error) if error else None, error, None)
        assert handle.status == status
        assert handle.id is not None
        self.statuses[handle.id] = status
        self.closed.add(handle)

    @precondition(lambda self: len(self.bodies) < 4)
    @rule(number=st.integers(0, 9))
    def begin_body(self, number: int) -> None:
        place, inside = self.place(number), list[Phase]()
        parent = place.innermost(self.closed)
        generator = body(inside)
        now = place.context.run(next, generator)
        assert now is inside[0]
        assert inside[0].id is not None
        self.parents[inside[0].id] = parent
        self.bodies.append((generator, inside))

    @precondition(lambda self: self.bodies)
    @rule(number=st.integers(0, 9), which=st.integers(0, 9), closes=st.booleans())
    def go_on(self, number: int, which: int, closes: bool) -> None:
        """Resume a generator anywhere: it opens a phase that stays open when it yields, or closes its innermost."""
        place = self.place(number)
        generator, inside = self.bodies[which % len(self.bodies)]
        opens, before = not closes or len(inside) == 1, inside[-1]

        def command(inside: list[Phase]) -> None:
            if opens:
                inside.append(phase("INSIDE").__enter__())
            else:
                inside.pop().__exit__(None, None, None)

        now = place.context.run(generator.send, command)
        assert now is inside[-1], "in the body, what it has opened is current"
        if opens:
            assert inside[-1].id is not None
            self.parents[inside[-1].id] = before

    @precondition(lambda self: self.bodies)
    @rule(number=st.integers(0, 9), which=st.integers(0, 9))
    def end_body(self, number: int, which: int) -> None:
        generator, inside = self.bodies.pop(which % len(self.bodies))
        self.place(number).context.run(generator.close)
        assert inside[0].status == "completed"

    @invariant()
    def what_is_current_is_the_innermost_that_is_open(self) -> None:
        for place in getattr(self, "places", []):
            assert place.context.run(current) is place.innermost(self.closed)


Stack.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestStack = Stack.TestCase
