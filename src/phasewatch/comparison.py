"""What changed from one run to another, and whether it is more than noise.

The module is not called ``diff``: the function `phasewatch.diff` would hide it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .summary import Summary, summarize

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Literal

    from ._samples import Samples
    from ._series import Series
    from .events import Event
    from .summary import KindFigures, Path
    from .timeline import Timeline

    Verdict = Literal["slower", "faster", "same", "too few", "untimed"]
    Source = Summary | Timeline | Iterable[Event]

FEWEST = 3  # phases of a kind in each run, below which nothing can be said
ERROR_RATE = 0.01  # the chance that among all kinds of two like runs one is called slower or faster
_CLOSE = 1e-9  # by which two values of a metric may differ and be the same, as a share of them
_MOST_TERMS = 300


@dataclass
class KindChange:
    """One kind of phase in two runs. Times are seconds, per unit where both runs count units, else per phase."""

    path: Path
    per: str  # what the times are of: "phase", or the unit
    count_a: int  # phases that ended, where times are per unit those that did any
    count_b: int
    a: float | None
    b: float | None
    ratio: float | None  # b over a
    total_a: float  # of the rank that spent the most
    total_b: float
    p: float | None  # the chance of such a difference between like runs, by Welch's test; None of too few phases
    verdict: Verdict


@dataclass
class MetricChange:
    """One metric in two runs."""

    path: Path  # of the phase that logged it
    name: str
    steps: int  # that both have, and were compared
    step: int | None  # the last of them
    a: float  # there; without steps, the last values
    b: float
    parted: int | None  # the first step at which they differ


@dataclass
class Comparison:
    """Two runs, side by side."""

    elapsed_a: float  # seconds
    elapsed_b: float
    ratio: float | None
    kinds: list[KindChange]  # that ran in both, in the order of the first run
    metrics: list[MetricChange]
    only_a: list[Path]  # kinds of phase that ran in one only
    only_b: list[Path]

    def slower_than(self, share: float) -> list[KindChange]:
        """Return the kinds that are slower by more than a share (0.1 is 10%), by more than noise."""
        return [
            kind for kind in self.kinds if kind.verdict == "slower" and kind.ratio is not None and kind.ratio > 1 + share
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it: what is not a finite number is None."""
        return {"schema": 1, **_finite(dataclasses.asdict(self))}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def diff(a: Source, b: Source) -> Comparison:
    """Compare two runs, each a summary, a timeline or events.

    A kind of phase is ``slower`` or ``faster`` if the means of its durations differ by more than noise. The test is Welch's
    t-test, at a chance of 1% that any kind of two like runs is called different, shared among the kinds that are tested
    (Bonferroni). It takes the phases of a run as independent of each other: a machine that was slow during a whole run shows
    as a difference. Of fewer than three phases in either run it says ``too few``; of a kind that took no time at all in one,
    since that is a text log that does not tell its times, ``untimed``.
    """
    first, second = (source if isinstance(source, Summary) else summarize(source) for source in (a, b))
    others = {kind.path: kind for kind in second.kinds}
    both = [(kind, others[kind.path]) for kind in first.kinds if kind.path in others]
    known = {kind.path for kind in first.kinds}
    return Comparison(
        elapsed_a=first.elapsed,
        elapsed_b=second.elapsed,
        ratio=_ratio(first.elapsed, second.elapsed),
        kinds=_judged([_change(kind, other) for kind, other in both]),
        metrics=[
            _metric(path, name, series, second.series[path, name])
            for (path, name), series in first.series.items()
            if (path, name) in second.series
        ],
        only_a=[kind.path for kind in first.kinds if kind.path not in others],
        only_b=[path for path in others if path not in known],
    )


def _ratio(a: float | None, b: float | None) -> float | None:
    return b / a if a and b is not None else None


def _change(a: KindFigures, b: KindFigures) -> KindChange:
    by_unit = a.unit == b.unit and bool(a.units and b.units)
    samples_a, samples_b = (a.unit_samples, b.unit_samples) if by_unit else (a.seconds_samples, b.seconds_samples)
    # What is shown is what is tested: the mean over phases, whatever the units of each.
    mean_a, mean_b = (samples.mean if samples.count else None for samples in (samples_a, samples_b))
    # Phases that happened take time: where they took none at all, a text log does not tell it.
    is_untimed = None not in (mean_a, mean_b) and (mean_a == 0) is not (mean_b == 0)
    return KindChange(
        path=a.path,
        per=a.unit if by_unit else "phase",
        count_a=samples_a.count,
        count_b=samples_b.count,
        a=mean_a,
        b=mean_b,
        ratio=None if is_untimed else _ratio(mean_a, mean_b),
        total_a=a.total,
        total_b=b.total,
        p=None if is_untimed else welch(samples_a, samples_b),
        verdict="untimed" if is_untimed else "too few",
    )


def _judged(changes: list[KindChange]) -> list[KindChange]:
    tested = sum(change.p is not None for change in changes)
    for change in changes:
        if change.p is not None:
            differs = change.p < ERROR_RATE / tested and change.a != change.b
            change.verdict = "same" if not differs else "slower" if (change.b or 0) > (change.a or 0) else "faster"
    return changes


def _metric(path: Path, name: str, a: Series, b: Series) -> MetricChange:
    of_a, of_b = a.values(), b.values()
    steps = [step for step in of_a if step in of_b]
    last = steps[-1] if steps else None
    return MetricChange(
        path=path,
        name=name,
        steps=len(steps),
        step=last,
        a=a.last if last is None else of_a[last],
        b=b.last if last is None else of_b[last],
        parted=next((step for step in steps if not _is_close(of_a[step], of_b[step])), None),
    )


def _is_close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_CLOSE) or (a != a and b != b)


# The test.


def welch(a: Samples, b: Samples) -> float | None:
    """Return the chance that samples of one law differ in their means as much as these (two-sided); None of too few.

    Welch, The generalization of Student's problem when several different population variances are involved, 1947.
    """
    if a.count < FEWEST or b.count < FEWEST or a.variance is None or b.variance is None:
        return None
    # Durations that are equal to the last bits have no variance to speak of.
    scale = max(a.mean, b.mean)
    error_a, error_b = a.variance / a.count, b.variance / b.count
    error = error_a + error_b
    if error <= (scale * 1e-12) ** 2:
        return 1.0 if math.isclose(a.mean, b.mean, rel_tol=_CLOSE) else 0.0
    freedom = error**2 / (error_a**2 / (a.count - 1) + error_b**2 / (b.count - 1))
    return student_tail((a.mean - b.mean) / math.sqrt(error), freedom)


def student_tail(t: float, freedom: float) -> float:
    """Return the chance that Student's t, of so many degrees of freedom, is as far from zero as this."""
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function, by its continued fraction (Abramowitz and Stegun, 26.5.8)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction of the other end converges faster
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    # From the outermost denominator inward, by the method of Lentz.
    tiny = 1e-300
    fraction, c, d = 1.0, 1.0, 0.0
    for term in range(_MOST_TERMS):
        half = term // 2
        if term == 0:
            numerator = 1.0
        elif term % 2 == 0:
            numerator = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            numerator = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        d = 1 / ((1 + numerator * d) or tiny)
        c = (1 + numerator / c) or tiny
        fraction *= c * d
        if abs(1 - c * d) < 1e-12 and term > 1:
            break
    return min(1.0, front * (fraction - 1))
