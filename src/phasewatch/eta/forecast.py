"""When a run and the phases under way in it will be done, from what is still to come and how long such work takes.

Work is known by its name: VALIDATION takes what it takes, whatever it runs in. A kind of work that has not been seen goes
by another that ends in the same word, the one seen last (PRE-TRAINING VALIDATION for PERIODIC VALIDATION), and by an
earlier run. What is not known at all counts for nothing.
"""

from __future__ import annotations

from .._annotations import TYPE_CHECKING
from .lengths import Lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_MOST_KINDS = 1000  # of work that are told apart: names may hold what grows without end
_EARLIER = 0.25  # what an earlier phase of the same kind says of a unit's length, as a share of all units of this one
_A_TURN = 2  # units before other work comes for the first time, from which on it is taken to come in turns
_ALIKE = 1.3  # times as long in an earlier run, up to which it was chance between kinds of work that are alike
_SLACK = 1e-9


class Kind:
    """All work of one name."""

    __slots__ = ("beside_units", "ended", "lengths", "name", "planned", "running", "units", "within", "word")

    def __init__(self, name: str) -> None:
        self.name = name
        # By this, work of different names is the same work. "EPOCH 1" and "EPOCH 2" are, too.
        words = [word for word in name.split() if not word.isdecimal()]
        self.word = words[-1] if words else name
        self.lengths = Lengths()
        self.running: list[Running] = []
        self.ended = 0
        self.units: int | None = None  # of the last one that had units
        self.within: Kind | None = None  # that of the phase around the last one
        self.planned: int | None = None
        self.beside_units = False  # planned between the units of a loop, or as these


class _Beside:
    """When other work came between the units of a loop, for a loop of which no plan is known."""

    __slots__ = ("first", "last", "places", "times")

    def __init__(self, done: int) -> None:
        self.first = self.last = done  # units done when it came
        self.places = self.times = 1

    def add(self, done: int) -> None:
        self.times += 1
        self.places += done != self.last
        self.last = done

    def to_come(self, units: Units, *, is_open: bool) -> float:
        """Return how often it will come, if it goes on as it came."""
        each = (self.last - self.first) / (self.places - 1) if self.places > 1 else self.first - units.start
        if units.total is None or (self.places == 1 and each < _A_TURN):
            return 0.0
        # After the last time; one that is late by a whole turn is waited for no longer.
        since = units.done if is_open else max(self.last, units.done - each)
        return max(0, int((units.total - since) / each + _SLACK)) * self.times / self.places


class Units:
    """How far a phase is, in units."""

    __slots__ = ("aside", "beside", "done", "kind", "look", "mark", "pace", "start", "total")

    def __init__(self, total: int | None, start: int, now: float) -> None:
        self.total = total
        self.start = self.done = start
        self.mark = now  # when the last unit ended
        self.aside = 0.0  # seconds since then that were no part of a unit
        self.kind: Kind | None = None  # of the units, where these are phases
        self.pace: Lengths | None = None  # of the units, where these are none
        self.beside: dict[Kind, _Beside] = {}
        self.look: Callable[[float], None] | None = None  # asked to call `note` before a forecast is made

    def note(self, done: int, at: float) -> None:
        """Take that so many units were done, the last of them at a time."""
        more, self.done = done - self.done, done
        if more > 0 and self.kind is None:
            if self.pace is None:
                self.pace = Lengths()
            self.pace.add(max(0.0, at - self.mark - self.aside), more)
            self.mark, self.aside = at, 0.0


class Running:
    """A phase under way."""

    __slots__ = ("children", "forecast", "inside", "is_unit", "kind", "started", "units")

    def __init__(self, forecast: Forecast, kind: Kind, inside: Running | None, started: float, is_unit: bool) -> None:
        self.forecast = forecast
        self.kind = kind
        self.inside = inside
        self.started = started
        self.is_unit = is_unit
        self.children: list[Running] | None = None
        self.units: Units | None = None

    def count(self, total: int | None, start: int = 0) -> Units:
        """Begin to count units."""
        units = self.units
        if units is None:
            units = self.units = Units(total, start, self.started)
        return units

    def open_children(self) -> tuple[Running, ...]:
        """Return the phases under way directly inside this one, the latest last."""
        return tuple(self.children) if self.children else ()


class Forecast:
    """The time left of one run, and of each phase under way in it.

    It is told of the phases as they begin and end. What it keeps does not grow with their number.

    Args:
        planned: the name and the step (None outside the loop) of every phase that will run, in order. They are counted when
            the first question comes.
    """

    def __init__(self, planned: Iterable[tuple[str, int | None]] = ()) -> None:
        self._kinds: dict[str, Kind] = {}
        self._planned: list[Kind] = []
        self._to_read: Iterable[tuple[str, int | None]] = planned
        self._last: Kind | None = None  # of which one has ended
        self._latest: dict[str, Kind] = {}  # by its last word, the kind of which one has ended last

    def expect(self, name: str, seconds: float, count: float = 1, spread: float = 0.0) -> None:
        """Take the mean length of a kind of phase in an earlier run, how many there were, and their standard deviation."""
        self._kind(name).lengths.expect(seconds, count, spread)

    def begin(self, name: str, now: float, inside: Running | None = None, *, is_unit: bool = False) -> Running:
        """Take that a phase begins, which may be a unit of the one around it."""
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kind(name)
        running = Running(self, kind, inside, now, is_unit)
        kind.running.append(running)
        if inside is not None:
            kind.within = inside.kind
            if inside.children is None:
                inside.children = [running]
            else:
                inside.children.append(running)
            if is_unit:
                units = inside.units or inside.count(None)
                if units.kind is None:
                    if units.look is not None:
                        units.look(now)
                    if units.done == units.start:
                        units.mark, units.aside = now, 0.0  # what came before the first unit is no part of one
                units.kind = kind
        return running

    def end(self, running: Running, now: float, *, completed: bool = True) -> None:
        """Take that a phase has ended. One that was broken off says nothing of how long such work takes."""
        kind, inside, seconds = running.kind, running.inside, now - running.started
        if running.units is not None:
            running.units.look = None
            if completed:
                kind.units = running.units.done - running.units.start
        try:
            kind.running.remove(running)
            if inside is not None and inside.children is not None:
                inside.children.remove(running)
        except ValueError:  # ended twice
            return
        if inside is not None:
            units = inside.units
            if units is not None and units.kind is not None:
                if running.is_unit:
                    # From the end of the one before: what lies between two units takes its time as well.
                    seconds = now - units.mark - units.aside
                    units.mark, units.aside = now, 0.0
                    units.done += completed and units.look is None
                else:
                    units.aside += max(0.0, seconds)
                    if units.look is not None:
                        units.look(now)
                    self._note_beside(units, kind)
        if completed:
            kind.ended += 1
            kind.lengths.add(seconds if seconds > 0 else 0.0)
            if kind is not self._last and (kind.within is None or kind.within.word != kind.word):
                self._latest[kind.word] = self._last = kind

    def left(self, running: Running, now: float, units: int | None = None) -> float | None:
        """Return the seconds until a phase ends, or None if nothing is known of them.

        Args:
            running: the phase.
            now: clock seconds.
            units: those still to do, if that is known better.
        """
        if self._to_read:
            self._read_plan()
        if running.inside is None and self._planned:
            return self._left_of_planned(self._planned, now)
        return self._left(running, now, units)

    # What is still to come.

    def _kind(self, name: str) -> Kind:
        kind = self._kinds.get(name)
        if kind is None:
            if len(self._kinds) >= _MOST_KINDS:
                name = ""
            kind = self._kinds.setdefault(name, Kind(name))
        return kind

    def _read_plan(self) -> None:
        planned, self._to_read = self._to_read, ()
        counts: dict[str, int] = {}
        in_loop = set()
        for name, step in planned:
            counts[name] = counts.get(name, 0) + 1
            if step is not None:
                in_loop.add(name)
        for name, count in counts.items():
            kind = self._kind(name)
            kind.planned, kind.beside_units = count, name in in_loop
            self._planned.append(kind)

    def _note_beside(self, units: Units, kind: Kind) -> None:
        if kind.planned is None and units.done > units.start:
            beside = units.beside.get(kind)
            if beside is None:
                units.beside[kind] = _Beside(units.done)
            else:
                beside.add(units.done)

    def _still(self, kind: Kind) -> int:
        """Return how many of a planned kind have not begun."""
        assert kind.planned is not None
        whole = kind.units
        for running in tuple(kind.running):
            if running.units is not None:
                whole = running.units.total
                break
        if kind.planned == whole:  # a plan of 120 items, which are the units of one phase
            return 0
        return max(0, kind.planned - kind.ended - len(kind.running))

    def _left_of_planned(self, kinds: list[Kind], now: float) -> float | None:
        """Return the seconds that planned work takes, what is under way included; None if most of it is unknown."""
        seconds, most, known = 0.0, 0, False
        for kind in kinds:
            under_way, still = tuple(kind.running), self._still(kind)
            if not still and not under_way:
                continue
            these: list[float | None]
            loop = next((one.inside for one in under_way if one.is_unit), None) or self._loop_of(kind)
            if loop is not None:
                these = [self._units_left(loop, still + len(under_way), now)]
            else:
                these = [self._left(one, now) for one in under_way]
                if still:
                    these.append(self._expected(kind, still, now))
            seconds += sum(one for one in these if one is not None)
            if still + len(under_way) > most:
                most, known = still + len(under_way), None not in these
        return seconds if known or not most else None

    def _loop_of(self, kind: Kind) -> Running | None:
        """Return the phase under way whose units are of this kind."""
        if kind.within is not None:
            for running in tuple(kind.within.running):
                if running.units is not None and running.units.kind is kind:
                    return running
        return None

    # Phases under way.

    def _left(self, running: Running, now: float, n: int | None = None) -> float | None:
        units = running.units
        if units is not None:
            if units.look is not None:
                units.look(now)
            if n is None and units.total is not None:
                n = units.total - units.done
            if units.kind is not None and n is not None:
                seconds = self._units_left(running, n, now)
                return None if seconds is None else seconds + self._left_beside(running, units, n, now)
        whole = self._known(running.kind, 1)
        if units is not None and n is not None:
            seconds = self._counted_left(running, units, n, whole, now)
            if seconds is not None:
                return seconds
        return self._rest(running, whole, now)

    def _rest(self, running: Running, whole: float | None, now: float) -> float | None:
        """Return the seconds left of a phase that takes so long as a whole; the one under way inside it may know better."""
        elapsed = now - running.started
        for child in reversed(running.open_children()):
            left = self._left(child, now)
            if left is not None:
                inner = self._known(child.kind, 1)
                if whole is None or inner is None:
                    return left
                return left + max(0.0, whole - inner - (elapsed - (now - child.started)))
        return None if whole is None else max(0.0, whole - elapsed)

    def _units_left(self, loop: Running, n: int, now: float) -> float | None:
        """Return the seconds of the units of a loop alone, where these are phases."""
        units = loop.units
        assert units is not None
        assert units.kind is not None
        if n <= 0:
            return 0.0
        whole = units.kind.planned
        if whole is None and units.total is not None:
            whole = units.total - units.start
        if not units.kind.lengths.is_known:
            return self._expected(units.kind, n, now)
        seconds, one = units.kind.lengths.left(n, whole), units.kind.lengths.left(1, whole)
        assert seconds is not None
        assert one is not None
        for child in loop.open_children():
            if not child.is_unit and child.started < now:
                now = child.started
        # The unit under way never counts for less than nothing, however late it is.
        return max(0.0, one - max(0.0, now - units.mark - units.aside)) + max(0.0, seconds - one)

    def _left_beside(self, loop: Running, units: Units, n: int, now: float) -> float:
        """Return the seconds of other work between the units of a loop: what is under way, planned, or usual."""
        seconds = 0.0
        under_way = set()
        for child in loop.open_children():
            if not child.is_unit:
                under_way.add(child.kind)
                seconds += self._left(child, now) or 0.0
        if units.beside or self._planned:
            for kind, still in self._beside(units, n, under_way):
                if still > 0:
                    seconds += self._expected(kind, still, now) or 0.0
        return seconds

    def _beside(self, units: Units, n: int, under_way: set[Kind]) -> Iterator[tuple[Kind, float]]:
        assert units.kind is not None
        if units.kind.planned is None:
            for kind, beside in tuple(units.beside.items()):
                yield kind, beside.to_come(units, is_open=kind in under_way)
            return
        still = self._still(units.kind) + len(units.kind.running)
        share = min(1.0, n / still) if still > 0 else 1.0  # of several loops, this one
        for kind in self._planned:
            if kind is not units.kind and kind.beside_units:
                yield kind, self._still(kind) * share

    def _counted_left(self, running: Running, units: Units, n: int, whole: float | None, now: float) -> float | None:
        """Return the seconds of units that are merely counted."""
        if n <= 0:
            return 0.0
        own = None if units.pace is None else units.pace.left(n, n + units.done - units.start)
        earlier = None
        if whole is not None:
            earlier = whole / max(1, running.kind.units or n + units.done - units.start)
        if own is not None:
            each, done = own / n, units.done - units.start
            if earlier is not None:
                worth = _EARLIER * (n + done)
                each = (worth * earlier + done * each) / (worth + done)
        elif earlier is not None:
            each = earlier
        else:
            return None
        return max(0.0, each - max(0.0, now - units.mark - units.aside)) + (n - 1) * each

    def _known(self, kind: Kind, n: float) -> float | None:
        """Return the seconds of so many phases of a kind, by those that have ended, or None."""
        lengths = kind.lengths
        if lengths.count:
            return lengths.left(n, kind.planned)
        alike = self._latest.get(kind.word)
        each = None if alike is None else alike.lengths.left(1, alike.planned)
        if lengths.expected is not None:
            before = None if alike is None else alike.lengths.expected
            if each is None or before is None:
                each = lengths.expected
            elif not 1 / _ALIKE <= lengths.expected / before <= _ALIKE:
                each *= lengths.expected / before
        return None if each is None else n * each

    def _expected(self, kind: Kind, n: float, now: float) -> float | None:
        """Return the seconds of so many more phases of a kind, the one under way telling what no other has."""
        seconds = self._known(kind, n)
        if seconds is None:
            for running in tuple(kind.running):
                each = self._projected(running, now)
                if each is not None:
                    return n * each
        return seconds

    def _projected(self, running: Running, now: float) -> float | None:
        """Return how long a phase will have taken, by its units or those of the one under way in it."""
        for inner in (running, *reversed(running.open_children())):
            units = inner.units
            if units is not None and units.total is not None and units.kind is None:
                if units.look is not None:
                    units.look(now)
                left = self._counted_left(inner, units, units.total - units.done, None, now)
                if left is not None:
                    return now - running.started + left
        return None
