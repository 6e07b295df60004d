"""Mean, variance and quantiles of numbers that come one by one, in bounded memory."""

from __future__ import annotations

import math

EXACT = 1000  # numbers of which each is kept
ERROR = 0.01  # of a quantile of more numbers, as a share of it

_GAMMA = (1 + ERROR) / (1 - ERROR)
_PER_BUCKET = 1 / math.log(_GAMMA)
_SMALLEST = 1e-7  # what is below is zero


class Samples:
    """Numbers of at least zero, such as durations in seconds.

    A quantile is that number which as large a share of all numbers does not exceed (the nearest rank). It is exact for up
    to 1,000 numbers. Of more it is within 1% of that number: they are counted in buckets whose borders grow by a constant
    factor, as in DDSketch (Masson, Rim and Lee, VLDB 2019); from 100 ns to a century, that is less than 1,900 buckets.
    Mean and variance are those of Welford's method.
    """

    __slots__ = ("_buckets", "_kept", "_squares", "count", "highest", "lowest", "mean")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.lowest = math.inf
        self.highest = 0.0
        self._squares = 0.0  # of the distances from the mean
        self._kept: list[float] | None = []
        self._buckets: dict[int, int] = {}

    def add(self, number: float) -> None:
        """Take a number."""
        self.count += 1
        distance = number - self.mean
        self.mean += distance / self.count
        self._squares += distance * (number - self.mean)
        if number > self.highest:
            self.highest = number
        if number < self.lowest:
            self.lowest = number
        if self._kept is not None:
            self._kept.append(number)
            if len(self._kept) > EXACT:
                for kept in self._kept:
                    self._put(kept)
                self._kept = None
        else:
            self._put(number)

    def _put(self, number: float) -> None:
        bucket = math.ceil(math.log(number) * _PER_BUCKET) if number > _SMALLEST else -10_000
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    @property
    def is_exact(self) -> bool:
        """Whether the quantiles are exact."""
        return self._kept is not None

    @property
    def variance(self) -> float | None:
        """The variance of what the numbers are a sample of; None of fewer than two."""
        return self._squares / (self.count - 1) if self.count > 1 else None

    def quantile(self, share: float) -> float | None:
        """Return the number that this share of all does not exceed, as 0.5 for the median; None where there is none."""
        if not self.count:
            return None
        rank = min(self.count, max(1, math.ceil(share * self.count)))
        if self._kept is not None:
            self._kept.sort()
            return self._kept[rank - 1]
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                break
        return min(self.highest, max(self.lowest, 2 * math.pow(_GAMMA, bucket) / (_GAMMA + 1)))
