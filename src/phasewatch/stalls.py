"""When a phase has taken too long: pure arithmetic over what its kind took before."""

from __future__ import annotations

_SLACK = 60.0  # seconds that anything may take
_FACTOR = 3.0
_FEWEST = 5  # durations from which on anything is said


class Spread:
    """What is known of the durations of one kind."""

    __slots__ = ("count", "longest")

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """Take one more duration."""
        self.count += 1
        self.longest = max(self.longest, seconds)

    @property
    def usual(self) -> float | None:
        """Seconds that one usually takes, None if nothing is known."""
        return self.longest if self.count else None

    def threshold(self) -> float | None:
        """Return the seconds beyond which one is no healthy one; None while too little is known."""
        return None if self.count < _FEWEST else limit_of_expected(self.longest)


def limit_of_expected(seconds: float) -> float:
    """Return the seconds beyond which something that was said to take so long is late."""
    return _FACTOR * seconds + _SLACK
