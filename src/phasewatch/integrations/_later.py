"""The plan of a run that begins before it is known what will run in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import TrainingPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .. import PlanWarning
    from ..plan import Stretch


class LaterPlan(TrainingPlan):
    """A plan that is filled in when the trainer knows its data; until then it says that nothing will run.

    Who asks it early is given what is looked into later: the counts are one dictionary, and the phases are not there yet.
    """

    def __init__(self) -> None:
        super().__init__(0, val_before_train=False, val_after_train=False)
        self.known: TrainingPlan | None = None
        self._counts: dict[str, int] = {}

    def know(self, plan: TrainingPlan, *, unsure: Iterable[str] = ()) -> None:
        """Take what will run; phases that may come more or less often than that are not held against the run."""
        self.known = plan
        self._counts.clear()
        self._counts.update({name: count for name, count in plan.counts().items() if name not in unsure})

    def phases(self) -> Any:
        """Return the name and step of every phase, once they are known."""
        return _LaterPhases(self)

    def stretches(self) -> Iterator[Stretch]:
        """Yield what will run."""
        return iter(()) if self.known is None else self.known.stretches()

    def counts(self) -> dict[str, int]:
        """Return how often each phase will run."""
        return self._counts

    def warnings(self) -> list[PlanWarning]:
        """Return nothing: it is asked before anything is known."""
        return []


class _LaterPhases:
    """The phases of a plan, not to be read before they are known."""

    def __init__(self, plan: LaterPlan) -> None:
        self._plan = plan

    def __bool__(self) -> bool:
        return self._plan.known is not None

    def __iter__(self) -> Iterator[tuple[str, int | None]]:
        known = self._plan.known
        return iter(()) if known is None else known.phases()
