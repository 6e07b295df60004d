"""The one default tracker: what `configure` and the environment say. There is no other global state."""

from __future__ import annotations

import os

from ._annotations import TYPE_CHECKING
from ._environment import flag
from ._report import warn
from ._tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._tracker import Phase
    from .events import Event, Sink


class DefaultTracker(Tracker):
    """The tracker of every phase that was given none: such a phase joins what is open around it."""

    joins = True

    def __init__(self) -> None:
        super().__init__()
        self.enabled = not flag("PHASEWATCH_DISABLE")
        self.open_runs: list[Phase] = []
        self._has_sinks = False
        self.listening = True  # until it is known that there is nobody

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The configured sinks; with nothing configured a console, made when it is first needed."""
        if not self._has_sinks:
            self.use(sinks=_console())
        return super().sinks

    def emit(self, event: Event) -> None:
        """Hand an event to the sinks."""
        if self.sinks:
            super().emit(event)

    def place(self, phase: Phase | None) -> tuple[Phase | None, Tracker]:
        """Return the parent and tracker: those of the current phase, else of the run opened last, else none and this."""
        if phase is not None:
            return phase, phase._tracker
        if self.open_runs:  # no context: a new thread
            for run in reversed(self.open_runs):
                if run._is_open():
                    return run, run._tracker
        return None, self

    def use(
        self, *, sinks: Iterable[Sink] | None = None, clock: Callable[[], float] | None = None, enabled: bool | None = None
    ) -> None:
        """Change what is given, and leave the rest."""
        if sinks is not None:
            self._use_sinks(sinks)
            self._has_sinks = True
        if clock is not None:
            self._use_clock(clock)
        if enabled is not None:
            self.enabled = enabled


def _console() -> list[Sink]:
    mode = os.environ.get("PHASEWATCH_CONSOLE", "").strip().lower() or "auto"
    if mode == "off":
        return []
    from .sinks.console import MODES, ConsoleSink  # here: it imports rich, which an import of phasewatch must not

    if mode not in MODES:
        warn(f"PHASEWATCH_CONSOLE={mode!r} is taken as auto; it may be {', '.join(MODES)}")
        mode = "auto"
    return [ConsoleSink(mode="plain" if mode == "plain" else "auto")]


default_tracker = DefaultTracker()


def configure(
    *, sinks: Iterable[Sink] | None = None, clock: Callable[[], float] | None = None, enabled: bool | None = None
) -> None:
    """Say where phases go from now on; what is left out stays as it is.

    Without a call, they go to the console on standard output (``PHASEWATCH_CONSOLE=auto|plain|off``), unless
    ``PHASEWATCH_DISABLE=1`` switches phasewatch off.

    Args:
        sinks: who hears of the events, of phases inside a run too unless that has sinks of its own; ``[]`` is nobody.
            They stay open when a run ends.
        clock: monotonic seconds, with an optional ``wall()``.
        enabled: False makes every phase a no-op.

    Raises:
        TypeError: a sink without ``emit`` and ``close``, or a clock that cannot be called.
    """
    if sinks is not None:
        sinks = tuple(sinks)
        for sink in sinks:
            if not (callable(getattr(sink, "emit", None)) and callable(getattr(sink, "close", None))):
                raise TypeError(f"configure: {sink!r} is no sink; a sink has the methods emit(event) and close()")
    if clock is not None and not callable(clock):
        raise TypeError(f"configure: clock={clock!r} must be callable and return seconds")
    default_tracker.use(sinks=sinks, clock=clock, enabled=enabled)
