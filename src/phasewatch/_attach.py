"""`carrier` and `attach`: the phases of one process under a phase of another."""

from __future__ import annotations

import os

from ._annotations import TYPE_CHECKING
from ._config import default_tracker
from ._tracker import Elsewhere, current, hang_process_under, innermost_info

if TYPE_CHECKING:
    from types import TracebackType

    from ._tracker import Tracker


def carrier() -> str:
    """Return what another process needs to hang its phases under the one that is current here.

    It is a text, so it fits an argument of a worker function, a message, or the environment variable
    ``PHASEWATCH_PARENT``, which a new process reads by itself. It holds the id and the path of the current phase, else of
    the run opened last, and the path of its event log, if there is one; it is empty if there is nothing to carry.

    Processes made by a fork need none: they know where they come from.
    """
    from ._carrier import write_carrier  # here: it needs json

    if not default_tracker.enabled:
        return ""
    run, tracker = default_tracker.place(current())
    return write_carrier(innermost_info(run), _log_path(tracker))


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

    __slots__ = ("_before", "_stand_in")

    def __init__(self, text: str) -> None:
        from ._carrier import read_carrier  # here: it needs json

        said = read_carrier(text, "attach")
        self._stand_in = None
        if said.log is not None:
            default_tracker.use_log(said.log)
        if said.origin is not None:
            self._stand_in = Elsewhere(said.origin)
            self._stand_in.be_current()
            self._before = hang_process_under(said.origin)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stand_in is not None:
            info = self._stand_in.leave()
            hang_process_under(self._before, instead_of=info)
            self._stand_in = None


def _log_path(tracker: Tracker) -> str | None:
    """Return where the event log is that a tracker writes, absolute, since the other process may run elsewhere."""
    for sink in tracker.sinks:
        inner: object = getattr(sink, "sink", sink)  # behind a queue
        if type(inner).__name__ == "JsonlSink":  # by its name, so that nothing is imported that is not there
            return os.path.abspath(str(inner.path))  # type: ignore[attr-defined]  # that of its class
    return None
