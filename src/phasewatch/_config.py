"""The one default tracker: what `configure` and the environment say. There is no other global state."""

from __future__ import annotations

import os

from ._annotations import TYPE_CHECKING
from ._environment import flag
from ._report import failure, shown, warn
from ._tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._tracker import Phase
    from .events import Event, Sink
    from .sinks.jsonl import JsonlSink


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
        """The configured sinks; with nothing configured those of the environment, made when they are first needed."""
        if not self._has_sinks:
            log = _event_log()
            try:
                self.use(sinks=[*_console(), *log])
            except Exception:
                self.use(sinks=log)
                failure("the console could not be made; phases are told to nobody until sinks are configured")
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
            # They were opened before a fork, by the parent process: where it went, this one goes.
            return None, self.open_runs[-1]._tracker
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


def _event_log() -> list[Sink]:
    path = os.environ.get("PHASEWATCH_LOG", "").strip()
    if not path:
        return []
    from .sinks.jsonl import JsonlSink  # here: it imports json

    return [JsonlSink(path)]


default_tracker = DefaultTracker()


def configure(
    *, sinks: Iterable[Sink] | None = None, clock: Callable[[], float] | None = None, enabled: bool | None = None
) -> None:
    """Say where phases go from now on; what is left out stays as it is.

    Without a call, they go to the console on standard output (``PHASEWATCH_CONSOLE=auto|plain|off``) and to the event log
    of ``PHASEWATCH_LOG=path``, unless ``PHASEWATCH_DISABLE=1`` switches phasewatch off.

    Args:
        sinks: who hears of the events, of phases inside a run too unless that has sinks of its own; ``[]`` is nobody.
            They stay open when a run ends.
        clock: monotonic seconds, with an optional ``wall()``.
        enabled: False makes every phase a no-op. What is decorated while that holds stays undecorated.

    Raises:
        TypeError: a sink without ``emit`` and ``close``, or a clock that cannot be called.
    """
    if enabled is not None and not isinstance(enabled, bool):
        raise TypeError(f"configure: enabled={shown(enabled)} must be True or False")
    default_tracker.use(sinks=checked_sinks("configure", sinks), clock=checked_clock("configure", clock), enabled=enabled)


def checked_sinks(caller: str, sinks: Iterable[Sink] | None) -> tuple[Sink, ...] | None:
    """Return sinks as they were given; raises TypeError for what are none."""
    if sinks is None:
        return None
    try:
        sinks = tuple(sinks)
    except TypeError:
        raise TypeError(f"{caller}: sinks={shown(sinks)} must be a list of sinks; [] is nobody") from None
    for sink in sinks:
        if not (callable(getattr(sink, "emit", None)) and callable(getattr(sink, "close", None))):
            raise TypeError(f"{caller}: {shown(sink)} is no sink; a sink has the methods emit(event) and close()")
    return sinks


def checked_clock(caller: str, clock: Callable[[], float] | None) -> Callable[[], float] | None:
    """Return a clock as it was given; raises TypeError for what is none."""
    if clock is not None and not callable(clock):
        raise TypeError(f"{caller}: clock={shown(clock)} must be callable and return seconds")
    return clock


def checked_log(caller: str, log: str | os.PathLike[str] | None) -> JsonlSink | None:
    """Return the event log at a path; raises TypeError for what is none."""
    if log is None:
        return None
    from .sinks.jsonl import JsonlSink  # here: it imports json

    try:
        return JsonlSink(log)
    except TypeError:
        raise TypeError(f"{caller}: log={shown(log)} must be the path of a file") from None
