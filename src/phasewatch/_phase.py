"""`phase`: the with-block and the decorator."""

from __future__ import annotations

from ._annotations import TYPE_CHECKING, overload
from ._config import default_tracker
from ._process import PENDING
from ._spec import make_spec
from ._tracker import DISABLED, Phase, make_phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    Fn = TypeVar("Fn", bound=Callable[..., Any])


@overload
def phase(name: Fn, /) -> Fn: ...
@overload
def phase(
    name: str | None = None,
    /,
    *,
    total: int | Callable[..., int | None] | None = None,
    unit: str = "item",
    counters: Mapping[str, int | None] | None = None,
    details: Mapping[str, object] | None = None,
    message: str | Callable[..., str | None] | None = None,
    step: int | Callable[..., int | None] | None = None,
    start: int = 0,
    emoji: str | None = None,
    every: int | None = None,
    **attributes: object,
) -> Phase: ...
def phase(name: Any = None, /, **options: Any) -> Any:
    """Return a phase: a context manager and a decorator. ``@phase`` alone names it after the function.

    The decorator takes functions, methods, coroutines, generators and asynchronous generators; each call is a phase of
    its own. ``total``, ``message`` and ``step`` may be callables of the call's arguments, matched by name:
    ``step=lambda self: self.global_step``.

    Args:
        name: of the phase, by custom in capitals. What the META LOG knows, or `phasewatch.register` was told, has
            banners of its own; any other name has the plain ones.
        total: units expected; None if unknown.
        unit: the name of one unit, singular.
        counters: further counts, each with the total expected, or None.
        details: shown in the opening banner as given.
        message: shown in the opening title.
        step: the step of the run to which the phase belongs, shown in the opening title.
        start: units that were done before (a resumed run): they count for the position, not for the speed.
        emoji: instead of the one that the name has.
        every: write a progress line every so many units; by default the first, the last, and at most one a second.
        **options: as in the signature; any other is an attribute, kept with the phase: ``epochs`` is shown.

    Warns:
        PhasewatchWarning: an option that cannot be taken as it is; it is left out.

    Raises:
        TypeError: what is decorated is a class, or no function.
    """
    if not default_tracker.enabled:
        return DISABLED if type(name) is str or not _is_function(name) else name
    if not options and type(name) is str:
        # The hot path: what Phase._prepare does, written out.
        handle = Phase()
        handle.name = name
        handle._live = PENDING
        handle._extra = None
        return handle
    if _is_function(name):
        return make_phase(default_tracker, None)(name)
    return make_phase(default_tracker, name, make_spec(name, options))


def _is_function(name: object) -> bool:
    # What has __get__ is a property or the like: something that was meant to be decorated, and no name.
    return callable(name) or hasattr(name, "__get__")


def _contract(
    name: Any = None,
    /,
    *,
    total: Any = None,
    unit: str = "item",
    counters: Mapping[str, int | None] | None = None,
    details: Mapping[str, object] | None = None,
    message: Any = None,
    step: Any = None,
    start: int = 0,
    emoji: str | None = None,
    every: int | None = None,
    **attributes: object,
) -> Phase:
    """Show the signature of `phase`, which takes its options as one mapping because that is faster."""
    raise NotImplementedError


# Where inspect, help and editors that ask them look for it.
phase.__wrapped__ = _contract  # type: ignore[attr-defined]  # as functools.wraps does
