"""A plan of a run that begins before it is known what will run: trainers know it when their training begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import TrainingPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .. import PlanWarning
    from ..plan import Stretch


class LaterPlan(TrainingPlan):
    """A plan that says that nothing will run, until it knows what will.

    What asks it early is given what it looks into later: the counts are one dictionary, and the phases are not there yet.
    """

    def __init__(self, *, validates_only: bool = False) -> None:
        super().__init__(0, val_before_train=False, val_after_train=False)
        self._only = validates_only
        self._known: TrainingPlan | None = None
        self._counts: dict[str, int] = {}

    def know(self, plan: TrainingPlan, counts: Mapping[str, int] | None = None, *, unsure: Iterable[str] = ()) -> None:
        """Take what will run, and how often each phase of it; by default as often as the plan says.

        Phases that are left out of the counts, or unsure, may come as often as they like.
        """
        self._known = plan
        self._counts.clear()
        self._counts.update(plan.counts() if counts is None else counts)
        for name in unsure:
            self._counts.pop(name, None)

    @property
    def known(self) -> TrainingPlan | None:
        """The plan, once it is known."""
        return self._known

    @property
    def validates_only(self) -> bool:  # type: ignore[override]  # as in TrainingPlan
        """Whether the run is there for one evaluation, which is known from its beginning."""
        return self._only

    def phases(self) -> Any:
        """Return the name and step of every phase, once they are known."""
        return _LaterPhases(self)

    def stretches(self) -> Iterator[Stretch]:
        """Yield what will run."""
        return iter(()) if self._known is None else self._known.stretches()

    def counts(self) -> dict[str, int]:
        """Return how often each phase will run."""
        return self._counts

    def warnings(self) -> list[PlanWarning]:
        """Return nothing: it is asked before anything is known."""
        return []

    def epoch_of(self, step: int) -> int | None:
        """Return the epoch of a step, once the plan is known."""
        return None if self._known is None else self._known.epoch_of(step)


class _LaterPhases:
    """The phases of a plan; they are not there, and so not read, as long as it is not known."""

    def __init__(self, plan: LaterPlan) -> None:
        self._plan = plan

    def __bool__(self) -> bool:
        return self._plan.known is not None

    def __iter__(self) -> Iterator[tuple[str, int | None]]:
        plan = self._plan.known
        return iter(()) if plan is None else plan.phases()
