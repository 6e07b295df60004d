"""How phasewatch speaks of trouble: a warning for a mistake in a call, a log record for a failure of its own.

Neither ever raises: instrumentation that breaks a training run because of how it was called is worse than none.
"""

from __future__ import annotations

import os
import sys
import warnings

_MOST_LOGGED = 1000
_logged: set[str] = set()
_MOST_FAILURES = 20  # that are logged of those in one place
_failed: dict[tuple[str, int], int] = {}  # how often, by file and line of ours
_LONGEST = 200  # characters of a value in a message
silent = False  # where a signal ends the program in the middle of its calls, nobody has made a mistake
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class PhasewatchWarning(UserWarning):
    """A call that phasewatch could not take as it was; it says which phase, and what to do instead."""


def shown(value: object) -> str:
    """Return a value as a message shows it: its repr, if it has one, and not all of it if that is long."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def warn(message: str) -> None:
    """Warn about a mistake in a call, at the caller's own line. Under ``-W error`` it is logged instead of raised."""
    if silent:
        return
    # The place is found by walking, since the same mistake is reached through calls of different depth.
    level = 2  # our caller
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
        level += 1
    try:
        warnings.warn(message, PhasewatchWarning, stacklevel=level)
    except Exception:
        if message not in _logged and len(_logged) < _MOST_LOGGED:  # once, as the warning would be
            _logged.add(message)
            _log(message, with_traceback=False)


def failure(message: str, *, with_traceback: bool = True) -> None:
    """Log a failure to the logger ``phasewatch``, with the traceback of the exception that is being handled.

    What fails a million times in a run, in one place of ours, must not fill its log: the first ones tell it all.
    """
    try:
        frame = sys._getframe(1)
        place = frame.f_code.co_filename, frame.f_lineno
        number = _failed[place] = _failed.get(place, 0) + 1
        if number == _MOST_FAILURES:
            message += "; further ones of this kind are not reported"
        if number <= _MOST_FAILURES:
            _log(message, with_traceback=with_traceback)
    except Exception:  # no room on the stack
        pass


def _log(message: str, *, with_traceback: bool) -> None:
    try:
        import logging  # here: it costs 10 ms, which an import of phasewatch need not pay

        logging.getLogger("phasewatch").error("%s", message, exc_info=with_traceback)
    except Exception:  # a logging handler that raises; there is nobody left to tell
        pass
