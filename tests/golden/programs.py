"""Programs made up by Hypothesis, and what they tell: phases inside phases, one after the other, on a fake clock."""

from __future__ import annotations

from hypothesis import strategies as st

import phasewatch
from phasewatch import Event, Place
from phasewatch.events import PhaseEnded, PhaseInfo, PhaseStalled, PhaseStarted
from phasewatch.testing import recorded

# A phase: its name, how long it works before and after what is inside it, and that.
Work = tuple[str, float, list["Work"], float]

seconds = st.floats(0, 1000, allow_subnormal=False).map(lambda number: round(number, 3))
works: st.SearchStrategy[Work] = st.recursive(
    st.tuples(st.sampled_from("ABC"), seconds, st.just([]), seconds),
    lambda inside: st.tuples(st.sampled_from("ABC"), seconds, st.lists(inside, max_size=4), seconds),
    max_leaves=12,
)


def events_of(work: Work, *, run: bool = True) -> list[Event]:
    """Return what is told while a program runs."""
    with recorded() as log:
        if run:
            with phasewatch.run("made up", sinks=[log.sink], clock=log.clock):
                _perform(work, log)
        else:
            _perform(work, log)
    return log.events


def _perform(work: Work, log: phasewatch.testing.PhaseLog) -> None:
    name, before, inside, after = work
    with phasewatch.phase(name):
        log.clock.advance(before)
        for part in inside:
            _perform(part, log)
        log.clock.advance(after)


def info(
    id: str, name: str = "A", parent: str | None = None, *path: str, rank: int | None = None, **known: object
) -> PhaseInfo:
    """Return a phase, at the top if it has no other path."""
    place = None if rank is None else Place(host="h", process=100 + rank, rank=rank, thread="MainThread")
    return PhaseInfo(name, id=id, parent=parent, path=path or (name,), place=place, **known)  # type: ignore[arg-type]  # as given


def started(phase: PhaseInfo, time: float) -> PhaseStarted:
    """Return the beginning of a phase."""
    return PhaseStarted(phase, time)


def ended(phase: PhaseInfo, time: float, elapsed: float, **told: object) -> PhaseEnded:
    """Return the end of a phase, completed unless it is told otherwise."""
    options: dict[str, object] = {"status": "completed", "done": 0, "total": None, **told}
    return PhaseEnded(phase, time, elapsed=elapsed, **options)  # type: ignore[arg-type]  # as given


def span(phase: PhaseInfo, start: float, seconds: float, **told: object) -> list[Event]:
    """Return the beginning and the end of a phase."""
    return [started(phase, start), ended(phase, start + seconds, seconds, **told)]


def stalled(phase: PhaseInfo, time: float, quiet: float, elapsed: float = 0.0) -> PhaseStalled:
    """Return that a phase says nothing."""
    return PhaseStalled(phase, time, quiet=quiet, expected=None, done=0, total=None, elapsed=elapsed, eta=None)
