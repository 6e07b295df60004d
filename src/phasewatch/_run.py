"""`run`: the root of a record, with its own sinks and its last banner."""

from __future__ import annotations

from ._annotations import TYPE_CHECKING
from ._config import checked_clock, checked_log, checked_path, checked_sinks, default_tracker
from ._forks import ForkSafeLock
from ._report import failure, shown, warn
from ._spec import PhaseSpec, as_text
from ._tracker import DISABLED, SpecialPhase, Tracker
from .eta import Forecast
from .events import PhaseEnded
from .plan import Plan, Schedule, TrainingPlan

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from ._tracker import Phase
    from .events import Event, PhaseInfo, Sink
    from .sinks.jsonl import JsonlSink

    Self = TypeVar("Self", bound="Run")


class Run(SpecialPhase):
    """A run: the phase around all others, and a record of its own."""

    __slots__ = ("_clock", "_expected", "_history", "_log", "_plan", "_sinks", "_unwatch")

    role = "run"

    def __init__(
        self, name: str, spec: PhaseSpec, plan: Schedule | None, sinks: tuple[Sink, ...] | None,
        log: JsonlSink | None, history: str | None, clock: Callable[[], float] | None,
    ) -> None:  # fmt: skip
        self._specify(default_tracker, name, spec)
        self._plan = plan
        self._sinks = sinks
        self._log = log
        self._history = history
        self._expected: dict[str, tuple[float, int, float]] = {}
        self._clock = clock

    def __reduce__(self) -> str:
        raise TypeError(f"run {self.name!r} belongs to this process; give another one phasewatch.carrier()")

    @property
    def plan(self) -> Schedule | None:
        """What the run was said to do."""
        return self._plan

    def __enter__(self: Self) -> Self:
        if self not in default_tracker.open_runs:
            default_tracker.open_runs.append(self)
            from . import _termination  # here: the module signal costs a third of what phasewatch does

            self._unwatch = _termination.unwatch if _termination.watch() else None
        if self._history is not None and not self._is_open():  # before the clock runs
            self._expected = _durations_of(self._history)
        try:
            super().__enter__()
        finally:
            if not self._is_open():
                self._forget()
        return self

    def _take_options(self) -> None:
        # For nobody, and of nothing that was said of what will run, none is made until somebody asks: phases inside a run
        # with a forecast are twice as dear.
        self._more()  # a run has more to do at its end than a phase with nothing to tell
        if self._tracker.listening or self._plan is not None or self._expected:
            self._begin_forecast()

    def _time_left(self, now: float, units_left: int | None = None) -> float | None:
        if self._more().timing is None and self._is_open():
            self._begin_forecast()
        return super()._time_left(now, units_left)

    def _begin_forecast(self) -> None:
        phases = () if self._plan is None else self._plan.phases()
        forecast = Forecast(phases)
        for name, (seconds, count, deviation) in self._expected.items():
            forecast.expect(name, seconds, count, deviation)
        self._more().timing = forecast.begin(self.name, self._started)

    def _complete(self, info: PhaseInfo) -> None:
        info.role, info.run, info.path = self.role, info.id, ()

    def _place(self, outer: Phase | None) -> tuple[Phase | None, Tracker]:
        # A run inside a run is a record of its own.
        sinks = default_tracker.sinks if self._sinks is None else self._sinks
        log = self._log
        # PHASEWATCH_LOG may have named the same file.
        if log is not None and not any(isinstance(sink, type(log)) and sink.path == log.path for sink in sinks):
            sinks = (log, *sinks)  # first: a console may hang
        clock = default_tracker.clock if self._clock is None else self._clock
        tracker = Tracker(sinks, clock) if self._plan is None else _PlannedTracker(sinks, clock, self._plan)
        tracker.heartbeat, tracker.stalls = default_tracker.heartbeat, default_tracker.stalls
        if self._sinks is None:  # what fails of the configured ones is reported once, inside the run or outside
            tracker._dispatcher.reported = default_tracker._dispatcher.reported
        return None, tracker

    def _close(self, error: BaseException | None) -> None:
        try:
            super()._close(error)
        finally:
            if self._forget():
                if self._sinks is not None:
                    self._tracker.close()
                elif self._log is not None:
                    self._tracker._dispatcher.close([self._log])

    def _forget(self) -> bool:
        """Have nothing more hang under it by itself; return whether it was so until now."""
        if self not in default_tracker.open_runs:
            return False
        default_tracker.open_runs.remove(self)
        if self._unwatch is not None:
            self._unwatch()
        return True

    def _again(self, name: str, spec: PhaseSpec) -> Phase:
        return Run(name, spec, self._plan, self._sinks, self._log, self._history, self._clock)


class _PlannedTracker(Tracker):
    """Holds the plan of a run against what ran.

    Only what is told to somebody is counted: a run that nobody hears of has nobody to tell at its end.
    """

    def __init__(self, sinks: Iterable[Sink], clock: Callable[[], float] | None, plan: Schedule) -> None:
        super().__init__(sinks, clock)
        self._planned: dict[str, int] = {}
        self._ended: dict[str, int] = {}  # phases that completed, by name
        self._units: dict[str, int] = {}  # done in them; those of TRAINING, in steps, count as TRAINING STEP too
        self._lock = ForkSafeLock(order=0)  # phases end in several threads
        try:
            self._planned = plan.counts()
        except Exception:
            failure(f"the plan {shown(plan)} could not be counted; the program goes on without it")

    def emit(self, event: Event) -> None:
        """Hand an event to the sinks; the end of the run with what ran otherwise than planned."""
        if isinstance(event, PhaseEnded) and event.status == "completed":
            try:
                self._count(event)
            except Exception:
                failure("what ran could not be held against the plan; the program goes on")
        self._dispatcher.emit(event)

    def _count(self, event: PhaseEnded) -> None:
        phase, name = event.phase, event.phase.name
        if phase.role == "run":
            event.deviations = self._deviations()
            return
        units = event.done - phase.start
        if not units and name not in self._planned:
            return
        with self._lock:
            if name in self._planned:
                self._ended[name] = self._ended.get(name, 0) + 1
            if units:
                for counted in (name, f"{name} {phase.unit.upper()}"):
                    if counted in self._planned:
                        self._units[counted] = self._units.get(counted, 0) + units

    def _deviations(self) -> dict[str, tuple[int, int]]:
        deviations = {}
        for name, planned in self._planned.items():
            # PARSE, 120 times, may be so many phases, or units of one phase: what comes nearer was meant.
            ran = min(self._ended.get(name, 0), self._units.get(name, 0), key=lambda count: abs(count - planned))
            if ran != planned:
                deviations[name] = (ran, planned)
        return deviations


def _durations_of(history: str) -> dict[str, tuple[float, int, float]]:
    from ._history import durations_of  # here: it reads, which few runs do

    try:
        return durations_of(history)
    except Exception as error:
        warn(f"run: history={shown(history)} cannot be read, and is left out: {error}; give the log of an earlier run")
        return {}


def _warnings_of(plan: Schedule) -> list[dict[str, str]]:
    try:
        return [warning.as_dict() for warning in plan.warnings()]
    except Exception:
        failure(f"the plan {shown(plan)} could not be looked through; the program goes on")
        return []


def run(
    name: str = "run",
    *,
    plan: TrainingPlan | Plan | None = None,
    log: str | os.PathLike[str] | None = None,
    history: str | os.PathLike[str] | None = None,
    sinks: Iterable[Sink] | None = None,
    clock: Callable[[], float] | None = None,
    message: str | None = "Training Finished Successfully!",
) -> Phase:
    """Return the root phase of a run: a context manager and a decorator.

    It ends with the last banner, ALL PHASES COMPLETE or the phase in which the run failed, and a table of where the
    time went. A run inside a run is a record of its own.

    Args:
        name: of the run.
        plan: what will run. What looks like a mistake in it is told when the run begins, and what did not run as often as it
            says when the run completes. From it, a step knows its epoch, and the last banner that a run is for
            validation only.
        log: the path of an event log, one JSON object a line; the run is added to what is there. It has the sinks beside it.
        history: the path of the log of an earlier run. Until phases of a kind have been seen, they are expected to take as
            long as they did there.
        sinks: who hears of the events; by default those of `phasewatch.configure`. These are closed when the run ends.
        clock: monotonic seconds, with an optional ``wall()``; by default that of `phasewatch.configure`.
        message: shown in the last banner.

    Warns:
        PhasewatchWarning: a history that cannot be read; it is left out.

    Raises:
        TypeError: a plan, a path, a sink or a clock that is none.
    """
    if not default_tracker.enabled:
        return DISABLED
    sinks, clock = checked_sinks("run", sinks), checked_clock("run", clock)
    if plan is not None and not isinstance(plan, Schedule):
        raise TypeError(f"run: plan={shown(plan)} must be a TrainingPlan or a Plan")
    attributes: dict[str, object] = {}
    if plan is not None:
        attributes["val_only"] = plan.validates_only
        warnings = _warnings_of(plan)
        if warnings:
            attributes["plan_warnings"] = warnings
    spec = PhaseSpec(name, message=message, attributes=attributes)
    return Run(as_text(name), spec, plan, sinks, checked_log("run", log), checked_path("run", "history", history), clock)
