"""Where the time went: durations added up by the path of their phase."""

from __future__ import annotations

from ._annotations import TYPE_CHECKING
from ._spans import Spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .events import PhaseEnded

_MOST_PATHS = 500  # a program that names each phase anew must not fill the memory


class Total:
    """The phases of one path: how many ended, how many seconds they took together, and for how many one was open."""

    __slots__ = ("count", "depth", "name", "open", "seconds")

    def __init__(self, name: str, depth: int) -> None:
        self.name = name
        self.depth = depth  # 0 for a phase of the run itself
        self.count = 0
        self.seconds = 0.0
        self.open = Spans()  # of threads and tasks, several may be at once


class Totals:
    """Adds up the phases of one run as they end; memory does not grow with their number."""

    def __init__(self) -> None:
        self._by_path: dict[tuple[str, ...], Total] = {}
        self.left_out = 0  # phases whose path came after too many others

    def open(self, path: tuple[str, ...]) -> Total | None:
        """Give a path its row, so that rows come in the order in which phases began; None when there are too many."""
        total = self._by_path.get(path)
        if total is None and path and len(self._by_path) < _MOST_PATHS:
            total = self._by_path[path] = Total(path[-1], len(path) - 1)
        return total

    def close(self, event: PhaseEnded) -> None:
        """Add a phase that ended."""
        total = self.open(event.path)
        if total is None:
            self.left_out += 1
        else:
            total.count += 1
            total.seconds += event.elapsed
            total.open.add(event.time, event.elapsed)

    def rows(self) -> Iterator[Total]:
        """Yield the totals, each below the one that it is part of, otherwise in the order in which they began."""
        yield from self._below(())

    def _below(self, path: tuple[str, ...]) -> Iterator[Total]:
        for child, total in self._by_path.items():
            if len(child) == len(path) + 1 and child[: len(path)] == path:
                yield total
                yield from self._below(child)
