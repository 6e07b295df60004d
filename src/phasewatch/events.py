"""What happened in a run: the types of event, and the contract of whoever wants to hear of them.

Everything that phasewatch shows or stores is made from these objects alone. Figures such as elapsed and ETA are
computed once, when the event is made, so that a replay shows what was shown.
"""

from __future__ import annotations

from ._annotations import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, Literal, NoReturn

    Role = Literal["run", "phase", "step"]
    Status = Literal["pending", "running", "completed", "failed", "interrupted"]

SCHEMA_VERSION = 1


class _Record:
    """A plain record: equality and a readable repr from the slots."""

    __slots__ = ()

    def _fields(self) -> dict[str, object]:
        names = [name for base in reversed(type(self).__mro__) for name in getattr(base, "__slots__", ())]
        return {name: getattr(self, name) for name in names}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Record):
            return NotImplemented
        return type(other) is type(self) and self._fields() == other._fields()

    __hash__ = None  # type: ignore[assignment]  # records hold mappings

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._fields().items())})"


class Position(_Record):
    """Where a step stands in its parent, as it was when the step began."""

    __slots__ = ("elapsed", "epoch", "epochs", "eta", "number", "total", "unit")

    def __init__(
        self,
        number: int,
        total: int | None,
        unit: str,
        *,
        epoch: int | None = None,
        epochs: int | None = None,
        elapsed: float = 0.0,
        eta: float | None = None,
    ) -> None:
        self.number = number  # counted from 1
        self.total = total
        self.unit = unit  # singular: "step"
        self.epoch = epoch
        self.epochs = epochs
        self.elapsed = elapsed  # seconds since the parent began
        self.eta = eta  # seconds until the parent ends, or None if nothing is known yet


class Place(_Record):
    """Where a phase runs: which machine, process and thread."""

    __slots__ = ("birth", "host", "process", "rank", "thread")

    def __init__(
        self,
        *,
        host: str | None = None,
        process: int | None = None,
        rank: int | None = None,
        thread: str | None = None,
        birth: str | None = None,
    ) -> None:
        self.host = host
        self.process = process  # its number on the host
        self.rank = rank  # among the processes of a distributed job
        self.thread = thread  # its name
        self.birth = birth  # of the process: tells it from all others that ever had its number; None if that is not known


class _Nothing(dict[str, "Any"]):
    """The mapping of whoever has nothing to tell: one for all, so that it cannot be filled."""

    __slots__ = ()

    def _refuse(self, *args: object, **values: object) -> NoReturn:
        raise TypeError("a record that tells nothing here cannot be added to; make a dict of it first")

    __setitem__ = setdefault = update = __ior__ = _refuse


NOTHING = _Nothing()


class PhaseInfo(_Record):
    """What is known of a phase when it begins, and does not change until it ends."""

    __slots__ = (
        "announced", "attributes", "counters", "details", "emoji", "id", "message", "name", "parent", "path", "place",
        "position", "role", "run", "start", "step", "total", "unit",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        # Of these, which every phase tells, none is left out where many are made; and by position they are passed sooner.
        id: str,
        parent: str | None = None,
        run: str | None = None,
        path: tuple[str, ...] = (),
        place: Place | None = None,
        announced: Mapping[str, object] | None = None,
        role: Role = "phase",
        total: int | None = None,
        unit: str = "item",
        start: int = 0,
        counters: Mapping[str, float | None] | None = None,
        details: Mapping[str, object] | None = None,
        message: str | None = None,
        step: int | None = None,
        emoji: str | None = None,
        attributes: Mapping[str, object] | None = None,
        position: Position | None = None,
    ) -> None:
        self.name = name
        self.id = id  # unique among all processes
        self.parent = parent  # the id of the phase around this one
        self.run = run  # the id of the run it belongs to
        self.path = path  # names from below the run down to this one
        self.role = role
        self.total = total  # units expected
        self.unit = unit  # singular
        self.start = start  # units that were done before this phase began (a resumed run)
        self.counters: Mapping[str, float | None] = counters or NOTHING  # name to expected total
        self.details: Mapping[str, object] = details or NOTHING
        self.message = message
        self.step = step  # the step of the run to which the phase belongs
        self.emoji = emoji
        self.attributes: Mapping[str, object] = attributes or NOTHING
        self.position = position  # of a step in its parent
        self.place = place  # where it runs; None if that is not known, as from a text log
        self.announced = announced  # how, as options of `phasewatch.register`, if its program has registered its name


class Event(_Record):
    """Something that happened to one phase at one moment."""

    __slots__ = ("phase", "time")
    type: ClassVar[str]

    def __init__(self, phase: PhaseInfo, time: float) -> None:
        self.phase = phase
        self.time = time  # wall clock, seconds since 1970

    @property
    def name(self) -> str:
        """The name of the phase."""
        return self.phase.name

    @property
    def path(self) -> tuple[str, ...]:
        """The names from below the run down to the phase."""
        return self.phase.path

    @property
    def id(self) -> str:
        """The id of the phase."""
        return self.phase.id

    @property
    def parent(self) -> str | None:
        """The id of the phase around it."""
        return self.phase.parent


class PhaseStarted(Event):
    """A phase began."""

    __slots__ = ()
    type = "start"


class Measured(Event):
    """An event that says how far its phase was."""

    __slots__ = ("counters", "done", "elapsed", "means", "total")

    def __init__(
        self,
        phase: PhaseInfo,
        time: float,
        *,
        done: int,
        total: int | None,
        elapsed: float,
        counters: Mapping[str, float] | None = None,
        means: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(phase, time)
        self.done = done  # units, those of `phase.start` included
        self.total = total  # may be known later than the start: from the length of what is tracked
        self.elapsed = elapsed  # seconds since the phase began, by the monotonic clock
        self.counters: Mapping[str, float] = counters or NOTHING
        self.means: Mapping[str, float] = means or NOTHING  # weighted means of what `advance` was given


class UnderWay(Measured):
    """An event that says how far its phase is, and when it will be done."""

    __slots__ = ("eta",)

    def __init__(
        self,
        phase: PhaseInfo,
        time: float,
        *,
        done: int,
        total: int | None,
        elapsed: float,
        eta: float | None,
        counters: Mapping[str, float] | None = None,
        means: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(phase, time, done=done, total=total, elapsed=elapsed, counters=counters, means=means)
        self.eta = eta  # seconds until the phase ends, None if unknown


class PhaseProgressed(UnderWay):
    """Units of a phase were done. Not one for each: as many as a person reads."""

    __slots__ = ()
    type = "progress"


class Quiet(UnderWay):
    """An event about a phase of which nothing was heard for some time."""

    __slots__ = ("quiet",)

    def __init__(self, phase: PhaseInfo, time: float, *, quiet: float, **measures: Any) -> None:
        super().__init__(phase, time, **measures)
        self.quiet = quiet  # seconds since the last sign of life: a unit, metrics, or a phase inside that began or ended


class PhaseAlive(Quiet):
    """A phase goes on, though it has said nothing for some time."""

    __slots__ = ()
    type = "alive"


class PhaseStalled(Quiet):
    """A phase takes far longer than its kind ever did."""

    __slots__ = ("expected", "stack")
    type = "stalled"

    def __init__(
        self, phase: PhaseInfo, time: float, *, expected: float | None, stack: str | None = None, **measures: Any
    ) -> None:
        super().__init__(phase, time, **measures)
        self.expected = expected  # seconds that it usually takes, or was said to take
        self.stack = stack  # of the thread that is in it, as a traceback shows it; from the second announcement on


class PhaseResumed(Quiet):
    """A phase that had stalled moves again; ``quiet`` is how long it did not."""

    __slots__ = ()
    type = "resumed"


class MetricsLogged(Event):
    """Metrics of a phase were logged, under their full names."""

    __slots__ = ("values",)
    type = "metrics"

    def __init__(self, phase: PhaseInfo, time: float, values: Mapping[str, float]) -> None:
        self.phase = phase
        self.time = time
        self.values = values


class PhaseEnded(Measured):
    """A phase ended: it completed, failed or was interrupted."""

    __slots__ = ("active", "deviations", "error", "innermost", "metrics", "origin", "status")
    type = "end"

    def __init__(
        self,
        phase: PhaseInfo,
        time: float,
        status: Status,
        done: int,
        total: int | None,
        elapsed: float,
        counters: Mapping[str, float] | None = None,
        means: Mapping[str, float] | None = None,
        metrics: Mapping[str, float] | None = None,
        error: tuple[str, str] | None = None,
        innermost: bool = False,
        origin: tuple[str, ...] | None = None,
        active: float | None = None,
        deviations: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        # What the classes above do, written out: one of these is made for every phase that somebody hears of.
        self.phase = phase
        self.time = time
        self.done = done
        self.total = total
        self.elapsed = elapsed
        self.counters = counters or NOTHING
        self.means = means or NOTHING
        self.status: Status = status
        self.metrics: Mapping[str, float] = metrics or NOTHING  # the last value of each logged metric
        self.error = error  # the exception's type and message
        self.innermost = innermost  # no phase inside this one ended with the same exception
        self.origin = origin  # the path of the innermost phase that did
        self.active = active  # of a generator's phase: those seconds of `elapsed` that were spent inside its body
        # Of a run that completed: how often phases ran, and how often its plan said, where these are not the same.
        self.deviations: Mapping[str, tuple[int, int]] = deviations or NOTHING


class Sink(Protocol):
    """Whoever wants to hear of events. A class with these two methods is one; it need not inherit from this.

    What a sink raises never reaches the instrumented code: it is logged once, and later events are still offered.
    """

    def emit(self, event: Event) -> None:
        """Take one event.

        Called by the thread in which it happened, and for the progress of loops by one of phasewatch: so by several.
        """

    def close(self) -> None:
        """Release what the sink holds; no event follows."""
