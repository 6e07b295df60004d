"""Where the time went, in which phase a run died, and what took longest: figures of a run's events.

Figures are made from the events as they come, in memory that grows with the phases that are open and the kinds of phase,
not with the length of the log. A kind of phase is its path: names from below the run down.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ._samples import Samples
from ._series import Series
from ._spans import Spans
from .durations import format_duration
from .events import Measured, MetricsLogged, PhaseEnded, PhaseStalled, PhaseStarted
from .metalog.plain import one_line
from .timeline import Timeline, sane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from .events import Event, PhaseInfo, Role
    from .timeline import Node, Outcome

    Path = tuple[str, ...]

_MOST_KINDS = 5000
_MOST_OPEN = 100_000  # phases at a time
_MOST_ENDED = 10_000  # phases that are remembered after their end, so that an event given twice counts once
_MOST_SERIES = 2000  # metrics
_MOST_LISTED = 100  # failures, and phases that never ended
_LONGEST = 10  # phases that are listed as the longest
_MOST_UNITS = 2**53
_DEEPEST = 100
_WORST_FIRST: tuple[Outcome, ...] = ("failed", "interrupted", "lost", "running", "completed")


@dataclass
class RankFigures:
    """The phases of one kind on one rank; seconds."""

    rank: int | None  # None where there are no ranks
    count: int
    total: float
    own: float  # in which none of the phases inside was open


@dataclass
class Spread:
    """How the ranks differ in the seconds that they spent in one kind of phase."""

    lowest: float
    median: float
    highest: float
    slowest: int | None  # the rank that spent the most
    waited: float  # by the median rank for the slowest, at least: in single steps another one may be the slowest


@dataclass
class KindFigures:
    """All phases of one kind. Times are seconds, and never the sum over ranks.

    Mean, quantiles and maximum are over the phases that ended, of all ranks. ``total``, ``own`` and ``open_time`` are those
    of the rank that spent the most, with what never ended up to its last sign of life.
    """

    path: Path  # () for the run itself
    name: str
    role: Role
    unit: str
    count: int = 0  # that began
    completed: int = 0
    failed: int = 0
    interrupted: int = 0
    unfinished: int = 0  # lost or running
    total: float = 0.0  # added up; of phases that ran at the same time, more than passed
    own: float = 0.0  # in which none of the phases inside was open
    open_time: float = 0.0  # in which at least one was open
    share: float | None = None  # open_time as a part of the run, 0 to 1
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    highest: float | None = None
    exact: bool = True  # else p50 and p95 are within 1%
    units: int = 0  # done in those phases that ended
    unit_seconds: float = 0.0  # of those phases that did any
    per_unit: float | None = None
    ranks: list[RankFigures] = field(default_factory=list)
    spread: Spread | None = None  # with two ranks or more
    seconds_samples: Samples = field(default_factory=Samples, repr=False)
    unit_samples: Samples = field(default_factory=Samples, repr=False)  # seconds per unit, of each phase that did any

    @property
    def depth(self) -> int:
        """0 for the run and the phases right below it."""
        return max(0, len(self.path) - 1)


@dataclass
class PhaseFigures:
    """One phase, where a single one is spoken of."""

    path: Path
    name: str
    id: str
    status: Outcome
    step: int | None
    rank: int | None
    start: float  # wall seconds
    seconds: float
    own: float
    done: int
    total: int | None
    unit: str
    last_sign: float  # wall seconds
    error: tuple[str, str] | None = None
    origin: Path | None = None


@dataclass
class Summary:
    """The figures of a log. ``as_dict`` gives all of them as JSON can hold them."""

    status: Outcome | None  # the worst of the runs; of a log without a run, of the phases at its top
    elapsed: float  # seconds in which the run was open; of several ranks, of that which took longest
    events: int
    ranks: list[int]
    runs: list[PhaseFigures]
    kinds: list[KindFigures]  # each below that which it is part of, else in the order in which they began
    longest: list[PhaseFigures]  # by their own time
    failures: list[PhaseFigures]  # where exceptions came from, in the order in which they were raised
    failure_count: int
    unfinished: list[PhaseFigures]  # the innermost of those that never ended, that with the last sign of life first
    unfinished_count: int
    warnings: list[str]
    killed: bool = False  # whether the processes of all that never ended are known to be gone
    series: dict[tuple[Path, str], Series] = field(default_factory=dict, repr=False)

    def kind(self, *path: str) -> KindFigures | None:
        """Return the figures of one kind."""
        return next((kind for kind in self.kinds if kind.path == path), None)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them: what is not a finite number is None."""
        hidden = {"series", "seconds_samples", "unit_samples"}
        return {"schema": 1, **_plain(self, hidden)}


def _plain(value: Any, hidden: set[str]) -> Any:
    if dataclasses.is_dataclass(value):
        names = [one.name for one in dataclasses.fields(value) if one.name not in hidden]
        return {name: _plain(getattr(value, name), hidden) for name in names}
    if isinstance(value, (list, tuple)):
        return [_plain(part, hidden) for part in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def summarize(source: Timeline | Iterable[Event], *, finished: bool = True) -> Summary:
    """Return the figures of a timeline, or of events directly.

    Events may come in any order for all figures but ``own`` and ``open_time``, which need them as they happened in each
    process; of a timeline they are right in any case.

    Args:
        source: a timeline, or events as `phasewatch.read` gives them.
        finished: whether phases that never ended are lost, rather than running. A timeline knows by itself.
    """
    if isinstance(source, Timeline):
        aggregate = Aggregate(finished=source.finished)
        aggregate.add_timeline(source)
    else:
        aggregate = Aggregate(finished=finished)
        for event in source:
            aggregate.add(event)
    # What the reader could not use is known when it is through.
    return aggregate.summary(skipped=_counts(source, "skipped"), dropped=_counts(source, "dropped"))


def _counts(source: object, name: str) -> Mapping[str, int]:
    counts = getattr(source, name, None)
    return counts if isinstance(counts, Mapping) else {}


class _Tally:
    """The phases of one kind on one rank."""

    __slots__ = ("count", "own", "spans", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.own = 0.0
        self.spans = Spans()

    def add(self, end: float, seconds: float, active: float | None, own: float) -> None:
        """Add a phase: its span, and its own seconds."""
        self.own += own
        if active is None:
            self.total += seconds
            self.spans.add(end, seconds)
        else:
            self.total += active
            self.spans.seconds += active


class _Open:
    """A phase that is open."""

    __slots__ = (
        "around_lost", "done", "elapsed", "inside", "kind", "last", "parent", "path", "paused", "phase", "rank", "stalled",
        "start", "step", "tally", "total",
    )  # fmt: skip

    def __init__(self, phase: PhaseInfo, start: float, parent: _Open | None) -> None:
        self.phase = phase
        self.parent = parent
        self.start = self.last = start
        self.elapsed = 0.0
        self.inside: Spans | None = None  # of the phases in it
        self.paused = 0.0  # seconds that generators' phases in it took
        self.around_lost = False  # whether a phase in it never ended
        self.done, self.total = phase.start, phase.total
        self.stalled = False
        position, place = phase.position, phase.place
        self.step = phase.step if phase.step is not None else position.number if position is not None else None
        self.rank = place.rank if place is not None else None
        self.path = phase.path
        if parent is not None:
            if self.step is None:
                self.step = parent.step
            if self.rank is None:
                self.rank = parent.rank
        if not self.path and phase.role != "run":
            self.path = (*(parent.path[:_DEEPEST] if parent is not None else ()), phase.name)
        self.kind: KindFigures | None = None
        self.tally: _Tally | None = None


class Aggregate:
    """Takes events one by one, and gives the figures at the end."""

    def __init__(self, *, finished: bool = True) -> None:
        self._finished = finished
        self._goes_on: Callable[[PhaseInfo], bool] | None = None
        self._events = 0
        self._time = 0.0  # of the latest event
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._kinds: dict[Path, KindFigures] = {}
        self._tallies: dict[Path, dict[int | None, _Tally]] = {}
        self._whole: dict[int | None, Spans] = {}  # by rank: what is in no other phase
        self._statuses: dict[bool, set[Outcome]] = {True: set(), False: set()}  # of runs; of other phases at the top
        self._runs: list[PhaseFigures] = []
        self._longest: list[tuple[tuple[float, float, int, str, int], PhaseFigures]] = []
        self._shortest = 0.0  # of them, once there are enough
        self._failures: list[PhaseFigures] = []
        self._failure_count = 0
        self._unfinished: list[PhaseFigures] = []
        self._unfinished_count = 0
        self._series: dict[tuple[Path, str], Series] = {}
        self._stalls: dict[Path, list[float]] = {}  # phases, and the longest silence
        self._of_plan: dict[str, None] = {}  # what was told of it, each text once
        self._left_out = 0  # phases of further kinds
        self._unseen = 0  # phases whose start is not there

    # Events.

    def add(self, event: Event) -> None:
        """Take one event; one that was given twice counts once, as far as memory goes."""
        self._events += 1
        phase, time, kind = event.phase, sane(event.time), event.__class__
        if time > self._time:
            self._time = time
        entry = self._open.get(phase.id)
        if entry is None:
            if phase.id in self._ended:
                return
            if kind is PhaseStarted:
                self._begin(phase, time)
                return
            began = time - sane(event.elapsed) if isinstance(event, Measured) else time
            entry = self._begin(phase, max(0.0, began))
            self._unseen += 1
        elif kind is PhaseStarted:
            return
        if time > entry.last:
            entry.last = time
        if kind is MetricsLogged:
            self._take_metrics(entry, event.values)  # type: ignore[attr-defined]  # its class says so
        elif kind is PhaseEnded:
            self._end(entry, event)  # type: ignore[arg-type]
        elif isinstance(event, Measured):
            entry.done, entry.total = event.done, event.total if event.total is not None else phase.total
            entry.elapsed = sane(event.elapsed)
            if kind is PhaseStalled:
                self._stall(entry.path, sane(event.quiet), again=entry.stalled)  # type: ignore[attr-defined]
                entry.stalled = True

    def _begin(self, phase: PhaseInfo, time: float) -> _Open:
        parent = self._open.get(phase.parent) if phase.parent is not None else None
        entry = self._open[phase.id] = _Open(phase, time, parent)
        if parent is not None and time > parent.last:
            parent.last = time
        self._count_in(entry)
        if len(self._open) > _MOST_OPEN:
            self._give_up(next(iter(self._open.values())))
        return entry

    def _count_in(self, entry: _Open) -> None:
        """Count a phase that began to its kind."""
        path, phase = entry.path, entry.phase
        kind = self._kinds.get(path)
        if kind is None:
            if len(self._kinds) >= _MOST_KINDS:
                self._left_out += 1
                return
            kind = self._kinds[path] = KindFigures(path, phase.name, phase.role, phase.unit)
            self._tallies[path] = {}
        tallies = self._tallies[path]
        tally = tallies.get(entry.rank)
        if tally is None:
            tally = tallies[entry.rank] = _Tally()
        kind.count += 1
        tally.count += 1
        entry.kind, entry.tally = kind, tally

    def _end(self, entry: _Open, event: PhaseEnded) -> None:
        id, seconds = entry.phase.id, sane(event.elapsed)
        entry.done = event.done
        if event.total is not None:
            entry.total = event.total
        del self._open[id]
        self._ended[id] = None
        if len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)
        for values in (event.means, event.metrics):  # the reward of a validation is a mean
            if values:
                self._take_metrics(entry, values)
        active = None if event.active is None else min(seconds, sane(event.active))
        self._close(entry, event.status, entry.last, seconds, active, event)  # type: ignore[arg-type]  # of what ends

    def _close(
        self, entry: _Open, status: Outcome, end: float, seconds: float, active: float | None, event: PhaseEnded | None
    ) -> float:
        """Close a phase, and tell the one around it how long it was open; return its own seconds."""
        own = seconds if active is None else active
        if entry.inside is not None:
            own -= entry.inside.seconds
        own = max(0.0, own - entry.paused)
        parent = entry.parent
        if parent is not None:
            if end > parent.last:
                parent.last = end
            if active is not None:
                parent.paused += active
            else:
                if parent.inside is None:
                    parent.inside = Spans()
                parent.inside.add(end, seconds)
        self._account(entry, status, end, seconds, active, own, event, is_top=parent is None)
        return own

    def _account(
        self, entry: _Open, status: Outcome, end: float, seconds: float, active: float | None, own: float,
        event: PhaseEnded | None, *, is_top: bool,
    ) -> None:  # fmt: skip
        """Add a phase to all figures that it is part of."""
        busy = seconds if active is None else active
        is_run = entry.phase.role == "run"
        if is_top or is_run:
            whole = self._whole.get(entry.rank)
            if whole is None:
                whole = self._whole[entry.rank] = Spans()
            whole.add(end, seconds)
            self._statuses[is_run].add(status)
        if entry.kind is not None and entry.tally is not None:
            entry.tally.add(end, seconds, active, own)
            _count_out(entry.kind, entry, status, busy)
        origin = None if event is None else event.origin
        if event is not None and status != "completed" and (event.innermost or origin is None or origin == entry.path):
            self._failure_count += 1
            if len(self._failures) < _MOST_LISTED:
                self._failures.append(_figures(entry, status, busy, own, event))
        if is_run:
            self._note_plan(entry.phase, event)
            if len(self._runs) < _MOST_LISTED:
                self._runs.append(_figures(entry, status, busy, own, event))
        elif own > self._shortest:
            self._note_longest(own, _figures(entry, status, busy, own, event))

    def _note_plan(self, run: PhaseInfo, event: PhaseEnded | None) -> None:
        """Take what a plan was warned of, and what ran otherwise; of several ranks, what all say counts once."""
        warnings = run.attributes.get("plan_warnings")
        for warning in warnings if isinstance(warnings, (list, tuple)) else ():  # a log may hold anything
            told = [warning.get("message"), warning.get("advice")] if isinstance(warning, dict) else [warning]
            self._add_of_plan("; ".join(one_line(part) for part in told if part))
        for name, (ran, planned) in ({} if event is None else event.deviations).items():
            self._add_of_plan(f"{ran} of {planned} {one_line(name)} ran")

    def _add_of_plan(self, text: str) -> None:
        if len(self._of_plan) < _MOST_LISTED:
            self._of_plan[text] = None

    def _note_longest(self, own: float, phase: PhaseFigures) -> None:
        # Whole microseconds, since sums differ in their last bits; of two that are alike, the first and outermost.
        order = (round(own, 6), -phase.start, -len(phase.path), phase.id, self._events)
        heapq.heappush(self._longest, (order, phase))
        if len(self._longest) > _LONGEST:
            heapq.heappop(self._longest)
            self._shortest = self._longest[0][0][0]

    def _take_metrics(self, entry: _Open, values: Mapping[str, float]) -> None:
        path, step = entry.path, entry.step
        for name, value in values.items():
            series = self._series.get((path, name))
            if series is None:
                if len(self._series) >= _MOST_SERIES:
                    continue
                series = self._series[path, name] = Series()
            series.add(step, value)

    def _stall(self, path: Path, quiet: float, *, again: bool) -> None:
        stalls = self._stalls.get(path)
        if stalls is not None:
            stalls[0] += not again
            stalls[1] = max(stalls[1], quiet)
        elif len(self._stalls) < _MOST_KINDS:
            self._stalls[path] = [1, quiet]

    def _give_up(self, entry: _Open) -> None:
        """Close a phase that never ended, at its last sign of life."""
        self._open.pop(entry.phase.id, None)
        seconds = max(0.0, entry.last - entry.start, entry.elapsed)
        if entry.parent is not None:
            entry.parent.around_lost = True
        is_lost = self._finished and (self._goes_on is None or not self._goes_on(entry.phase))
        status: Outcome = "lost" if is_lost else "running"
        own = self._close(entry, status, max(entry.last, entry.start + seconds), seconds, None, None)
        if not entry.around_lost:
            self._note_unfinished(_figures(entry, status, seconds, own, None))

    def _note_unfinished(self, phase: PhaseFigures) -> None:
        self._unfinished_count += 1
        self._unfinished.append(phase)
        if len(self._unfinished) > 2 * _MOST_LISTED:
            self._keep_latest()

    def _keep_latest(self) -> None:
        self._unfinished.sort(key=lambda phase: (-phase.last_sign, phase.start, phase.id))
        del self._unfinished[_MOST_LISTED:]

    # A timeline knows each phase to its end, so that nothing need be put together.

    def add_timeline(self, timeline: Timeline) -> None:
        """Take all phases of a timeline."""
        entries: list[tuple[Node, _Open]] = []
        for node in timeline.nodes():
            entry = _Open(node.phase, node.start, None)
            entry.path, entry.rank, entry.step, entry.last = node.path, node.rank, node.step, node.last_sign
            entry.done, entry.total = node.done, node.total
            self._count_in(entry)
            self._take_metrics(entry, node.metrics)
            for number, stall in enumerate(node.stalls):
                self._stall(node.path, sane(stall.quiet), again=number > 0)
            self._unseen += node._started is None
            entries.append((node, entry))
        # An outer phase after those inside it that end with it, as their events came.
        entries.sort(key=lambda pair: (pair[0].start + pair[0].duration, -len(pair[0].path)))
        for node, entry in entries:
            self._events += 1
            end, seconds, own = node.start + node.duration, node.duration, node.own
            self._account(entry, node.status, end, seconds, node.active, own, node._end, is_top=node.parent is None)
            if node._end is None and all(child._end is not None for child in node.children):
                self._note_unfinished(_figures(entry, node.status, seconds, own, None))

    # The end.

    def summary(
        self,
        *,
        skipped: Mapping[str, int] | None = None,
        dropped: Mapping[str, int] | None = None,
        goes_on: Callable[[PhaseInfo], bool] | None = None,
    ) -> Summary:
        """Return the figures of what was taken; nothing can be added after that.

        Args:
            skipped: what the reader could not use, by reason.
            dropped: events that the writers had to drop, by type.
            goes_on: tells of a phase that has not ended whether it is known to be running, rather than lost.
        """
        self._goes_on = goes_on
        while self._open:
            self._give_up(next(reversed(self._open.values())))  # what is inside comes after what is around it
        self._keep_latest()
        statuses = self._statuses[True] or self._statuses[False]
        elapsed = max((whole.seconds for whole in self._whole.values()), default=0.0)
        for kind in self._kinds.values():
            _conclude(kind, self._tallies[kind.path], elapsed)
        ranks = {rank for tallies in self._tallies.values() for rank in tallies if rank is not None}
        return Summary(
            status=next((status for status in _WORST_FIRST if status in statuses), None),
            elapsed=elapsed,
            events=self._events,
            ranks=sorted(ranks),
            runs=self._runs,
            kinds=_in_tree_order(self._kinds),
            longest=[phase for _, phase in sorted(self._longest, key=lambda item: item[0], reverse=True)],
            failures=self._failures,
            failure_count=self._failure_count,
            unfinished=self._unfinished,
            unfinished_count=self._unfinished_count,
            warnings=list(self._warnings(skipped or {}, dropped or {})),
            series=self._series,
        )

    def _warnings(self, skipped: Mapping[str, int], dropped: Mapping[str, int]) -> Iterator[str]:
        for path, (count, quiet) in self._stalls.items():
            times = "once" if count == 1 else f"in {count} phases"
            yield f"stalled {times}, for up to {format_duration(quiet)}: {shown_path(path)}"
        yield from (f"of the plan: {text}" for text in self._of_plan)
        if sum(dropped.values()):
            yield f"events that could not be written, and are missing here: {_listed(dropped)}"
        if sum(skipped.values()):
            yield f"lines that could not be read: {_listed(skipped)}"
        if self._unseen:
            yield f"phases whose start is not in the log: {self._unseen}"
        if self._left_out:
            yield f"phases of further kinds, which are left out: {self._left_out}"


def shown_path(path: Path) -> str:
    """Return a path as text of one line; that of a run is ``run``."""
    return " > ".join(map(one_line, path)) if path else "run"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {one_line(name)}" for name, count in counts.items() if count)


def _count_out(kind: KindFigures, entry: _Open, status: Outcome, seconds: float) -> None:
    """Count a phase that is over, or was given up, to its kind."""
    if status == "completed":
        kind.completed += 1
    elif status == "failed":
        kind.failed += 1
    elif status == "interrupted":
        kind.interrupted += 1
    else:
        kind.unfinished += 1
        return
    kind.seconds_samples.add(seconds)
    units = min(entry.done - entry.phase.start, _MOST_UNITS)
    if units > 0:
        kind.units += units
        kind.unit_seconds += seconds
        kind.unit_samples.add(seconds / units)


def _conclude(kind: KindFigures, tallies: Mapping[int | None, _Tally], elapsed: float) -> None:
    """Fill in what follows when all phases of a kind are counted."""
    samples = kind.seconds_samples
    if samples.count:
        kind.mean, kind.highest = samples.mean, samples.highest
        kind.p50, kind.p95, kind.exact = samples.quantile(0.5), samples.quantile(0.95), samples.is_exact
    if kind.units:
        kind.per_unit = kind.unit_seconds / kind.units
    by_rank = sorted(tallies.items(), key=lambda item: (item[0] is not None, item[0] or 0))
    kind.ranks = [RankFigures(rank, tally.count, tally.total, tally.own) for rank, tally in by_rank]
    slowest = max(kind.ranks, key=lambda figures: figures.total)
    kind.total, kind.own = slowest.total, slowest.own
    kind.open_time = max(tally.spans.seconds for tally in tallies.values())
    if elapsed > 0:
        kind.share = min(1.0, kind.open_time / elapsed)
    if len(kind.ranks) > 1:
        totals = sorted(figures.total for figures in kind.ranks)
        median = (totals[(len(totals) - 1) // 2] + totals[len(totals) // 2]) / 2
        kind.spread = Spread(totals[0], median, totals[-1], slowest.rank, totals[-1] - median)


def _figures(entry: _Open, status: Outcome, seconds: float, own: float, event: PhaseEnded | None) -> PhaseFigures:
    phase = entry.phase
    return PhaseFigures(
        path=entry.path,
        name=phase.name,
        id=phase.id,
        status=status,
        step=entry.step,
        rank=entry.rank,
        start=entry.start,
        seconds=seconds,
        own=own,
        done=entry.done,
        total=entry.total,
        unit=phase.unit,
        last_sign=entry.last,
        error=None if event is None else event.error,
        origin=None if event is None else event.origin,
    )


def _in_tree_order(kinds: Mapping[Path, KindFigures]) -> list[KindFigures]:
    """Return each kind below the one that it is part of, else in the order in which they began."""
    below: dict[Path, list[Path]] = {}
    tops: list[Path] = []
    for path in kinds:
        outer = path[:-1]
        while outer and outer not in kinds:
            outer = outer[:-1]
        if outer:
            below.setdefault(outer, []).append(path)
        elif path:
            tops.append(path)
    ordered, waiting = [kinds[()]] if () in kinds else [], list(reversed(tops))
    while waiting:
        path = waiting.pop()
        ordered.append(kinds[path])
        waiting.extend(reversed(below.get(path, [])))
    return ordered
