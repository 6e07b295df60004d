"""One daemon thread that looks at the open phases once a second, so that nothing on a hot path has to look at a clock.

It has the progress of loops told, says of phases that have long been quiet that they are alive, and of those that do not
move that they have stalled. It is started by the first phase that is told to somebody, and ends when none is open.
"""

from __future__ import annotations

from ._annotations import TYPE_CHECKING, Protocol
from ._forks import ForkSafeLock
from ._report import failure

if TYPE_CHECKING:
    import threading

    class Watched(Protocol):
        """What is looked at."""

        def _look(self, *, is_innermost: bool, by_hand: bool) -> None:
            """Be looked at; the caller holds the monitor's lock."""

        def _enclosing(self) -> object:
            """Return what is around it."""


INTERVAL = 1.0  # seconds between two looks
_IDLE_LOOKS = 10  # that see nothing before the thread ends; the next phase often follows soon


class Monitor:
    """Looks at every open phase, once a second."""

    def __init__(self) -> None:
        # Held while something is looked at: who takes it knows that nobody looks.
        self.lock = ForkSafeLock(order=0)
        self.open: dict[int, Watched] = {}  # in the order in which they were opened
        self.is_running = False
        self._thread: threading.Thread | None = None
        self._stop: threading.Event | None = None

    def reset(self) -> None:
        """Forget everything: in the child of a fork, whose parent keeps the thread and the phases."""
        self.open = {}
        self.is_running = False
        self._thread = None

    def look(self, *, by_hand: bool = False) -> None:
        """Look at everything once, at what has a clock of its own only if that is asked for."""
        with self.lock:
            things = list(self.open.values())
            enclosing = {id(thing._enclosing()) for thing in things}
            for thing in things:
                try:
                    thing._look(is_innermost=id(thing) not in enclosing, by_hand=by_hand)
                except Exception:
                    self.open.pop(id(thing), None)
                    failure(f"{thing!r} could not be looked at; the program goes on, its progress is told less often")

    def start(self) -> None:
        """Start the thread, if it is not running."""
        with self.lock:
            if self.is_running:
                return
            self.is_running = True
            try:
                self._start()
            except Exception as error:  # no more threads
                if "interpreter shutdown" in str(error):  # a phase in an atexit function; its progress is not looked at
                    return
                failure("the monitor could not be started; the program goes on, its progress is told less often")

    def stop(self) -> None:
        """End the thread, and wait a moment for it: the interpreter is about to end."""
        if self._stop is not None and self._thread is not None and self._thread.is_alive():
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
        idle = 0
        while not stop.wait(INTERVAL):
            idle = 0 if self.open else idle + 1
            if idle >= _IDLE_LOOKS and self._may_end():
                return
            self.look()

    def _may_end(self) -> bool:
        with self.lock:
            # In this order: who opens a phase enters it first, and then looks whether the thread is running.
            self.is_running = False
            if not self.open:
                return True
            self.is_running = True
            return False
