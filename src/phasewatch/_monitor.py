"""One daemon thread that looks after what is under way, so that nothing on a hot path has to look at a clock.

It is started by the first thing that needs it, and ends when nothing does.
"""

from __future__ import annotations

from ._annotations import TYPE_CHECKING, Protocol
from ._forks import ForkSafeLock
from ._report import failure

if TYPE_CHECKING:
    import threading

    class Watched(Protocol):
        """What is looked after."""

        def _look(self) -> None:
            """Be looked at; called by the monitor's thread, which holds its lock."""


INTERVAL = 1.0  # seconds between two looks


class Monitor:
    """Looks at each thing that is watched, once a second."""

    def __init__(self) -> None:
        # Held while something is looked at: who takes it knows that nobody looks.
        self.lock = ForkSafeLock(order=0)
        self._watched: dict[int, Watched] = {}
        self._thread: threading.Thread | None = None
        self._stop: threading.Event | None = None

    def reset(self) -> None:
        """Forget everything: in the child of a fork, whose parent keeps the thread."""
        self._watched = {}
        self._thread = None

    def watch(self, thing: Watched) -> None:
        """Look at this once a second from now on."""
        with self.lock:
            self._watched[id(thing)] = thing
            if self._thread is None:
                self._start()

    def unwatch(self, thing: Watched) -> None:
        """Stop looking; when this returns, nobody is."""
        with self.lock:
            self._watched.pop(id(thing), None)

    def look(self) -> None:
        """Look at everything once."""
        with self.lock:
            for thing in list(self._watched.values()):
                try:
                    thing._look()
                except Exception:
                    self._watched.pop(id(thing), None)
                    failure(f"{thing!r} could not be looked at; the program goes on, its progress is told less often")

    def stop(self) -> None:
        """End the thread, and wait a moment for it: the interpreter is about to end."""
        if self._stop is not None and self._thread is not None:
            self._stop.set()
            self._thread.join(INTERVAL)

    def _start(self) -> None:
        import atexit
        import threading  # here: it costs 3 ms, which an import of phasewatch need not pay

        if self._stop is None:
            atexit.register(self.stop)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(self._stop,), name="phasewatch", daemon=True)
        self._thread.start()

    def _work(self, stop: threading.Event) -> None:
        while not stop.wait(INTERVAL):
            with self.lock:
                if not self._watched:
                    self._thread = None
                    return
            self.look()
