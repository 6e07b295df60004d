"""Figures as tables for people: in a terminal as wide as it is, in a pipe as wide as their text."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from .durations import format_average, format_duration
from .metalog.plain import encodable, one_line
from .summary import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO

    from .comparison import Comparison, KindChange
    from .summary import KindFigures, PhaseFigures, Summary
    from .timeline import Outcome

    Part = Group | Table | Text
    # A column: its heading, what stands in it, and from which width of the terminal on it is shown.
    Column = tuple[str, Callable[[KindFigures], str], int]

ROWS = 40

_WIDE = 1000  # columns; wider than any table
_BAR = 12
_EIGHTHS = " ▏▎▍▌▋▊▉"
_NARROWEST_NAME, _WIDEST_NAME = 8, 60
_GAP = 2  # columns between two of a table
_STYLES = {"completed": "green", "failed": "red", "interrupted": "yellow", "lost": "yellow", "running": "cyan"}
_VERDICTS = {
    "slower": "slower", "faster": "faster", "same": "no more than noise", "too few": "too few to tell",
    "untimed": "its time is not told",
}  # fmt: skip
_VERDICT_STYLES = {"slower": "red", "faster": "green", "same": "", "too few": "dim", "untimed": "dim"}


def show(parts: Iterator[Part], out: IO[str]) -> None:
    """Write tables and texts, with a blank line between them."""
    terminal = Console(file=out, highlight=False, markup=False, emoji=False)
    encoding = getattr(out, "encoding", None) or "utf-8"
    if terminal.is_terminal:
        for number, part in enumerate(parts):
            if number:
                terminal.print()
            terminal.print(part)
        return
    for number, part in enumerate(parts):
        text = io.StringIO()
        plain = Console(file=text, width=_WIDE, color_system=None, force_terminal=False, force_jupyter=False, _environ={})
        plain.print(part)
        lines = [encodable(_plain_bars(line.rstrip(), encoding), encoding) for line in text.getvalue().splitlines()]
        out.write("\n" * (number > 0) + "".join(line + "\n" for line in lines))


def _plain_bars(line: str, encoding: str) -> str:
    """Return a line with bars that an old encoding can hold."""
    try:
        line.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        for part in _EIGHTHS[1:] + "█":
            line = line.replace(part, "#" if part in "█▉▊▋▌" else " ")
        line = line.replace("━", "-").replace("─", "-")
    return line


def bar(share: float | None, width: int = _BAR) -> str:
    """Return a bar of so many columns at most; a share that is not zero is seen."""
    eighths = 0 if share is None or not share > 0 else max(1, round(min(1.0, share) * width * 8))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def percent(share: float | None) -> str:
    """Return a share of 0 to 1 in percent."""
    return "--" if share is None or not math.isfinite(share) else f"{share * 100:.1f}%"


def _table(
    title: str, headings: Mapping[str, int], rows: Sequence[tuple[Text, ...]], *, width: int, hidden: int = 0, of: str = ""
) -> Group:
    """Return a table whose first column, names, gives way to the figures; and what is said of rows that are not shown.

    Args:
        title: what stands above it.
        headings: of each column, and from which width of the terminal on it is shown.
        rows: the cells of all columns.
        width: columns of the terminal.
        hidden: how many rows are not shown.
        of: what these are.
    """
    shown = [number for number, least in enumerate(headings.values()) if least <= width]
    names, *figures = [list(headings)[number] for number in shown]
    taken = sum(
        _GAP + max(len(heading), *(row[number].cell_len for row in rows), 0)
        for heading, number in zip(figures, shown[1:], strict=True)
    )
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="underline")
    widest = max(_NARROWEST_NAME, min(_WIDEST_NAME, width - taken - 1))
    table.add_column(names, max_width=widest, overflow="ellipsis", no_wrap=True)
    for heading in figures:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row[number] for number in shown))
    # Not the table's own title, which would be wrapped to its width.
    more = [Text(f"... and {hidden} more {of} (--all shows them)")] if hidden else []
    return Group(Text(title, style="bold"), table, *more)


def _texts(*cells: str) -> tuple[Text, ...]:
    return tuple(map(Text, cells))


# The summary.

_COLUMNS: tuple[Column, ...] = (
    ("Count", lambda kind: str(kind.count), 0),
    ("Total", lambda kind: format_duration(kind.total), 0),
    ("Own", lambda kind: format_duration(kind.own), 100),
    ("Share", lambda kind: percent(kind.share), 0),
    ("", lambda kind: bar(kind.share), 60),
    ("Mean", lambda kind: format_average(kind.mean), 70),
    ("p50", lambda kind: format_average(kind.p50), 110),
    ("p95", lambda kind: format_average(kind.p95), 90),
    ("Max", lambda kind: format_average(kind.highest), 80),
)


def summary_parts(summary: Summary, *, width: int = _WIDE, rows: int | None = ROWS) -> Iterator[Part]:
    """Yield what people read of a summary.

    Args:
        summary: the figures.
        width: columns of the terminal; a narrow one is shown fewer figures.
        rows: of the table, at most; None for all.
    """
    yield _headline(summary)
    yield _kinds(summary, width, rows)
    if len(summary.longest) > 1:
        yield _longest(summary.longest, width)
    if summary.failures:
        yield _accidents("Where it failed", summary.failures, summary.failure_count)
    if summary.unfinished:
        yield _accidents("What never ended", summary.unfinished, summary.unfinished_count)
    spread = [kind for kind in summary.kinds if kind.spread is not None]
    if spread:
        yield _ranks(spread if rows is None else spread[:rows], width)
    if summary.warnings:
        yield Text("Warnings\n", style="bold").append(
            "\n".join(f"  {warning}" for warning in summary.warnings), style="not bold yellow"
        )


def _headline(summary: Summary) -> Text:
    text = Text()
    for number, run in enumerate(summary.runs[:ROWS]):
        if number:
            text.append("\n")
        rank = "" if run.rank is None else f" (rank {run.rank})"
        text.append(f"{one_line(run.name)}{rank}: ", style="bold")
        text.append(_said(summary, run.status), style=_STYLES[run.status])
        text.append(f", {format_duration(run.seconds)}")
        if run.status != "completed":
            text.append(_where(summary, run))
    if len(summary.runs) > ROWS:
        text.append(f"\n... and {len(summary.runs) - ROWS} more runs")
    if not summary.runs:
        status = summary.status or "lost"
        text.append("No run: ", style="bold")
        text.append("phases ").append(_said(summary, status), style=_STYLES[status])
        text.append(f", {format_duration(summary.elapsed)}")
    return text


def _said(summary: Summary, status: Outcome) -> str:
    if status == "running":
        return "still running"
    if status != "lost":
        return status
    return "never ended (killed)" if summary.killed else "never ended (killed, or still running)"


def _where(summary: Summary, run: PhaseFigures) -> str:
    """Say in which phase a run failed, or was when it was last heard of."""
    if run.origin:
        return f", in {shown_path(run.origin)}"
    last = next((phase for phase in summary.unfinished if phase.rank == run.rank and phase.path), None)
    if last is None or run.status not in ("lost", "running"):
        return ""
    return f", {'last seen ' if run.status == 'lost' else ''}in {shown_path(last.path)}"


def _kinds(summary: Summary, width: int, rows: int | None) -> Group:
    shown = summary.kinds if rows is None else summary.kinds[:rows]
    found = []
    for kind in shown:
        name = Text("  " * kind.depth + one_line(kind.name) if kind.path else "The whole run")
        for status in ("failed", "interrupted", "unfinished"):
            if number := getattr(kind, status):
                name.append(f" ({number} {status})", style=_STYLES.get(status, "yellow"))
        found.append((name, *_texts(*(value_of(kind) for _, value_of, _ in _COLUMNS))))
    headings = {"Phase": 0, **{heading: least for heading, _, least in _COLUMNS}}
    hidden = len(summary.kinds) - len(shown)
    return _table("Where the time went", headings, found, width=width, hidden=hidden, of="kinds of phase")


def _longest(phases: Sequence[PhaseFigures], width: int) -> Group:
    rows = [
        _texts(
            _with_rank(phase),
            "" if phase.step is None else str(phase.step),
            format_duration(phase.own),
            format_duration(phase.seconds),
        )
        for phase in phases
    ]
    return _table("The longest phases, by their own time", {"Phase": 0, "Step": 0, "Own": 0, "Total": 0}, rows, width=width)


def _with_rank(phase: PhaseFigures) -> str:
    return shown_path(phase.path) + ("" if phase.rank is None else f" (rank {phase.rank})")


def _accidents(title: str, phases: Sequence[PhaseFigures], count: int) -> Text:
    text = Text(title, style="bold")
    for phase in phases[:ROWS]:
        step = "" if phase.step is None else f" (step {phase.step})"
        text.append(f"\n  {_with_rank(phase)}{step}: ", style="not bold")
        text.append("interrupted, " if phase.status == "interrupted" else "", style="not bold")
        error = ": ".join(one_line(part) for part in phase.error if part) if phase.error else ""
        text.append(f"{error}, " if error else "", style="not bold red")
        done = f", {one_line(phase.unit)} {phase.done}" if phase.done or phase.total is not None else ""
        total = "" if phase.total is None else f"/{phase.total}"
        text.append(f"after {format_duration(phase.seconds)}{done}{total if done else ''}", style="not bold")
    if count > len(phases[:ROWS]):
        text.append(f"\n  ... and {count - len(phases[:ROWS])} more", style="not bold")
    return text


def _ranks(kinds: Sequence[KindFigures], width: int) -> Group:
    rows = []
    for kind in kinds:
        spread = kind.spread
        assert spread is not None
        times = [format_duration(seconds) for seconds in (spread.lowest, spread.median, spread.highest)]
        slowest = "--" if spread.slowest is None else str(spread.slowest)
        name = "  " * kind.depth + one_line(kind.name) if kind.path else "The whole run"
        rows.append(_texts(name, str(len(kind.ranks)), *times, slowest, format_duration(spread.waited)))
    headings = {"Phase": 0, "Ranks": 80, "Min": 70, "Median": 60, "Max": 0, "Slowest": 0, "Others waited": 0}
    return _table("Ranks, by the time that each spent", headings, rows, width=width)


# The comparison.


def comparison_parts(comparison: Comparison, *, width: int = _WIDE, rows: int | None = ROWS) -> Iterator[Part]:
    """Yield what people read of a comparison; the arguments are those of `summary_parts`."""
    a, b = format_duration(comparison.elapsed_a), format_duration(comparison.elapsed_b)
    yield Text.assemble(("The whole run: ", "bold"), f"{a} to {b} ({change(comparison.ratio)})")
    shown = comparison.kinds if rows is None else comparison.kinds[:rows]
    hidden = len(comparison.kinds) - len(shown)
    headings = {"Phase": 0, "A": 58, "B": 58, "of one": 80, "Phases": 72, "Change": 0, "": 0}
    found = [_change_row(kind) for kind in shown]
    yield _table("Time, A against B", headings, found, width=width, hidden=hidden, of="kinds of phase")
    if comparison.metrics:
        yield _metrics(comparison, width, rows)
    for name, paths in (("A", comparison.only_a), ("B", comparison.only_b)):
        if paths:
            listed = paths if rows is None else paths[:rows]
            more = [] if len(listed) == len(paths) else [f"... and {len(paths) - len(listed)} more"]
            yield Text(f"Only in {name}\n", style="bold").append(
                "\n".join(f"  {line}" for line in [*map(shown_path, listed), *more]), style="not bold"
            )


def change(ratio: float | None) -> str:
    """Return what a ratio says in percent: ``+10.0%``; of more than the double as a factor."""
    if ratio is None or not math.isfinite(ratio):
        return "--"
    return f"x{ratio:.2f}" if ratio >= 2 else f"{(ratio - 1) * 100:+.1f}%"


def _change_row(kind: KindChange) -> tuple[Text, ...]:
    name = "  " * (len(kind.path) - 1) + one_line(kind.path[-1]) if kind.path else "The whole run"
    times = [format_average(seconds) for seconds in (kind.a, kind.b)]
    counts = f"{kind.count_a}, {kind.count_b}"
    verdict = Text(_VERDICTS[kind.verdict], style=_VERDICT_STYLES[kind.verdict])
    return (*_texts(name, *times, one_line(kind.per), counts, change(kind.ratio)), verdict)


def _metrics(comparison: Comparison, width: int, rows: int | None) -> Group:
    shown = comparison.metrics if rows is None else comparison.metrics[:rows]
    found = []
    for metric in shown:
        step, parted = ("" if value is None else str(value) for value in (metric.step, metric.parted))
        found.append(_texts(one_line(metric.name), step, _number(metric.a), _number(metric.b), parted))
    headings = {"Metric": 0, "Step": 44, "A": 0, "B": 0, "Differs from step": 70}
    hidden = len(comparison.metrics) - len(shown)
    return _table("Metrics at the last step that both have", headings, found, width=width, hidden=hidden, of="metrics")


def _number(value: float) -> str:
    try:
        return f"{value:.6g}"
    except (TypeError, ValueError, OverflowError):  # a whole number of a thousand digits
        return one_line(value)
