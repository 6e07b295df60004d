"""The open phases of one writer of a text log: what the text leaves out is inferred here.

Text has neither ids nor nesting, and some phases end without a word. Ids are given in the order of the lines; a phase stands
in the one that was open when it began, as far as the names allow; a silent one ends when the next of its level begins.

Time is that of the lines, where they have any; else seconds since the first line, as far as the printed durations tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..events import NOTHING, PhaseEnded, PhaseInfo, PhaseStarted
from .catalog import is_silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ..events import Event, Place, Position, Role, Status

INFERRED = "inferred"  # the attribute of a run or phase whose beginning the text does not tell

_MOST_OPEN = 200  # phases of one writer; more are of a log that lies
_MOST_WARNINGS = 100  # of a plan, and deviations from it
_MOST_CHILDREN = 1000  # names that are remembered of what was inside a phase

_VALIDATIONS = frozenset({"PRE-TRAINING VALIDATION", "PERIODIC VALIDATION", "POST-TRAINING VALIDATION"})
_OF_A_TRAINING = frozenset({"TRAINING STEP", "PERIODIC VALIDATION", "CHECKPOINT SAVING", "VALIDATION"})
_KNOWN = _VALIDATIONS | _OF_A_TRAINING | {"INITIALIZATION", "TRAINING"}
# What each known phase can hold of the known ones.
_HOLDS: dict[str, frozenset[str]] = dict.fromkeys(_KNOWN, frozenset())
_HOLDS |= dict.fromkeys(_VALIDATIONS, frozenset({"VALIDATION"}))
_HOLDS["TRAINING"] = _OF_A_TRAINING | {"POST-TRAINING VALIDATION"}


class Open:
    """A phase that has begun, and what is known of it so far."""

    __slots__ = ("children", "counters", "done", "ended", "error", "info", "means", "metrics", "started")

    def __init__(self, info: PhaseInfo, started: float) -> None:
        self.info = info
        self.started = started
        self.done = info.start
        self.counters: Mapping[str, float] = NOTHING
        self.means: Mapping[str, float] = NOTHING
        self.metrics: Mapping[str, float] = NOTHING  # those that wait for its end
        self.ended: float | None = None  # when it must have ended, if it has
        self.error: PhaseEnded | None = None  # of the last phase inside that did not complete
        self.children: set[str] = set()  # names of what has begun directly inside


class Stack:
    """The open phases of one writer.

    Args:
        emit: called with each event.
        new_id: gives the next id.
        place: where the writer runs.
    """

    def __init__(self, emit: Callable[[Event], None], new_id: Callable[[], str], place: Place | None) -> None:
        self.now = 0.0
        self.has_times = False  # whether lines tell the time
        self.is_told = False  # whether the last one did
        self.run: Open | None = None
        self._deviations: dict[str, tuple[int, int]] = {}  # of the run under way, when its end is told
        self.open: list[Open] = []  # below the run, the innermost last
        self.emit, self._new_id, self._place = emit, new_id, place
        self._steps_are_silent = is_silent("TRAINING STEP") and not is_silent("TRAINING")

    def at(self, time: float | None) -> None:
        """Note the time of a line."""
        self.is_told = time is not None
        if time is not None:
            self.now, self.has_times = (max(self.now, time) if self.has_times else time), True

    def reached(self, since: float, seconds: float | None) -> None:
        """Note that so many seconds have passed since a moment, if the line does not tell the time."""
        if seconds is not None and not self.is_told:
            self.now = max(self.now, since + seconds)

    # What begins.

    def begin_run(self) -> Open:
        """Return the run, which begins with the first of its lines."""
        if self.run is None:
            info = PhaseInfo("run", id=self._new_id(), role="run", attributes={INFERRED: True}, place=self._place)
            info.run = info.id
            self.run = Open(info, self.now)
            self.emit(PhaseStarted(info, self.now))
        return self.run

    def warn_of_plan(self, warning: str) -> None:
        """Take what is told of a plan when a run begins; what was under way before it has ended."""
        if self.run is not None and self.run.children:
            self.give_up()
        attributes: Any = self.begin_run().info.attributes
        warnings = attributes.setdefault("plan_warnings", [])
        if len(warnings) < _MOST_WARNINGS:
            warnings.append({"message": warning})

    def deviate(self, name: str, ran: int, planned: int) -> None:
        """Take how often phases ran, and how often their plan said; it is told when a run ends."""
        if len(self._deviations) < _MOST_WARNINGS:
            self._deviations[name] = ran, planned

    def begin(self, name: str, position: Position | None = None, **known: Any) -> Open:
        """Begin a phase; whatever cannot be around it has ended before."""
        self._make_room(name)
        around = self.run or self.begin_run()
        for entry in reversed(self.open):
            if position is None or entry.info.name != name:  # else two steps at once
                around = entry
                break
        return self._begin_in(around, name, position, **known)

    def _begin_in(self, around: Open, name: str, position: Position | None = None, **known: Any) -> Open:
        role: Role = "phase" if position is None else "step"
        if len(self.open) >= _MOST_OPEN and around is self.open.pop():
            around = self.open[-1]
        parent = around.info
        info = PhaseInfo(
            name,
            id=self._new_id(),
            parent=parent.id,
            run=parent.run,
            path=(*parent.path, name),
            role=role,
            position=position,
            place=self._place,
            **known,
        )
        if len(around.children) < _MOST_CHILDREN:
            around.children.add(name)
        entry = Open(info, self.now)
        self.open.append(entry)
        self.emit(PhaseStarted(info, self.now))
        return entry

    def next_step(self, position: Position) -> bool:
        """Begin a step of a training after another one, whose line tells no time; return whether this is one.

        What is done is what `begin` does after `reached`. Of all that a log holds, steps are the most frequent.
        """
        if not self._steps_are_silent or len(self.open) < 2:
            return False
        before, around = self.open[-1], self.open[-2]
        last, training = before.info, around.info
        step = last.position
        if step is None or last.name != "TRAINING STEP" or last.parent != training.id or training.name != "TRAINING":
            return False
        if before.error is not None:
            return False
        self.is_told = False
        now = around.started + position.elapsed
        if now > self.now:
            self.now = now
        else:
            now = self.now
        around.done = max(around.done, position.number - 1, step.number)
        around.error = None
        self.emit(_completed(before, before.ended if self.has_times and before.ended is not None else now))
        info = PhaseInfo(
            "TRAINING STEP",
            id=self._new_id(),
            parent=training.id,
            run=training.run,
            path=last.path,
            role="step",
            position=position,
            place=self._place,
        )
        self.open[-1] = Open(info, now)
        self.emit(PhaseStarted(info, now))
        return True

    def step_parent(self, name: str, unit: str) -> Open | None:
        """Return the open phase whose step this is, by its name: TRAINING of a TRAINING STEP."""
        for entry in reversed(self.open):
            around = entry.info.name
            if around != name and (around == "TRAINING" or f"{around} {unit.upper()}" == name):
                return entry
        return None

    def _make_room(self, name: str) -> None:
        """End or give up what cannot be around a phase of this name."""
        if name == "INITIALIZATION" and self.run is not None and self.run.children & _KNOWN:
            self.give_up()  # the log goes on with another run
        while self.open:
            top = self.open[-1]
            if is_silent(top.info.name):
                if not self._is_over(top, name):
                    return
                self._end_silently(top)
            elif self._is_lost(top.info.name, name):
                self.open.pop()
            else:
                return

    def _is_over(self, top: Open, name: str) -> bool:
        """Whether a phase that ends silently has ended when one of this name begins."""
        if top.ended is not None and not (top.info.name in _VALIDATIONS and name == "VALIDATION"):
            return True  # the phase inside has completed, or the metrics were told
        if top.info.name == name:
            return True
        if name in _KNOWN:
            return name not in _HOLDS.get(top.info.name, _KNOWN)
        # A name that stood beside it before stands beside it again.
        around = self.open[-2] if len(self.open) > 1 else self.run
        return around is not None and name in around.children

    @staticmethod
    def _is_lost(top: str, name: str) -> bool:
        """Whether a phase whose end would be told must have ended without it."""
        return top in _KNOWN and name in _KNOWN and name not in _HOLDS[top]

    # What goes on.

    def find(self, name: str) -> Open | None:
        """Return the innermost open phase of this name."""
        for entry in reversed(self.open):
            if entry.info.name == name:
                return entry
        return None

    def find_path(self, path: tuple[str, ...]) -> Open | None:
        """Return the innermost open phase with this path, else with its last name."""
        for entry in reversed(self.open):
            if entry.info.path == path:
                return entry
        return self.find(path[-1])

    def met(self, name: str, elapsed: float | None = None, **known: Any) -> Open:
        """Return the open phase of this name; if none is open, its beginning was not told, and is now supposed."""
        entry = self.find(name)
        if entry is not None:
            return entry
        until = self.now
        known.setdefault("attributes", {INFERRED: True})
        # Not `begin`: that it goes on tells nothing of what is around it.
        around = self.open[-1] if self.open else self.begin_run()
        if elapsed is not None and self.is_told:
            self.now = max(around.started, self.now - elapsed)
        entry = self._begin_in(around, name, **known)
        self.now = max(self.now, until)
        return entry

    # What ends.

    def end(
        self,
        entry: Open,
        status: Status = "completed",
        *,
        elapsed: float | None = None,
        at: float | None = None,
        **known: Any,
    ) -> PhaseEnded:
        """End an open phase and, silently, what is open inside it."""
        self.reached(entry.started, elapsed)
        at = self.now if at is None else at
        inside = {entry.info.id}
        for other in self.open[self.open.index(entry) + 1 :]:
            if other.info.parent in inside:
                inside.add(other.info.id)
        for other in reversed([other for other in self.open if other.info.id in inside and other is not entry]):
            if is_silent(other.info.name):
                self._end_silently(other)
            elif other in self.open:
                self.open.remove(other)
        self.open.remove(entry)
        return self._emit_end(entry, status, elapsed=elapsed, at=at, **known)

    def _emit_end(
        self,
        entry: Open,
        status: Status,
        *,
        elapsed: float | None,
        at: float,
        done: int | None = None,
        total: int | None = None,
        counters: Mapping[str, float] | None = None,
        info: PhaseInfo | None = None,
        **known: Any,
    ) -> PhaseEnded:
        if elapsed is None:
            elapsed = max(0.0, at - entry.started)
        event = PhaseEnded(
            info or entry.info,
            at,
            status=status,
            done=entry.done if done is None else done,
            total=entry.info.total if total is None else total,
            elapsed=elapsed,
            counters=counters or entry.counters,
            means=entry.means,
            metrics=entry.metrics,
            **known,
        )
        self._note_end(event)
        self.emit(event)
        return event

    def _note_end(self, event: PhaseEnded) -> None:
        """Tell the phase around one that has ended."""
        around = self.run
        for entry in reversed(self.open):
            if entry.info.id == event.phase.parent:
                around = entry
                break
        if around is not None:
            around.error = event if event.status != "completed" else None
            if event.phase.position is not None and event.status == "completed":
                around.done = max(around.done, event.phase.position.number)
            if around.info.name in _VALIDATIONS:
                around.ended = self.now

    def _end_silently(self, entry: Open) -> None:
        """End a phase whose end is not told: as what was inside it ended last."""
        # That its metrics were told says when it ended only where lines tell the time.
        knows = entry.ended is not None and (self.has_times or entry.info.name in _VALIDATIONS)
        at = entry.ended if knows and entry.ended is not None else self.now
        error = entry.error
        self.open.remove(entry)
        if error is not None:
            self._emit_end(entry, error.status, elapsed=None, at=at, error=error.error, origin=error.origin or error.path)
            return
        event = _completed(entry, at)
        self._note_end(event)
        self.emit(event)

    def pass_through(self, path: tuple[str, ...], status: Status) -> PhaseEnded | None:
        """End all phases that the exception of a run passed through; return the end of the innermost, if it was told."""
        cause: PhaseEnded | None = None
        for entry in reversed(self.open.copy()):
            if entry.error is not None and entry.error.status == status:
                cause = cause or entry.error
        if cause is None and self.run is not None and self.run.error is not None and self.run.error.status == status:
            cause = self.run.error
        for entry in reversed(self.open.copy()):
            if entry not in self.open:
                continue
            if entry.info.path == path[: len(entry.info.path)]:
                self.end(entry, status, error=cause.error if cause else None, origin=path)
            elif is_silent(entry.info.name):
                self._end_silently(entry)
        return cause

    def end_run(self, status: Status, *, elapsed: float | None = None, **known: Any) -> None:
        """End the run and, silently, what is open in it."""
        run = self.begin_run()
        for entry in reversed(self.open.copy()):
            if is_silent(entry.info.name):
                self._end_silently(entry)
        self.reached(run.started, elapsed)
        deviations = self._deviations if status == "completed" else {}
        self._emit_end(run, status, elapsed=elapsed, at=self.now, deviations=deviations, **known)
        self.give_up()

    def give_up(self) -> None:
        """Let go of the run and all that is open: how it ended is not told."""
        self.open.clear()
        self.run = None
        self._deviations = {}


def _completed(entry: Open, at: float) -> PhaseEnded:
    """Return the end of a phase that completed silently: the most frequent event of all, made without detours."""
    elapsed = at - entry.started
    return PhaseEnded(
        entry.info,
        at,
        status="completed",
        done=entry.done,
        total=entry.info.total,
        elapsed=elapsed if elapsed > 0 else 0.0,
        counters=entry.counters,
        means=entry.means,
        metrics=entry.metrics,
    )
