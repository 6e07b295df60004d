"""Loops that are counted without a line of Python per item.

A list, tuple or range is iterated as it is, and its iterator tells how far it is. Anything else goes through
`itertools.compress`, which takes one True from an `itertools.repeat` for every item that it hands out; how many are left
tells how many were handed out. Both are read from outside, by another thread if need be, and cost the loop nothing.
"""

from __future__ import annotations

import itertools
import operator
import sys

from ._annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_OWN_REFERENCES = 2  # to what is counted: the loop's attribute and the argument of getrefcount


class Loop:
    """One iteration under way: how many items it has handed out, and whether somebody still iterates."""

    __slots__ = ("_counter", "_length", "_source", "items")

    def __init__(self, iterable: Iterable[Any]) -> None:
        self._source: Any = None
        self._length = 0  # of a list, when the loop began
        # The exact types: a subclass may iterate as it likes.
        if type(iterable) in (list, tuple, range):
            self._source = iterable
            self._length = len(self._source)
            self._counter: Any = iter(iterable)
            self.items: Iterator[Any] | None = self._counter
        else:
            # Only the counter is kept: who kept the iterator would delay the clean-up of a generator behind it.
            self._counter = itertools.repeat(True, sys.maxsize)
            self.items = itertools.compress(iterable, self._counter)

    def handed(self) -> int:
        """Return how many items were handed out."""
        if self._source is None:
            return sys.maxsize - operator.length_hint(self._counter)
        if type(self._source) is list:
            # Its index is exact even while the list grows or shrinks. An exhausted iterator has let go of the list, which
            # may have grown in the loop, or have been emptied after it.
            state = self._counter.__reduce__()
            return state[2] if len(state) == 3 else max(self._length, len(self._source))
        return len(self._source) - operator.length_hint(self._counter)

    def is_under_way(self) -> bool:
        """Whether somebody still holds the iterator, as far as is known not exhausted: an item may be in work."""
        if self.items is None and sys.getrefcount(self._counter) <= _OWN_REFERENCES:
            return False
        return type(self._source) not in (list, tuple) or len(self._counter.__reduce__()) == 3


class Loops:
    """The loops of one phase that are under way, or were left since somebody asked."""

    __slots__ = ("_loops", "_told")

    def __init__(self) -> None:
        self._loops: tuple[Loop, ...] = ()
        self._told = 0  # items handed out when somebody told of the one in work

    def begin(self, iterable: Iterable[Any]) -> Iterator[Any]:
        """Return what to iterate over."""
        loop = Loop(iterable)
        items, loop.items = loop.items, None
        assert items is not None
        self._loops = (*self._loops, loop)
        return items

    def handed(self) -> int:
        """Return how many items were handed out in all."""
        return sum(loop.handed() for loop in self._loops)

    def done(self) -> int:
        """Return how many of them are done: all but those in work, of which nobody has told yet."""
        handed = self.handed()
        return (
            handed
            if handed == self._told
            else handed - sum(loop.handed() > 0 and loop.is_under_way() for loop in self._loops)
        )

    def tell(self) -> None:
        """Take the item in work for done: who works on it has told of it."""
        self._told = self.handed()

    def take_finished(self) -> int:
        """Forget the loops that are over; return how many items they handed out."""
        finished = [loop for loop in self._loops if not loop.is_under_way()]
        if not finished:
            return 0
        handed = sum(loop.handed() for loop in finished)
        self._told = max(0, self._told - handed)
        self._loops = tuple(loop for loop in self._loops if loop not in finished)
        return handed

    def __bool__(self) -> bool:
        return bool(self._loops)
