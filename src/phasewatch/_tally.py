"""Counts and means of one phase: what it was told, and when the next word of it is due.

Single units are counted by an `itertools.repeat` that is asked for its next item. No other thread can come into that, and it
takes less time than to add one to an attribute. How many it has left tells how many were counted.
"""

from __future__ import annotations

import itertools
import operator
import sys
from collections import deque

from ._annotations import TYPE_CHECKING
from ._loops import Loops

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

LINE_SECONDS = 1.0  # between two progress lines
EACH = -1  # a count that every count reaches
NEVER = sys.maxsize  # one that none does
NO_SINGLES: Iterator[None] = iter(())  # counts nothing: there is more to do for each unit
_INFINITY = float("inf")
_HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


def as_number(value: object) -> float | None:
    """Return a number as a float, and None for what is none.

    Scalars of numpy, torch, jax and the like are taken through their ``item()``, so that none of them is imported.
    """
    if type(value) is float:
        return value
    try:
        if type(value) is int:
            return float(value)
        item = getattr(value, "item", None)
        if item is not None:
            value = item()
        if isinstance(value, (str, bytes, bytearray)):  # float() would read them
            return None
        return float(value)  # type: ignore[arg-type]  # float() is asked, and may refuse
    except OverflowError:  # a whole number or a fraction beyond all floats
        try:
            return _INFINITY if value > 0 else -_INFINITY  # type: ignore[operator]  # it is asked, and may refuse
        except Exception:
            return None
    except Exception:  # a tensor of many elements, an object whose __float__ fails: no number
        return None


def as_count(value: object) -> int | None:
    """Return a whole number as an int (``28``, ``28.0``, ``numpy.int64(28)``), and None for anything else."""
    if type(value) is int:
        return value
    try:
        return operator.index(value)  # type: ignore[arg-type]  # it is asked, and may refuse
    except Exception:
        number = as_number(value)
        return int(number) if number is not None and number.is_integer() else None


class Metric:
    """One metric of a phase: its last value, how many were given, and their weighted mean."""

    __slots__ = ("_sum", "_weight", "count", "last")

    def __init__(self) -> None:
        self.last = float("nan")
        self.count = 0
        self._sum = 0.0
        self._weight = 0.0

    @property
    def mean(self) -> float:
        """The weighted mean of all values; NaN before the first, the last value if nothing had any weight."""
        return self._sum / self._weight if self._weight else self.last

    def add(self, value: float, weight: float) -> None:
        """Take a value that covers ``weight`` units."""
        self.last = value
        self.count += 1
        if weight:  # else an infinite value without weight would make the sum NaN
            self._sum += value * weight
            self._weight += weight

    def __repr__(self) -> str:
        return f"Metric(last={self.last!r}, mean={self.mean!r}, count={self.count!r})"


def numbers_of(values: dict[str, object]) -> tuple[dict[str, float], list[str]]:
    """Return those of the values that are numbers, as floats, and the names of those that are none."""
    for value in values.values():
        if value.__class__ is not float:
            break
    else:  # which most are
        return values, []  # type: ignore[return-value]  # as was just seen
    taken: dict[str, float] = {}
    refused = []
    for name, value in values.items():
        number = as_number(value)
        if number is None:
            refused.append(name)
        else:
            taken[name] = number
    return taken, refused


class Logged:
    """What a phase was given to log: most are given one mapping, of which nothing is made before there is more.

    Several threads may log to one phase at once.
    """

    __slots__ = ("_metrics", "_waiting", "words")

    def __init__(self) -> None:
        self.words = 0  # how often it was given something
        self._metrics: dict[str, Metric] = {}
        self._waiting: deque[dict[str, float]] = deque()  # not in the metrics yet

    def add(self, values: dict[str, float]) -> None:
        """Take logged values; they are not changed from now on."""
        self.words += 1
        self._waiting.append(values)
        if len(self._waiting) > 1:
            self.metrics()

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics, by name."""
        metrics = self._metrics
        while self._waiting:
            try:
                values = self._waiting.popleft()  # by one thread only
            except IndexError:
                break
            for name, value in values.items():
                metric = metrics.get(name)
                if metric is None:
                    metric = metrics[name] = Metric()
                metric.add(value, 1.0)
        return metrics

    def last(self) -> dict[str, float]:
        """Return the last value of each; of a single mapping, that one, whose text is known already."""
        waiting = tuple(self._waiting)
        if len(waiting) == 1 and not self._metrics:
            return waiting[0]
        return {name: metric.last for name, metric in self.metrics().copy().items()}  # another thread may add to them


class Tally:
    """What a phase was told: its count, the figures that came with it, and when they were last looked at."""

    __slots__ = (
        "_added", "_singles", "counted", "counted_at", "counters", "every", "in_work", "looked", "looked_at",
        "loops", "means", "shown", "shown_at", "start", "stepped", "stop", "total", "total_is_inferred", "words",
    )  # fmt: skip

    def __init__(self, start: int, total: int | None, counters: Iterable[str], now: float, every: int | None = None) -> None:
        self.start = start
        self.total = total
        self.every = every  # units between two progress lines, if somebody said
        self._added = start  # units, without those that were counted one by one
        self._singles = itertools.repeat(None, sys.maxsize)
        self.stop = EACH  # the count from which on there is more to do than to count
        self.loops: Loops | None = None  # that count by themselves
        self.in_work = 0  # items of loops that are counted one by one
        self.stepped = False  # whether the units are phases of their own
        self.counters: dict[str, float] = dict.fromkeys(counters, 0)
        self.means: dict[str, Metric] = {}
        self.counted = start  # units, when they were last looked at
        self.counted_at = now  # clock seconds of that
        self.total_is_inferred = False  # from the length of what is tracked
        self.words = 0  # how often it was told of figures
        self.looked = start  # units at the last look
        self.looked_at = now
        self.shown = start  # what the last progress event said
        self.shown_at: float | None = None

    # The count.

    @property
    def done(self) -> int:
        """Units done, without those of loops under way."""
        return self._added + sys.maxsize - operator.length_hint(self._singles)

    def add_units(self, n: int) -> None:
        """Count units."""
        self._added += n

    def singles(self) -> Iterator[None]:
        """Return what counts one unit each time that it is asked for its next item, up to the last one before the stop."""
        if not _HAS_GIL:  # threads that share an islice can crash there (python/cpython#151409)
            return NO_SINGLES
        if self.stop is NEVER:
            return self._singles
        return itertools.islice(self._singles, max(0, self.stop - self.done - 1))

    def position(self) -> int:
        """Return the units done, those of loops under way included, without the items in work."""
        return self.done if self.loops is None else self.done + self.loops.done()

    def begin_loop(self, iterable: Iterable[Any]) -> Iterator[Any]:
        """Return what to iterate over; it is asked how far it is."""
        if self.loops is None:
            self.loops = Loops()
        self._added += self.loops.take_finished()
        return self.loops.begin(iterable)

    def infer_total(self, iterable: Any) -> None:
        """Take the length of what is tracked for the total: of one epoch after another, all so far."""
        try:
            # Of loops inside one another, the items of all are counted, and nobody knows how many there will be.
            self.total = None if self.is_tracking() else self.position() + len(iterable)
        except Exception:  # a generator, or a loader of unknown length
            self.total = None
        self.total_is_inferred = True

    def is_tracking(self) -> bool:
        """Whether loops are under way, which count by themselves."""
        if self.loops is not None:
            self._added += self.loops.take_finished()
        return bool(self.loops or self.in_work)

    def end_loops(self) -> int:
        """Forget the loops under way; return how many items they handed out that are not counted."""
        handed = self.in_work + (0 if self.loops is None else self.loops.handed())
        self.loops, self.in_work, self.stop = None, 0, EACH
        return handed

    def is_due(self, before: int, done: int, now: float) -> bool:
        """Whether progress is to be told, now that ``done`` units are done where ``before`` were."""
        every, total = self.every, self.total
        if every is not None:
            return done // every > before // every
        if self.stepped:  # each step has announced itself
            return False
        if self.shown_at is None or (total is not None and before < total <= done):
            return True
        return now - self.shown_at >= LINE_SECONDS

    def next_stop(self) -> int:
        """Return the count from which on there is more to do than to count, whoever listens."""
        done, total = self.done, self.total
        if total is None or done > total:
            return NEVER
        return total if done < total else total + 1

    def next_line(self) -> int:
        """Return the count at which the next progress line is due, if it is due at certain counts."""
        return NEVER if self.every is None else (self.done // self.every + 1) * self.every

    # When it was counted.

    def note(self, done: int, now: float) -> None:
        """Note when so many units were done: now, as far as anybody looked, if there are more than before."""
        if done != self.counted:
            self.counted, self.counted_at = done, now

    def look(self, done: int, now: float) -> None:
        """Note the count at a look from outside: units were done since the last one, evenly as far as is known."""
        more = done - self.looked
        if more > 0:
            self.note(done, now - (now - self.looked_at) / (2 * more))
        self.looked, self.looked_at = done, now

    # Figures.

    def add(self, values: dict[str, object], n: int, weight: object) -> list[str]:
        """Add values that came with ``n`` units: declared counters add up, the rest are means.

        The weight of a mean is ``weight``, else the first declared counter among the values, else ``n``.
        Returns the names of what was no number, or a weight that was none.
        """
        self.words += 1
        refused: list[str] = []
        covers: float | None = None
        if weight is not None:
            covers = as_number(weight)
            if covers is None or not 0 <= covers < _INFINITY:
                refused.append("weight")
                covers = None
        counters, means = self.counters, self.means
        measured = []
        for name, value in values.items():
            if value.__class__ is int and name in counters:
                counters[name] += value
                if covers is None and value >= 0:
                    covers = value
                continue
            number = value if value.__class__ is float else as_number(value)
            if number is None:
                refused.append(name)
            elif name not in counters:
                measured.append((name, number))
            else:
                counters[name] += int(number) if number.is_integer() else number
                if covers is None and 0 <= number < _INFINITY:
                    covers = number
        if covers is None:
            covers = n
        for name, number in measured:
            metric = means.get(name)
            if metric is None:
                metric = means[name] = Metric()
            metric.add(number, covers)
        return refused

    def mean_values(self) -> dict[str, float]:
        """Return the mean of each value that `add` took."""
        return {name: metric.mean for name, metric in self.means.copy().items()}  # likewise
