"""What integrations share: phases that one callback opens and another closes, and methods with something around them."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from .. import MetricsLogged, current, phase, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from .. import Phase

Fn = TypeVar("Fn", bound="Callable[..., Any]")

_logger = logging.getLogger("phasewatch")


class Flow:
    """The open phases of one trainer, the innermost last.

    A trainer tells of its life by callbacks, one where something begins and one where it ends, and leaves the second out
    where it fails. So a phase is closed by name of what it was opened as, with all that was left open inside of it.
    """

    def __init__(self) -> None:
        self._open: list[Phase] = []

    def begin_run(self, name: str, **options: Any) -> None:
        """Open a run, unless a phase is open that the trainer's phases can hang under; options as of `phasewatch.run`."""
        if current() is None:
            self._enter(run(name, **options))

    def begin(self, name: str, /, **options: Any) -> Phase:
        """Open a phase; options as of `phasewatch.phase`."""
        return self._enter(phase(name, **options))

    def enter(self, handle: Phase) -> Phase:
        """Open a phase that is made already, a step for instance."""
        return self._enter(handle)

    def find(self, name: str) -> Phase | None:
        """Return the innermost open phase of this name."""
        return next((handle for handle in reversed(self._open) if handle.name == name), None)

    def innermost(self) -> Phase | None:
        """Return the innermost open phase."""
        return self._open[-1] if self._open else None

    def end(self, handle: Phase | None, error: BaseException | None = None) -> None:
        """Close a phase and what is open inside of it; nothing happens if it is not open, or None.

        Args:
            handle: what `begin` returned.
            error: that ended it; without one it completed.
        """
        if handle is None or handle not in self._open:  # by identity, as phases compare
            return
        while self._open:
            innermost = self._open.pop()
            innermost.__exit__(None if error is None else type(error), error, None if error is None else error.__traceback__)
            if innermost is handle:
                return

    def log_after(self, handle: Phase, metrics: Mapping[str, float]) -> None:
        """Record metrics of a phase that has ended: a trainer may know them later. The text does not show them."""
        if metrics and handle._tracker.listening:
            handle._tracker.emit(
                MetricsLogged(handle._describe(), handle._tracker.wall(), values={k: float(v) for k, v in metrics.items()})
            )

    def close(self, error: BaseException | None = None) -> None:
        """Close all that is open."""
        if self._open:
            self.end(self._open[0], error)

    def _enter(self, handle: Phase) -> Phase:
        handle.__enter__()
        self._open.append(handle)
        return handle

    def __bool__(self) -> bool:
        return bool(self._open)


def contained(function: Fn) -> Fn:
    """Return a callback whose failures are logged, and never reach the trainer; it returns None then."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception:
            _logger.exception("%s failed; the trainer goes on, a phase of it may be missing", function.__qualname__)
            return None

    return call  # type: ignore[return-value]  # of the same type as function


def surround(owner: Any, name: str, around: Callable[..., AbstractContextManager[Any] | None]) -> Callable[[], None]:
    """Put something around each call of a plain method, without being seen by the method or its caller.

    Args:
        owner: a class, or an object whose method it is.
        name: of the method.
        around: makes, of the call's arguments, what the call is done inside of; None for nothing. What it raises itself
            is logged, and the call is done all the same.

    Returns:
        What takes it away again.

    Raises:
        AttributeError: there is no such method: the framework has changed.
    """
    method = getattr(owner, name)
    own = vars(owner).get(name)

    @functools.wraps(method)
    def around_call(*args: Any, **kwargs: Any) -> Any:
        block = _enter(around, args, kwargs)
        try:
            result = method(*args, **kwargs)
        except BaseException as error:
            if block is not None:
                _leave(block, error)
            raise
        if block is not None:
            _leave(block, None)
        return result

    call = around_call if isinstance(owner, type) else _OfOne(around_call, owner, name)

    def undo() -> None:
        if vars(owner).get(name) is call:  # else somebody has wrapped it again, and ours is inside of theirs
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)

    setattr(owner, name, call)
    return undo


class _OfOne:
    """What stands for a method of one object: a copy of the object, or one from a pickle, has its own method instead."""

    def __init__(self, call: Callable[..., Any], owner: Any, name: str) -> None:
        functools.update_wrapper(self, call)
        self._call, self._of = call, (owner, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, self._of


@contained
def _enter(
    around: Callable[..., AbstractContextManager[Any] | None], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AbstractContextManager[Any] | None:
    block = around(*args, **kwargs)
    if block is not None:
        block.__enter__()
    return block


@contained
def _leave(block: AbstractContextManager[Any], error: BaseException | None) -> None:
    block.__exit__(None if error is None else type(error), error, None if error is None else error.__traceback__)
