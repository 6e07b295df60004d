"""Events to a tree of phases: in any order, incomplete, of several processes.

A run that was killed is an ordinary case. What never ended is shown with the last sign of life that it gave, an end whose
start was not seen with the time that it tells, and a phase whose parent is unknown stands at the top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._spans import Spans
from .events import Measured, MetricsLogged, PhaseEnded, PhaseStalled, PhaseStarted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Literal

    from .events import Event, PhaseInfo, Place, Role

    Outcome = Literal["running", "completed", "failed", "interrupted", "lost"]

_LATEST = 1e11  # seconds since 1970, the year 5138; what a log says beyond it is no time
_DEEPEST = 100  # names of a path that is put together here
_JITTER = 0.001  # seconds by which two clocks may differ
_MOST_STALLS = 100  # that are kept of one phase


def sane(seconds: float) -> float:
    """Return seconds that can be calculated with; a log may say anything, such as nan."""
    try:
        return float(seconds) if 0 <= seconds <= _LATEST else 0.0
    except TypeError:
        return 0.0


class Node:
    """One phase, as far as its events tell of it. All times are in seconds."""

    __slots__ = (
        "_end", "_measured", "_metrics_at", "_seen", "_started", "active", "children", "counters", "done", "duration",
        "last_sign", "means", "metrics", "parent", "path", "phase", "rank", "stalls", "start", "status", "step", "total",
    )  # fmt: skip

    def __init__(self, phase: PhaseInfo) -> None:
        self.phase = phase  # all that its start told
        self.parent: Node | None = None
        self.children: list[Node] = []  # in the order in which they began
        self.status: Outcome = "lost"  # or running, while its stream is followed
        self.path = phase.path  # names from below the run down; taken from the parents where the start was not seen
        self.rank: int | None = None  # its own, or that of the phase around it
        self.step: int | None = None  # its own number, or the step that it belongs to
        self.start = 0.0  # wall clock
        self.last_sign = 0.0  # wall clock: of its last event, or of a phase inside it
        self.duration = 0.0  # until it ended, by the monotonic clock; else until the last sign of life
        self.active: float | None = None  # of a generator's phase: the part that was spent in its body
        self.done = phase.start
        self.total = phase.total
        self.counters: Mapping[str, float] = {}
        self.means: Mapping[str, float] = {}
        self.metrics: Mapping[str, float] = {}  # the last value of each
        self.stalls: list[PhaseStalled] = []
        self._started: float | None = None
        self._seen: float | None = None  # the earliest time at which it is known to have been open
        self._end: PhaseEnded | None = None
        self._measured: Measured | None = None
        self._metrics_at: dict[str, float] = {}

    @property
    def name(self) -> str:
        """Its name."""
        return self.phase.name

    @property
    def id(self) -> str:
        """Its id, unique among all processes."""
        return self.phase.id

    @property
    def role(self) -> Role:
        """``run``, ``phase`` or ``step``."""
        return self.phase.role

    @property
    def unit(self) -> str:
        """What is counted, singular."""
        return self.phase.unit

    @property
    def place(self) -> Place | None:
        """Where it ran, if its start told."""
        return self.phase.place

    @property
    def end(self) -> float | None:
        """When it ended, by the wall clock; None if it has not."""
        return self.start + self.duration if self._end is not None else None

    @property
    def error(self) -> tuple[str, str] | None:
        """The type and message of the exception with which it ended."""
        return None if self._end is None else self._end.error

    @property
    def innermost(self) -> bool:
        """Whether it is where an exception came from: no phase inside ended with the same."""
        return self._end is not None and self._end.innermost

    @property
    def origin(self) -> tuple[str, ...] | None:
        """The path of the phase from which its exception came."""
        return None if self._end is None else self._end.origin

    @property
    def seconds(self) -> float:
        """How long it worked: its duration, or of a generator's phase the part spent in its body."""
        return self.duration if self.active is None else self.active

    @property
    def own(self) -> float:
        """Seconds in which it worked and no phase inside it was open."""
        if not self.children:
            return self.seconds
        inside, until, paused = Spans(), self.start + self.duration, 0.0
        for child in sorted(self.children, key=lambda child: child.start + child.duration):
            if child.active is not None:
                paused += child.active
            elif child.start + child.duration <= until + _JITTER:
                inside.add(child.start + child.duration, child.duration)
            elif child.start < until:  # a thread's, which outlived what is around it
                inside.add(until, until - child.start)
        return max(0.0, self.seconds - inside.seconds - paused)

    def __repr__(self) -> str:
        return f"<Node {self.name!r} {self.status} {self.duration:.6g}s, {len(self.children)} inside>"

    # Events, in any order.

    def _take(self, event: Event) -> None:
        time = sane(event.time)
        self.last_sign = max(self.last_sign, time)
        began = time
        if isinstance(event, PhaseStarted):
            if self._started is None:
                self.phase, self._started = event.phase, time
        elif self._started is None and not self.phase.path and event.phase.path:
            self.phase = event.phase
        if isinstance(event, Measured):
            began = max(0.0, time - sane(event.elapsed))
            if self._is_news(event):
                self._measured = event
        if isinstance(event, PhaseEnded):
            if self._end is None or event.time >= self._end.time:
                self._end = event
        elif isinstance(event, MetricsLogged):
            self._take_metrics(event, time)
        elif isinstance(event, PhaseStalled) and len(self.stalls) < _MOST_STALLS and event not in self.stalls:
            self.stalls.append(event)
        self._seen = began if self._seen is None else min(self._seen, began)

    def _is_news(self, event: Measured) -> bool:
        last = self._measured
        if last is None or (isinstance(event, PhaseEnded) and not isinstance(last, PhaseEnded)):
            return True
        if isinstance(last, PhaseEnded) and not isinstance(event, PhaseEnded):
            return False
        return (event.elapsed, event.done) >= (last.elapsed, last.done)

    def _take_metrics(self, event: MetricsLogged, time: float) -> None:
        if not self._metrics_at:
            self.metrics = {}
        assert isinstance(self.metrics, dict)
        for name, value in event.values.items():
            if time >= self._metrics_at.get(name, 0.0):
                self.metrics[name] = value
                self._metrics_at[name] = time

    # When all that is there has been taken.

    def _settle(self, *, finished: bool) -> None:
        """Say what follows from its own events."""
        phase, measured, end = self.phase, self._measured, self._end
        self.start = self._started if self._started is not None else self._seen or 0.0
        self.done, self.total = (phase.start, phase.total) if measured is None else (measured.done, measured.total)
        if self.total is None:
            self.total = phase.total
        if measured is not None:
            self.counters, self.means = measured.counters, measured.means
        if end is not None:
            self.status = end.status if end.status in ("completed", "failed", "interrupted") else "lost"
            self.duration = sane(end.elapsed)
            self.active = None if end.active is None else sane(end.active)
            if end.metrics:
                self.metrics = {**self.metrics, **end.metrics}
        else:
            self.status = "lost" if finished else "running"
        position = phase.position
        self.step = phase.step if phase.step is not None else position.number if position is not None else None
        self.rank = phase.place.rank if phase.place is not None else None
        self.stalls.sort(key=lambda stall: sane(stall.time))

    def _settle_in_tree(self) -> None:
        """Say what follows from the phase around it, which has been settled."""
        parent = self.parent
        self.path = self.phase.path
        if not self.path and self.role != "run":
            self.path = (*(parent.path[:_DEEPEST] if parent is not None else ()), self.name)
        if parent is not None:
            self.rank = parent.rank if self.rank is None else self.rank
            self.step = parent.step if self.step is None else self.step


class Timeline:
    """The phases of a stream of events, as trees.

    A phase that never ended is ``lost`` in a finished stream, and ``running`` in one that is followed. Memory grows with the
    number of phases; `phasewatch.summarize` takes events directly, and does without.
    """

    def __init__(self, *, finished: bool = True) -> None:
        self.finished = finished
        self._nodes: dict[str, Node] = {}
        self._roots: list[Node] | None = None

    @classmethod
    def from_events(cls, events: Iterable[Event], *, finished: bool = True) -> Timeline:
        """Return the timeline of events, in whatever order they come."""
        timeline = cls(finished=finished)
        for event in events:
            timeline.add(event)
        return timeline

    def add(self, event: Event) -> None:
        """Take one more event; one that was taken before changes nothing."""
        node = self._nodes.get(event.id)
        if node is None:
            node = self._nodes[event.id] = Node(event.phase)
        node._take(event)
        self._roots = None

    @property
    def roots(self) -> list[Node]:
        """The phases that are in no other, or in none that is known, in the order in which they began."""
        if self._roots is None:
            self._roots = self._build()
        return self._roots

    def nodes(self) -> Iterator[Node]:
        """Yield every phase, each before those inside it."""
        waiting = list(reversed(self.roots))
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))

    def get(self, id: str) -> Node | None:
        """Return the phase with an id."""
        self.roots  # noqa: B018  # it is settled then
        return self._nodes.get(id)

    def _cut_circles(self, ordered: list[Node]) -> None:
        """Give each phase its parent, but where a damaged log says that phases contain each other."""
        known: set[str] = set()
        for node in ordered:
            walked: dict[str, Node] = {}
            outer: Node | None = node
            while outer is not None and outer.id not in known and outer.id not in walked:
                walked[outer.id] = outer
                outer.parent = None if outer.phase.parent is None else self._nodes.get(outer.phase.parent)
                outer = outer.parent
            if outer is not None and outer.id in walked:
                outer.parent = None
            known.update(walked)

    def __len__(self) -> int:
        return len(self._nodes)

    def _build(self) -> list[Node]:
        for node in self._nodes.values():
            node.parent, node.children = None, []
            node._settle(finished=self.finished)
        # Ids end with a number that counts up: where two began at one moment, that tells their order.
        ordered = sorted(self._nodes.values(), key=lambda node: (node.start, len(node.id), node.id))
        self._cut_circles(ordered)
        for node in ordered:
            if node.parent is not None:
                node.parent.children.append(node)
        roots = [node for node in ordered if node.parent is None]
        for node in (outward := list(_level_by_level(roots))):
            node._settle_in_tree()
        for node in reversed(outward):
            if node._end is None:
                # By its own clock it got as far as it said; by the wall clock, as far as what is inside it.
                elapsed = sane(node._measured.elapsed) if node._measured is not None else 0.0
                node.duration = max(0.0, node.last_sign - node.start, elapsed)
            if node.parent is not None:
                node.parent.last_sign = max(node.parent.last_sign, node.last_sign)
        return roots


def _level_by_level(roots: list[Node]) -> Iterator[Node]:
    level = roots
    while level:
        yield from level
        level = [child for node in level for child in node.children]
