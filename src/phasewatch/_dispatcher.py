"""Events to sinks. Whatever a sink does wrong stays here."""

from __future__ import annotations

from ._annotations import TYPE_CHECKING
from ._report import failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .events import Event, Sink


class Dispatcher:
    """Hands each event to each sink.

    A sink that raises is reported once, and is still offered what follows: a disk that was full has room again, and
    nothing that can be recorded should be lost.
    """

    __slots__ = ("_reported", "sinks")

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self.sinks = tuple(sinks)
        self._reported: set[int] = set()

    def emit(self, event: Event) -> None:
        """Offer an event to all sinks."""
        for sink in self.sinks:
            try:
                sink.emit(event)
            except Exception:
                self._report(sink, "could not take an event")

    def close(self, sinks: Iterable[Sink] | None = None) -> None:
        """Close these sinks, or all."""
        for sink in self.sinks if sinks is None else sinks:
            try:
                sink.close()
            except Exception:
                self._report(sink, "could not be closed")

    def _report(self, sink: Sink, trouble: str) -> None:
        if id(sink) not in self._reported:
            self._reported.add(id(sink))
            failure(
                f"the sink {type(sink).__name__} {trouble}; the program goes on, further failures of it are not reported"
            )
