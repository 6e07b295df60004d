"""Environment variables, read as a person means them."""

from __future__ import annotations

import os


def flag(name: str) -> bool:
    """Whether a boolean variable is on: ``0``, ``false``, ``no``, ``off`` and empty are off, in any case."""
    return os.environ.get(name, "").strip().lower() not in ("", "0", "false", "no", "off")
