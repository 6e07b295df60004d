"""What the monitor knows of one open phase: since when it is quiet, and when that is worth a word."""

from __future__ import annotations

from collections import deque

from ._annotations import TYPE_CHECKING
from .stalls import SLACK, Spread, stalled_after

if TYPE_CHECKING:
    from collections.abc import Sequence

HEARTBEAT = (10.0, 30.0, 60.0)  # seconds of silence until the first word, until the second, and from then on between two
_MOST_KINDS = 500  # a program that names each phase anew must not fill the memory
_MOST_WAITING = 10_000


class Kind:
    """How long phases of one path take, and the units inside them."""

    __slots__ = ("durations", "gaps")

    def __init__(self) -> None:
        self.durations = Spread()
        self.gaps = Spread()  # between two units


class Kinds:
    """What one tracker has seen of each kind of phase. Ended phases wait here for the monitor's look."""

    def __init__(self) -> None:
        self.ended: deque[tuple[tuple[str, ...], float]] = deque(maxlen=_MOST_WAITING)  # paths and seconds
        self._kinds: dict[tuple[str, ...], Kind] = {}

    def of(self, path: tuple[str, ...]) -> Kind:
        """Return what is known of the phases of a path."""
        while self.ended:
            ended, seconds = self.ended.popleft()
            self._of(ended).durations.add(seconds)
        return self._of(path)

    def _of(self, path: tuple[str, ...]) -> Kind:
        kind = self._kinds.get(path)
        if kind is None:
            kind = Kind()
            if len(self._kinds) < _MOST_KINDS:
                self._kinds[path] = kind
        return kind


class Vigil:
    """Since when one phase is quiet, and what was said of it."""

    __slots__ = ("_beats", "_sign", "_spoke_at", "announced", "child_at", "counted", "counted_at", "moved_at")

    def __init__(self, started: float, counted: int) -> None:
        self.moved_at = started  # clock seconds of the last sign of life
        self.child_at = started  # of the last phase inside it that began or ended
        self.counted = counted  # units at the last look
        self.counted_at = started  # clock seconds since when there are so many
        self.announced = 0  # how often it was said to have stalled
        self._sign: tuple[int, int, float] | None = None  # what the last look saw: units, words and `child_at`
        self._spoke_at = started
        self._beats = 0  # how often it was said to be alive since it last spoke itself

    def see(self, now: float, count: int, words: int, gaps: Spread) -> bool:
        """Look for signs of life; return whether there were any."""
        if count != self.counted:
            if count > self.counted:
                gaps.add((now - self.counted_at) / (count - self.counted))
            self.counted, self.counted_at = count, now
        sign = (count, words, self.child_at)
        moved = sign != self._sign
        if moved and self._sign is not None:
            self.moved_at = now
        self._sign = sign
        return moved

    def rest(self, now: float) -> None:
        """Take it that the phase is not at work, and so cannot be late: a generator that nobody reads from."""
        self.moved_at = self._spoke_at = now
        self._beats = 0

    def quiet(self, now: float) -> float:
        """Return the seconds since the last sign of life."""
        return max(0.0, now - max(self.moved_at, self.child_at))

    def was_quiet(self, now: float) -> float:
        """Return the seconds without a sign of life, if one that no look has seen yet ends them now."""
        child_at = self.child_at if self._sign is None else self._sign[2]
        return max(0.0, now - max(self.moved_at, child_at))

    def beats(self, now: float, spoke_at: float | None, schedule: Sequence[float]) -> bool:
        """Whether it is time to say that the phase is alive.

        Args:
            now: clock seconds.
            spoke_at: when it told its progress.
            schedule: as `HEARTBEAT`; the last one repeats.
        """
        last = self.child_at if spoke_at is None else max(self.child_at, spoke_at)
        if last > self._spoke_at:
            self._spoke_at, self._beats = last, 0
        if not schedule or now - self._spoke_at < _beat(self._beats, schedule):
            return False
        while now - self._spoke_at >= _beat(self._beats, schedule):  # those that were missed are not made up for
            self._beats += 1
        return True

    def stalls(self, now: float, limit: float) -> bool:
        """Whether it is time to say that the phase has stalled: beyond its limit, and then after twice as long each time."""
        if self.quiet(now) < limit * 2**self.announced:
            return False
        self.announced += 1
        return True


def limit(
    kind: Kind, *, elapsed: float, quiet: float, counts: bool, expect: float | None, stall_after: float | None
) -> tuple[float, float | None] | None:
    """Return after how many seconds of quiet a phase has stalled, and how long it usually takes; None if that is not known.

    Args:
        kind: what is known of phases of its path.
        elapsed: seconds since it began.
        quiet: seconds since its last sign of life.
        counts: whether there are units to come.
        expect: seconds that it was said to take.
        stall_after: seconds after which it was said to have stalled.
    """
    usual = expect if expect is not None else kind.durations.usual
    if stall_after is not None:
        return stall_after, usual
    if expect is None and counts:
        of_units = kind.gaps.threshold()
        if of_units is not None:
            return of_units, kind.gaps.usual
    whole = stalled_after(kind.durations, expect=expect)
    if whole is None:
        return None
    # Its limit is of the whole time; as long as it moves, it has not stalled.
    return max(SLACK, whole - (elapsed - quiet)), usual


def _beat(n: int, schedule: Sequence[float]) -> float:
    """Return the seconds of silence after which word ``n`` is due, counted from 0."""
    first = schedule[:-1]
    if n < len(first):
        return first[n]
    return (first[-1] if first else 0.0) + schedule[-1] * (n - len(first) + 1)
