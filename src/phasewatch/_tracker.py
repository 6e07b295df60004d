"""The stack of open phases, and what turns entering, advancing and leaving them into events.

Which phase is current is kept in one ContextVar that holds the innermost phase of a thread or task; the rest of the
stack is that phase's chain of parents. Nothing of it is shared between threads or changed behind them.

Entering, leaving and `advance` are hot paths: what most calls do stands in them, what few do in methods of its own.
"""

from __future__ import annotations

from _thread import get_ident
from collections import deque
from contextvars import ContextVar
from functools import partial
from itertools import repeat

from . import _overseen, _process, _wrap
from ._annotations import TYPE_CHECKING
from ._extra import Extra
from ._fault import Fault, path_of, told
from ._outlet import Outlet
from ._overseen import Overseen
from ._process import COMPLETED, ENDED, FAILED, INTERRUPTED, NOT_OPEN_YET, PENDING, UNOPENED, State
from ._report import failure, shown, warn
from ._spec import APART, PLAIN, PhaseSpec, as_text, count_or_warn, make_spec
from ._tally import NO_SINGLES, Tally, as_count
from .events import (
    PhaseEnded,
    PhaseInfo,
    PhaseStarted,
    Position,
)
from .metalog.catalog import registered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Any, ClassVar, TypeVar

    from ._process import Process
    from .events import Role, Sink, Status
    from .plan import Schedule

    Accident = tuple[tuple[str, str], bool, tuple[str, ...]]
    Fn = TypeVar("Fn", bound=Callable[..., Any])
    Item = TypeVar("Item")
    Self = TypeVar("Self", bound="Phase")

_ONE = 1
_NUMBERS = "ints, floats and scalars of numpy or torch"
_MOST_FAULTS = 16  # that a phase remembers of those inside it
_MOST_OWED = 200  # ends that wait for room on the stack
_MOST_LASTING = 64  # phases of other processes to which this one is attached for good, or a block is about to begin

_current: ContextVar[Phase | None] = ContextVar("phasewatch_current", default=None)
_get_current, _set_current = _current.get, _current.set  # looked up once, for the hot path


def _this_process() -> Process:
    return _process.this_process(_after_fork)


def _after_fork() -> PhaseInfo | None:
    opened = reversed(_overseen.monitor.open.values())
    run = next((phase for phase in opened if isinstance(phase, Phase) and phase.role == "run" and phase._is_open()), None)
    _overseen.monitor.reset()
    origin = innermost_info(run)  # still by the parent's identity
    # What it was attached to does not go before what was open inside that.
    _current.set(None)
    return origin


def current() -> Phase | None:
    """Return the innermost open phase of this thread or task, or None."""
    phase = _innermost()
    return None if phase is None or phase._live is ELSEWHERE else phase


def _innermost() -> Phase | None:
    """Return the innermost open phase, or what stands for one of another process."""
    phase = _current.get()
    while phase is not None and phase._live is not _process.process and phase._live is not ELSEWHERE:
        phase = phase._outer
    return phase


ELSEWHERE = State("running")  # where phases of another process are open


def innermost_info(otherwise: Phase | None) -> PhaseInfo | None:
    """Return what new phases of this thread or task hang under, in whichever process that is open."""
    phase = _innermost() or otherwise
    return phase._describe() if phase is not None else _this_process().origin


def end_all(error: BaseException) -> None:
    """End every open phase that is told to somebody, of all threads and tasks, the last one first."""
    for phase in reversed(list(_overseen.monitor.open.values())):
        if isinstance(phase, Phase) and phase._is_open():
            try:
                phase._close(error)
            except (RecursionError, MemoryError):  # the others may have room
                pass


class nothing_current:  # noqa: N801  # a context manager that is used as a statement
    """A block in which no phase is current, whatever is open around it."""

    def __enter__(self) -> None:
        self._before = _current.get()
        _current.set(None)

    def __exit__(self, *error: object) -> None:
        _current.set(self._before)


def look() -> None:
    """Look at every open phase as the monitor does once a second, at those on an injected clock too."""
    _overseen.monitor.look(by_hand=True)


class Tracker(Outlet):
    """Where phases go: a clock, and the sinks that hear of them.

    Phases opened with `phasewatch.phase` find theirs by themselves. A tracker of one's own serves tests, and libraries
    that keep their phases apart from those of the program.

    Args:
        sinks: who hears of the events.
        clock: a callable that returns monotonic seconds; if it has a ``wall()``, that gives the time of day in seconds
            since 1970, else `time.time` does.
    """

    def __init__(self, sinks: Iterable[Sink] = (), clock: Callable[[], float] | None = None) -> None:
        super().__init__(sinks, clock)
        self.open_runs: list[Phase] = []
        self.owed: deque[tuple[Phase, BaseException | None]] = deque(maxlen=_MOST_OWED)  # ends for which there was no room

    def phase(self, name: str | None = None, /, **options: Any) -> Phase:
        """Return a phase of this tracker; the options are those of `phasewatch.phase`."""
        return make_phase(self, name, make_spec(name, options))

    def place(self, phase: Phase | None) -> tuple[Phase | None, Tracker]:
        """Return the parent and the tracker of a phase that is opened while ``phase`` is the current one."""
        while phase is not None and phase._tracker is not self:
            phase = phase._parent
        return phase, self

    def close(self) -> None:
        """Close the sinks."""
        try:
            self.settle()
        except (RecursionError, MemoryError):
            pass
        super().close()

    def settle(self) -> None:
        """Tell the ends for which there was no room, in order; RecursionError and MemoryError say that there is none yet."""
        owed = self.owed
        if len(owed) == _MOST_OWED:
            failure(f"there was so long no room to tell the ends of phases that only the last {_MOST_OWED} are told")
        while owed:
            try:
                phase, error = owed.popleft()  # by one thread only
            except IndexError:
                return
            try:
                phase._finish(error)
            except (RecursionError, MemoryError):
                owed.appendleft((phase, error))
                raise
            except Exception:
                failure(f"phase {phase.name!r} could not be closed; the program goes on")


class Phase(Overseen):
    """One phase of the work: a ``with`` block, or a decorator around each call of a function.

    It is made by `phasewatch.phase`. Between entering and leaving, it is the handle through which the code inside tells
    how far it is. Nothing that it is told can raise: a mistake in a call is a `PhasewatchWarning`, once.
    """

    # Few, those of the classes above among them, since to make and to clear each costs a hundredth of a block.
    __slots__ = ("_outer", "_stopped")

    role: ClassVar[Role] = "phase"
    _spec = PLAIN
    _of: Phase | None = None  # whose unit it is

    if TYPE_CHECKING:
        _home: Tracker  # by which it finds the tracker that hears of it; the default one, which sees to this itself
        _tracker: Tracker
        _parent: Phase | None  # once it is entered
        _outer: Phase | None  # what was current before
        _stopped: float

    # It has no __init__, since a class without one is made in two thirds of the time.

    def _prepare(self: Self, name: str) -> Self:
        """Be pending."""
        self.name = name
        self._live = PENDING
        self._extra = None
        return self

    # What a person reads.

    @property
    def plan(self) -> Schedule | None:
        """What was said to run, of a run that was given a plan."""
        return None

    @property
    def status(self) -> Status:
        """``pending``, ``running``, ``completed``, ``failed`` or ``interrupted``."""
        return self._live.status

    @property
    def path(self) -> tuple[str, ...]:
        """The names from below the run down to this phase."""
        return (self.name,) if self._live in NOT_OPEN_YET else self._describe().path

    @property
    def id(self) -> str | None:
        """The id under which the events know this phase, unique among all processes; None before it is entered."""
        return None if self._live in NOT_OPEN_YET else self._describe().id

    @property
    def elapsed(self) -> float:
        """Seconds since the phase was entered; once it has ended, how long it took."""
        if self._live in NOT_OPEN_YET:
            return 0.0
        return max(0.0, (self._stopped if self._live in ENDED else self._tracker.now()) - self._started)

    @property
    def eta(self) -> float | None:
        """Seconds until the phase ends; None while nothing is known of it, 0 when it has ended."""
        if self._live in NOT_OPEN_YET:
            return None
        return 0.0 if self._live in ENDED else self._time_left(self._tracker.now())

    def __repr__(self) -> str:
        return f"<{self.role.capitalize()} {self.name!r} {self.status}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        # A decorated function may be sent to another process by value, and takes along what it was decorated with.
        if self._live is not PENDING:
            raise TypeError(f"phase {self.name!r} belongs to this process; give another one phasewatch.carrier()")
        return make_phase, (self._home, self.name, self._spec)

    # The block.

    def __enter__(self: Self) -> Self:
        # The hot path: a plain phase, whose place is what is current.
        if self._live is PENDING:
            around = _get_current()
            if around is not None and around._live is COMPLETED:  # it has just ended, and is current no more
                around = around._outer
            process = _process.process
            if around is None:
                tracker = None if process is None or self._home.open_runs else self._home
            else:
                tracker = around._tracker if around._live is process else None
            if tracker is not None:
                self._outer = self._parent = around
                self._tracker = tracker
                now = tracker.now
                self._started = now()
                self._live = process  # type: ignore[assignment]  # where there is no process yet, there is no tracker either
                _set_current(self)
                # A forecast, if there is one around it, wants to hear of it.
                extra = None if around is None else around._extra
                if not tracker.listening and (extra is None or extra.timing is None):
                    return self
                try:
                    return self._enter(is_placed=True)
                except (RecursionError, MemoryError):  # no room for that call
                    if self._extra is None:
                        self._extra = Extra()
                    return self
        return self._enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The hot path, likewise: what nobody hears of and has nothing to tell.
        if error is None and self._extra is None and self._live is _process.process and _get_current() is self:
            now = self._tracker.now
            self._stopped = now()
            # It stays in _current, where everybody knows it for one that has ended; to set that costs a tenth of a block.
            self._live = COMPLETED
        else:
            try:
                extra = self._extra
                if self._live is _process.process and _get_current() is self and (extra is None or not extra.depth):
                    self._close(error)
                else:
                    self._exit(error)
            except (RecursionError, MemoryError):  # here is room to note it, and none for a call of ours
                if self._live is _process.process:
                    tracker = self._tracker
                    self._stopped = tracker.now() if tracker.clock is None else tracker._last_now
                    self._live = COMPLETED
                    if _get_current() is self:
                        _set_current(self._outer)
                    tracker.owed.append((self, error))

    def _enter(self: Self, *, is_placed: bool = False) -> Self:
        try:
            if not is_placed:
                if self._live is not PENDING and self._was_entered():
                    return self
                process = _process.process or _this_process()
                self._outer = outer = _innermost()
                self._parent, self._tracker = self._place(None if outer is None or outer._live is ELSEWHERE else outer)
                self._started = self._tracker.now()
                self._live = process
                _set_current(self)
            self._begin(self._parent, self._tracker)
        except (RecursionError, MemoryError):  # where there is no room to tell of it, there is none to report
            spec = self._spec
            if self._live is not _process.process:
                if self._live not in ENDED:  # else what is owed of its last block comes first
                    self._live = UNOPENED
            elif any(map(callable, (spec.total, spec.message, spec.step))):  # which could not be asked
                _set_current(self._outer)
                self._live = UNOPENED
            elif self._extra is None:
                self._extra = Extra()  # there is something to tell: its end tells of both
        except Exception:
            self._take_failure_to_open()
        except BaseException as error:  # Ctrl-C in a sink: Python will not call __exit__, so the stack is put right here
            if self._is_open():
                self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _take_failure_to_open(self) -> None:
        if not self._is_open():
            self._live = UNOPENED  # to leave it is no mistake of the caller
        failure(f"phase {self.name!r} could not be opened; the program goes on without it")

    def _exit(self, error: BaseException | None) -> None:
        if self._live is not _process.process or (self._extra is not None and self._extra.depth):
            self._leave_again()
            return
        if _get_current() is not self:
            self._leave_after_another()
        self._close(error)

    def _begin(self, parent: Phase | None, tracker: Tracker) -> None:
        """Make ready for what was said beforehand, tell that the phase began, and have it looked after."""
        around, spec = None if parent is None else parent._extra, self._spec
        if around is not None and around.timing is not None:  # a forecast, which wants to know of it
            timing, extra = around.timing, self._extra or self._more()
            extra.timing = timing.forecast.begin(self.name, self._started, timing, is_unit=parent is self._of)
        if spec is not PLAIN and spec is not APART:  # these say nothing
            self._take_options()
        if tracker.listening:
            extra = self._extra or self._more()
            extra.thread = get_ident()
            monitor = _overseen.monitor
            monitor.open[id(self)] = self
            if not monitor.is_running and tracker.clock is None:
                monitor.start()
            if around is not None:
                if around.vigil is not None:  # a sign of life
                    around.vigil.child_at = self._started
                if not around.is_told:
                    parent._tell_before()  # type: ignore[union-attr]  # there is one, if anything is around
            self._tell_start(tracker, extra, tracker.wall())

    def _tell_start(self, tracker: Tracker, extra: Extra, time: float) -> None:
        extra.is_told = True
        try:
            tracker.emit(PhaseStarted(extra.info or self._describe(), time))
        except (RecursionError, MemoryError):
            extra.is_told = False
            raise

    def _tell_before(self) -> None:
        """Tell the start, if there was no room for it, before something else is told of the phase."""
        extra = self._more()
        if not extra.is_told and self._is_open():
            self._tell_start_late(extra, self._tracker.now())

    def _tell_start_late(self, extra: Extra, now: float) -> None:
        tracker, parent = self._tracker, self._parent
        if parent is not None and parent._extra is not None and not parent._extra.is_told:
            parent._tell_before()
        self._tell_start(tracker, extra, tracker.wall() - max(0.0, now - self._started))

    def _close(self, error: BaseException | None) -> None:
        tracker = self._tracker
        try:
            self._stopped = tracker.now()
            # The stack first: it is right whatever fails below.
            self._live = COMPLETED
            if _get_current() is self:
                _set_current(self._outer)
            if tracker.owed:
                tracker.settle()
            self._finish(error)
        except (RecursionError, MemoryError):
            if self._live not in ENDED:
                raise  # who called notes it
            tracker.owed.append((self, error))  # there is more room when the phase around it is left
        except Exception:
            failure(f"phase {self.name!r} could not be closed; the program goes on")

    def _is_closed(self) -> bool:
        return self._live in ENDED

    def _was_entered(self) -> bool:
        """Take the entering of a phase that was entered before; return whether it is open still."""
        if self._is_open():
            self._more().depth += 1
            self._warn("open", "is entered while it is open; make a new one with phase(...) for each block")
            return True
        if self._live in ENDED and self._tracker.owed:
            self._tracker.settle()
        self._prepare(self.name)
        return False

    def _leave_again(self) -> None:
        """Take the leaving of a phase that was entered twice, or is not open."""
        if self._live is UNOPENED or (self._live in ENDED and self._tracker.owed):  # there was a failure, or no room
            return
        extra = self._more()
        if self._is_open():
            extra.depth -= 1
        elif self._live is PENDING or self._is_closed():  # else it was opened before a fork: the parent's to close
            self._warn("closed", f"is left, but it is {self.status}; leave it once, after entering it")

    def _leave_after_another(self) -> None:
        """Take the leaving of a phase after which another one was entered; warn if that is open still, and so stays current.

        The same holds where the phase was entered in another thread or task.
        """
        inner = current()
        if inner is self:
            _current.set(self)
        else:
            trouble = "in another thread or task" if inner is None else f"while {inner.name!r} is the innermost"
            self._warn("order", f"is left {trouble}; leave phases where they were entered, in the reverse order")

    def _place(self, outer: Phase | None) -> tuple[Phase | None, Tracker]:
        """Return the parent and the tracker, given the innermost open phase."""
        parent, tracker = self._home.place(outer)
        if outer is None and parent is not None and _innermost() is not None:
            parent = None  # what the thread was attached to goes before the run opened last
        return parent, tracker

    def _take_options(self) -> None:
        """Make ready for what the options say, when the phase is entered."""

    def _describe(self) -> PhaseInfo:
        extra = self._extra or self._more()
        if extra.info is not None:
            return extra.info
        name, live, spec, parent = self.name, self._live, self._spec, self._parent
        process = live if isinstance(live, _process.Process) else _this_process()
        id, place, outer = process.new_id(), _process.place(), self._outer
        around = process.origin if parent is None else (parent._extra and parent._extra.info) or parent._describe()
        if parent is None and outer is not None and outer._live is ELSEWHERE:
            around = outer._describe()
        if around is None:
            info = PhaseInfo(name, id, None, None, (name,), place, registered(name))
        else:
            info = PhaseInfo(name, id, around.id, around.run, (*around.path, name), place, registered(name))
        if spec is not PLAIN and spec is not APART:  # these have nothing to tell
            info.total, info.unit, info.start = spec.total, spec.unit, spec.start
            info.counters, info.details, info.attributes = spec.counters, spec.details, spec.attributes
            info.message, info.step, info.emoji = spec.message, spec.step, spec.emoji
        if self.role != "phase":
            self._complete(info)
        extra.info = info  # whole, since another thread may look
        return info

    def _complete(self, info: PhaseInfo) -> None:
        """Add what runs and steps alone tell of themselves."""

    def _finish(self, error: BaseException | None) -> None:
        """Tell everybody how the phase ended; again, if there was no room to tell all."""
        tracker, parent, now = self._tracker, self._parent, self._stopped
        extra, around = self._extra or self._more(), None if parent is None else parent._extra
        tally, listening = extra.tally, tracker.listening
        if error is not None:
            self._live = _outcome(error)
        completed = self._live is COMPLETED
        if listening:
            if not extra.is_told:
                self._tell_start_late(extra, now)
            if around is not None and around.vigil is not None:  # before the one around it is the innermost
                around.vigil.child_at = now
            _overseen.monitor.open.pop(id(self), None)  # when it has ended before that, nobody looks at it from now on
            if extra.vigil is not None:
                self._leave_monitor(extra.vigil, completed, now)
        if tally is not None:
            self._end_tally(tally, now, shown=listening and completed)
        accident = None if completed else self._trace(error)
        if listening and not extra.is_ended:
            self._tell_end(tracker, extra, accident)
        if extra.timing is not None:
            extra.timing.forecast.end(extra.timing, now, completed=completed)
        if around is not None and around.tally is not None:
            self._report_to(parent, around.tally)  # type: ignore[arg-type]  # there is one, if anything is around

    def _tell_end(self, tracker: Tracker, extra: Extra, accident: Accident | None) -> None:
        info, elapsed = extra.info or self._describe(), self._stopped - self._started
        elapsed = elapsed if elapsed > 0.0 else 0.0
        status, done, tally = self._live.status, self._spec.start, extra.tally
        logged = None if extra.logged is None else extra.logged.last()
        ended = PhaseEnded(info, tracker.wall(), status, done, None, elapsed, None, None, logged)
        if tally is not None:
            ended.done, ended.total = tally.done, tally.total
            ended.counters, ended.means = dict(tally.counters), tally.mean_values()
        if accident is None:
            tracker.kinds.ended.append((info.path, elapsed))
        else:
            ended.error, ended.innermost, ended.origin = accident
        if extra.resumed_at is not None:
            ended.active = extra.active_until(self._stopped)
        tracker.emit(ended)
        extra.is_ended = True

    def _end_tally(self, tally: Tally, now: float, *, shown: bool) -> None:
        self._singles = NO_SINGLES
        handed = tally.end_loops()
        if handed:
            self._count(tally, handed, now, shown=False)  # of loops that were left, by `break` or by an exception
        if shown:
            self._show_last(tally, now)

    def _trace(self, error: BaseException | None) -> Accident:
        """Return what an exception was, whether it was first seen here, and the path of where; the parent will know it."""
        assert error is not None
        extra, parent = self._more(), self._parent
        told_before = path_of(error, extra.faults)
        origin = told_before or self.path
        if parent is not None:
            # Several children may fail before one of their exceptions comes by.
            around = parent._more()
            around.faults = (*around.faults[-_MOST_FAULTS:], Fault(error, origin))
        extra.faults = ()
        return told(error), told_before is None, origin

    def _report_to(self, parent: Phase, tally: Tally) -> None:
        """Tell an ended phase's parent, on its tally, what the phase means for it."""

    # In a generator the phase is current while the body runs, and not while it is suspended, when other code has the
    # thread. What the body has opened and not closed when it yields goes with it.

    def _begin_body(self) -> None:
        """Take it that the phase is that of a generator, whose body begins now."""
        if self._is_open():
            self._more().resumed_at = self._started

    def _suspend(self) -> None:
        """Give way to other code: the generator in which this phase is has yielded."""
        try:
            extra = self._more()
            innermost = _innermost()
            extra.inner = innermost if innermost is not None and innermost._is_inside(self) else self
            if innermost is extra.inner:
                _current.set(self._outer if extra.before is None else extra.before)
            extra.suspend(self._tracker.now())
        except Exception:
            failure(f"phase {self.name!r} could not be suspended; the program goes on")

    def _resume(self) -> None:
        """Be current again, inside whatever is current where the generator is read now."""
        try:
            if self._is_open():
                extra = self._more()
                outer = _innermost()
                extra.before = outer
                if outer is None or not outer._is_inside(self):  # a task that was begun in the body may read from it
                    self._outer = outer
                _current.set(extra.inner or self)
                extra.resume(self._tracker.now())
        except Exception:
            failure(f"phase {self.name!r} could not be resumed; the program goes on")

    def _is_inside(self, other: Phase) -> bool:
        """Whether it is the other one, or was entered while that was current."""
        phase: Phase | None = self
        while phase is not None and phase is not other:
            phase = phase._outer
        return phase is other

    def step(self, *, step: int | None = None, epoch: int | None = None, **options: Any) -> Phase:
        """Return one unit of this phase as a phase inside it, named ``{NAME} {UNIT}``: TRAINING STEP.

        When it completes, this phase advances by one; when it raises, the count stays where it was.

        Args:
            step: its number; by default one more than are done.
            epoch: the epoch that it belongs to, counted from 1.
            **options: those of `phasewatch.phase`.
        """
        if step is not None:
            step = count_or_warn(self.name, "step", step)
        if epoch is not None:
            epoch = count_or_warn(self.name, "epoch", epoch)
        name = f"{self.name} {self._spec.unit.upper()}"
        return _Step(self, name, make_spec(name, options) if options else APART, step, epoch)

    # The decorator.

    def __call__(self, fn: Fn) -> Fn:
        """Decorate: each call of the function is a phase of its own."""
        return _wrap.wrap(fn, self._opener)

    def _opener(self, fn: Callable[..., Any]) -> _wrap.Opener:
        home, spec, name, again = self._home, self._spec, self.name, self._again
        of_call = _wrap.arguments_for(fn) if spec.depends_on_call else None
        if type(self) is Phase and of_call is None:
            return lambda args, kwargs: new_phase(home, name, spec) if home.enabled else DISABLED

        def open_for(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Phase:
            if not home.enabled:
                return DISABLED
            return again(name, spec if of_call is None else spec.resolve(name, of_call(args, kwargs)))

        return open_for

    def _again(self, name: str, spec: PhaseSpec) -> Phase:
        return new_phase(self._home, name, spec)


def _outcome(error: BaseException) -> State:
    """Return how a phase ends that an exception leaves."""
    if isinstance(error, Exception):
        return FAILED
    return COMPLETED if isinstance(error, GeneratorExit) else INTERRUPTED  # the first is a `break` in whoever reads from us


def new_phase(home: Tracker, name: str, spec: PhaseSpec = PLAIN) -> Phase:
    """Return a phase, pending."""
    if spec is not PLAIN:
        return SpecialPhase()._specify(home, name, spec)
    phase = Phase()  # what _prepare does, written out: a decorated function does it for each call
    phase.name = name
    phase._live = PENDING
    phase._extra = None
    return phase


class SpecialPhase(Phase):
    """A phase that was given more than a name, or has a tracker of its own."""

    __slots__ = ("_home", "_spec")

    def _specify(self: Self, home: Tracker, name: str, spec: PhaseSpec) -> Self:
        """Be pending."""
        self._home = home
        self._spec = spec
        return self._prepare(name)

    def __enter__(self: Self) -> Self:
        return self._enter()

    def _take_options(self) -> None:
        spec = self._spec
        if spec.depends_on_call:  # a with-block: there is no call, so the options are asked without arguments
            spec = self._spec = spec.resolve(self.name, lambda option: option())
        if spec.total is not None or spec.counters or spec.start:
            self._begin_tally()


class _Step(SpecialPhase):
    """One unit of another phase."""

    __slots__ = ("_epoch", "_given_number", "_of")

    role = "step"

    def __init__(self, of: Phase, name: str, spec: PhaseSpec, number: int | None, epoch: int | None) -> None:
        # What _specify does, written out.
        self._home = of._home
        self._spec = spec
        self.name = name
        self._live = PENDING
        self._extra = None
        self._of: Phase = of
        self._given_number = number
        self._epoch = epoch

    def _place(self, outer: Phase | None) -> tuple[Phase | None, Tracker]:
        of = self._of
        if of._is_open():
            tally = of._tally or of._begin_tally()
            tally.stepped = True
            return of, of._tracker
        self._warn("step", f"is a step of {of.name!r}, which is {of._whereabouts()}; take steps inside its block")
        return super()._place(outer)

    def _complete(self, info: PhaseInfo) -> None:
        info.role, info.position = self.role, self._position()

    def _position(self) -> Position:
        of = self._of
        number = of.done + 1 if self._given_number is None else self._given_number
        epochs = of._spec.attributes.get("epochs")
        root = of
        while root._live not in NOT_OPEN_YET and root._parent is not None:
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
        elif self._live is COMPLETED and parent._is_open() and not tally.is_tracking():
            parent._count(tally, 1, self._stopped)

    def _again(self, name: str, spec: PhaseSpec) -> Phase:
        return _Step(self._of, name, spec, self._given_number, self._epoch)


class _Disabled(Phase):
    """What stands for every phase while phasewatch is switched off: it does nothing, as fast as can be."""

    __slots__ = ()

    def __reduce__(self) -> str:
        return "DISABLED"

    def _begin_body(self) -> None:
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


DISABLED: Phase = _Disabled()._prepare("")
# To enter and to leave it are calls of C alone, which take half the time: the next item of an iterator that has nothing but
# DISABLED, and what makes a None, which takes whatever it is given and does nothing.
_Disabled.__enter__ = staticmethod(partial(next, repeat(DISABLED)))  # type: ignore[method-assign]  # of the same signature
_Disabled.__exit__ = staticmethod(None.__init__)  # type: ignore[method-assign, misc]  # likewise


class Elsewhere(Phase):
    """What stands for a phase that is open in another process, where something of it goes on here."""

    __slots__ = ()

    def __init__(self, info: PhaseInfo) -> None:
        self._prepare(info.name)
        self._more().info = info
        self._live = ELSEWHERE
        self._parent = None
        self._outer = _current.get()

    def be_current(self) -> None:
        """Have what is opened from now on hang under it: in this thread or task, and where nothing is around it."""
        info, lasting = self._describe(), _this_process().lasting
        lasting[id(info)] = info
        for before in list(lasting)[:-_MOST_LASTING]:
            lasting.pop(before, None)
        _current.set(self)

    def begin_block(self) -> None:
        """Take it that this holds for a block."""
        process, info = _this_process(), self._describe()
        process.attached[id(info)] = info
        process.lasting.pop(id(info), None)

    def leave(self) -> None:
        """Have nothing more hang under it."""
        process, info = _this_process(), self._describe()
        self._live = COMPLETED
        if _current.get() is self:
            _current.set(self._outer)
        process.lasting.pop(id(info), None)
        process.attached.pop(id(info), None)


def make_phase(home: Tracker, name: object, spec: PhaseSpec = PLAIN) -> Phase:
    """Return a phase, pending, or one that waits for the function that it will decorate."""
    if name is not None and not isinstance(name, str):
        text = as_text(name)
        warn(f"a phase's name must be a text, not {shown(name)}; it is taken as {text!r}")
        name = text
    if name is None:
        return _Unnamed()._specify(home, "PHASE", spec)
    return new_phase(home, name, spec)


class _Unnamed(SpecialPhase):
    """A phase that was given no name: a decorator, which takes that of its function."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return make_phase, (self._home, None, self._spec)

    def _opener(self, fn: Callable[..., Any]) -> _wrap.Opener:
        return new_phase(self._home, _wrap.name_of(fn), self._spec)._opener(fn)

    def __enter__(self: Self) -> Self:
        self._warn("name", 'has no name; give one: phase("DOWNLOAD")')
        return super().__enter__()
