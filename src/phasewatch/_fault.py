"""Which phase an exception came from, told without keeping the exception."""

from __future__ import annotations

from ._annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType


class Fault:
    """The mark that a failed phase leaves on its parent, to recognise the exception when it comes by.

    The exception itself is not kept: with its frames it would keep alive what they hold, tensors for instance, in a
    program that caught it and goes on. So it is known by its identity and by a place that its traceback must have passed.
    """

    __slots__ = ("code", "error_id", "instruction", "path")

    def __init__(self, error: BaseException, path: tuple[str, ...]) -> None:
        traceback = error.__traceback__
        self.error_id = id(error)
        self.code: CodeType | None = traceback.tb_frame.f_code if traceback else None
        self.instruction = traceback.tb_lasti if traceback else -1
        self.path = path  # of the phase in which the exception was first seen

    def is_of(self, error: BaseException) -> bool:
        """Whether it is this exception that comes by."""
        if id(error) != self.error_id:
            return False
        traceback = error.__traceback__
        if self.code is None:
            return traceback is None
        while traceback is not None:
            if traceback.tb_frame.f_code is self.code and traceback.tb_lasti == self.instruction:
                return True
            traceback = traceback.tb_next
        return False


def path_of(error: BaseException, faults: tuple[Fault, ...]) -> tuple[str, ...] | None:
    """Return where an exception was first seen, if that was in one of these; of a group, where its first one was.

    A group counts as seen if all that it holds were.
    """
    # With a list of its own, since groups may be nested deeper than Python calls, and hold one thing many times.
    first = None
    looked_at: set[int] = set()
    waiting = [error] if faults else []
    while waiting:
        one = waiting.pop()
        if id(one) in looked_at:
            continue
        looked_at.add(id(one))
        path = next((fault.path for fault in reversed(faults) if fault.is_of(one)), None)
        if path is None:
            try:
                held = getattr(one, "exceptions", None)
            except Exception:  # an exception with attributes of its own making
                return None
            parts = [part for part in held if isinstance(part, BaseException)] if isinstance(held, tuple) else []
            if not parts:
                return None
            waiting += reversed(parts)
        elif first is None:
            first = path
    return first


def told(error: BaseException) -> tuple[str, str]:
    """Return the type and the message of an exception."""
    try:
        return type(error).__name__, str(error)
    except Exception:  # an exception whose text cannot be made
        return type(error).__name__, ""
