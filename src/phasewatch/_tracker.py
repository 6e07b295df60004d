"""The stack of open phases, and what turns entering, advancing and leaving them into events.

Which phase is current is kept in one ContextVar that holds the innermost phase of a thread or task; the rest of the
stack is that phase's chain of parents. Nothing of it is shared between threads or changed behind them.

Entering, leaving and `advance` are hot paths: what most calls do stands in them, what few do in methods of its own.
"""

from __future__ import annotations

import itertools
import os
import time
from contextvars import ContextVar

from . import _forks, _wrap
from ._annotations import TYPE_CHECKING, overload
from ._dispatcher import Dispatcher
from ._fault import Fault, path_of, told
from ._loops import Loops
from ._monitor import Monitor
from ._report import failure, shown, warn
from ._spec import PLAIN, PhaseSpec, as_text, count_or_warn, make_spec
from ._tally import Tally, as_count
from .eta import Forecast
from .events import MetricsLogged, PhaseEnded, PhaseInfo, PhaseProgressed, PhaseStarted, Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Any, ClassVar, TypeVar

    from ._tally import Metric
    from .eta import Running
    from .events import Event, Role, Sink, Status
    from .plan import TrainingPlan

    Fn = TypeVar("Fn", bound=Callable[..., Any])
    Item = TypeVar("Item")
    Self = TypeVar("Self", bound="Phase")

_LINE_SECONDS = 1.0  # between two progress lines
_NUMBERS = "ints, floats and scalars of numpy or torch"
_MOST_FAULTS = 16  # that a phase remembers of those inside it
_EACH = -1  # a count that every count reaches
_NEVER = float("inf")

_current: ContextVar[Phase | None] = ContextVar("phasewatch_current", default=None)


class _Process:
    """The identity of this process: after a fork, the child has another."""

    def __init__(self, forked_from: str | None = None) -> None:
        # From the system and not from `random`, whose state belongs to the program.
        self.token = os.urandom(4).hex()
        self.forked_from = forked_from  # the id of the phase that was current where the process was forked


PENDING, _CLOSED = _Process(), _Process()  # no processes at all: where others have that in which they are open
_process: _Process | None = None
_numbers = itertools.count(1)
_monitor = Monitor()


def _this_process() -> _Process:
    """Return the identity of this process; the first call prepares for forks, which an import must not."""
    global _process
    if _process is None:
        _process = _Process()
        _forks.prepare(_after_fork)
    return _process


def _after_fork() -> None:
    global _process
    phase = current()  # still by the parent's identity
    _process = _Process(forked_from=phase.id if phase is not None else None)
    _monitor.reset()
    _current.set(None)


def current() -> Phase | None:
    """Return the innermost open phase of this thread or task, or None."""
    phase = _current.get()
    while phase is not None and not phase._is_open():
        phase = phase._parent
    return phase


class Tracker:
    """Where phases go: a clock, and the sinks that hear of them.

    Phases opened with `phasewatch.phase` find theirs by themselves. A tracker of one's own serves tests, and libraries
    that keep their phases apart from those of the program.

    Args:
        sinks: who hears of the events.
        clock: a callable that returns monotonic seconds; if it has a ``wall()``, that gives the time of day in seconds
            since 1970, else `time.time` does.
    """

    enabled = True
    joins = False  # whether its phases join what is open around them, of whatever tracker

    def __init__(self, sinks: Iterable[Sink] = (), clock: Callable[[], float] | None = None) -> None:
        self._use_sinks(sinks)
        self._use_clock(clock)

    def _use_sinks(self, sinks: Iterable[Sink]) -> None:
        self._dispatcher = Dispatcher(sinks)
        self.listening = bool(self._dispatcher.sinks)  # an event for nobody is not built

    def _use_clock(self, clock: Callable[[], float] | None) -> None:
        self.clock = clock
        self._last_now = 0.0
        self._clock_failed = False
        self._wall: Callable[[], float] = getattr(clock, "wall", time.time)
        # The system's own clock does not fail.
        self.now: Callable[[], float] = time.perf_counter if clock is None else self._guarded_now

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The sinks that hear of what happens here."""
        return self._dispatcher.sinks

    def phase(self, name: str | None = None, /, **options: Any) -> Phase:
        """Return a phase of this tracker; the options are those of `phasewatch.phase`."""
        return make_phase(self, name, make_spec(name, options))

    def close(self) -> None:
        """Close the sinks."""
        self._dispatcher.close()

    def place(self, phase: Phase | None) -> tuple[Phase | None, Tracker]:
        """Return the parent and the tracker of a phase that is opened while ``phase`` is the current one."""
        while phase is not None and phase._tracker is not self:
            phase = phase._parent
        return phase, self

    def _guarded_now(self) -> float:
        """Return the clock's seconds; a clock that fails is reported once, and stands still."""
        assert self.clock is not None
        try:
            self._last_now = self.clock()
        except Exception:
            self._report_clock("time stands still where it fails")
        return self._last_now

    def wall(self) -> float:
        """Return the time of day, in seconds since 1970; that of the system where the clock's fails."""
        try:
            return self._wall()
        except Exception:
            self._report_clock("the system's time of day stands in")
            return time.time()

    def _report_clock(self, consequence: str) -> None:
        if not self._clock_failed:
            self._clock_failed = True
            failure(f"the clock {self.clock!r} failed; the program goes on, {consequence}")

    def emit(self, event: Event) -> None:
        """Hand an event to the sinks."""
        self._dispatcher.emit(event)


class Phase:
    """One phase of the work: a ``with`` block, or a decorator around each call of a function.

    It is made by `phasewatch.phase`. Between entering and leaving, it is the handle through which the code inside tells
    how far it is. Nothing that it is told can raise: a mistake in a call is a `PhasewatchWarning`, once.
    """

    __slots__ = (
        "_depth", "_done", "_ended", "_faults", "_home", "_id", "_in_work", "_info", "_live", "_loops",
        "_outer", "_parent", "_spec", "_started", "_stepped", "_stop", "_stopped", "_tally", "_timing", "_tracker",
        "_warned", "name",
    )  # fmt: skip

    role: ClassVar[Role] = "phase"
    _finds_its_place: ClassVar[bool] = False  # rather than under whatever is current

    if TYPE_CHECKING:
        name: str
        _home: Tracker
        _tracker: Tracker
        _spec: PhaseSpec
        _live: _Process  # that in which it is open, or one of PENDING and _CLOSED
        _tally: Tally | None  # what it was told, and what it was promised
        _timing: Running | None  # what the forecast knows of it, where somebody may ask for one
        _parent: Phase | None
        _outer: Phase | None  # what was current before
        _started: float
        _stopped: float
        _depth: int  # of entries while it was open already
        _done: int  # units, without those of loops under way
        _ended: Status  # how, once it is closed
        _faults: tuple[Fault, ...]  # of phases inside this one
        _id: str | None
        _in_work: int  # items of loops that are counted one by one
        _info: PhaseInfo | None
        _loops: Loops | None
        _stepped: bool
        _stop: float  # the count from which on advance() has more to do than to count
        _warned: set[str] | None

    def __init__(self, home: Tracker, name: str, spec: PhaseSpec = PLAIN) -> None:
        self._home = home
        self.name = name
        self._spec = spec
        self._live = PENDING
        self._tally = self._timing = None
        self._depth = 0
        self._parent = self._info = self._id = self._warned = None
        self._loops = None
        self._faults = ()
        self._started = 0.0
        self._ended = "completed"
        self._done = self._in_work = 0
        self._stop = _EACH
        self._stepped = False

    # What a person reads.

    @property
    def plan(self) -> TrainingPlan | None:
        """What was said to run, of a run that was given a plan."""
        return None

    @property
    def status(self) -> Status:
        """``pending``, ``running``, ``completed``, ``failed`` or ``interrupted``."""
        return "pending" if self._live is PENDING else self._ended if self._live is _CLOSED else "running"

    @property
    def path(self) -> tuple[str, ...]:
        """The names from below the run down to this phase."""
        names = []
        phase: Phase | None = self
        while phase is not None and phase.role != "run":
            names.append(phase.name)
            phase = phase._parent
        return tuple(reversed(names))

    @property
    def id(self) -> str | None:
        """The id under which the events know this phase, unique among all processes; None before it is entered."""
        if self._id is None and self._live is not PENDING:
            process = _this_process() if self._live is _CLOSED else self._live
            self._id = f"{process.token}.{next(_numbers):x}"
        return self._id

    @property
    def done(self) -> int:
        """Units done, those before the start included. An item that a loop of `track` works on is not done yet."""
        if self._live is PENDING:
            return self._spec.start
        return self._done if self._loops is None else self._done + self._loops.done()

    @property
    def total(self) -> int | None:
        """Units expected, or None."""
        if self._tally is not None:
            return self._tally.total
        return None if callable(self._spec.total) else self._spec.total

    @property
    def elapsed(self) -> float:
        """Seconds since the phase was entered; once it has ended, how long it took."""
        if self._live is PENDING:
            return 0.0
        return max(0.0, (self._stopped if self._live is _CLOSED else self._tracker.now()) - self._started)

    @property
    def eta(self) -> float | None:
        """Seconds until the phase ends; None while nothing is known of it, 0 when it has ended."""
        if self._live is PENDING:
            return None
        return 0.0 if self._live is _CLOSED else self._time_left(self._tracker.now())

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """What was logged, and the means of what `advance` was given: each with ``last``, ``mean`` and ``count``."""
        return {} if self._tally is None else {**self._tally.means, **self._tally.logged}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.status}>"

    # The block.

    def __enter__(self: Self) -> Self:
        if self._live is not PENDING and self._was_entered():
            return self
        try:
            process = _process
            if process is None:
                process = _this_process()
            outer = _current.get()
            if outer is not None and outer._live is not process:
                outer = current()
            if outer is not None and self._home.joins and not self._finds_its_place:
                self._parent = outer
                tracker = outer._tracker
            else:
                self._parent, tracker = self._place(outer)
            self._outer = outer
            self._tracker = tracker
            self._live = process
            _current.set(self)
            self._started = tracker.now()
            around = self._parent
            if around is not None and around._timing is not None:
                self._time(around._timing)
            if self._spec is not PLAIN:
                self._prepare()
            if tracker.listening:
                tracker.emit(PhaseStarted(self._describe(), tracker.wall()))
        except Exception:
            failure(f"phase {self.name!r} could not be opened; the program goes on without it")
        except BaseException as error:  # Ctrl-C in a sink: Python will not call __exit__, so the stack is put right here
            if self._live is _process:
                self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not _process or self._depth:
            self._leave_again()
            return
        try:
            tracker = self._tracker
            self._stopped = tracker.now()
            # The stack first: it is right whatever fails below. Where another phase is current, it stays: this one may
            # be closed by another task, or before one that was opened later.
            self._live = _CLOSED
            if _current.get() is self:
                _current.set(self._outer)
            if error is not None or self._tally is not None or tracker.listening:
                self._conclude(error)
            timing = self._timing
            if timing is not None:
                timing.forecast.end(timing, self._stopped, completed=self._ended == "completed")
            parent = self._parent
            if parent is not None and parent._tally is not None:
                self._report_to(parent, parent._tally)
        except Exception:
            failure(f"phase {self.name!r} could not be closed; the program goes on")

    def _is_open(self) -> bool:
        return self._live is _process

    def _is_closed(self) -> bool:
        return self._live is _CLOSED

    def _was_entered(self) -> bool:
        """Take the entering of a phase that was entered before; return whether it is open still."""
        if self._is_open():
            self._depth += 1
            self._warn("open", "is entered while it is open; make a new one with phase(...) for each block")
            return True
        Phase.__init__(self, self._home, self.name, self._spec)
        return False

    def _leave_again(self) -> None:
        """Take the leaving of a phase that was entered twice, or is not open."""
        if self._depth:
            self._depth -= 1
        elif self._live is PENDING or self._live is _CLOSED:  # else it was opened before a fork: the parent's to close
            self._warn("closed", f"is left, but it is {self.status}; leave it once, after entering it")

    def _place(self, outer: Phase | None) -> tuple[Phase | None, Tracker]:
        """Return the parent and the tracker, given the innermost open phase."""
        return self._home.place(outer)

    def _prepare(self) -> None:
        """Make ready for what the options say, when the phase is entered."""
        spec = self._spec
        if spec.depends_on_call:  # a with-block: there is no call, so the options are asked without arguments
            spec = self._spec = spec.resolve(self.name, lambda option: option())
        if spec.total is not None or spec.counters or spec.start:
            self._begin_tally()

    def _describe(self) -> PhaseInfo:
        if self._info is None:
            spec, own_id = self._spec, self.id
            assert own_id is not None
            around = self._parent._describe() if self._parent is not None else None
            self._info = PhaseInfo(
                self.name,
                id=own_id,
                parent=around.id if around is not None else _this_process().forked_from,
                run=own_id if self.role == "run" else around.run if around is not None else None,
                path=() if self.role == "run" else (*(around.path if around is not None else ()), self.name),
                role=self.role,
                total=spec.total,
                unit=spec.unit,
                start=spec.start,
                counters=spec.counters,
                details=spec.details,
                message=spec.message,
                step=spec.step,
                emoji=spec.emoji,
                attributes=spec.attributes,
                position=self._position(),
            )
        return self._info

    def _position(self) -> Position | None:
        return None

    def _conclude(self, error: BaseException | None) -> None:
        """Tell how the phase ended: to its parent, and to who listens."""
        tracker, tally, now = self._tracker, self._tally, self._stopped
        if isinstance(error, Exception):
            self._ended = "failed"
        elif error is not None and not isinstance(error, GeneratorExit):  # that is a `break` in whoever reads from us
            self._ended = "interrupted"
        completed = self._ended == "completed"
        if tally is not None:
            self._stop = _EACH
            _monitor.unwatch(self)
            handed = self._in_work + (0 if self._loops is None else self._loops.handed())
            self._loops, self._in_work = None, 0
            if handed:
                self._count(tally, handed, now, shown=False)  # of loops that were left, by `break` or by an exception
            if tracker.listening and completed:
                self._show_last(tally, now)
        innermost, origin = False, None
        if not completed:
            assert error is not None
            told_before = path_of(error, self._faults)
            innermost, origin = told_before is None, told_before or self.path
            if self._parent is not None:
                # Several children may fail before one of their exceptions comes by.
                self._parent._faults = (*self._parent._faults[-_MOST_FAULTS:], Fault(error, origin))
            self._faults = ()
        if tracker.listening:
            tracker.emit(
                PhaseEnded(
                    self._describe(),
                    tracker.wall(),
                    status=self._ended,
                    done=self._done,
                    total=tally.total if tally else None,
                    elapsed=max(0.0, now - self._started),
                    counters=dict(tally.counters) if tally else None,
                    means=tally.mean_values() if tally else None,
                    metrics=tally.last_logged() if tally else None,
                    error=None if completed or error is None else told(error),
                    innermost=innermost,
                    origin=origin,
                )
            )

    def _time(self, around: Running) -> None:
        """Let the forecast know of this phase, inside another."""
        self._timing = around.forecast.begin(self.name, self._started, around)

    def _report_to(self, parent: Phase, tally: Tally) -> None:
        """Tell an ended phase's parent, on its tally, what the phase means for it."""

    def _suspend(self) -> None:
        """Give way to other code: the generator in which this phase is has yielded."""
        if _current.get() is self:
            _current.set(self._outer)

    def _resume(self) -> None:
        """Be current again, inside whatever is current where the generator is read now."""
        if self._is_open():
            self._outer = current()
            _current.set(self)

    # Progress.

    def advance(self, n: int = 1, /, *, weight: float | None = None, **values: object) -> None:
        """Count ``n`` units as done.

        Inside a loop over `track`, which counts the units itself, only the values are taken.

        Args:
            n: units, a whole number of at least 0.
            weight: what the values cover; by default the first declared counter among them, else ``n``.
            **values: those named in ``counters`` add up; of every other number the weighted mean is kept.
        """
        if not values and n.__class__ is int and n >= 0:
            done = self._done + n
            if done < self._stop:
                self._done = done
                return
        self._advance(n, weight, values)

    def _advance(self, n: object, weight: object, values: dict[str, object]) -> None:
        """Do what advance() has to do where it does not merely count."""
        if self._live is not _process:
            self._warn("advance", f"is told to advance, but it is {self.status}; call advance inside its block")
            return
        try:
            tally = self._tally or self._begin_tally()
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
            if self._loops is not None:
                self._loops.tell()
                tally.note(self.done, self._tracker.now())
            if not self._is_tracking():
                done = self._done + units
                if done < self._stop:
                    self._done = done
                else:
                    self._count(tally, units, self._tracker.now())
        except Exception:
            failure(f"phase {self.name!r} could not take advance({shown(n)}); the program goes on")

    def _begin_tally(self) -> Tally:
        spec = self._spec
        self._done = spec.start
        tally = self._tally = Tally(spec.start, spec.total, spec.counters, self._started)
        if self._timing is None:  # the outermost of which something is to be told
            self._timing = Forecast().begin(self.name, self._started)
        units = self._timing.count(spec.total, spec.start)
        units.look = self._tell_units
        return tally

    def _tell_units(self, now: float) -> None:
        """Tell the forecast how many units are done, and since when."""
        tally, timing = self._tally, self._timing
        if tally is not None and timing is not None and timing.units is not None:
            tally.note(self.done, now)
            timing.units.total = tally.total
            timing.units.note(tally.counted, tally.counted_at)

    def _count(self, tally: Tally, n: int, now: float, *, shown: bool = True) -> None:
        """Count units, and tell progress where it is due."""
        before, total = self._done, tally.total
        done = self._done = before + n
        if n:
            tally.note(done, now)
        if total is not None and done > total:
            self._warn("total", f"has counted {done}, past its total of {total}; it counts on, but give a total= that holds")
        if not shown:
            return
        if self._tracker.listening and self._is_due(tally, before, done, now):
            self._show(tally, now)
        self._stop = self._next_stop(tally, done)

    def _is_due(self, tally: Tally, before: int, done: int, now: float) -> bool:
        every, total = self._spec.every, tally.total
        if every is not None:
            return done // every > before // every
        if self._stepped:  # each step has announced itself
            return False
        if tally.shown_at is None or (total is not None and before < total <= done):
            return True
        return now - tally.shown_at >= _LINE_SECONDS

    def _next_stop(self, tally: Tally, done: int) -> float:
        """Return the count from which on advance() has more to do than to count."""
        if self._is_tracking():
            return _EACH
        every, total = self._spec.every, tally.total
        stop = total if total is not None and done < total else _NEVER if total is None or done > total else total + 1
        if not self._tracker.listening:
            return stop
        if every is not None:
            return min(stop, (done // every + 1) * every)
        if self._tracker.clock is not None:  # nothing waits for a thread where time is told by somebody else
            return _EACH
        if not self._stepped:
            _monitor.watch(self)
        return stop

    def _look(self) -> None:
        """Be looked at by the monitor: the next count tells progress, and loops that are not counted tell it now."""
        tally = self._tally
        if tally is None or not self._is_open():
            _monitor.unwatch(self)
            return
        self._stop = _EACH
        if self._loops:
            now, done = self._tracker.now(), self.done
            tally.look(done, now)
            if not self._stepped and done > tally.shown:
                self._show(tally, now)

    def _show(self, tally: Tally, now: float) -> None:
        done = self.done
        tally.note(done, now)
        tally.shown, tally.shown_at = done, now
        self._tracker.emit(
            PhaseProgressed(
                self._describe(),
                self._tracker.wall(),
                done=done,
                total=tally.total,
                elapsed=max(0.0, now - self._started),
                eta=self._time_left(now),
                counters=dict(tally.counters),
                means=tally.mean_values(),
            )
        )

    def _show_last(self, tally: Tally, now: float) -> None:
        """Tell the final count, if the last line was held back because it came too soon after another."""
        if self._spec.every is None and not self._stepped and self._done != tally.shown:
            self._show(tally, now)

    def _time_left(self, now: float, units_left: int | None = None) -> float | None:
        return None if self._timing is None else self._timing.forecast.left(self._timing, now, units_left)

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
            self._warn("track", f"is told to track, but it is {self.status}; iterate inside its block")
            return iter(iterable) if hasattr(iterable, "__iter__") else iterable
        tally = self._tally or self._begin_tally()
        if tally.total is None or tally.total_is_inferred:
            try:
                tally.total = self.done + len(iterable)  # of one epoch after another, all so far
                tally.total_is_inferred = True
            except Exception:  # a generator, or a loader of unknown length
                tally.total = None
        if hasattr(iterable, "__aiter__") and not hasattr(iterable, "__iter__"):
            return self._track_async(iterable, tally)
        if self._tracker.listening and (self._tracker.clock is not None or self._spec.every is not None):
            return self._track_each(iterable, tally)
        return self._track_freely(iterable)

    def _track_freely(self, iterable: Iterable[Any]) -> Iterator[Any]:
        """Leave the loop to itself; it is asked how far it is."""
        if self._loops is None:
            self._loops = Loops()
        self._done += self._loops.take_finished()
        items = self._loops.begin(iterable)
        self._stop = _EACH
        if self._tracker.listening and not self._stepped:
            _monitor.watch(self)
        return items

    def _is_tracking(self) -> bool:
        if self._loops is not None:
            self._done += self._loops.take_finished()
        return bool(self._loops or self._in_work)

    # A clock that is told the time, and lines at certain counts, want each item counted when its turn is over.

    def _track_each(self, iterable: Iterable[Item], tally: Tally) -> Iterator[Item]:
        for item in iterable:
            self._in_work += 1
            try:
                yield item
            except GeneratorExit:  # the loop was left
                self._item_done(tally, shown=False)
                raise
            self._item_done(tally)

    async def _track_async(self, iterable: AsyncIterable[Item], tally: Tally) -> AsyncIterator[Item]:
        async for item in iterable:
            self._in_work += 1
            try:
                yield item
            except GeneratorExit:
                self._item_done(tally, shown=False)
                raise
            self._item_done(tally)

    def _item_done(self, tally: Tally, *, shown: bool = True) -> None:
        if tally is self._tally and self._is_open():
            self._in_work -= 1
            try:
                self._count(tally, 1, self._tracker.now(), shown=shown)
            except Exception:
                failure(f"phase {self.name!r} could not count an item; the program goes on")

    def log(self, mapping: Mapping[str, object] | None = None, /, **metrics: object) -> None:
        """Record metrics of this phase, under any names, slashed ones as ``actor/kl`` included.

        The event comes at once; the line of metrics is written when the phase ends, with the last value of each.
        """
        if not self._is_open():
            self._warn("log", f"is given metrics, but it is {self.status}; call log inside its block")
            return
        try:
            try:
                given = dict(mapping) if mapping is not None else {}
            except (TypeError, ValueError):
                self._warn("mapping", f"is given {shown(mapping)} to log; it takes a mapping of names to numbers")
                given = {}
            values = {as_text(name): value for name, value in {**given, **metrics}.items()}
            tally = self._tally or self._begin_tally()
            taken, refused = tally.log(values)
            self._refuse(refused)
            if taken and self._tracker.listening:
                self._tracker.emit(MetricsLogged(self._describe(), self._tracker.wall(), values=taken))
        except Exception:
            failure(f"phase {self.name!r} could not take log(...); the program goes on")

    def step(self, *, step: int | None = None, epoch: int | None = None, **options: Any) -> Phase:
        """Return one unit of this phase as a phase inside it, named ``{NAME} {UNIT}``: TRAINING STEP.

        When it completes, this phase advances by one; when it raises, the count stays where it was.

        Args:
            step: its number; by default one more than are done.
            epoch: the epoch that it belongs to, counted from 1.
            **options: those of `phasewatch.phase`.
        """
        number = count_or_warn(self.name, "step", step)
        epoch = count_or_warn(self.name, "epoch", epoch)
        name = f"{self.name} {self._spec.unit.upper()}"
        return _Step(self, name, make_spec(name, options), number, epoch)

    # The decorator.

    def __call__(self, fn: Fn) -> Fn:
        """Decorate: each call of the function is a phase of its own."""
        return _wrap.wrap(fn, self._opener)

    def _opener(self, fn: Callable[..., Any]) -> _wrap.Opener:
        home, spec, name, again = self._home, self._spec, self.name, self._again
        of_call = _wrap.arguments_for(fn) if spec.depends_on_call else None
        if type(self) is Phase and of_call is None:
            return lambda args, kwargs: Phase(home, name, spec) if home.enabled else DISABLED

        def open_for(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Phase:
            if not home.enabled:
                return DISABLED
            return again(name, spec if of_call is None else spec.resolve(name, of_call(args, kwargs)))

        return open_for

    def _again(self, name: str, spec: PhaseSpec) -> Phase:
        return Phase(self._home, name, spec)

    # Mistakes in calls.

    def _refuse(self, names: list[str]) -> None:
        for name in names:
            self._warn(
                f"value {name}", f"is given {name!r} with a value that is no number, as {_NUMBERS} are; it is left out"
            )

    def _warn(self, about: str, message: str) -> None:
        """Warn once for each phase and mistake."""
        if self._warned is None:
            self._warned = set()
        if about not in self._warned:
            self._warned.add(about)
            warn(f"phase {self.name!r} {message}")


class _Step(Phase):
    """One unit of another phase."""

    __slots__ = ("_epoch", "_given_number", "_of")

    role = "step"
    _finds_its_place = True

    def __init__(self, of: Phase, name: str, spec: PhaseSpec, number: int | None, epoch: int | None) -> None:
        super().__init__(of._home, name, spec)
        self._of = of
        self._given_number = number
        self._epoch = epoch

    def _place(self, outer: Phase | None) -> tuple[Phase | None, Tracker]:
        of = self._of
        if of._is_open():
            if of._tally is None:
                of._begin_tally()
            of._stepped = True
            return of, of._tracker
        self._warn("step", f"is a step of {of.name!r}, which is {of.status}; take steps inside its block")
        return super()._place(outer)

    def _time(self, around: Running) -> None:
        self._timing = around.forecast.begin(self.name, self._started, around, is_unit=self._parent is self._of)

    def _position(self) -> Position:
        of = self._of
        number = of.done + 1 if self._given_number is None else self._given_number
        epochs = of._spec.attributes.get("epochs")
        root = of
        while root._parent is not None:
            root = root._parent
        plan = root.plan
        return Position(
            number,
            of.total,
            of._spec.unit,
            epoch=plan.epoch_of(number) if self._epoch is None and plan is not None else self._epoch,
            epochs=None if epochs is None else as_count(epochs),
            elapsed=max(0.0, self._started - of._started) if self._parent is of else 0.0,
            eta=None if of.total is None else of._time_left(self._started, of.total - number + 1),
        )

    def _report_to(self, parent: Phase, tally: Tally) -> None:
        if parent is not self._of:
            super()._report_to(parent, tally)
        elif self._ended == "completed" and parent._is_open() and not parent._is_tracking():
            parent._count(tally, 1, self._stopped)

    def _again(self, name: str, spec: PhaseSpec) -> Phase:
        return _Step(self._of, name, spec, self._given_number, self._epoch)


class _Disabled(Phase):
    """What stands for every phase while phasewatch is switched off: it does nothing, as fast as can be."""

    __slots__ = ()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        pass

    def _suspend(self) -> None:
        pass

    def _resume(self) -> None:
        pass

    def advance(self, n: int = 1, /, *, weight: float | None = None, **values: object) -> None:
        pass

    def track(self, iterable: Any) -> Any:
        return iterable

    def log(self, mapping: Mapping[str, object] | None = None, /, **metrics: object) -> None:
        pass

    def step(self, **options: Any) -> Phase:
        return self

    def __call__(self, fn: Fn) -> Fn:
        return fn


DISABLED: Phase = _Disabled(Tracker(), "")


def make_phase(home: Tracker, name: object, spec: PhaseSpec = PLAIN) -> Phase:
    """Return a phase, pending, or one that waits for the function that it will decorate."""
    if name is not None and not isinstance(name, str):
        text = as_text(name)
        warn(f"a phase's name must be a text, not {shown(name)}; it is taken as {text!r}")
        name = text
    if name is None:
        return _Unnamed(home, "PHASE", spec)
    return Phase(home, name, spec)


class _Unnamed(Phase):
    """A phase that was given no name: a decorator, which takes that of its function."""

    __slots__ = ()

    def _opener(self, fn: Callable[..., Any]) -> _wrap.Opener:
        return Phase(self._home, _wrap.name_of(fn), self._spec)._opener(fn)

    def __enter__(self: Self) -> Self:
        self._warn("name", 'has no name; give one: phase("DOWNLOAD")')
        return super().__enter__()
