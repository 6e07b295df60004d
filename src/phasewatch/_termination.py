"""SIGTERM, which Slurm, Kubernetes and Ray send before they kill.

Inside a run, if the program has no handler of its own, the open phases end as interrupted, and the process then dies of
the signal as it would have. A handler that the program has, or sets later, is left alone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from _thread import get_ident, start_new_thread

from . import _forks, _process, _report
from ._annotations import TYPE_CHECKING
from ._config import default_tracker
from ._tracker import end_all

if TYPE_CHECKING:
    from types import FrameType

_PATIENCE = 10.0  # seconds until the process dies, whoever has not been told: a sink may hang


class SIGTERM(BaseException):  # its name is what the banner of an interrupted phase tells
    """What ended the phases that were open when the signal came. It is never raised."""


class _Handler:
    """Ends what is open and then the process. Programs that ask whether there is a handler are told that there is none."""

    _is_at_work = _is_late = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if sys._getframe().f_back is not frame:
            return  # called by a handler that the program has set since, as the one before it, which would be none
        if self._is_at_work:
            if self._is_late:
                _die()
            return  # the signal came twice: to the process, and to its group
        self._is_at_work = True
        try:
            _allow(self)
            process = _process.process
            if process is not None and process.number == os.getpid():  # else it came in the middle of a fork
                _end_everything()
        finally:
            _die()

    def be_late(self) -> None:
        """Take it that what is open cannot be ended in time."""
        self._is_late = True

    def __eq__(self, other: object) -> bool:
        return other is self or other is signal.SIG_DFL

    def __hash__(self) -> int:
        return hash(signal.SIG_DFL)


_handler = _Handler()


def _allow(handler: _Handler) -> None:
    """Have the process die in time: a second signal gets the main thread out of whatever it waits for."""
    main = get_ident()

    def wait() -> None:
        time.sleep(_PATIENCE)
        handler.be_late()
        signal.pthread_kill(main, signal.SIGTERM)

    try:
        if hasattr(signal, "pthread_kill"):
            start_new_thread(wait, ())
    except RuntimeError:  # no more threads, or the interpreter is about to end
        pass


def _end_everything() -> None:
    # Other threads go on meanwhile. What they open now, nobody would end.
    default_tracker.enabled = False
    _report.silent = True
    _forks.hurry()  # a thread that hangs in a sink has the lock of that
    end_all(SIGTERM())
    default_tracker.close()  # who still holds something back: nothing else of the program will run


def _die() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def watch() -> bool:
    """Be told of SIGTERM from now on, if nobody is; return whether that is so."""
    try:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return False
        signal.signal(signal.SIGTERM, _handler)
    except ValueError:  # not the main thread, which alone may
        return False
    return True


def unwatch() -> None:
    """Leave SIGTERM as it was, unless somebody else has taken it since."""
    try:
        if signal.getsignal(signal.SIGTERM) is _handler:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except ValueError:  # the run is left in another thread than it was entered
        pass
