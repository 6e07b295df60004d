"""`run`: the root of a record, with its own sinks and its last banner."""

from __future__ import annotations

from ._annotations import TYPE_CHECKING
from ._config import checked_clock, checked_sinks, default_tracker
from ._report import shown
from ._spec import PhaseSpec, as_text
from ._tracker import DISABLED, Phase, Tracker
from .eta import Forecast
from .plan import TrainingPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import TypeVar

    from .events import Sink

    Self = TypeVar("Self", bound="Run")


class Run(Phase):
    """A run: the phase around all others, and a record of its own."""

    __slots__ = ("_clock", "_plan", "_sinks", "_unwatch")

    role = "run"
    _finds_its_place = True

    def __init__(
        self, name: str, spec: PhaseSpec, plan: TrainingPlan | None, sinks: tuple[Sink, ...] | None,
        clock: Callable[[], float] | None,
    ) -> None:  # fmt: skip
        super().__init__(default_tracker, name, spec)
        self._plan = plan
        self._sinks = sinks
        self._clock = clock

    @property
    def plan(self) -> TrainingPlan | None:
        """What the run was said to do."""
        return self._plan

    def __enter__(self: Self) -> Self:
        super().__enter__()
        if self._timing is None:
            self._timing = Forecast(() if self._plan is None else self._plan.phases()).begin(self.name, self._started)
        if self not in default_tracker.open_runs:
            default_tracker.open_runs.append(self)
            from . import _termination  # here: the module signal costs a third of what phasewatch does

            self._unwatch = _termination.unwatch if _termination.watch() else None
        return self

    def _place(self, outer: Phase | None) -> tuple[Phase | None, Tracker]:
        # A run inside a run is a record of its own.
        sinks = default_tracker.sinks if self._sinks is None else self._sinks
        return None, Tracker(sinks, default_tracker.clock if self._clock is None else self._clock)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        # Not in the child of a fork, whose parent process it is that has the run open.
        if self in default_tracker.open_runs and self._is_closed():
            default_tracker.open_runs.remove(self)
            if self._unwatch is not None:
                self._unwatch()
            if self._sinks is not None:
                self._tracker.close()

    def _again(self, name: str, spec: PhaseSpec) -> Phase:
        return Run(name, spec, self._plan, self._sinks, self._clock)


def run(
    name: str = "run",
    *,
    plan: TrainingPlan | None = None,
    sinks: Iterable[Sink] | None = None,
    clock: Callable[[], float] | None = None,
    message: str | None = "Training Finished Successfully!",
) -> Phase:
    """Return the root phase of a run: a context manager and a decorator.

    It ends with the last banner, ALL PHASES COMPLETE or the phase in which the run failed, and a table of where the
    time went. A run inside a run is a record of its own.

    Args:
        name: of the run.
        plan: what will run. From it, a step knows its epoch, and the last banner that a run is for validation only.
        sinks: who hears of the events; by default those of `phasewatch.configure`. These are closed when the run ends.
        clock: monotonic seconds, with an optional ``wall()``; by default that of `phasewatch.configure`.
        message: shown in the last banner.

    Raises:
        TypeError: a plan, a sink or a clock that is none.
    """
    if not default_tracker.enabled:
        return DISABLED
    sinks, clock = checked_sinks("run", sinks), checked_clock("run", clock)
    if plan is not None and not isinstance(plan, TrainingPlan):
        raise TypeError(f"run: plan={shown(plan)} must be a TrainingPlan")
    attributes = {} if plan is None else {"val_only": plan.validates_only}
    spec = PhaseSpec(name, message=message, attributes=attributes)
    return Run(as_text(name), spec, plan, sinks, clock)
