"""What few phases need, kept beside them, so that a plain one is made and cleared at once."""

from __future__ import annotations

from ._annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ._fault import Fault
    from ._tally import Logged, Tally
    from ._vigil import Vigil
    from .eta import Running
    from .events import PhaseInfo


class Extra:
    """What a phase has beyond its place and its time; most of it few phases need, and so stands with the class.

    To make one is a call of C alone: it is made where there is no room for a call of ours.
    """

    info: PhaseInfo | None = None  # once somebody has asked
    tally: Tally | None = None  # how far it said to be, and what it was promised
    logged: Logged | None = None  # what it was given to log; most that are count nothing, and have no tally
    timing: Running | None = None  # what the forecast knows of it, where somebody may ask for one
    thread: int | None = None  # that entered it, if anybody listens
    vigil: Vigil | None = None  # the monitor's, once it has looked
    faults: tuple[Fault, ...] = ()  # of phases inside this one
    warned: frozenset[str] = frozenset()  # what was warned of
    depth = 0  # of entries while it was open already
    inner: Any = None  # what was current in the generator's body when it yielded
    before: Any = None  # the phase that was current where the body was resumed
    resumed_at: float | None = None  # clock seconds at which the body went on; None if there is no body
    active = 0.0  # seconds inside the body before that
    is_suspended = False
    is_told = is_ended = False  # whether its start, and its end, were told

    def suspend(self, now: float) -> None:
        """Take it that the body has yielded."""
        if self.resumed_at is not None and not self.is_suspended:
            self.active += now - self.resumed_at
        self.is_suspended = True

    def resume(self, now: float) -> None:
        """Take it that the body goes on."""
        self.resumed_at = now
        self.is_suspended = False

    def active_until(self, now: float) -> float | None:
        """Return the seconds inside the body; None if there is none."""
        if self.resumed_at is None:
            return None
        return max(0.0, self.active + (0.0 if self.is_suspended else now - self.resumed_at))


def stack_of(thread: int | None) -> str | None:
    """Return where a thread is, as a traceback shows it; None if it has ended."""
    import sys
    import traceback  # here: few phases stall

    frame = None if thread is None else sys._current_frames().get(thread)
    return None if frame is None else "".join(traceback.format_stack(frame)).rstrip()
