"""How long one kind of work takes, and will take: a model of its durations that follows them as they change.

Durations are compared by their logarithms, so that a step of three times the length is as far away as one of a third, and
a heavy tail does not decide what the rest looks like. Somewhere among them the last change may have come: before each
group of durations, or never. Since then they stay as they are, or grow or shrink steadily. Each of these stories is
weighed by how well it explains the durations (the recursion of Fearnhead, "Exact and efficient Bayesian inference for
multiple changepoint problems", 2006, over groups); the forecast is the mean of what they say, by weight. What a story
says of the level is the arithmetic mean since its change: sums of skewed durations need it, medians are biased low.

Memory is constant: when there are too many groups, each two of them become one.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from math import copysign, exp, isfinite, log, sqrt

_BUNCHES = 512  # durations after which two are taken as one, then three, and so on
_BRIEF = 1e-4  # seconds: of what takes less, as much as takes so long is one duration; nobody waits for it
_GROUPS = 32  # of consecutive durations, at most
_MOST_WAITING = 64  # durations that nobody has asked about
_EAGER = 64  # durations in a group from which on each closed group is weighed at once, so that no question has to

# What is believed before anything is seen. All are relative: they are the same for milliseconds and for hours.
_NOISE = 0.1  # the spread of durations, worth one of them
_QUIET = 0.02  # the least spread that is taken over from an earlier run
_LEVEL = 0.5  # how far a change goes, as a logarithm
_CHANGES = 0.02  # changes in all that was seen
_TRENDS = 0.1  # the share of stretches that grow or shrink
_SLOPE = 1.0  # how far such a trend goes in the whole of the work, as a logarithm
_REACH = 1.0  # a trend fades when it has gone on for this many times as long as it was seen
_BETWEEN_RUNS = 0.1  # how far one run is from the next
_LEAST, _LEAST_TREND = 4, 6  # durations since a change, and those that make a trend
_WARM_UP = 3.0  # spreads by which the first one must be longer to be left out
_OUTLYING, _IN_A_ROW = 4.0, 3  # spreads from the level beyond which one is drawn in, and how many of them are a new level
_OUTLYING_SQUARED = _OUTLYING**2
_LAG = 5  # durations by which that level follows
_FEW, _SOON = 8, 1.0  # durations, and seconds, in which what is expected may change much
_NEGLIGIBLE = -5.0  # logarithm of a story's weight beside the best one's
_SHORTEST, _LONGEST = 1e-12, 1e18  # seconds: there is no logarithm of nothing, and a clock may jump


class _Group:
    """Consecutive durations."""

    __slots__ = ("logs", "number", "seconds", "units")

    def __init__(self, number: int = 0, units: float = 0, seconds: float = 0.0, logs: float = 0.0) -> None:
        self.number = number
        self.units = units
        self.seconds = seconds
        self.logs = logs  # of the seconds per unit, weighted with the units

    def __add__(self, other: _Group) -> _Group:
        return _Group(
            self.number + other.number, self.units + other.units, self.seconds + other.seconds, self.logs + other.logs
        )


class _Sums:
    """Running sums over groups, at every boundary between them."""

    __slots__ = ("logs", "number", "seconds", "squares", "time", "time_logs", "time_squares", "units")

    def __init__(self) -> None:
        self.number = [0]
        self.units = [0.0]
        self.seconds = [0.0]
        self.logs = [0.0]
        self.squares = [0.0]
        # Of the middle of each group, counted in units.
        self.time = [0.0]
        self.time_logs = [0.0]
        self.time_squares = [0.0]

    def append(self, group: _Group) -> None:
        units, logs = group.units, group.logs
        middle = self.units[-1] + units / 2
        self.number.append(self.number[-1] + group.number)
        self.units.append(self.units[-1] + units)
        self.seconds.append(self.seconds[-1] + group.seconds)
        self.logs.append(self.logs[-1] + logs)
        self.squares.append(self.squares[-1] + logs * logs / units)
        self.time.append(self.time[-1] + units * middle)
        self.time_logs.append(self.time_logs[-1] + middle * logs)
        self.time_squares.append(self.time_squares[-1] + units * middle * middle)

    def pop(self) -> None:
        for name in _Sums.__slots__:
            getattr(self, name).pop()


class _Story:
    """What may be true since the last change, where there is a trend: the level now, and how it goes on."""

    __slots__ = ("level", "reach", "slope", "weight")

    def __init__(self, weight: float, level: float, slope: float, reach: float) -> None:
        self.weight = weight
        self.level = level  # seconds per unit, now
        self.slope = slope  # per unit, as a share of the level
        self.reach = reach  # units

    def mean(self, units: float) -> float:
        """Return the mean seconds per unit of so many units to come."""
        ahead = (units + 1) / 2
        growth = self.slope * ahead / (1 + ahead / self.reach)
        return self.level * (1 + growth if growth > 0 else exp(growth))  # what shrinks never gets below nothing


class Lengths:
    """The durations of one kind of work, and what they say of those to come.

    A duration may be that of several units at once. `add` puts it aside, as most are of work whose length nobody asks for;
    `left` looks at those put aside and weighs again, where enough is new. Neither depends on how many durations there were.
    """

    __slots__ = (
        "_beyond", "_bunch", "_bunched", "_bunched_seconds", "_bunched_units", "_count", "_evidence", "_first", "_groups",
        "_last", "_level", "_new_seconds", "_noise", "_open", "_prior", "_said", "_size", "_squares", "_summed", "_sums",
        "_variance", "_waiting", "_weighed", "_weighed_wholly", "_weighing",
    )  # fmt: skip

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, float]] = deque()  # seconds and units that were not looked at yet
        self._count = 0  # durations looked at, a bunch as one
        self._bunch = 1  # durations that are taken as one: of very many, one more is not worth much time
        self._bunched = 0
        self._bunched_units: float = 0
        self._bunched_seconds = 0.0
        self._first: _Group | None = None
        self._last: float | None = None  # logarithm
        self._level = 0.0  # logarithm, about now
        self._beyond = 0  # durations in a row that were far above it, or as many below it as this is below 0
        self._squares = 0.0  # of the differences between neighbours, halved
        self._groups: list[_Group] = []
        self._open = _Group()
        self._size = 1  # durations in a group
        self._noise = _NOISE**2
        self._prior: tuple[float, float] | None = None
        self._weighed = self._weighed_wholly = 0  # count when that was done
        self._new_seconds = 0.0  # in the durations since then, those that wait among them
        self._variance = 0.0  # of one unit, as a logarithm
        self._sums = _Sums()
        self._summed = 0  # groups in them
        self._evidence: list[float | None] = []  # logarithm of that for all up to each boundary between groups
        # The first level, the mean level of the stories without a trend, those with one, and the units that all rest on.
        self._said: tuple[float, float, list[_Story], float] | None = None
        self._weighing = allocate_lock()  # of the one who looks at what waits, or weighs: nobody waits for it

    def expect(self, seconds: float, count: float = 1, spread: float = 0.0) -> None:
        """Take the mean length of a unit in an earlier run, how many there were, and their standard deviation.

        It fades as this run shows its own lengths: runs are taken to be a tenth apart.
        """
        if seconds > 0 and isfinite(seconds) and count > 0:
            varied = (max(0.0, spread) / seconds) ** 2
            self._prior = seconds, 1 / (_BETWEEN_RUNS**2 + varied / count)
            if count > _LEAST:
                self._noise = max(varied, _QUIET**2)

    @property
    def expected(self) -> float | None:
        """Seconds of a unit in an earlier run, or None."""
        return None if self._prior is None else self._prior[0]

    @property
    def is_known(self) -> bool:
        """Whether anything is known of the lengths."""
        return self._first is not None or bool(self._waiting) or self._prior is not None

    @property
    def count(self) -> int:
        """Durations so far, a bunch as one."""
        if self._waiting:
            self._look()
        return self._count

    def add(self, seconds: float, units: float = 1) -> None:
        """Take how long ``units`` units took together."""
        if 0 <= seconds < _LONGEST:
            self._new_seconds += seconds
            self._waiting.append((seconds, units))
            if len(self._waiting) >= _MOST_WAITING:
                self._look()

    def _look(self) -> None:
        """Look at the durations that wait, unless another thread does or weighs."""
        if self._weighing.acquire(False):
            try:
                while self._waiting:
                    self._look_at(*self._waiting.popleft())
            finally:
                self._weighing.release()

    def _look_at(self, seconds: float, units: float) -> None:
        if self._bunch > 1 or self._bunched or (seconds < _BRIEF and self._first is not None):
            self._bunched += 1
            self._bunched_units += units
            self._bunched_seconds += seconds
            if self._bunched < self._bunch or self._bunched_seconds < _BRIEF:
                return
            seconds, units = self._bunched_seconds, self._bunched_units
            self._bunched, self._bunched_units, self._bunched_seconds = 0, 0, 0.0
        each = seconds / units
        if not each > _SHORTEST:
            each = _SHORTEST
        logarithm = log(each)
        count = self._count
        self._count = count + 1
        if self._first is None:
            self._first = _Group(1, units, seconds, units * logarithm)
            return
        last = self._last
        if last is None:
            self._level = logarithm
        else:
            distance = logarithm - self._level
            if distance * distance * count > _OUTLYING_SQUARED * (self._noise + self._squares):
                logarithm = self._draw_in(distance)
            else:
                self._beyond = 0
                self._level += distance / _LAG
            step = logarithm - last
            self._squares += units * step * step / 2
        self._last = logarithm
        group = self._open
        group.units += units
        group.seconds += seconds
        group.logs += units * logarithm
        group.number += 1
        if group.number >= self._size:
            self._close()

    def _draw_in(self, distance: float) -> float:
        """Return the logarithm as which one far from the level counts: a single one is no change, a few in a row are."""
        self._beyond = max(1, self._beyond + 1) if distance > 0 else min(-1, self._beyond - 1)
        if abs(self._beyond) >= _IN_A_ROW:
            self._level += distance
            return self._level
        return self._level + copysign(_OUTLYING * sqrt(self._spread_squared()), distance)

    def _close(self) -> None:
        """Begin a new group, and make room for it."""
        groups = self._groups
        groups.append(self._open)
        self._open = _Group()
        if len(groups) == _GROUPS:
            self._groups = [groups[number] + groups[number + 1] for number in range(0, _GROUPS, 2)]
            self._size *= 2
            self._weighed_wholly = 0
        self._bunch = 1 + self._count // _BUNCHES
        if self._size >= _EAGER:
            self._weigh_alone(None)

    def left(self, units: float, whole: float | None = None) -> float | None:
        """Return the seconds that ``units`` units to come will take, or None if nothing is known.

        Args:
            units: still to come.
            whole: all units of the work, for how far a trend may go; by default those seen and those to come.
        """
        if units <= 0:
            return 0.0
        if self._waiting and self._is_stale():
            self._look()
        first = self._first
        if first is None:
            return None if self._prior is None else units * self._prior[0]
        if not self._squares and self._is_even(first):
            own, told = self._mean(first), float(self._count)
        else:
            if self._is_stale():
                self._weigh(self._seen() + units if whole is None else whole)
            if self._said is None:  # only a warm-up so far
                own, told = self._mean(first), 0.0
            else:
                base, own, trends, told = self._said
                for story in trends:
                    own += story.weight * (story.mean(units) - base)
                own = max(0.0, own)
        if self._prior is None:
            return units * own
        expected, precision = self._prior
        if self._count == 1 and first.seconds / first.units > expected * (1 + _WARM_UP * _BETWEEN_RUNS):
            return units * expected  # a first one of such a length warms up
        share = self._spread_squared() * precision
        return units * (share * expected + told * own) / (share + told)

    def _is_stale(self) -> bool:
        """Whether enough is new for the stories to be weighed again: of many durations, or in a second, little changes."""
        count = self._count + len(self._waiting)
        new = count - self._weighed
        if self._weighed == 0 or count < _FEW:
            return new > 0
        return new > count / (128 if self._new_seconds >= _SOON else 4)

    def _seen(self) -> float:
        assert self._first is not None
        return self._first.units + sum(group.units for group in self._groups) + self._open.units

    def _mean(self, first: _Group) -> float:
        seconds = first.seconds + sum(group.seconds for group in self._groups) + self._open.seconds
        return seconds / self._seen()

    def _is_even(self, first: _Group) -> bool:
        """Whether all durations are the same, as far as the first can tell."""
        return self._last is None or self._last == first.logs / first.units

    def _spread_squared(self) -> float:
        return (self._noise + self._squares) / max(1, self._count - 1)

    def _weigh(self, whole: float) -> None:
        """Weigh the stories, unless another thread does or looks at what waits."""
        if self._weighing.acquire(False):
            try:
                self._weigh_alone(whole)
            finally:
                self._weighing.release()

    def _weigh_alone(self, whole: float | None) -> None:
        """Weigh the stories: all anew where much is new, else with what came since."""
        if whole is None:
            whole = 2 * self._seen()
        if not self._weighed_wholly or (self._size < _EAGER and self._count > self._weighed_wholly * 1.125):
            self._weighed_wholly = self._count
            self._variance = self._spread_squared()
            self._sums = _Sums()
            self._evidence = [0.0]
            self._summed = 0
            assert self._first is not None
            if not self._is_warm_up(self._first):
                self._take(self._first, whole)
        for group in self._groups[self._summed :]:
            self._summed += 1
            self._take(group, whole)
        self._weighed, self._new_seconds = self._count, 0.0
        if self._open.number:
            self._sums.append(self._open)
            self._tell(whole)
            self._sums.pop()
        else:
            self._tell(whole)

    def _is_warm_up(self, first: _Group) -> bool:
        """Whether the first duration stands out from those after it."""
        early = self._groups[0] if self._groups else self._open
        for group in self._groups[1:3]:
            early = early + group
        if not early.number:
            return False
        return first.logs / first.units - early.logs / early.units > _WARM_UP * sqrt(self._variance)

    def _take(self, group: _Group, whole: float) -> None:
        self._sums.append(group)
        endings = self._endings(whole)
        self._evidence.append(_total([weight for weight, *_ in endings]) if endings else None)

    def _endings(self, whole: float) -> list[tuple[float, int, float, float]]:
        """Return the stories of all groups summed.

        Of each, the logarithm of its weight, the boundary at which it begins, its slope (of the logarithm, per unit) and the
        place at which its level is the mean.
        """
        sums, variance = self._sums, self._variance
        end = len(sums.units) - 1
        number, units, logs, squares = sums.number[end], sums.units[end], sums.logs[end], sums.squares[end]
        time, time_logs, time_squares = sums.time[end], sums.time_logs[end], sums.time_squares[end]
        change = log(_CHANGES / end)
        steady, trend = log(1 - _TRENDS), log(_TRENDS)
        slopes = (_SLOPE / whole) ** 2
        endings = []
        for begin, evidence in enumerate(self._evidence[:end]):
            long = number - sums.number[begin]
            if evidence is None or (begin and long < _LEAST):
                continue
            count = units - sums.units[begin]
            mean = (logs - sums.logs[begin]) / count
            apart = squares - sums.squares[begin] - count * mean * mean
            weight = evidence - (apart / variance + log(1 + count * _LEVEL**2 / variance)) / 2
            if begin:
                weight += change
            endings.append((weight + steady, begin, 0.0, 0.0))
            if long < _LEAST_TREND:
                continue
            middle = (time - sums.time[begin]) / count
            wide = time_squares - sums.time_squares[begin] - count * middle * middle
            if wide > 0:
                across = time_logs - sums.time_logs[begin] - count * middle * mean
                slope = across / (wide + variance / slopes)
                weight += (across * slope / variance - log(1 + slopes * wide / variance)) / 2
                endings.append((weight + trend, begin, slope, middle))
        return endings

    def _tell(self, whole: float) -> None:
        """Keep the stories that weigh something."""
        sums = self._sums
        now = sums.units[-1]
        endings = self._endings(whole)
        if not endings:  # only a warm-up so far
            return
        best = max(weight for weight, *_ in endings)
        kept = [(exp(weight - best), begin, slope, middle) for weight, begin, slope, middle in endings
                if weight - best > _NEGLIGIBLE]  # fmt: skip
        total = sum(weight for weight, *_ in kept)
        base: float | None = None
        steady = told = 0.0
        trends: list[_Story] = []
        for weight, begin, slope, middle in kept:
            share, count = weight / total, now - sums.units[begin]
            level = (sums.seconds[-1] - sums.seconds[begin]) / count
            if slope:
                since = slope * (now - middle)
                if slope > 0:
                    slope /= 1 + since
                    level *= 1 + since
                else:
                    level *= exp(since)
                trends.append(_Story(share, level, slope, _REACH * count))
            if base is None:
                base = level  # equal levels give exactly that level
            if not slope:
                steady += share * (level - base)
            told += share * count
        assert base is not None
        self._said = base, base + steady, trends, told


def _total(logarithms: list[float]) -> float:
    """Return the logarithm of the sum."""
    best = max(logarithms)
    return best + log(sum(exp(one - best) for one in logarithms))
