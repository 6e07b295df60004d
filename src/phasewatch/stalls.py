"""When is a phase stalled: pure arithmetic over the lengths of its kind, without a clock and without I/O.

Lengths are taken as logarithms, since what makes one phase longer than another multiplies. The rule, its reasons and what it
does in simulation are in docs/decisions, "When a phase is stalled"; benchmarks/stalls.py prints the table.
"""

from __future__ import annotations

from math import expm1, log, log1p, sqrt

SLACK = 60.0  # seconds that nobody minds to wait: no threshold is below
FACTOR = 3.0  # a hang is told after so many times the usual, and the slack, unless healthy ones take as long

_FEWEST = 3  # lengths before anything is said: one of them may be a warm-up, and two say nothing of spread
_FEW = 9  # below, the spread is a guess
_FEW_FACTOR = 8.0  # of the longest, while it is
_LONGEST = 1e12  # seconds; above, or not a number, is no length
_MOST = log(_LONGEST)
_MEMORY = 64  # lengths after which an old one counts for e times less
_KEEP = 1.0 - 1.0 / 128  # by how much the longest fades at each
_MARGIN = 1.25  # of the longest: below, no alarm
# Squared deviations of the logarithms: taken before anything is known, with the weight of so many lengths, and the least.
_GUESS, _GUESS_WEIGHT, _LEAST = 0.8**2, 3.0, 0.25**2
_BELIEVED = 5.0  # deviations beyond which a length is taken for less: a laptop that slept is no kind of step
_LIKELY = 0.65  # their deviation while little is known, to tell what is strange; the guess is of what must be reckoned with
_NEVER_CLIPPED = _BELIEVED**2 * _LEAST  # squared, whatever the spread
_Z = 4.5  # normal deviations that one healthy length in 300,000 passes
_P90 = 1.2816
# Where a tail begins, and from there until it is whole: the excess over the least kurtosis, as a share of it.
_TAIL_LEAST, _TAIL_RANGE = 0.1, 0.25
_SKEW_LEAST, _SKEW_MOST, _SKEW_WEIGHT = -1.0, 2.2, 1.0  # the weight: of lengths that are not skewed


class Spread:
    """The finished lengths of one kind of phase, or of the gaps between its units, in constant memory."""

    __slots__ = ("_cube", "_fourth", "_longest", "_mean", "_variance", "_weight", "count")

    def __init__(self) -> None:
        self.count = 0  # lengths that were added
        self._weight = 0  # of them in the moments; the first is left out once there is a second
        # The mean of the logarithms and their second, third and fourth central moments; old ones fade.
        self._mean = self._variance = self._cube = self._fourth = 0.0
        self._longest = 0.0  # seconds, fading

    def add(self, seconds: float) -> None:
        """Add the length of one that finished, in seconds; what is no length (negative, nan) is ignored."""
        if not 0.0 <= seconds < _LONGEST:
            return
        self.count += 1
        value = log1p(seconds)
        weight = self._weight
        if weight == 0:
            # The first may be a warm-up, and is left to the longest; but should the second be longer, then that is.
            self._longest = max(seconds, self._longest)
            if self.count > 1:
                self._weight = 1
                value = min(value, self._mean)
                self._longest = min(self._longest, expm1(value + _BELIEVED * _LIKELY))
            self._mean = value
            return
        variance, cube = self._variance, self._cube
        away = value - self._mean
        square = away * away
        if square > _NEVER_CLIPPED:
            limit = _BELIEVED**2 * max((variance * weight + _LIKELY**2 * _GUESS_WEIGHT) / (weight + _GUESS_WEIGHT), _LEAST)
            if square > limit:
                away, square = (sqrt(limit) if away > 0.0 else -sqrt(limit)), limit
                # One that took far too long counts among the longest with as much of it as is believed.
                seconds = min(seconds, expm1(self._mean + away))
        faded = self._longest * _KEEP
        self._longest = seconds if seconds > faded else faded
        share = 1.0 / (weight + 1) if weight < _MEMORY else 1.0 / _MEMORY
        if weight < 2 * _MEMORY - 1:  # what a fading mean is worth in lengths of equal weight
            self._weight = weight + 1
        # Moments of a mixture of what was known and one new length.
        rest, step = 1.0 - share, share * away
        grown = share * (1.0 - 3.0 * share * rest) * square * square
        self._fourth = rest * (self._fourth - 4.0 * step * cube + 6.0 * step * step * variance + grown)
        self._cube = rest * (cube - 3.0 * step * variance + share * (rest - share) * square * away)
        self._variance = rest * (variance + step * away)
        self._mean += step

    @property
    def usual(self) -> float | None:
        """The seconds within which nine in ten finish, by what is known; None before the first."""
        if self.count == 0:
            return None
        return min(expm1(self._mean + _P90 * sqrt(self._variance)), self._longest)

    def threshold(self) -> float | None:
        """Return the seconds beyond which a healthy one is implausible; None while too little is known.

        That is where its spread ends, and a minute, but with this minute no more than three times the usual and a minute.
        """
        usual = self.usual
        if usual is None or self.count < _FEWEST:
            return None
        end = self._end()
        return max(end, min(end + SLACK, FACTOR * usual + SLACK))

    def _end(self) -> float:
        """Seconds that one healthy length in 300,000 passes, as far as that can be known."""
        weight = self._weight
        guess = (self._variance * weight + _GUESS * _GUESS_WEIGHT) / (weight + _GUESS_WEIGHT)
        # The next one is as uncertain as the mean is, too.
        deviation = sqrt(max(guess * (1.0 + 1.0 / weight), _LEAST))
        # A long tail stretches what was seen of the spread, not what is only guessed.
        above = _Z * deviation + self._tail() * sqrt(self._variance)
        end = expm1(min(self._mean + above, _MOST))
        # What was added before the spread was known, or has changed since, is believed as far as it fits now.
        longest = min(self._longest, expm1(min(self._mean + _BELIEVED * deviation, _MOST)))
        if self.count < _FEW:
            end = min(end, _FEW_FACTOR * longest)
        return max(end, _MARGIN * longest)

    def _tail(self) -> float:
        """Deviations beyond those of a normal distribution that one in 300,000 passes: the tail of the logarithms."""
        variance = self._variance
        if variance < 1e-6:
            return 0.0
        spread = variance + 0.05**2  # what nobody would call spread is not skewed either
        skew = self._cube / (spread * sqrt(spread)) * self._weight / (self._weight + _SKEW_WEIGHT)
        tail = 1.0
        if skew < 0.0:
            skew *= 0.4  # a tail of short ones says little of the long
        else:
            # Two lengths that alternate are as skewed as a long tail; but of all that is as skewed they have the least
            # fourth moment (Pearson: kurtosis >= skewness^2 + 1), and beyond the longer of them there is nothing.
            excess = self._fourth / variance**2 - self._cube**2 / variance**3 - 1.0
            tail = min(1.0, max(0.0, (excess / (1.0 + self._cube**2 / variance**3) - _TAIL_LEAST) / _TAIL_RANGE))
        skew = min(max(skew, _SKEW_LEAST), _SKEW_MOST)
        if abs(skew) < 1e-3:
            return 0.0
        # Quantile of a gamma distribution of this skewness, after Wilson and Hilferty.
        root = 1.0 + skew * _Z / 6.0 - skew * skew / 36.0
        return tail * (2.0 / skew * (root * root * root - 1.0) - _Z)


def stalled_after(spread: Spread | None, *, expect: float | None = None, stall_after: float | None = None) -> float | None:
    """Return the seconds after which an open phase is stalled, or None if nothing is known of its length.

    Args:
        spread: the lengths of its kind so far.
        expect: seconds that it usually takes, as the user says: counts instead of the spread.
        stall_after: seconds after which it is stalled, as the user says: counts before all, exactly; ``inf`` is never.

    A hint that is no length (negative, nan) is as none.
    """
    if stall_after is not None and stall_after >= 0.0:
        return stall_after
    if expect is not None and expect >= 0.0:
        return FACTOR * expect + SLACK
    return None if spread is None else spread.threshold()
