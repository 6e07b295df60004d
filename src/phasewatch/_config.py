"""The one default tracker: what `configure` and the environment say. There is no other global state."""

from __future__ import annotations

import os

from . import _environment, _process, _rich
from ._annotations import TYPE_CHECKING
from ._environment import flag, rank
from ._report import failure, shown, warn
from ._tracker import Phase, Tracker
from ._vigil import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Literal

    from .events import Event, Sink
    from .sinks.jsonl import JsonlSink


class DefaultTracker(Tracker):
    """The tracker of every phase that was given none: such a phase joins what is open around it."""

    def __init__(self) -> None:
        super().__init__()
        self.joins = True
        self.enabled = not flag("PHASEWATCH_DISABLE")
        if "PHASEWATCH_HEARTBEAT" in os.environ and not flag("PHASEWATCH_HEARTBEAT"):
            self.heartbeat = ()
        self._has_sinks = False
        self._own_console: list[Sink] = []  # that nobody has configured
        self._named_log: JsonlSink | None = None  # that of the process that started this one
        self.listening = True  # until it is known that there is nobody

    def __reduce__(self) -> str:
        return "default_tracker"  # that of the process to which a decorated function was sent

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The configured sinks; with nothing configured those of the environment, made when they are first needed."""
        self._make_sinks()
        return super().sinks

    def _make_sinks(self) -> None:
        if not self._has_sinks:
            log = self._event_log()
            try:
                self._own_console = _console()
                self.use(sinks=[*log, *self._own_console])  # the log first: a console may hang
            except Exception:
                self.use(sinks=log)
                failure("the console could not be made; phases are told to nobody until sinks are configured")

    def _event_log(self) -> list[Sink]:
        path = os.environ.get("PHASEWATCH_LOG", "").strip()
        process = _process.process
        if path:
            return [_jsonl_sink(path)]
        if process is None or process.log is None:
            return []
        self._named_log = _jsonl_sink(process.log)
        return [self._named_log]

    def use_log(self, path: str) -> None:
        """Record what happens in the event log of another process, unless this one has its own."""
        log = event_log_of(self.place(None)[1])
        if not self.enabled or (log is not None and (log is not self._named_log or log.path == os.path.abspath(path))):
            return
        # It may have been that of another process before: a worker that outlives what it worked for.
        before, self._named_log = self._named_log, _jsonl_sink(path)
        self.use(sinks=[self._named_log, *(sink for sink in self.sinks if sink is not before)])
        if before is not None:
            self._dispatcher.close([before])

    def look_at_rank(self) -> None:
        """Have no console of our own, if this process turns out to be one that does not speak."""
        if self._has_sinks and not _speaks():
            silent, self._own_console = self._own_console, []
            self.use(sinks=[sink for sink in self.sinks if not any(sink is one for one in silent)])

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
            for run in reversed(self.open_runs):
                if run.status == "running":  # opened before a fork, by the parent process: where it went, this one goes
                    return None, run._tracker
        self._make_sinks()  # now, and not on the time of the phase: to import rich takes a tenth of a second
        return None, self

    def use(
        self,
        *,
        sinks: Iterable[Sink] | None = None,
        clock: Callable[[], float] | None = None,
        enabled: bool | None = None,
        heartbeat: Sequence[float] | None = None,
        stalls: Literal["stack"] | bool | None = None,
    ) -> None:
        """Change what is given, and leave the rest."""
        if sinks is not None:
            self._use_sinks(sinks)
            self._has_sinks = True
        if clock is not None:
            self._use_clock(clock)
        if enabled is not None:
            self.enabled = enabled
        # Of runs that are open too, as it is with the sinks that they share.
        for tracker in (self, *(run._tracker for run in self.open_runs if run._is_open())):
            if heartbeat is not None:
                tracker.heartbeat = heartbeat
            if stalls is not None:
                tracker.stalls = stalls


def _asked() -> str:
    return os.environ.get("PHASEWATCH_CONSOLE", "").strip().lower()


def _speaks() -> bool:
    return _asked() != "off" and bool(_asked() or not rank())  # of the ranks of a job, the first one speaks


def _console() -> list[Sink]:
    if not _speaks():
        return []
    mode = _asked() or "auto"
    _rich.prepare()
    from .sinks.console import MODES, ConsoleSink  # here: it imports rich, which an import of phasewatch must not

    if mode not in MODES:
        warn(f"PHASEWATCH_CONSOLE={mode!r} is taken as auto; it may be {', '.join(MODES)}")
        mode = "auto"
    return [ConsoleSink(mode=mode)]  # type: ignore[arg-type]  # one of MODES


def _jsonl_sink(path: str) -> JsonlSink:
    from .sinks.jsonl import JsonlSink  # here: it imports json, which an import of phasewatch must not

    return JsonlSink(path)


def event_log_of(tracker: Tracker) -> JsonlSink | None:
    """Return the event log that a tracker writes, if it writes one."""
    for sink in tracker.sinks:
        inner: Any = getattr(sink, "_sink", sink)  # behind a queue
        if type(inner).__name__ == "JsonlSink":  # by its name, so that nothing is imported that is not there
            return inner  # type: ignore[no-any-return]  # as its name says
    return None


default_tracker = DefaultTracker()
Phase._home = default_tracker


def configure(
    *,
    sinks: Iterable[Sink] | None = None,
    clock: Callable[[], float] | None = None,
    enabled: bool | None = None,
    heartbeat: Iterable[float] | bool | None = None,
    stalls: Literal["stack"] | bool | None = None,
    rank: int | None = None,
) -> None:
    """Say where phases go from now on; what is left out stays as it is.

    Without a call, they go to the console on standard output (``PHASEWATCH_CONSOLE=auto|plain|live|off``; of the ranks of a
    distributed job, to that of the first one alone, unless this is set) and to the event log of ``PHASEWATCH_LOG=path``,
    unless ``PHASEWATCH_DISABLE=1`` switches phasewatch off.

    Args:
        sinks: who hears of the events, of phases inside a run too unless that has sinks of its own; ``[]`` is nobody.
            They stay open when a run ends.
        clock: monotonic seconds, with an optional ``wall()``.
        enabled: False makes every phase a no-op. What is decorated while that holds stays undecorated.
        heartbeat: after how many seconds of silence a phase is said to be alive, and how many later again; the last
            number repeats. True is ``(10, 30, 60)``, which holds without a call: after 10 s, after 30 s, and then
            every minute. False is never. ``PHASEWATCH_HEARTBEAT=0`` switches it off too.
        stalls: whether a phase that takes far longer than its kind ever did is announced; ``"stack"`` shows from the
            first announcement on where its thread is, True (which holds without a call) from the second.
        rank: of this process in its distributed job, from who has started it and has not told it in the environment. What is
            opened from now on tells it; the console above is silent if it is not 0.

    Raises:
        TypeError: a sink without ``emit`` and ``close``, or a clock that cannot be called.
        ValueError: a heartbeat, stalls or a rank that is none of these.
    """
    if enabled is not None and not isinstance(enabled, bool):
        raise TypeError(f"configure: enabled={shown(enabled)} must be True or False")
    if stalls is not None and stalls != "stack" and not isinstance(stalls, bool):
        raise ValueError(f"configure: stalls={shown(stalls)} must be True, False or 'stack'")
    if rank is not None and (not isinstance(rank, int) or rank < 0):  # type: ignore[redundant-expr]  # whoever has no types
        raise ValueError(f"configure: rank={shown(rank)} must be a whole number, counted from 0")
    default_tracker.use(
        sinks=checked_sinks("configure", sinks),
        clock=checked_clock("configure", clock),
        enabled=enabled,
        heartbeat=None if heartbeat is None else checked_heartbeat(heartbeat),
        stalls=stalls,
    )
    if rank is not None:
        _environment.tell_rank(rank)
        _process.forget_places()
        default_tracker.look_at_rank()  # it may have been there before a fork, or before the environment told


def checked_heartbeat(heartbeat: Iterable[float] | bool) -> Sequence[float]:
    """Return the seconds of silence that a heartbeat was given; raises ValueError for what is none."""
    if isinstance(heartbeat, bool):
        return HEARTBEAT if heartbeat else ()
    try:
        schedule = tuple(map(float, heartbeat))
    except (TypeError, ValueError):
        schedule = ()
    if (
        not schedule
        or list(schedule[:-1]) != sorted(set(schedule[:-1]))
        or not all(0 < seconds < float("inf") for seconds in schedule)
    ):
        raise ValueError(
            f"configure: heartbeat={shown(heartbeat)} must be True, False or seconds such as (10, 30, 60): after 10 and 30 "
            "seconds of silence, and then every 60"
        )
    return schedule


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


def checked_path(caller: str, option: str, path: str | os.PathLike[str] | None) -> str | None:
    """Return a path as a text; raises TypeError for what is none."""
    if path is None:
        return None
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{caller}: {option}={shown(path)} must be the path of a file") from None


def checked_log(caller: str, log: str | os.PathLike[str] | None) -> JsonlSink | None:
    """Return the event log at a path; raises TypeError for what is none."""
    if log is None:
        return None
    from .sinks.jsonl import JsonlSink  # here: it imports json

    try:
        return JsonlSink(log)
    except TypeError:
        raise TypeError(f"{caller}: log={shown(log)} must be the path of a file") from None
