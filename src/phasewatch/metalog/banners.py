"""Events to the lines of a META LOG: pure text, for whoever writes it to a terminal, a pipe or a file."""

from __future__ import annotations

from functools import lru_cache

from .._annotations import TYPE_CHECKING
from ..durations import format_average, format_duration
from ..events import PhaseAlive, PhaseEnded, PhaseProgressed, PhaseResumed, PhaseStalled, PhaseStarted
from .catalog import kind_of
from .plain import MARK, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal

    from ..events import Event, Measured, PhaseInfo, Position, UnderWay

    Tone = Literal["opened", "completed", "failed", "interrupted", "progress"]
    Line = tuple[Literal["rule", "title", "detail", "line"], str]

RULE_WIDTH = 80  # columns
RULE = "=" * RULE_WIDTH
PATH_SEPARATOR = " > "

_MOST_LABELS = 32  # units, and sets of metrics, that are remembered as they are shown
_ENDS = {"failed": ("❌", "FAILED"), "interrupted": ("🛑", "INTERRUPTED")}


class Block:
    """Lines that belong together: a banner with its rules, or a line that stands for itself."""

    __slots__ = ("is_banner", "lines", "tone")

    def __init__(self, tone: Tone, *lines: Line) -> None:
        self.tone = tone
        self.lines = lines
        self.is_banner = lines[0][0] == "rule"  # a blank line stands before and after


def blocks(event: Event) -> list[Block]:
    """Return what a META LOG says of an event, in order; nothing for an event that is silent in the text."""
    if isinstance(event, PhaseStarted):
        return _opening(event.phase)
    if isinstance(event, PhaseProgressed):
        return [Block("progress", ("line", _progress(event)))]
    if isinstance(event, PhaseEnded):
        return [*_metrics(event.metrics), *_ending(event)]
    if isinstance(event, PhaseAlive):
        return [Block("progress", ("line", _alive(event)))]
    if isinstance(event, PhaseStalled):
        return [_stalled(event)]
    if isinstance(event, PhaseResumed):
        return [Block("progress", ("line", _resumed(event)))]
    return []  # metrics are told when their phase ends


def shown_name(name: str) -> str:
    """Return a phase's name as running text has it: ``VALIDATION`` is ``Validation``; other names are left as given."""
    name = one_line(name)
    return " ".join(word.capitalize() for word in name.split(" ")) if name.isupper() else name


def plural(unit: str) -> str:
    """Return the English plural of a unit: steps, batches, queries."""
    if unit.endswith(("s", "x", "z", "ch", "sh")):
        return unit + "es"
    if unit.endswith("y") and not unit.endswith(("ay", "ey", "oy", "uy")):
        return unit[:-1] + "ies"
    return unit + "s"


def percentage(done: float, total: float) -> str:
    """Return ``done/total`` with one decimal, as ``(3.6%)``; nothing to do is all done."""
    return f"({100 * done / total if total else 100:.1f}%)"


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return for each slashed name its last part, or as many of its last parts as tell it from the others."""
    parts = {name: name.split("/") for name in names}
    depth = {name: 1 if parts[name][-1] else min(2, len(parts[name])) for name in parts}  # of "loss/", all
    while True:
        shown = {name: "/".join(parts[name][-depth[name] :]) for name in parts}
        sharing: dict[str, list[str]] = {}
        for name, short in shown.items():
            sharing.setdefault(short, []).append(name)
        deeper = [n for group in sharing.values() if len(group) > 1 for n in group if depth[n] < len(parts[n])]
        if not deeper:
            return shown
        for name in deeper:
            depth[name] += 1


def _banner(tone: Tone, title: str, *details: str) -> Block:
    lines: list[Line] = [("rule", RULE), ("title", title), ("rule", RULE)]
    if details and details[0]:
        lines += [("detail", details[0]), ("rule", RULE)]
    return Block(tone, *lines)


def _opening(phase: PhaseInfo) -> list[Block]:
    kind = kind_of(phase)
    if phase.role == "run":
        return _plan_warnings(phase)
    if kind.opens is None:
        return []
    title = f"{one_line(phase.emoji or kind.emoji)} {MARK} {one_line(kind.opens)}".lstrip()
    if phase.message:
        title += f" - {one_line(phase.message)}"
    if phase.step is not None and phase.position is None:
        title += f" (Step {phase.step})"
    position = _position(phase.position) if phase.position else ""
    expected = _expected(phase)
    if kind.layout == "step" and position:
        rule: Line = ("rule", RULE)
        detail = " | ".join([position, *expected])
        return [Block("opened", rule, ("title", title), ("detail", detail), rule)]
    return [_banner("opened", title, " | ".join([position, *expected] if position else expected))]


def _plan_warnings(run: PhaseInfo) -> list[Block]:
    """``⚠️ [META] PLAN WARNING: test_freq=50 is never reached in 35 steps``, a line for each."""
    warnings = run.attributes.get("plan_warnings")
    if not isinstance(warnings, (list, tuple)):  # a log may hold anything
        return []
    blocks = []
    for warning in warnings:
        told = [warning.get("message"), warning.get("advice")] if isinstance(warning, dict) else [warning]
        text = "; ".join(one_line(part) for part in told if part)
        blocks.append(Block("interrupted", ("line", f"⚠️ {MARK} PLAN WARNING: {text}")))
    return blocks


def _position(position: Position) -> str:
    """``[Epoch 1/3] Step 1/35 (2.9%) | Elapsed: 42s | ETA: 23.8m``."""
    text = f"{_capital(position.unit)} {_count(position.number, position.total)}"
    if position.epoch is not None:
        text = f"[Epoch {_count(position.epoch, position.epochs)}] {text}"
    parts = [text]
    if position.total is not None:
        parts[0] += f" {percentage(position.number, position.total)}"
    parts.append(f"Elapsed: {format_duration(position.elapsed)}")
    if position.total is not None:
        parts.append(f"ETA: {format_duration(position.eta)}")
    return " | ".join(parts)


def _expected(phase: PhaseInfo) -> list[str]:
    """``Total epochs: 3``, ``Total steps: 35``, ``Total questions: 7405``, ``Batch size: 256``."""
    parts = []
    epochs = phase.attributes.get("epochs")
    if epochs is not None:
        parts.append(f"Total epochs: {one_line(epochs)}")
    if phase.total is not None:
        parts.append(f"Total {one_line(plural(phase.unit))}: {phase.total}")
    if phase.counters:
        parts += [f"Total {_words(name)}: {n}" for name, n in phase.counters.items() if n is not None]
    if phase.details:
        parts += [f"{one_line(name)}: {one_line(value)}" for name, value in phase.details.items()]
    return parts


def _progress(event: PhaseProgressed) -> str:
    parts = [f"📊 {shown_name(event.name)}{_progress_of(event)}"]
    parts += [f"{_capital(k)}: {_count(n, event.phase.counters.get(k))}" for k, n in event.counters.items()]
    short = short_names(event.means)
    parts += [f"Avg {_title_case(short[name])}: {mean:.3f}" for name, mean in event.means.items()]
    return " | ".join([*parts, *_times(event)])


def _alive(event: PhaseAlive) -> str:
    """``💓 [META] ALIVE: TRAINING > VALIDATION [12/28] (42.9%) | Elapsed: 8.2m | ETA: 11.0m``."""
    counts = event.total is not None or event.done
    return " | ".join([f"💓 {MARK} ALIVE: {_path(event.path)}{_progress_of(event) if counts else ''}", *_times(event)])


def _stalled(event: PhaseStalled) -> Block:
    """Return the banner of a phase that does not move, with its stack below if that was taken."""
    parts = [f"Quiet: {format_duration(event.quiet)}", f"Expected: {format_duration(event.expected)}"]
    parts += [f"Elapsed: {format_duration(event.elapsed)}", *_position_of(event)]
    banner = _banner("interrupted", f"⏳ {MARK} PHASE STALLED: {one_line(event.name)}", " | ".join(parts))
    if not event.stack:
        return banner
    stack: list[Line] = [("line", f"    {one_line(line)}") for line in event.stack.splitlines()]
    return Block(banner.tone, *banner.lines, *stack)


def _resumed(event: PhaseResumed) -> str:
    """``▶️ [META] PHASE RESUMED: VALIDATION | Quiet: 12.3m | Elapsed: 20.1m | Batch 13/28``."""
    parts = [f"▶️ {MARK} PHASE RESUMED: {one_line(event.name)}", f"Quiet: {format_duration(event.quiet)}"]
    return " | ".join([*parts, f"Elapsed: {format_duration(event.elapsed)}", *_position_of(event)])


def _progress_of(event: Measured) -> str:
    """`` [12/28] (42.9%)``; without a total, ``[12]``."""
    if event.total is None:
        return f" [{event.done}]"
    return f" [{_count(event.done, event.total)}] {percentage(event.done, event.total)}"


def _times(event: UnderWay) -> list[str]:
    times = [f"Elapsed: {format_duration(event.elapsed)}"]
    return times if event.total is None else [*times, f"ETA: {format_duration(event.eta)}"]


def _path(path: Iterable[str]) -> str:
    return PATH_SEPARATOR.join(one_line(name) for name in path)


def _metrics(metrics: Mapping[str, float]) -> list[Block]:
    if not metrics:
        return []
    shown = [f"{label}={metrics[name]:.3f}" for label, name in _labels(tuple(metrics))]
    return [Block("progress", ("line", "📊 Metrics: " + " | ".join(shown)))]


@lru_cache(_MOST_LABELS)
def _labels(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the metrics in the order in which they are shown, each with its label; one step after another has the same."""
    return sorted((one_line(short), name) for name, short in short_names(names).items())


def _ending(event: PhaseEnded) -> list[Block]:
    if event.phase.role == "run":
        return [*_deviations(event), _run_ending(event)]
    if event.status == "completed":
        kind = kind_of(event.phase)
        if kind.completes is None:
            return []
        title = f"{one_line(kind.completes_emoji)} {MARK} {one_line(kind.completes)}".lstrip()
        return [_banner("completed", title, " | ".join(_totals(event, kind.totals)))]
    if not event.innermost:
        return []
    emoji, word = _ENDS[event.status]
    return [_banner(_tone(event), f"{emoji} {MARK} PHASE {word}: {one_line(event.name)}", " | ".join(_accident(event)))]


def _deviations(event: PhaseEnded) -> list[Block]:
    """``⚠️ [META] PLAN: 34 of 35 TRAINING STEP ran``, a line for each."""
    return [
        Block("interrupted", ("line", f"⚠️ {MARK} PLAN: {_figure(ran)} of {_figure(planned)} {one_line(name)} ran"))
        for name, (ran, planned) in event.deviations.items()
    ]


def _run_ending(event: PhaseEnded) -> Block:
    phase = event.phase
    if event.status == "completed":
        if phase.attributes.get("val_only"):
            return _banner("completed", f"🏁 {MARK} PHASE: COMPLETE - Validation Only Mode")
        message = f" - {one_line(phase.message)}" if phase.message else ""
        return _banner("completed", f"🏁 {MARK} ALL PHASES COMPLETE{message}")
    emoji, word = _ENDS[event.status]
    where = _path(event.origin or (phase.name,))
    # Where a phase failed, its own banner has told the error.
    detail = " | ".join(_accident(event)) if event.innermost else ""
    return _banner(_tone(event), f"{emoji} {MARK} RUN {word} - in {where}", detail)


def _tone(event: PhaseEnded) -> Tone:
    return "failed" if event.status == "failed" else "interrupted"


def _totals(event: PhaseEnded, totals: Iterable[str]) -> list[str]:
    """``Total questions processed: 7405``, ``Total time: 19.2m``, ``Avg time per batch: 41.1s``."""
    unit = one_line(event.phase.unit)
    units = event.done - event.phase.start
    counted = event.done > 0 or event.total is not None
    parts = []
    for total in totals:
        if total == "processed" and event.counters:
            parts += [f"Total {_words(name)} processed: {_figure(n)}" for name, n in event.counters.items()]
        elif total in ("processed", "completed") and counted:
            parts.append(f"Total {plural(unit)} {total}: {event.done}")
        elif total == "time":
            parts.append(f"Total time: {format_duration(event.elapsed)}")
            if event.active is not None:
                parts.append(f"Active time: {format_duration(event.active)}")
        elif total == "average" and units > 0:
            parts.append(f"Avg time per {unit}: {format_average(event.elapsed / units)}")
    return parts


def _accident(event: PhaseEnded) -> list[str]:
    """``ValueError: message``, ``Elapsed: 42s``, ``Batch 12/28``."""
    parts = []
    if event.error is not None:
        kind, message = event.error
        parts.append(": ".join(filter(None, (one_line(kind), one_line(message).strip()))))
    return [*parts, f"Elapsed: {format_duration(event.elapsed)}", *_position_of(event)]


def _position_of(event: Measured) -> list[str]:
    """``Batch 12/28``, or nothing for a phase that counts nothing."""
    position = event.phase.position
    if position is not None:
        return [f"{_capital(position.unit)} {_count(position.number, position.total)}"]
    if event.total is not None or event.done:
        return [f"{_capital(event.phase.unit)} {_count(event.done, event.total)}"]
    return []


def _count(done: float, total: float | None) -> str:
    return _figure(done) if total is None else f"{_figure(done)}/{_figure(total)}"


def _figure(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.3f}".rstrip("0").rstrip(".")


def _words(name: str) -> str:
    return one_line(name).replace("_", " ")


@lru_cache(_MOST_LABELS)
def _capital(name: str) -> str:
    words = _words(name)
    return words[:1].upper() + words[1:]


def _title_case(name: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in _words(name).split(" "))
