"""The identity of this process, and under which phase of another process its own phases hang.

After a fork the child is another process; what was open in its parent is not open in it.
"""

from __future__ import annotations

import itertools
import os
import sys
from _thread import _local, allocate_lock

from . import _forks
from ._annotations import TYPE_CHECKING
from ._environment import rank
from ._lives import birth
from .events import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from .events import PhaseInfo, Status

_numbers = itertools.count(1)


class State:
    """What a phase is in: `PENDING`, `UNOPENED`, one of the `ENDED`, or the process in which it is open."""

    __slots__ = ("status",)

    def __init__(self, status: Status) -> None:
        self.status: Status = status


class Process(State):
    """The identity of a process.

    Args:
        origin: the phase of another process from which this one comes.
        log: the path of that process's event log, if it was said.
    """

    __slots__ = ("attached", "lasting", "log", "number", "token")

    def __init__(self, origin: PhaseInfo | None = None, log: str | None = None) -> None:
        super().__init__("running")
        # From the system and not from `random`, whose state belongs to the program.
        self.token = f"{os.urandom(4).hex()}."  # with which its ids begin
        self.number = os.getpid()
        # To what it is attached, for good and for the time of a block, the last one last. By identity, since several threads
        # may attach themselves and end that at once, and each of these is one step of a mapping.
        self.lasting: dict[int, PhaseInfo] = {} if origin is None else {id(origin): origin}
        self.attached: dict[int, PhaseInfo] = {}
        self.log = log

    @property
    def origin(self) -> PhaseInfo | None:
        """The phase of another process under which those of this one hang, if they hang under nothing else."""
        attached = list(self.attached.values()) or list(self.lasting.values())
        return attached[-1] if attached else None

    def new_id(self) -> str:
        """Return an id that no other phase of any process has."""
        return f"{self.token}{next(_numbers)}"


PENDING = State("pending")
UNOPENED = State("pending")  # entered, but there was a failure
NOT_OPEN_YET = (PENDING, UNOPENED)
COMPLETED, FAILED, INTERRUPTED = State("completed"), State("failed"), State("interrupted")
ENDED = (COMPLETED, FAILED, INTERRUPTED)

process: Process | None = None
_PATIENCE = 1.0  # seconds
_one_at_a_time = allocate_lock()
_here = _local()  # the place of this thread, once it is known


def this_process(after_fork: Callable[[], PhaseInfo | None]) -> Process:
    """Return the identity of this process; the first call prepares for forks, which an import must not.

    Args:
        after_fork: called in each child, with `process` still that of the parent; returns what the child hangs under.
    """
    global process
    if process is None:
        # Several threads may open the first phases at once. The lock may be held in the child of a fork, for ever.
        is_alone = _one_at_a_time.acquire(timeout=_PATIENCE)
        if process is None:

            def renew() -> None:
                global process, _here
                _here = _local()
                process = Process(after_fork(), process.log if process is not None else None)

            _forks.prepare(renew)
            process = _started_by_another() or Process()
        if is_alone:
            _one_at_a_time.release()
    return process


def place() -> Place:
    """Return where this thread runs."""
    known: Place | None = getattr(_here, "place", None)
    if known is None:
        # Without threading there is one thread; and to import it costs 3 ms.
        current_thread = getattr(sys.modules.get("threading"), "current_thread", None)
        known = _here.place = Place(
            host=os.uname().nodename if hasattr(os, "uname") else None,
            process=os.getpid(),
            rank=rank(),
            thread="MainThread" if current_thread is None else current_thread().name,
            birth=birth(),
        )
    return known


def forget_places() -> None:
    """Look again where threads run: what is known of this process has changed."""
    global _here
    _here = _local()


def _started_by_another() -> Process | None:
    carrier = os.environ.get("PHASEWATCH_PARENT")
    if not carrier:
        return None
    from ._carrier import read_carrier  # here: it needs json, which few processes do

    said = read_carrier(carrier, "PHASEWATCH_PARENT")
    return Process(said.origin, said.log)
