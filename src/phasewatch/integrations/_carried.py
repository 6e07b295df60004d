"""Functions and classes that take one thing more: under which phase hangs what they open.

What is made here is pickled by value and called in other processes, some of which may not have phasewatch: so none of it
refers to a name of this package, but imports it when it is called, and does without where it is missing.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

KEYWORD = "_phasewatch_carrier"
MARK = "_phasewatch_carried"  # a method of every class that is carried, by which a handle of it is known


def carried(function: Callable[..., Any], home: str, *, method: bool = False, lasting: bool = False) -> Callable[..., Any]:
    """Return a function that does the same, and also takes ``KEYWORD``; coroutines and generators stay what they are.

    Args:
        function: a function in Python.
        home: the module that is imported where the function is called; ``arrive(sent, lasting)`` in it returns what the
            call is done inside of.
        method: whether it is one of a class. Such a one is taken for a generator where what its decorators wrap is one, as
            Ray takes it; a function is what its decorators make of it.
        lasting: whether what was sent holds beyond the call.

    Raises:
        ValueError, TypeError: its signature cannot be known.
    """
    inner = inspect.unwrap(function)
    signature = _with_keyword(inspect.signature(inner))

    def arrived(sent: str | None) -> Any:
        if sent is None:
            return None
        try:
            from importlib import import_module

            return import_module(home).arrive(sent, lasting)
        except Exception:  # there is no phasewatch here, or an older one
            return None

    generates = inner if method else function
    if inspect.isasyncgenfunction(generates):
        made = _asynchronous_generator(function, arrived)
    elif inspect.isgeneratorfunction(generates):
        made = _generator(function, arrived)
    elif inspect.iscoroutinefunction(function):
        made = _coroutine(function, arrived)
    else:
        made = _plain(function, arrived)
    functools.update_wrapper(made, function)
    made.__dict__.update(vars(inner))  # what a decorator of the framework has noted there
    made.__dict__.pop("__wrapped__", None)  # else the signature would be looked for in there
    made.__signature__ = signature  # type: ignore[attr-defined]  # what inspect looks at first
    return made


def carried_class(cls: type, home: str) -> type:
    """Return a class that does the same, of the same name, each of whose methods also takes ``KEYWORD``.

    Dunder methods do not, but ``__init__``; what that is sent holds for as long as the process lives.

    Raises:
        ValueError, TypeError: there is a method that cannot be made so, or the class cannot be inherited from.
    """

    def nothing(self: Any) -> None:
        pass

    members: dict[str, Any] = {}
    for name in dir(cls):
        if is_carried(name):
            raw = inspect.getattr_static(cls, name)
            if isinstance(raw, (staticmethod, classmethod)):
                members[name] = type(raw)(carried(raw.__func__, home, method=True))
            elif inspect.isfunction(raw):
                members[name] = carried(raw, home, method=True, lasting=name == "__init__")
            elif name != "__init__" and inspect.isroutine(getattr(cls, name, None)):
                raise TypeError(f"{name} is a method of a kind that cannot be wrapped")
    if "__init__" not in members:
        nothing.__module__ = cls.__module__
        nothing.__name__, nothing.__qualname__ = "__init__", f"{cls.__qualname__}.__init__"
        members["__init__"] = carried(nothing, home, lasting=True)

    def _phasewatch_carried(self: Any) -> None:
        pass

    members[MARK] = _phasewatch_carried
    members["__module__"], members["__qualname__"] = cls.__module__, cls.__qualname__
    members["__doc__"] = cls.__doc__
    return types.new_class(cls.__name__, (cls,), exec_body=lambda namespace: namespace.update(members))


def is_carried(method: str) -> bool:
    """Return whether a method of this name takes ``KEYWORD``, in a class that is carried."""
    return method == "__init__" or not (method.startswith("__") and method.endswith("__"))


def _with_keyword(signature: inspect.Signature) -> inspect.Signature:
    parameters = list(signature.parameters.values())
    at = len(parameters) - (bool(parameters) and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD)
    parameters.insert(at, inspect.Parameter(KEYWORD, inspect.Parameter.KEYWORD_ONLY, default=None))
    return signature.replace(parameters=parameters)


# What these return refers to nothing of this module.


def _plain(function: Callable[..., Any], arrived: Callable[[str | None], Any]) -> Callable[..., Any]:
    def call(*args: Any, _phasewatch_carrier: str | None = None, **kwargs: Any) -> Any:
        arrival = arrived(_phasewatch_carrier)
        if arrival is None:
            return function(*args, **kwargs)
        with arrival:
            return function(*args, **kwargs)

    return call


def _coroutine(function: Callable[..., Any], arrived: Callable[[str | None], Any]) -> Callable[..., Any]:
    async def call(*args: Any, _phasewatch_carrier: str | None = None, **kwargs: Any) -> Any:
        arrival = arrived(_phasewatch_carrier)
        if arrival is None:
            return await function(*args, **kwargs)
        with arrival:
            return await function(*args, **kwargs)

    return call


def _generator(function: Callable[..., Any], arrived: Callable[[str | None], Any]) -> Callable[..., Any]:
    def generate(*args: Any, _phasewatch_carrier: str | None = None, **kwargs: Any) -> Any:
        arrival = arrived(_phasewatch_carrier)
        if arrival is None:
            return (yield from function(*args, **kwargs))
        with arrival:
            return (yield from function(*args, **kwargs))

    return generate


def _asynchronous_generator(function: Callable[..., Any], arrived: Callable[[str | None], Any]) -> Callable[..., Any]:
    async def generate(*args: Any, _phasewatch_carrier: str | None = None, **kwargs: Any) -> Any:
        arrival = arrived(_phasewatch_carrier)
        source = function(*args, **kwargs)
        if arrival is not None:
            arrival.__enter__()
        try:
            resume, given = source.asend, None
            while True:
                try:
                    item = await resume(given)
                except StopAsyncIteration:
                    return
                try:
                    given = yield item
                    resume = source.asend
                except GeneratorExit:
                    await source.aclose()
                    raise
                except BaseException as error:
                    resume, given = source.athrow, error
        finally:
            if arrival is not None:
                arrival.__exit__(None, None, None)

    return generate
