"""Whether the processes of a log are there still: one that was killed says nothing of it.

A number alone does not tell one process from another: the system gives it away again, and each container counts for itself.
So each process has its birth in the log.
"""

from __future__ import annotations

import os
import sys

from ._annotations import TYPE_CHECKING
from .events import PhaseEnded, PhaseStarted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .events import Event, PhaseInfo, Place

_MOST_OPEN = 100_000
_MOST_PROCESSES = 10_000
_LARGEST_NUMBER = (1 << 31) - 1  # of a process

_known: tuple[int, str | None] | None = None  # the number of this process, and its birth


def birth() -> str | None:
    """Return what tells this process from all others that ever had its number: ``"5c1d9f02.3147796"``.

    Before the dot stands whose number it is: of a system since its start, and of a namespace in it. After it, when the
    process began, in ticks since that start. None where the system does not say, as any but Linux.
    """
    global _known
    number = os.getpid()
    if _known is None or _known[0] != number:  # the first call, or the first in the child of a fork
        _known = (number, _birth())
    return _known[1]


def is_there(place: Place) -> bool | None:
    """Return whether the process of a place goes on.

    None where that cannot be known: it ran on another machine, in another container, or before this one was started.
    """
    number = place.process
    if number is None or not 0 < number <= _LARGEST_NUMBER or not _is_ours(place):
        return None
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is there, and another user's
        pass
    if place.birth is None or not _proc_counts_as_we_do():
        return None
    start = _start(str(number))
    return None if start is None else start == place.birth.rpartition(".")[2]


def _is_ours(place: Place) -> bool:
    """Whether the number of a process is one of those that this process would know it by."""
    if not hasattr(os, "uname") or place.host != os.uname().nodename:  # on Windows, to ask for a process would interrupt it
        return False
    ours, theirs = birth(), place.birth
    if ours is None or theirs is None:
        return ours is theirs and sys.platform != "linux"  # elsewhere there are no namespaces
    return ours.rpartition(".")[0] == theirs.rpartition(".")[0]


def _birth() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            system = file.read().strip()
        namespace = os.readlink("/proc/self/ns/pid")
        start = _start("self")
    except (OSError, ValueError):
        return None
    if not system or start is None:
        return None
    from binascii import crc32  # here: it is a file of its own in some builds

    return f"{crc32(system + namespace.encode()):08x}.{start}"


def _start(process: str) -> str | None:
    """Return when a process began; ``""`` if it has ended and nobody has taken note, None if that is not told."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            # Before stands the name of its program, in parentheses, which may hold anything.
            fields = file.read().rpartition(b")")[2].split()
        state, threads, start = fields[0], int(fields[17]), int(fields[19])
    except (OSError, ValueError, IndexError):  # another user's, where these are hidden
        return None
    # A first thread may end before the others.
    return "" if state in (b"Z", b"X") and threads <= 1 else str(start)


def _proc_counts_as_we_do() -> bool:
    """Whether the files of the system have the numbers that its calls have."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


class Lives:
    """Which processes of a log have ended without a word, so that nothing more is to be expected of them.

    Memory: the phases that are open and in no other of their process, at most 100,000, and at most 10,000 processes.

    Args:
        is_there: tells whether a process goes on, as far as that is known.
    """

    def __init__(self, is_there: Callable[[Place], bool | None] = is_there) -> None:
        self._is_there = is_there
        self._open: dict[str, PhaseInfo] = {}  # by id
        self._places: dict[str, Place] = {}  # by process
        self._there: set[str] = set()  # processes, as of the last look
        self._gone: set[str] = set()

    def take(self, event: Event) -> None:
        """Note what begins and ends."""
        kind, phase = event.__class__, event.phase
        if kind is PhaseEnded:
            self._open.pop(phase.id, None)
        elif kind is PhaseStarted and phase.place is not None:
            process = _process_of(phase.id)
            if phase.parent is not None and _process_of(phase.parent) == process:
                return
            if len(self._open) < _MOST_OPEN:
                self._open[phase.id] = phase
            if len(self._places) < _MOST_PROCESSES:
                self._places.setdefault(process, phase.place)

    def look(self) -> bool:
        """Ask for all processes; return whether one has ended since the last look: what it wrote is now all there."""
        known = {process: self._is_there(place) for process, place in self._places.items() if process not in self._gone}
        self._there = {process for process, is_there in known.items() if is_there}
        found = {process for process, is_there in known.items() if is_there is False}
        self._gone |= found
        return bool(found)

    def goes_on(self, phase: PhaseInfo) -> bool:
        """Return whether the process of a phase was there at the last look."""
        return _process_of(phase.id) in self._there

    @property
    def none_is_left(self) -> bool:
        """Whether something is open, and all of it in processes that have ended."""
        return bool(self._open) and all(_process_of(id) in self._gone for id in self._open)

    @property
    def lost(self) -> list[PhaseInfo]:
        """What is open in processes that have ended, and in no other phase of theirs."""
        return [phase for id, phase in self._open.items() if _process_of(id) in self._gone]

    def is_over(self, runs: Collection[str], *, any_ended: bool) -> bool:
        """Return whether nothing more is to be expected.

        Args:
            runs: the ids of those that have not ended.
            any_ended: whether there was another one.
        """
        if not runs:
            return any_ended or (bool(self._places) and self._places.keys() <= self._gone)
        lost = {phase.id for phase in self.lost}
        # A process that another one started may outlive it, and goes on with its run.
        going_on = {phase.run for id, phase in self._open.items() if _process_of(id) not in self._gone}
        return all(run in lost and run not in going_on for run in runs)


def _process_of(id: str) -> str:
    return id.rpartition(".")[0]
