"""What annotations need at run time, without the 10 ms that importing typing costs every program that imports us."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol as Protocol
    from typing import overload as overload
else:
    Protocol = object

    def overload(fn):  # noqa: ANN001, ANN202  # the other branch is the one that checkers read
        """Mark one of the ways in which a function may be called."""
        return fn
