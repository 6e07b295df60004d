"""rich, imported without taking a number of `random`, whose state is the program's."""

from __future__ import annotations


def prepare() -> None:
    """Import of rich what takes the number, and leave the state of `random` as it was."""
    import random

    import rich.color
    import rich.terminal_theme  # all that rich.style needs, so that the state is put back at once

    state = random.getstate()
    try:
        import rich.style  # noqa: F401
    finally:
        random.setstate(state)
