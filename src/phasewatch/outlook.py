"""What a plan comes to: its schedule, its counts and what looks wrong in it, for people and as data.

Given the figures of an earlier run, also how long it will take.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ._tables import ROWS
from .durations import format_average, format_duration
from .metalog.plain import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ._tables import Part
    from .plan import Schedule, Stretch
    from .summary import KindFigures, Summary

_WIDEST_NAME = 60
_MOST_STRETCHES = 10_000  # in data; a plan may have a billion


@dataclass
class Expectation:
    """How long planned phases take, by an earlier run; seconds."""

    each: dict[str, float]  # by name; what is not in it is not known
    beside: float  # of what the plan does not have: the initialisation, and what lies between phases
    total: float | None  # None if most of what is planned is not known


def expected(plan: Schedule, history: Summary) -> Expectation:
    """Return how long a plan takes if its phases take as long as those of an earlier run did.

    A phase that the earlier run did not have goes by those whose name ends in the same word: PERIODIC VALIDATION by
    PRE-TRAINING VALIDATION.
    """
    counts = plan.counts()
    seen: dict[str, list[KindFigures]] = {}
    for kind in history.kinds:
        if kind.mean is not None and kind.path:
            seen.setdefault(kind.name, []).append(kind)
    each = {}
    for name in counts:
        alike = seen.get(name) or _of_the_same_word(name, seen, counts)
        if alike:
            ended = sum(_ended(kind) for kind in alike)
            each[name] = sum((kind.mean or 0.0) * _ended(kind) for kind in alike) / max(1, ended)
    known = sum(count for name, count in counts.items() if name in each)
    if not known or 2 * known < sum(counts.values()):
        return Expectation(each, 0.0, None)
    seconds = sum(count * each.get(name, 0.0) for name, count in counts.items())
    beside = _beside(history, counts, plan.kinds, seconds)
    return Expectation(each, beside, seconds + beside)


def _ended(kind: KindFigures) -> int:
    return kind.count - kind.unfinished


def _of_the_same_word(name: str, seen: dict[str, list[KindFigures]], counts: dict[str, int]) -> list[KindFigures]:
    word = name.split()[-1:]
    alike = {other: kinds for other, kinds in seen.items() if other.split()[-1:] == word}
    planned = [kind for other, kinds in alike.items() if other in counts for kind in kinds]
    return planned or [kind for kinds in alike.values() for kind in kinds]


def _beside(history: Summary, counts: dict[str, int], kinds: tuple[str, ...], seconds: float) -> float:
    """Return the seconds of what is not planned: phases of the run itself, and the time around planned ones."""
    planned = {kind.path for kind in history.kinds if kind.name in counts}
    runs = max(1, len(history.runs))
    once = around = observed = 0.0
    for kind in history.kinds:
        holds_planned = any(path[: len(kind.path)] == kind.path and path != kind.path for path in planned)
        if kind.path in planned:
            observed += kind.total
        elif holds_planned:
            around += kind.own
        elif len(kind.path) == 1 and kind.name not in kinds:
            once += kind.total
    return once / runs + (around * seconds / observed if observed > 0 else 0.0)


def as_dict(plan: Schedule, expectation: Expectation | None = None) -> dict[str, Any]:
    """Return all of it as JSON can hold it. Of a plan of more than 10,000 stretches, the first so many are in it."""
    stretches = list(islice(plan.stretches(), _MOST_STRETCHES + 1))
    found: dict[str, Any] = {
        "schedule": [
            {"name": one.name, "count": one.count, "first_step": one.first, "last_step": one.last}
            for one in stretches[:_MOST_STRETCHES]
        ],
        "schedule_is_whole": len(stretches) <= _MOST_STRETCHES,
        "counts": plan.counts(),
        "warnings": [warning.as_dict() for warning in plan.warnings()],
    }
    if expectation is not None:
        found |= {"each": expectation.each, "beside": expectation.beside, "expected": expectation.total}
    return found


def parts(
    plan: Schedule, expectation: Expectation | None = None, *, done_at: float | None = None, rows: int | None = ROWS
) -> Iterator[Part]:
    """Yield what people read of a plan: its schedule, its counts, how long it takes, and what looks wrong in it.

    Args:
        plan: the plan.
        expectation: how long its phases take, if that is known.
        done_at: when it will be done if it begins now, in seconds since 1970.
        rows: of the schedule, at most; None for all.
    """
    schedule = _table("What will run", "Times", "Step")
    stretches = plan.stretches()
    for stretch in islice(stretches, rows):
        schedule.add_row(Text(one_line(stretch.name)), f"x{stretch.count}", _steps(stretch))
    if next(stretches, None) is not None:
        schedule.add_row(Text("... and so on (--all shows the rest)"))
    yield schedule
    counts = plan.counts()
    yield _counts(counts, expectation)
    if expectation is not None:
        yield _length(counts, expectation, done_at)
    warnings = plan.warnings()
    if warnings:
        text = Text("Warnings", style="bold")
        for warning in warnings:
            text.append(f"\n  {one_line(warning)}", style="not bold yellow")
        yield text


def _table(first: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, max_width=_WIDEST_NAME, overflow="ellipsis", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _steps(stretch: Stretch) -> str:
    if stretch.first is None:
        return ""
    return str(stretch.first) if stretch.first == stretch.last else f"{stretch.first}-{stretch.last}"


def _counts(counts: dict[str, int], expectation: Expectation | None) -> Part:
    if expectation is None:
        found = _table("How often", "Count")
        for name, count in counts.items():
            found.add_row(Text(one_line(name)), str(count))
        return found
    found = _table("How often, and how long as in the earlier run", "Count", "Each", "Total")
    for name, count in counts.items():
        each = expectation.each.get(name)
        total = None if each is None else each * count
        found.add_row(Text(one_line(name)), str(count), format_average(each), format_duration(total))
    if expectation.total is not None:
        found.add_row(Text("What is not planned"), "", "", format_duration(expectation.beside))
        found.add_row(Text("The whole run"), "1", "", format_duration(expectation.total))
    return found


def _length(counts: dict[str, int], expectation: Expectation, done_at: float | None) -> Text:
    unknown = [one_line(name) for name in counts if name not in expectation.each]
    told = f"; without {', '.join(unknown)}, of which nothing is known" if unknown else ""
    if expectation.total is None:
        return Text("How long it takes is not known: the earlier run had little of what is planned")
    when = ""
    if done_at is not None:
        when = time.strftime("; begun now, it is done at %Y-%m-%d %H:%M", time.localtime(done_at))
    return Text(f"It takes {format_duration(expectation.total)}{told}{when}")
