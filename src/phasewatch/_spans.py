"""How long at least one of several spans of time was open, in memory that does not grow with their number."""

from __future__ import annotations

_MOST = 64  # spans that are remembered one by one
_JITTER = 0.001  # seconds by which two spans may overlap that follow each other: two clocks are involved


class Spans:
    """A union of spans of time, given about in the order in which they end: what never ended may come last.

    Spans that follow each other add up exactly, as monotonic durations do. Of more than 64 gaps the oldest are merged into
    one figure: a span that reaches back into them, or lies there, is taken to overlap them evenly.
    """

    __slots__ = ("_merged", "_spans", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0  # in which at least one was open
        self._spans: list[tuple[float, float, float]] = []  # begin, end, seconds
        self._merged: tuple[float, float, float] | None = None  # from, until, and the seconds in between

    def add(self, end: float, seconds: float) -> None:
        """Add a span by its end, in wall seconds, and its length: which is the more exact of two differences."""
        spans, begin = self._spans, end - seconds
        # When the oldest are merged, half of them stay: there is a last one, but before the first.
        if not spans or begin >= spans[-1][1] - _JITTER:
            self.seconds += seconds
            spans.append((begin, end, seconds))
            if len(spans) > _MOST:
                self._merge()
            return
        later = []
        while spans and spans[-1][1] > begin:
            low, high, inside = spans.pop()
            if low > end:
                later.append((low, high, inside))
            else:
                self.seconds -= inside
                begin, end = min(begin, low), max(end, high)
        if self._merged is not None and begin < self._merged[1]:
            begin = self._reach_back(begin, end, *self._merged)
        if begin < end:
            self.seconds += end - begin
            spans.append((begin, end, end - begin))
        spans.extend(reversed(later))
        if len(spans) > _MOST:
            self._merge()

    def _merge(self) -> None:
        old, self._spans = self._spans[: _MOST // 2], self._spans[_MOST // 2 :]
        low, _, covered = self._merged or (old[0][0], 0.0, 0.0)
        self._merged = (low, old[-1][1], covered + sum(seconds for _, _, seconds in old))

    def _reach_back(self, begin: float, end: float, low: float, high: float, covered: float) -> float:
        """Make room for a span that begins among those that were merged; return from where on it is new."""
        if end <= high:
            inside = end - max(begin, low)
            if inside > 0:
                inside *= 1 - covered / (high - low)
            new = max(0.0, inside) + max(0.0, min(end, low) - begin)
            self.seconds += new
            self._merged = (min(begin, low), high, covered + new)
            return end
        if begin <= low:
            self.seconds -= covered
            self._merged = None
            return begin
        # What was covered from `begin` on is replaced: the part of the merged figure that lies there.
        inside = covered * (high - begin) / (high - low)
        self.seconds -= inside
        self._merged = (low, begin, covered - inside)
        return begin
