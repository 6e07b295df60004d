"""How long each kind of phase took in earlier runs, from their log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .events import PhaseEnded
from .reader import read

if TYPE_CHECKING:
    import os

_MOST_KINDS = 1000  # a log may name each phase anew
_FEW = 3  # durations from which on the first, often a warm-up, is left out


class Durations:
    """The durations of one kind of phase, in constant memory."""

    def __init__(self) -> None:
        self._first = 0.0
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0  # sum of squared deviations from the mean

    def add(self, seconds: float) -> None:
        """Take one more duration."""
        self._count += 1
        if self._count == 1:
            self._first = self._mean = seconds
            return
        if self._count == _FEW:  # without the first: of two, the other is the mean, and there is no deviation yet
            self._mean, self._squares = 2 * self._mean - self._first, 0.0
        count = self._count - (self._count >= _FEW)
        away = seconds - self._mean
        self._mean += away / count
        self._squares += away * (seconds - self._mean)

    @property
    def figures(self) -> tuple[float, int, float]:
        """The mean in seconds, how many there were, and their standard deviation in seconds."""
        count = self._count - (self._count >= _FEW)
        return self._mean, count, math.sqrt(self._squares / (count - 1)) if count > 1 else 0.0


def durations_of(path: str | os.PathLike[str]) -> dict[str, tuple[float, int, float]]:
    """Return the mean, the count and the standard deviation of the completed phases in a log, by name.

    Args:
        path: of an event log or a text log, of one run or several.

    Raises:
        OSError: the log cannot be read.
    """
    kinds: dict[str, Durations] = {}
    for event in read(path):
        if isinstance(event, PhaseEnded) and event.status == "completed" and event.phase.role != "run":
            durations = kinds.get(event.name)
            if durations is None:
                if len(kinds) >= _MOST_KINDS:
                    continue
                durations = kinds[event.name] = Durations()
            if 0 <= event.elapsed < math.inf:
                durations.add(event.elapsed)
    return {name: durations.figures for name, durations in kinds.items()}
