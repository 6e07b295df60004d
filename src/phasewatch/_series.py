"""Values by step, thinned out so that two runs keep the same steps."""

from __future__ import annotations

_MOST = 512  # steps


class Series:
    """The value of a metric at each step; of a long run, at every second, fourth, eighth... step, and at the last one.

    Which steps are kept depends on their numbers alone: those of two runs can be compared.
    """

    __slots__ = ("_every", "_kept", "last", "last_step")

    def __init__(self) -> None:
        self._every = 1
        self._kept: dict[int, float] = {}
        self.last = 0.0
        self.last_step: int | None = None

    def add(self, step: int | None, value: float) -> None:
        """Take the value at a step, or one that belongs to none."""
        if step is None:
            if self.last_step is None:
                self.last = value
            return
        if self.last_step is None or step >= self.last_step:
            self.last, self.last_step = value, step
        if step % self._every == 0:
            self._kept[step] = value
            while len(self._kept) > _MOST:
                self._every *= 2
                self._kept = {step: value for step, value in self._kept.items() if step % self._every == 0}

    def values(self) -> dict[int, float]:
        """Return the values by step, the steps ascending."""
        values = dict(self._kept)
        if self.last_step is not None:
            values[self.last_step] = self.last
        return dict(sorted(values.items()))
