"""The mechanics of a decorator: a phase around every call of a function, whatever kind of function it is."""

from __future__ import annotations

import functools

from ._annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
    from types import TracebackType
    from typing import Any, Protocol, TypeVar

    Fn = TypeVar("Fn")

    class Block(Protocol):
        """What is entered for a call: a phase."""

        def __enter__(self) -> object: ...
        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> None: ...
        def _begin_body(self) -> None: ...
        def _suspend(self) -> None: ...
        def _resume(self) -> None: ...

    Opener = Callable[[tuple[Any, ...], dict[str, Any]], Block]

# The flags of a code object. The module inspect names them, and costs as much to import as the whole of phasewatch.
_GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x200


def wrap(fn: Fn, open_for: Callable[[Callable[..., Any]], Opener]) -> Fn:
    """Return ``fn`` with a phase around each call; its name, signature and kind stay.

    Static and class methods and properties are wrapped inside.

    Args:
        fn: the function.
        open_for: makes, of the function, what makes the phase of a call's positional and keyword arguments.

    Raises:
        TypeError: something that cannot be called, or a class.
    """
    wrapped: Any
    if isinstance(fn, (staticmethod, classmethod)):
        wrapped = type(fn)(wrap(fn.__func__, open_for))
    elif isinstance(fn, property):
        if fn.fget is None:
            raise TypeError("phase cannot decorate a property that has no getter")
        wrapped = property(wrap(fn.fget, open_for), fn.fset, fn.fdel, fn.__doc__)
    elif isinstance(fn, type):
        raise TypeError(f"phase cannot decorate the class {fn.__name__}; decorate its methods, or use `with phase(...)`")
    elif not callable(fn):
        raise TypeError(f"phase cannot decorate {fn!r}: it is no function; give a phase's name as a text")
    else:
        wrapped = _wrap_function(fn, open_for(fn))
    return wrapped  # type: ignore[no-any-return]  # of the same type as fn


def _wrap_function(fn: Callable[..., Any], opened: Opener) -> Callable[..., Any]:
    flags = _flags(fn)
    if flags & _COROUTINE:

        @functools.wraps(fn)
        async def call_coroutine(*args: Any, **kwargs: Any) -> Any:
            with opened(args, kwargs):
                return await fn(*args, **kwargs)

        return call_coroutine
    if flags & _ASYNC_GENERATOR:
        return _wrap_async_generator(fn, opened)
    if flags & _GENERATOR:
        return _wrap_generator(fn, opened)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        # What `with` does, written out: it is faster by a fifth.
        phase = opened(args, kwargs)
        phase.__enter__()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            phase.__exit__(type(error), error, error.__traceback__)
            raise
        phase.__exit__(None, None, None)
        return result

    return call


def _flags(fn: Callable[..., Any]) -> int:
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = getattr(fn, "__func__", fn)  # of a bound method
    code = getattr(fn, "__code__", None)
    return code.co_flags if code is not None else 0


def name_of(fn: object) -> str:
    """Return the phase name of a function: ``save_checkpoint`` is ``SAVE CHECKPOINT``."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name: str = getattr(fn, "__name__", type(fn).__name__)
    return name.strip("_<>").replace("_", " ").upper() or "PHASE"


# In both kinds of generator the phase is current while the body runs and not while it is suspended, when other code
# has the thread: each resumption is framed by _resume and _suspend. What is sent, thrown in and returned goes through,
# as in PEP 380. The body is not driven by `yield from`, which leaves no place to do this.


def _wrap_generator(fn: Callable[..., Generator[Any, Any, Any]], opened: Opener) -> Callable[..., Any]:
    @functools.wraps(fn)
    def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        body = fn(*args, **kwargs)
        phase = opened(args, kwargs)
        resume: Callable[[Any], Any] = body.send
        given: Any = None
        with phase:
            phase._begin_body()
            while True:
                try:
                    item = resume(given)
                except StopIteration as stop:
                    return stop.value
                phase._suspend()
                try:
                    given = yield item
                    resume = body.send
                except GeneratorExit:
                    phase._resume()
                    body.close()
                    raise
                except BaseException as error:
                    resume, given = body.throw, error
                phase._resume()

    return generate


def _wrap_async_generator(fn: Callable[..., AsyncGenerator[Any, Any]], opened: Opener) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        body = fn(*args, **kwargs)
        phase = opened(args, kwargs)
        resume: Callable[[Any], Awaitable[Any]] = body.asend
        given: Any = None
        with phase:
            phase._begin_body()
            while True:
                try:
                    item = await resume(given)
                except StopAsyncIteration:
                    return
                phase._suspend()
                try:
                    given = yield item
                    resume = body.asend
                except GeneratorExit:
                    phase._resume()
                    await body.aclose()
                    raise
                except BaseException as error:
                    resume, given = body.athrow, error
                phase._resume()

    return generate


def arguments_for(fn: Callable[..., Any]) -> Callable[..., Callable[[Callable[..., object]], object]]:
    """Return what, given a call's arguments, calls an option with those that it asks for.

    An option's parameters are matched to the function's by name; one whose names are all its own gets the first
    positional arguments instead, and one with ``*args`` gets everything.
    """
    import inspect  # here: only options that depend on the call need it

    signature = inspect.signature(fn)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

    def of_call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[Callable[..., object]], object]:
        def ask(option: Callable[..., object]) -> object:
            parameters = inspect.signature(option).parameters.values()
            if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
                return option(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
            if all(p.kind in named and p.name in bound.arguments for p in required):
                return option(**{p.name: bound.arguments[p.name] for p in parameters if p.name in bound.arguments})
            return option(*args[: sum(p.kind is not p.KEYWORD_ONLY for p in parameters)])

        return ask

    return of_call
