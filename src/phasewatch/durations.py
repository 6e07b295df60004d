"""Seconds to the short form of a log line, and back.

The form is that of the META LOG specification: ``840ms``, ``4.2s``, ``42s``, ``23.8m``, ``1.23h``, ``2.1d``.
"""

from __future__ import annotations

UNKNOWN = "--"

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
UNITS = {"ms": 0.001, "s": 1.0, "m": _MINUTE, "h": _HOUR, "d": _DAY}


def format_duration(seconds: float | None) -> str:
    """Return a duration in seconds as it is printed; None, NaN and infinity are ``--``, below zero is zero.

    A value that would round to the next unit is shown in it: never ``60s``, ``60.0m`` or ``24.00h``.
    """
    if seconds is None or not abs(seconds) < float("inf"):
        return UNKNOWN
    seconds = max(0.0, seconds)
    if seconds < 1 and round(seconds * 1000) < 1000:
        milliseconds = round(seconds * 1000)
        return f"{milliseconds}ms" if milliseconds else "0s"
    if round(seconds, 1) < 10:
        return f"{seconds:.1f}s"
    return f"{seconds:.0f}s" if round(seconds) < 60 else _format_long(seconds)


def format_average(seconds: float | None) -> str:
    """Return an average duration: as `format_duration`, with one decimal from one second up to a minute (``41.1s``)."""
    if seconds is not None and 1 <= seconds < 60 and round(seconds, 1) < 60:
        return f"{seconds:.1f}s"
    return format_duration(seconds)


def _format_long(seconds: float) -> str:
    if round(seconds / _MINUTE, 1) < 60:
        # 59.96 s rounds to a minute in whole seconds: "1.0m" is the smallest that is shown in minutes.
        return f"{seconds / _MINUTE:.1f}m"
    if round(seconds / _HOUR, 2) < 24:
        return f"{seconds / _HOUR:.2f}h"
    return f"{seconds / _DAY:.1f}d"


def parse_duration(text: str) -> float | None:
    """Return the seconds that a printed duration stands for; None for ``--``.

    Raises:
        ValueError: the text is not a duration as phasewatch prints it.
    """
    text = text.strip()
    if text == UNKNOWN:
        return None
    number = text.rstrip("mshd")
    unit = UNITS.get(text[len(number) :])
    if unit is None or not number.replace(".", "", 1).isdecimal():
        raise ValueError(f"not a duration: {text!r}; expected a form such as 840ms, 4.2s, 42s, 23.8m, 1.23h, 2.1d or --")
    return float(number) * unit
