"""Times of code, in interleaved rounds: of all cases in turn, so that the machine's moods hit all alike."""

from __future__ import annotations

import functools
import gc
import statistics
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

Measure = Callable[[int], float]  # seconds for n turns
Times = dict[str, list[float]]  # seconds for one turn, by case and round

TARGET = 0.005  # seconds that a case takes in one round
FEWEST, MOST = 20_000, 200_000  # turns of a loop: the few microseconds in which it begins are not its pace
OURS, BARE = "phasewatch", "bare"


@dataclass(frozen=True)
class Code:
    """Source that is timed as it stands, without a call around it; also by other processes.

    Args:
        code: one turn, or a loop of ``n`` turns.
        before: what is run once: imports and definitions.
        setup: what is run before each measurement; it knows ``n``.
        around: context managers that are entered before and left after what is timed.
        loops: whether the code is a loop.
        n: turns, where they are not for the measuring to choose.
    """

    code: str
    before: str = ""
    setup: str = ""
    around: str = ""
    loops: bool = False
    n: int | None = None

    def source(self) -> str:
        """Return the source of ``measured(n, clock, repeat)``, which returns clock units."""
        turns = self.code if self.loops else f"for _ in repeat(None, n):\n{textwrap.indent(self.code, '    ')}"
        timed = f"started = clock()\n{turns}\nreturn clock() - started"
        if self.around:
            timed = f"with {self.around}:\n{textwrap.indent(timed, '    ')}"
        body = textwrap.indent(f"{self.setup}\n{timed}", "    ")
        return f"{self.before}\ndef measured(n, clock, repeat):\n{body}\n"

    def measure(self) -> Measure:
        """Return what measures it."""
        return _compiled(self)


@functools.cache  # what is run once may not be undone: eliot writes to every file that it was ever given
def _compiled(code: Code) -> Measure:
    names: dict[str, Any] = {}
    exec(compile(code.source(), f"<{code.code}>", "exec"), names)  # our own source
    measured = names["measured"]
    return lambda n: measured(n, time.perf_counter, repeat)


@dataclass(frozen=True)
class Call:
    """What measures itself."""

    function: Measure
    n: int | None = 1

    def measure(self) -> Measure:
        """Return what measures it."""
        return self.function


Case = Code | Call


@dataclass(frozen=True)
class Reached:
    """What came out: a ratio, or seconds."""

    value: float
    low: float  # the 10th percentile of the rounds
    high: float  # the 90th


@dataclass(frozen=True)
class AtMost:
    """Ours takes no more than so many seconds a turn."""

    seconds: float

    def reached(self, times: Times) -> Reached:
        """Return the seconds."""
        return Reached(statistics.median(times[OURS]), *spread(times[OURS]))

    def is_met(self, reached: Reached) -> bool:
        """Whether it holds."""
        return reached.value <= self.seconds


@dataclass(frozen=True)
class Share:
    """Ours takes no more than this share of what a peer takes."""

    peer: str
    share: float

    def reached(self, times: Times) -> Reached:
        """Return the ratio of the medians."""
        return ratio(times[OURS], times[self.peer])

    def is_met(self, reached: Reached) -> bool:
        """Whether it holds."""
        return reached.value <= self.share


@dataclass(frozen=True)
class Holds:
    """Something is so."""

    text: str
    check: Callable[[], bool]

    def reached(self, times: Times) -> Reached:
        """Return 1 if it is so, else 0."""
        value = float(self.check())
        return Reached(value, value, value)

    def is_met(self, reached: Reached) -> bool:
        """Whether it holds."""
        return reached.value == 1.0


Bound = AtMost | Share | Holds


@dataclass
class Row:
    """One kind of work: ours, and how others do it.

    Args:
        work: what it is.
        cases: what is measured, ours among it; a ``bare`` one is what the others do without, and is subtracted.
        must: the bounds.
        rounds: how often, at least.
        environment: of the process in which it is measured; None is this one.
    """

    work: str
    cases: dict[str, Case]
    must: Sequence[Bound] = ()
    rounds: int = 21
    environment: dict[str, str] | None = None
    raw: Times = field(default_factory=dict)

    @property
    def times(self) -> Times:
        """Seconds of one turn of each, over those of the bare case if there is one."""
        bare = self.raw.get(BARE)
        if bare is None:
            return self.raw
        return {
            name: [one - without for one, without in zip(times, bare, strict=True)]
            for name, times in self.raw.items()
            if name != BARE
        }


def measure(cases: dict[str, Case], rounds: int) -> Times:
    """Return the seconds of one turn of each case, in so many rounds."""
    measures = {name: case.measure() for name, case in cases.items()}
    turns = {name: _turns(measures[name], case) for name, case in cases.items()}
    times: Times = {name: [] for name in cases}
    names = list(cases)
    gc.collect()
    gc.freeze()  # what was imported for others is not ours to walk through
    try:
        for number in range(rounds):
            # Each comes first now and then.
            for name in names[number % len(names) :] + names[: number % len(names)]:
                gc.collect()
                times[name].append(measures[name](turns[name]) / turns[name])
    finally:
        gc.unfreeze()
    return times


def _turns(one: Measure, case: Case) -> int:
    if case.n is not None:
        one(min(case.n, 1000))  # warm
        return case.n
    loops = isinstance(case, Code) and case.loops
    n = 1000 if loops else 10
    for _ in range(3):
        n = int(n * TARGET / max(one(n), 1e-6)) + 1
        n = max(FEWEST, min(MOST, n)) if loops else min(n, 50_000)
    return n


def ratio(ours: list[float], theirs: list[float]) -> Reached:
    """Return the ratio of the medians, and the spread of the rounds' ratios."""
    return Reached(
        statistics.median(ours) / statistics.median(theirs),
        *spread([one / other for one, other in zip(ours, theirs, strict=True)]),
    )


def spread(values: list[float]) -> tuple[float, float]:
    """Return the 10th and the 90th percentile."""
    if len(values) < 2:
        return values[0], values[0]
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return tenths[0], tenths[-1]
