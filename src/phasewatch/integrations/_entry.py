"""What entry points load in programs that never asked for phasewatch: it does nothing unless the environment does."""

from __future__ import annotations

import logging
from typing import Any

from .._environment import flag

_logger = logging.getLogger("phasewatch")


def lightning_callbacks() -> list[Any]:
    """Return the callback for each Lightning Trainer that is made, if PHASEWATCH_LIGHTNING asks for it."""
    if not flag("PHASEWATCH_LIGHTNING"):
        return []
    try:
        from .lightning import PhasewatchCallback  # here: nothing is imported where it is not asked for

        return [PhasewatchCallback()]
    except Exception:
        _logger.exception("PHASEWATCH_LIGHTNING: the callback could not be made; the trainer goes on without it")
        return []
