"""What the code inside a phase tells of it: units, figures, metrics; and when the next word of it is due.

`advance` is a hot path: what most calls do stands in it, what few do in `_advance`.
"""

from __future__ import annotations

from . import _process
from ._annotations import TYPE_CHECKING, overload
from ._extra import Extra
from ._report import failure, shown, warn
from ._spec import as_text
from ._tally import EACH, NO_SINGLES, Logged, Tally, as_count, numbers_of
from .eta import Forecast
from .events import MetricsLogged, PhaseProgressed

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
    from typing import Any, TypeVar

    from ._outlet import Outlet
    from ._process import State
    from ._spec import PhaseSpec
    from ._tally import Metric
    from .events import PhaseInfo, Status

    Item = TypeVar("Item")

_ONE = 1
_NUMBERS = "ints, floats and scalars of numpy or torch"


class Counting:
    """A phase, as far as the code inside it tells how far it is."""

    __slots__ = ("_extra", "_live", "_singles", "_started", "_tracker", "name")

    if TYPE_CHECKING:
        name: str
        _tracker: Outlet
        _spec: PhaseSpec
        _live: State  # the process in which it is open, or what it is otherwise
        _extra: Extra | None
        _singles: Iterator[None]  # with a tally: counts a unit each time that it is asked, if there is no more to do
        _started: float

        @property
        def status(self) -> Status: ...
        def _describe(self) -> PhaseInfo: ...
        def _tell_before(self) -> None: ...

    @property
    def _tally(self) -> Tally | None:
        """How far it said to be, and what it was promised."""
        return None if self._extra is None else self._extra.tally

    @property
    def done(self) -> int:
        """Units done, those before the start included. An item that a loop of `track` works on is not done yet."""
        tally = self._tally
        return self._spec.start if tally is None else tally.position()

    @property
    def total(self) -> int | None:
        """Units expected, or None."""
        tally = self._tally
        if tally is not None:
            return tally.total
        return None if callable(self._spec.total) else self._spec.total

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """What was logged, and the means of what `advance` was given: each with ``last``, ``mean`` and ``count``."""
        extra = self._extra
        if extra is None:
            return {}
        return {
            **(extra.tally.means if extra.tally is not None else {}),
            **(extra.logged.metrics() if extra.logged is not None else {}),
        }

    # Progress.

    if TYPE_CHECKING:

        def advance(self, n: int = 1, /, *, weight: float | None = None, **values: object) -> None: ...

    else:

        def advance(self, n=None, /, **values) -> None:  # noqa: ANN001, ANN003  # as above; a named weight costs a tenth
            """Count ``n`` units as done.

            Inside a loop over `track`, which counts the units itself, only the values are taken.

            Args:
                n: units, a whole number of at least 0.
                weight: what the values cover; by default the first declared counter among them, else ``n``.
                **values: those named in ``counters`` add up; of every other number the weighted mean is kept.
            """
            if (n is None or n is _ONE) and not values:
                try:
                    return next(self._singles)  # which is None
                except (StopIteration, AttributeError):  # there is more to do, or nothing was counted yet
                    pass
            self._advance(_ONE if n is None else n, values.pop("weight", None), values)
            return None

    def _advance(self, n: object, weight: object, values: dict[str, object]) -> None:
        """Do what advance() has to do where it does not merely count."""
        if self._live is not _process.process:
            self._warn("advance", f"is told to advance, but it is {self._whereabouts()}; call advance inside its block")
            return
        try:
            extra = self._extra
            tally = (extra and extra.tally) or self._begin_tally()
            units = n if n.__class__ is int else as_count(n)
            if units is None or units < 0:
                self._warn("units", f"cannot advance by {shown(n)}; give a whole number of units, at least 0")
                units = 0
            if values:
                if "n" in values and "n" not in tally.counters:
                    self._warn("n", "is given n=; it is taken as a metric. Units are given by position: advance(3)")
                refused = tally.add(values, units, weight)
                if refused:
                    self._refuse(refused)
            if tally.loops is not None:
                tally.loops.tell()
                tally.note(tally.position(), self._tracker.now())
            if (tally.loops is None and not tally.in_work) or not tally.is_tracking():
                self._add(tally, units)
        except Exception:
            failure(f"phase {self.name!r} could not take advance({shown(n)}); the program goes on")

    def _add(self, tally: Tally, units: int) -> None:
        """Count units, with a look if one is due."""
        if units == 1:
            for _ in self._singles:
                return
        if tally.done + units < tally.stop:
            tally.add_units(units)
            self._singles = tally.singles()
        else:
            self._count(tally, units, self._tracker.now())

    def _begin_tally(self) -> Tally:
        spec = self._spec
        extra = self._more()
        self._singles = NO_SINGLES
        tally = extra.tally = Tally(spec.start, spec.total, spec.counters, self._started, spec.every)
        if extra.timing is None:  # the outermost of which something is to be told
            extra.timing = Forecast().begin(self.name, self._started)
        extra.timing.count(spec.total, spec.start).look = self._tell_units
        return tally

    def _tell_units(self, now: float) -> None:
        """Tell the forecast how many units are done, and since when."""
        tally, timing = self._tally, self._more().timing
        if tally is not None and timing is not None and timing.units is not None:
            tally.note(tally.position(), now)
            timing.units.total = tally.total
            timing.units.note(tally.counted, tally.counted_at)

    def _count(self, tally: Tally, n: int, now: float, *, shown: bool = True) -> None:
        """Count units, and tell progress where it is due."""
        before, total = tally.done, tally.total
        done = before + n
        tally.add_units(n)
        if n:
            tally.note(done, now)
        if total is not None and done > total:
            self._warn("total", f"has counted {done}, past its total of {total}; it counts on, but give a total= that holds")
        if not shown:
            return
        if tally.stepped and tally.every is None:  # each step has announced itself
            self._singles = NO_SINGLES  # which passed without a look up to a stop that has come nearer
            return
        tracker = self._tracker
        if tracker.listening and tally.is_due(before, done, now):
            self._show(tally, now)
        if tally.is_tracking() or (tracker.listening and tally.every is None and tracker.clock is not None):
            self._stop_at(tally, EACH)  # nothing waits for a thread where time is told by somebody else
        else:
            stop = tally.next_stop()
            self._stop_at(tally, min(stop, tally.next_line()) if tracker.listening else stop)

    def _stop_at(self, tally: Tally, count: int) -> None:
        """Have no single unit pass without a look from this count on."""
        tally.stop = count
        self._singles = tally.singles()

    def _show(self, tally: Tally, now: float) -> None:
        tally.note(tally.position(), now)
        tally.shown, tally.shown_at = tally.position(), now
        self._tell_before()
        self._tracker.emit(PhaseProgressed(self._describe(), self._tracker.wall(), **self._measures(now)))

    def _show_last(self, tally: Tally, now: float) -> None:
        """Tell the final count, if the last line was held back because it came too soon after another."""
        due = tally.every is None or tally.done % tally.every == 0
        if due and not tally.stepped and tally.done != tally.shown:
            self._show(tally, now)

    def _time_left(self, now: float, units_left: int | None = None) -> float | None:
        timing = self._more().timing
        return None if timing is None else timing.forecast.left(timing, now, units_left)

    @overload
    def track(self, iterable: Iterable[Item]) -> Iterator[Item]: ...
    @overload
    def track(self, iterable: AsyncIterable[Item]) -> AsyncIterator[Item]: ...
    def track(self, iterable: Any) -> Any:
        """Iterate, and count the items; the length of what is iterated is the total if none was given.

        The loop runs at the speed of a bare one: progress is read from outside, once a second. An item is done when the
        next one is taken, or the loop is left, by ``break`` too; an item that raises is the last that counts.
        Works for asynchronous iterables, with ``async for``.
        """
        if not self._is_open():
            self._warn("track", f"is told to track, but it is {self._whereabouts()}; iterate inside its block")
            return iter(iterable) if hasattr(iterable, "__iter__") else iterable
        tally = self._tally or self._begin_tally()
        if tally.total is None or tally.total_is_inferred:
            tally.infer_total(iterable)
        if hasattr(iterable, "__aiter__"):
            return EitherWay(self, iterable, tally) if hasattr(iterable, "__iter__") else self._track_async(iterable, tally)
        return self._track_sync(iterable, tally)

    def _track_sync(self, iterable: Iterable[Item], tally: Tally) -> Iterator[Item]:
        tracker = self._tracker
        if tracker.listening and (tracker.clock is not None or tally.every is not None):
            return self._track_each(iterable, tally)
        items = tally.begin_loop(iterable)
        self._stop_at(tally, EACH)
        return items

    # A clock that is told the time, and lines at certain counts, want each item counted when its turn is over.

    def _track_each(self, iterable: Iterable[Item], tally: Tally) -> Iterator[Item]:
        for item in iterable:
            self._begin_item(tally)
            try:
                yield item
            except GeneratorExit:  # the loop was left
                self._item_done(tally, shown=False)
                raise
            self._item_done(tally)

    async def _track_async(self, iterable: AsyncIterable[Item], tally: Tally) -> AsyncIterator[Item]:
        async for item in iterable:
            self._begin_item(tally)
            try:
                yield item
            except GeneratorExit:
                self._item_done(tally, shown=False)
                raise
            self._item_done(tally)

    def _begin_item(self, tally: Tally) -> None:
        tally.in_work += 1
        self._singles = NO_SINGLES  # it is counted when it is done

    def _item_done(self, tally: Tally, *, shown: bool = True) -> None:
        if tally is self._tally and self._is_open():
            tally.in_work -= 1
            try:
                self._count(tally, 1, self._tracker.now(), shown=shown)
            except Exception:
                failure(f"phase {self.name!r} could not count an item; the program goes on")

    def log(self, mapping: Mapping[str, object] | None = None, /, **metrics: object) -> None:
        """Record metrics of this phase, under any names, slashed ones as ``actor/kl`` included.

        The event comes at once; the line of metrics is written when the phase ends, with the last value of each.
        """
        if self._live is not _process.process:
            self._warn("log", f"is given metrics, but it is {self._whereabouts()}; call log inside its block")
            return
        try:
            extra = self._extra or self._more()
            taken, refused = numbers_of(metrics if mapping is None else {**self._named(mapping), **metrics})
            if refused:
                self._refuse(refused)
            if taken:
                logged, tracker = extra.logged, self._tracker
                if logged is None:
                    logged = extra.logged = Logged()
                logged.add(taken)
                if tracker.listening:
                    if not extra.is_told:
                        self._tell_before()
                    tracker.emit(MetricsLogged(extra.info or self._describe(), tracker.wall(), taken))
        except Exception:
            failure(f"phase {self.name!r} could not take log(...); the program goes on")

    def _named(self, mapping: Mapping[str, object]) -> dict[str, object]:
        """Return what was given to log, by names that are text."""
        try:
            given = dict(mapping)
        except (TypeError, ValueError):
            self._warn("mapping", f"is given {shown(mapping)} to log; it takes a mapping of names to numbers")
            return {}
        for name in given:
            if type(name) is not str:
                return {as_text(name): value for name, value in given.items()}
        return given

    def _measures(self, now: float) -> dict[str, Any]:
        """Return what an event tells of a phase that is under way."""
        tally = self._tally
        return {
            "done": self.done,
            "total": self.total,
            "elapsed": max(0.0, now - self._started),
            "eta": self._time_left(now),
            "counters": dict(tally.counters) if tally is not None else None,
            "means": tally.mean_values() if tally is not None else None,
        }

    def _more(self) -> Extra:
        if self._extra is None:
            self._extra = Extra()
        return self._extra

    def _is_open(self) -> bool:
        return self._live is _process.process

    # Mistakes in calls.

    def _whereabouts(self) -> str:
        """Return what a phase that is not open here is instead."""
        return "open in the process from which this one was forked" if self.status == "running" else self.status

    def _refuse(self, names: list[str]) -> None:
        for name in names:
            self._warn(
                f"value {name}", f"is given {name!r} with a value that is no number, as {_NUMBERS} are; it is left out"
            )

    def _warn(self, about: str, message: str) -> None:
        """Warn once for each phase and mistake."""
        extra = self._more()
        if about not in extra.warned:
            extra.warned = extra.warned | {about}
            warn(f"phase {self.name!r} {message}")


class EitherWay:
    """What `track` returns for something that can be iterated with ``for`` and with ``async for``."""

    def __init__(self, phase: Counting, iterable: Any, tally: Tally) -> None:
        self._of = phase, iterable, tally

    def __iter__(self) -> Iterator[Any]:
        phase, iterable, tally = self._of
        return phase._track_sync(iterable, tally)

    def __aiter__(self) -> AsyncIterator[Any]:
        phase, iterable, tally = self._of
        return phase._track_async(iterable, tally)
