"""The phase under which another process's phases hang, as text that fits an argument or an environment variable."""

from __future__ import annotations

import json

from ._annotations import TYPE_CHECKING
from ._report import shown, warn
from .events import PhaseInfo

if TYPE_CHECKING:
    from typing import Any

_LONGEST = 100_000  # characters; an environment variable holds little more
_MOST_NAMES, _LONGEST_NAME = 10, 500  # of the path, where the whole would be longer


class Carrier:
    """What a carrier says: under which phase to hang, and to which event log to write."""

    __slots__ = ("log", "origin")

    def __init__(self, origin: PhaseInfo | None, log: str | None) -> None:
        self.origin = origin
        self.log = log


def write_carrier(origin: PhaseInfo | None, log: str | None) -> str:
    """Return the text of a carrier; empty if there is nothing to carry."""
    if origin is None and log is None:
        return ""
    text = _written(origin, log, origin.path if origin is not None else ())
    if len(text) > _LONGEST and origin is not None:  # names that are no names
        text = _written(origin, log, tuple(name[:_LONGEST_NAME] for name in origin.path[-_MOST_NAMES:]))
    return text if len(text) <= _LONGEST else ""


def _written(origin: PhaseInfo | None, log: str | None, path: tuple[str, ...]) -> str:
    said: dict[str, Any] = {}
    if origin is not None:
        said = {"id": origin.id, "run": origin.run, "path": list(path)}
    return json.dumps({**said, "log": log} if log is not None else said)


def read_carrier(text: object, source: str) -> Carrier:
    """Return what a carrier says; what is none is warned of, and says nothing.

    Args:
        text: what `write_carrier` returned.
        source: where it was found, for the warning.
    """
    if text == "":
        return Carrier(None, None)
    try:
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise TypeError
        said = json.loads(text)
        phase_id, run, path, log = said.get("id"), said.get("run"), said.get("path", []), said.get("log")
        if not all(value is None or (isinstance(value, str) and value) for value in (phase_id, run, log)):
            raise TypeError
        if not isinstance(path, list) or not all(isinstance(name, str) for name in path):
            raise TypeError
    except Exception:
        warn(f"{source}: {shown(text)} is no carrier, and is left out; give what phasewatch.carrier() returned")
        return Carrier(None, None)
    origin = None
    if phase_id is not None:
        origin = PhaseInfo(path[-1] if path else "run", id=phase_id, run=run, path=tuple(path), role="phase")
    return Carrier(origin, log)
