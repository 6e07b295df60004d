"""What is open now, as rows of text: events in, a picture of the moment out. It writes nothing and starts nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from .._forks import ForkSafeLock
from ..durations import format_duration
from ..events import Measured, MetricsLogged, PhaseEnded, PhaseStalled, UnderWay
from ..metalog.banners import PATH_SEPARATOR, short_names, shown_name
from ..metalog.plain import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ..events import Event, PhaseInfo

SILENCE = 90.0  # seconds without an event after which a log is said to be silent; a quiet phase is heard of each minute

_MOST_PHASES = 10_000  # open at once; a log that opens and never ends must not fill the memory
_MOST_METRICS, _MOST_KEPT = 12, 200  # of a phase, that are shown if there is room, and that are kept
_NARROWEST_NAME = 8  # columns
_WIDE_BAR, _BAR, _WIDE_WINDOW = 20, 10, 100
_DEEPEST = 20  # levels that are indented
_GAP = "  "
# In a narrow window the figures go in this order, until the names can be read.
_GIVE_WAY = ("bar", "percent", "count", "eta", "elapsed")
_FIGURES = ("bar", "count", "percent", "elapsed", "eta")


class _Open:
    """An open phase, and what was last heard of it."""

    __slots__ = (
        "at", "children", "counters", "done", "elapsed", "eta", "heard", "logged", "means", "parent", "phase", "quiet_since",
        "shown", "total",
    )  # fmt: skip

    def __init__(self, phase: PhaseInfo, parent: _Open | None, at: float) -> None:
        self.phase = phase
        self.parent = parent
        self.children: dict[str, _Open] = {}
        self.done, self.total = phase.start, phase.total
        self.elapsed = 0.0  # seconds, as of `at`
        self.eta: float | None = None  # likewise
        self.at = self.heard = at  # by the view's clock: of what is known; of the last event in it or inside
        self.quiet_since: float | None = None  # of a phase that has stalled
        self.counters: Mapping[str, float] = {}
        self.means: Mapping[str, float] = {}
        self.logged: dict[str, float] = {}  # the last value of each metric
        self.shown: list[str] | None = None  # the figures as they are shown, until they change

    def measure(self, event: Measured, at: float) -> None:
        self.done, self.elapsed, self.at = event.done, event.elapsed, at
        self.total = self.total if event.total is None else event.total
        self.counters, self.means, self.shown = event.counters, event.means, None
        if isinstance(event, UnderWay):
            self.eta = event.eta

    def reach_around(self) -> None:
        """Have what is around it be open for no less time, of which a text log may tell nothing, and end no sooner."""
        elapsed, left, at, outer = self.elapsed, self.eta, self.at, self.parent
        while outer is not None:
            past = at - outer.at
            own_left = None if outer.eta is None else outer.eta - past
            ends_later = left is not None and own_left is not None and own_left < left
            if outer.elapsed + past < elapsed or ends_later:
                outer.elapsed, outer.at = max(elapsed, outer.elapsed + past), at
                outer.eta = left if ends_later else own_left
            elif own_left is not None:
                left = own_left
            outer = outer.parent

    def log(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if name in self.logged or len(self.logged) < _MOST_KEPT:
                self.logged[name] = value
        self.shown = None

    def root(self) -> _Open:
        found = self
        while found.parent is not None:
            found = found.parent
        return found

    def figures(self) -> list[str]:
        if self.shown is None:
            counted = self.phase.counters
            self.shown = [f"{one_line(name)} {_of(n, counted.get(name))}" for name, n in list(self.counters.items())[:4]]
            # Seconds of parts come last: a row has its own.
            values = dict(
                sorted({**self.means, **self.logged}.items(), key=lambda item: item[0].startswith("timing"))[:_MOST_METRICS]
            )
            short = short_names(values)
            self.shown += [f"{one_line(short[name])}={_number(value)}" for name, value in values.items()]
        return self.shown


class _Row:
    """A row before it is as wide as the window."""

    __slots__ = ("name", "note", "phase", "until")

    def __init__(self, name: str, phase: _Open | None = None, until: float = 0.0, note: str = "") -> None:
        self.name = name
        self.phase = phase  # None: a row that says what is left out
        self.until = until  # by the view's clock: when it was so; now, but for a log that has fallen silent
        self.note = note


class LiveView:
    """The phases that are open, fed with events by any thread.

    Between two events elapsed times go on counting, and ETAs down.

    Args:
        clock: monotonic seconds.
        age: how many seconds ago an event of a log happened, when it is read; None if events come as they happen. A run
            in a log that has said nothing for `SILENCE` seconds is said to be silent, and its times stand still.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, age: Callable[[Event], float] | None = None) -> None:
        self._clock, self._age = clock, age
        self._open: dict[str, _Open] = {}
        self._lost: frozenset[str] = frozenset()
        self._lock = ForkSafeLock(order=4)

    @property
    def is_open(self) -> bool:
        """Whether there is anything to show."""
        return bool(self._open)

    def take(self, event: Event) -> None:
        """Note what happened."""
        with self._lock:
            at = self._clock() - (max(0.0, self._age(event)) if self._age is not None else 0.0)
            if isinstance(event, PhaseEnded):
                self._end(event, at)
                return
            found = self._open.get(event.id)
            if found is None:
                if len(self._open) >= _MOST_PHASES:
                    return
                found = self._begin(event.phase, at)
            self._heard(found, at)
            if isinstance(event, Measured):
                found.measure(event, at)
                found.reach_around()
                found.quiet_since = at - event.quiet if isinstance(event, PhaseStalled) else None
            elif isinstance(event, MetricsLogged):
                found.log(event.values)

    def lose(self, phases: Iterable[PhaseInfo]) -> None:
        """Note whose processes are gone, of those that are open; their times stand still."""
        self._lost = frozenset(phase.id for phase in phases)

    def rows(self, width: int, height: int) -> list[Text]:
        """Return what is open, in at most so many rows of at most so many columns."""
        with self._lock:
            now = self._clock()
            trees = [list(self._tree(root, now)) for root in self._open.values() if root.parent is None]
            rows = _folded(trees, max(1, height))
            return _laid_out(rows, now, max(1, width))

    def _begin(self, phase: PhaseInfo, at: float) -> _Open:
        parent = None if phase.parent is None else self._open.get(phase.parent)
        found = self._open[phase.id] = _Open(phase, parent, at)
        if parent is not None:
            parent.children[phase.id] = found
            position = phase.position
            if position is not None:  # what a step says of the phase around it
                parent.done, parent.total = max(parent.done, position.number - 1), position.total
                parent.elapsed, parent.eta, parent.at = position.elapsed, position.eta, at
                parent.reach_around()
        return found

    def _end(self, event: PhaseEnded, at: float) -> None:
        ended = self._open.get(event.id)
        parent = self._open.get(event.phase.parent or "")
        if parent is not None:
            self._heard(parent, at)
            position = event.phase.position
            if position is not None:
                if event.status == "completed":
                    parent.done = max(parent.done, position.number)
                parent.log(event.metrics)
        if ended is None:
            return
        if ended.parent is not None:
            ended.parent.children.pop(event.id, None)
        waiting = [ended]
        while waiting:  # what is inside and never ended, too
            gone = waiting.pop()
            self._open.pop(gone.phase.id, None)
            waiting.extend(gone.children.values())

    def _heard(self, found: _Open, at: float) -> None:
        root = found.root()
        root.heard = max(root.heard, at)

    def _tree(self, root: _Open, now: float) -> Iterator[_Row]:
        until, note = now, ""
        if root.phase.id in self._lost:
            until, note = root.heard, "its process is gone"
        elif self._age is not None and now - root.heard >= SILENCE:
            until, note = root.heard, f"said nothing for {format_duration(now - root.heard)}"
        waiting = [(root, 0, False)]
        while waiting:
            found, depth, is_lost = waiting.pop()
            own_note = note if found is root else ""
            if found.quiet_since is not None and not note:
                own_note = f"stalled, quiet for {format_duration(now - found.quiet_since)}"
            if found.phase.id in self._lost and not note:  # of a process inside a run that goes on
                is_lost, own_note = True, "its process is gone"
            yield _Row("  " * min(depth, _DEEPEST) + _name(found), found, found.at if is_lost else until, own_note)
            waiting.extend((child, depth + 1, is_lost) for child in reversed(found.children.values()))


def _name(found: _Open) -> str:
    phase, parent = found.phase, found.parent
    name = one_line(phase.name) if phase.role == "run" else shown_name(phase.name)
    if phase.position is not None:
        name += f" {phase.position.number}"
    elif phase.step is not None:
        name += f" (Step {phase.step})"
    place = phase.place
    if place is None:
        return name
    around = parent.phase.place if parent is not None else None
    if place.rank is not None and (around is None or around.rank != place.rank):
        name += f" (rank {place.rank})"
    elif around is not None and around.process != place.process:
        name += f" (process {place.process})"
    elif place.thread is not None and around is not None and around.thread != place.thread:
        name += f" ({one_line(place.thread)})"
    return name


# More rows than there is room for.


def _folded(trees: list[list[_Row]], height: int) -> list[_Row]:
    if sum(map(len, trees)) <= height:
        return [row for tree in trees for row in tree]
    if len(trees) > height:
        rows = [_in_one(tree) for tree in trees[: height - 1]]
        return [*rows, _Row(f"... and {len(trees) - height + 1} more")]
    # Each an equal part; what the small ones leave is for the others.
    room, rooms = height, {}
    for left, (number, tree) in zip(
        range(len(trees), 0, -1), sorted(enumerate(trees), key=lambda pair: len(pair[1])), strict=True
    ):
        rooms[number] = min(len(tree), room // left)
        room -= rooms[number]
    return [row for number, tree in enumerate(trees) for row in _in_rows(tree, rooms[number])]


def _in_rows(tree: list[_Row], room: int) -> list[_Row]:
    if len(tree) <= room:
        return tree
    if room == 1:
        return [_in_one(tree)]
    if room == 2:
        return [tree[0], tree[-1]]
    hidden = len(tree) - room + 1
    return [tree[0], _Row(f"  ... and {hidden} more"), *tree[hidden + 1 :]]


def _in_one(tree: list[_Row]) -> _Row:
    """Return the outermost phase and the one opened last, with the figures of the latter, in one row."""
    first, last = tree[0], tree[-1]
    if first is last:
        return first
    return _Row(f"{first.name}{PATH_SEPARATOR}{last.name.strip()}", last.phase, last.until, first.note or last.note)


# Rows to a width.


def _laid_out(rows: list[_Row], now: float, width: int) -> list[Text]:
    bar_width = _WIDE_BAR if width >= _WIDE_WINDOW else _BAR
    cells = [_cells(row, bar_width) for row in rows]
    widths = {column: max((cell_len(cell[column]) for cell in cells), default=0) for column in _FIGURES}
    longest = max((cell_len(row.name) for row in rows), default=0)
    wanted = min(longest, max(_NARROWEST_NAME, width // 3))
    for column in (*_GIVE_WAY, ""):
        figures = sum(len(_GAP) + needed for needed in widths.values() if needed)
        if width - figures >= wanted or not column:
            break
        widths[column] = 0
    names = max(1, min(longest, width - figures))
    return [_row(row, cell, widths, names, bar_width, width) for row, cell in zip(rows, cells, strict=True)]


def _cells(row: _Row, bar_width: int) -> dict[str, str]:
    cells = dict.fromkeys(_FIGURES, "")
    found = row.phase
    if found is None:
        return cells
    past = max(0.0, row.until - found.at)
    cells["elapsed"] = format_duration(found.elapsed + past)
    if found.total is not None:
        share = found.done / found.total if found.total else 1.0
        cells["bar"] = "x" * bar_width
        cells["percent"] = f"{100 * share:.1f}%"
        cells["eta"] = f"ETA {format_duration(None if found.eta is None else found.eta - past)}"
        cells["count"] = _of(found.done, found.total)
    elif found.done:
        cells["count"] = f"{_of(found.done, None)} {one_line(found.phase.unit)}"
    return cells


def _row(row: _Row, cells: dict[str, str], widths: dict[str, int], names: int, bar_width: int, width: int) -> Text:
    found = row.phase
    text = Text(row.name, style="dim" if found is None else "", no_wrap=True, end="")
    if found is not None and (found.phase.role == "run" or found.parent is None):
        text.stylize("bold")
    if row.note:
        text.stylize("yellow")
    text.truncate(names, overflow="ellipsis", pad=True)
    for column in _FIGURES:
        if not widths[column]:
            continue
        text.append(_GAP)
        if column == "bar" and found is not None and cells["bar"]:
            filled = _filled(found, bar_width)
            text.append("━" * filled, "yellow" if row.note else "cyan").append("─" * (bar_width - filled), "dim")
        else:
            cell = cells[column]
            text.append(" " * (widths[column] - cell_len(cell)) + cell)
    if row.note:
        text.append(_GAP).append(row.note, "yellow")
    room = width - text.cell_len
    for figure in found.figures() if found is not None else ():
        room -= len(_GAP) + cell_len(figure)
        if room < 0:
            break
        text.append(_GAP).append(figure, "dim")
    text.rstrip()
    text.truncate(width, overflow="ellipsis")
    return text


def _filled(found: _Open, bar_width: int) -> int:
    if not found.total:
        return bar_width
    return max(0, min(bar_width, int(bar_width * found.done / found.total)))


def _of(done: float, total: float | None) -> str:
    return _number(done) if total is None else f"{_number(done)}/{_number(total)}"


def _number(value: float) -> str:
    try:
        return str(value) if isinstance(value, int) else f"{value:.4g}"
    except (TypeError, ValueError, OverflowError):  # from a log: whatever stood there
        return one_line(value)
