"""Phases as records of Python's own logging."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ..durations import format_duration
from ..events import (
    MetricsLogged,
    PhaseAlive,
    PhaseEnded,
    PhaseProgressed,
    PhaseResumed,
    PhaseStalled,
    PhaseStarted,
    UnderWay,
)
from ..metalog.plain import one_line

if TYPE_CHECKING:
    from ..events import Event, Measured

_LEVELS = {
    PhaseStarted: logging.INFO, PhaseProgressed: logging.DEBUG, PhaseAlive: logging.DEBUG, PhaseStalled: logging.WARNING,
    PhaseResumed: logging.INFO, MetricsLogged: logging.DEBUG,
}  # fmt: skip
_END_LEVELS = {"completed": logging.INFO, "failed": logging.ERROR, "interrupted": logging.WARNING}
# What an event tells beyond its phase, by the name that it has in a record.
_FIGURES = ("done", "total", "elapsed", "eta", "quiet", "expected", "status", "innermost")
_MAPPINGS = ("counters", "means", "metrics", "values")


class LoggingSink:
    """Tells phases to a logger.

    Starts and completions are INFO, progress, signs of life and metrics DEBUG, stalls and interruptions WARNING, failures
    ERROR. The message is one harmless line. For formatters that write structured records, each has the attributes
    ``phase_event``, ``phase_name``, ``phase_path`` (joined by `` > ``), ``phase_id`` and ``phase_time`` (wall seconds), and
    as far as the event knows them ``phase_parent``, ``phase_run``, ``phase_step``, ``phase_rank``, ``phase_done``,
    ``phase_total``, ``phase_elapsed`` and ``phase_eta`` (seconds), ``phase_status``, ``phase_error``,
    ``phase_error_message``, ``phase_metrics`` and so on. They hold names as they were given.

    Args:
        logger: a logger or the name of one; by default ``phasewatch.phases``.

    Raises:
        TypeError: what is neither.
    """

    def __init__(self, logger: logging.Logger | str = "phasewatch.phases") -> None:
        if isinstance(logger, str):
            logger = logging.getLogger(logger)
        if not isinstance(logger, logging.Logger):
            raise TypeError(f"LoggingSink: logger={logger!r} must be a logger or the name of one")
        self._logger = logger
        self._busy = threading.local()

    def emit(self, event: Event) -> None:
        """Log the event. What a handler itself tells phasewatch while it does so is left out: it would never end."""
        level = _END_LEVELS.get(event.status, logging.ERROR) if isinstance(event, PhaseEnded) else _LEVELS.get(type(event))
        if level is None or getattr(self._busy, "inside", False) or not self._logger.isEnabledFor(level):
            return
        self._busy.inside = True
        try:
            self._logger.log(level, "%s", _message(event), extra=_extra(event))
        finally:
            self._busy.inside = False

    def close(self) -> None:
        """Nothing is held open: the logger belongs to the program."""


def _message(event: Event) -> str:
    phase = event.phase
    where = " > ".join(map(one_line, event.path)) or one_line(event.name)
    if phase.step is not None:
        where += f" (step {phase.step})"
    return f"{where}: {_told(event)}"


def _told(event: Event) -> str:
    if isinstance(event, PhaseStarted):
        # The message of a run is for its end.
        says_why = event.phase.message is not None and event.phase.role != "run"
        return f"started - {one_line(event.phase.message)}" if says_why else "started"
    if isinstance(event, MetricsLogged):
        return ", ".join(f"{one_line(name)}={_number(value)}" for name, value in sorted(event.values.items()))
    if isinstance(event, PhaseEnded):
        told = f"{event.status} after {format_duration(event.elapsed)}"
        error = "" if event.error is None else ": ".join(one_line(part) for part in event.error if part)
        return ", ".join(filter(None, [told, _count(event), error]))
    if isinstance(event, UnderWay):
        told = _count(event) or "running"
        if isinstance(event, PhaseStalled):
            told = f"stalled, quiet for {format_duration(event.quiet)}, {told}"
        elif isinstance(event, PhaseResumed):
            told = f"moves again after {format_duration(event.quiet)}, {told}"
        return f"{told}, elapsed {format_duration(event.elapsed)}, ETA {format_duration(event.eta)}"
    return event.type


def _count(event: Measured) -> str:
    if event.total is None and not event.done:
        return ""
    unit = one_line(event.phase.unit)
    return f"{unit} {event.done}" if event.total is None else f"{unit} {event.done}/{event.total}"


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else one_line(value)


def _extra(event: Event) -> dict[str, object]:
    phase = event.phase
    extra: dict[str, object] = {
        "phase_event": event.type, "phase_name": phase.name, "phase_path": " > ".join(phase.path), "phase_id": phase.id,
        "phase_time": event.time, "phase_parent": phase.parent, "phase_run": phase.run, "phase_step": phase.step,
        "phase_rank": None if phase.place is None else phase.place.rank,
    }  # fmt: skip
    for name in _FIGURES:
        extra[f"phase_{name}"] = getattr(event, name, None)
    for name in _MAPPINGS:
        values = getattr(event, name, None)
        extra[f"phase_{name}"] = dict(values) if values else None
    if isinstance(event, PhaseEnded) and event.error is not None:
        extra["phase_error"], extra["phase_error_message"] = event.error
    return {name: value for name, value in extra.items() if value is not None}
