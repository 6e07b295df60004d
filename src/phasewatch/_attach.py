"""`carrier` and `attach`: the phases of one process under a phase of another."""

from __future__ import annotations

from ._annotations import TYPE_CHECKING
from ._config import default_tracker, event_log_of
from ._report import failure
from ._tracker import Elsewhere, current, innermost_info

if TYPE_CHECKING:
    from types import TracebackType


def carrier() -> str:
    """Return what another process needs to hang its phases under the one that is current here.

    It is a text, so it fits an argument of a worker function, a message, or the environment variable
    ``PHASEWATCH_PARENT``, which a new process reads by itself. It holds the id and the path of the current phase, else of
    the run opened last, and the path of its event log, if there is one; it is empty if there is nothing to carry.

    Processes made by a fork need none: they know where they come from.
    """
    if not default_tracker.enabled:
        return ""
    try:
        from ._carrier import write_carrier  # here: it needs json

        run, tracker = default_tracker.place(current())
        log = event_log_of(tracker)
        return write_carrier(innermost_info(run), log.path if log is not None else None)
    except Exception:
        failure("no carrier could be made; the program goes on, phases of other processes hang under nothing")
        return ""


def attach(carrier: str) -> Attachment:
    """Hang the phases that are opened from now on under the phase of another process.

    It holds for this thread or task, and for threads of the process that have no phase of their own around them. Where
    the carrier names an event log and this process has none, its phases are recorded there too. As a context manager,
    it holds until the block ends::

        def work(carrier, shard):
            with phasewatch.attach(carrier), phase("SHARD"):
                ...

    Args:
        carrier: what `carrier` returned in the other process; empty changes nothing.

    Warns:
        PhasewatchWarning: the text is no carrier; it is left out.
    """
    return Attachment(carrier)


class Attachment:
    """What `attach` has attached; leaving it undoes that."""

    __slots__ = ("_stand_in",)

    def __init__(self, text: str) -> None:
        self._stand_in: Elsewhere | None = None
        try:
            from ._carrier import read_carrier  # here: it needs json

            said = read_carrier(text, "attach")
            if said.origin is not None:
                self._stand_in = Elsewhere(said.origin)
                self._stand_in.be_current()
            if said.log is not None:
                default_tracker.use_log(said.log)
        except Exception:
            failure("attach failed; the program goes on, its phases may hang under nothing")

    def __enter__(self) -> Attachment:
        if self._stand_in is not None:
            self._stand_in.begin_block()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stand_in is not None:
            self._stand_in.leave()
            self._stand_in = None
