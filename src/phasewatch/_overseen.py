"""A phase, as far as the monitor looks after it: progress of its loops, heartbeats, stalls, and their end."""

from __future__ import annotations

from ._annotations import TYPE_CHECKING
from ._counting import Counting
from ._extra import stack_of
from ._monitor import Monitor
from ._tally import EACH
from ._vigil import Vigil, limit
from .events import PhaseAlive, PhaseResumed, PhaseStalled

if TYPE_CHECKING:
    from typing import ClassVar

    from .events import Role

_STACK_FROM = 2  # the announcement of a stall from which on the stack is shown

monitor = Monitor()


class Overseen(Counting):
    """A phase that is looked at once a second, as long as it is open and told to somebody."""

    __slots__ = ("_parent",)

    role: ClassVar[Role]

    if TYPE_CHECKING:
        _parent: Overseen | None

    def _enclosing(self) -> object:
        return self._parent

    def _leave_monitor(self, vigil: Vigil, completed: bool, now: float) -> None:
        """Be looked at no more, which the monitor has done; when this returns, nobody is looking.

        The monitor makes the vigil before it asks whether the phase is open, and one that leaves has ended before it asks
        for that: one of the two sees the other.
        """
        try:
            with monitor.lock:
                if vigil.announced and completed:
                    self._tell_resumed(vigil, now)
        except TimeoutError:  # the process is about to end, and who looks hangs in a sink
            pass

    def _look(self, *, is_innermost: bool, by_hand: bool) -> None:
        """Be looked at: tell progress of loops that are not counted, and whether the phase is alive, or has stalled."""
        tracker, tally = self._tracker, self._tally
        if tracker.clock is not None and not by_hand:  # nothing waits for a thread where time is told by somebody else
            return
        extra = self._more()
        vigil = extra.vigil
        if vigil is None:
            vigil = extra.vigil = Vigil(self._started, self.done)
        if not self._is_open():
            return
        now = tracker.now()
        if tally is not None:
            self._stop_at(tally, EACH)  # the next count tells progress
            if tally.loops:
                done = tally.position()
                tally.look(done, now)
                if not tally.stepped and done > tally.shown:
                    self._show(tally, now)
        if extra.is_suspended:
            vigil.rest(now)
        else:
            self._watch_over(vigil, now, is_innermost)

    def _watch_over(self, vigil: Vigil, now: float, is_innermost: bool) -> None:
        tracker, tally, spec = self._tracker, self._tally, self._spec
        kind = tracker.kinds.of(self._describe().path)
        done = self.done
        quiet = vigil.was_quiet(now)
        words = 0 if tally is None else tally.words
        logged = self._more().logged
        words += 0 if logged is None else logged.words
        if vigil.see(now, done, words, kind.gaps) and vigil.announced:
            self._tell_resumed(vigil, now, quiet)
        if not is_innermost or self.role == "run":
            return
        quiet = vigil.quiet(now)
        if vigil.beats(now, tally.shown_at if tally is not None else None, tracker.heartbeat):
            tracker.emit(PhaseAlive(self._describe(), tracker.wall(), quiet=quiet, **self._measures(now)))
        if tracker.stalls:
            counts = tally is not None and (tally.total is None or done < tally.total)
            elapsed = now - self._started
            bounds = limit(
                kind, elapsed=elapsed, quiet=quiet, counts=counts, expect=spec.expect, stall_after=spec.stall_after
            )
            if bounds is not None and vigil.stalls(now, bounds[0]):
                with_stack = tracker.stalls == "stack" or vigil.announced >= _STACK_FROM
                tracker.emit(
                    PhaseStalled(
                        self._describe(),
                        tracker.wall(),
                        quiet=quiet,
                        expected=bounds[1],
                        stack=stack_of(self._more().thread) if with_stack else None,
                        **self._measures(now),
                    )
                )

    def _tell_resumed(self, vigil: Vigil, now: float, quiet: float | None = None) -> None:
        vigil.announced = 0
        quiet = vigil.quiet(now) if quiet is None else quiet
        self._tracker.emit(PhaseResumed(self._describe(), self._tracker.wall(), quiet=quiet, **self._measures(now)))
