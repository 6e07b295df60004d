"""SIGTERM, which Slurm, Kubernetes and Ray send before they kill.

Inside a run, if the program has no handler of its own, the open phases end as interrupted, and the process then dies of
the signal as it would have. A handler that the program has, or sets later, is left alone.
"""

from __future__ import annotations

import os
import signal

from ._annotations import TYPE_CHECKING
from ._config import default_tracker
from ._tracker import end_all

if TYPE_CHECKING:
    from types import FrameType


class SIGTERM(BaseException):  # its name is what the banner of an interrupted phase tells
    """What ended the phases that were open when the signal came. It is never raised."""


def _end(signum: int, frame: FrameType | None) -> None:
    try:
        end_all(SIGTERM())
        default_tracker.close()  # who still holds something back: nothing else of the program will run
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def watch() -> bool:
    """Be told of SIGTERM from now on, if nobody is; return whether that is so."""
    try:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return False
        signal.signal(signal.SIGTERM, _end)
    except ValueError:  # not the main thread, which alone may
        return False
    return True


def unwatch() -> None:
    """Leave SIGTERM as it was, unless somebody else has taken it since."""
    try:
        if signal.getsignal(signal.SIGTERM) is _end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except ValueError:  # the run is left in another thread than it was entered
        pass
