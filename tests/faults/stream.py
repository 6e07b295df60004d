"""What must hold of every stream of events, whatever the work did."""

from __future__ import annotations

from collections.abc import Iterable

from phasewatch import Event, PhaseEnded, PhaseStarted


def parents(events: Iterable[Event]) -> dict[str, str | None]:
    """Return the name of each phase's parent, if each has one start and after it one end."""
    events = list(events)
    started = [event for event in events if isinstance(event, PhaseStarted)]
    ended = [event for event in events if isinstance(event, PhaseEnded)]
    assert sorted(event.id for event in started) == sorted(event.id for event in ended)
    names = {event.id: event.name for event in started}
    assert len(names) == len(started), "no two phases have one id"
    for event in ended:
        assert events.index(next(start for start in started if start.id == event.id)) < events.index(event)
    return {event.name: None if event.parent is None else names[event.parent] for event in started}


def ends(events: Iterable[Event]) -> dict[str, PhaseEnded]:
    """Return the end of each phase, by name."""
    return {event.name: event for event in events if isinstance(event, PhaseEnded)}


def statuses(events: Iterable[Event]) -> dict[str, str]:
    """Return how each phase ended, by name."""
    return {name: end.status for name, end in ends(events).items()}
