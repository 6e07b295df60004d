"""How often a healthy run is called stalled, and how soon a hang is told: simulated runs of many kinds of phase.

    python benchmarks/stalls.py                    # the table of docs/decisions, in about a minute
    python benchmarks/stalls.py --runs 200         # rougher, sooner

Each run adds the lengths of its phases one after the other to a `Spread`, and asks before each how long it may take. A cell
says: the runs in which a healthy phase passed its threshold; then, for a phase that hangs at a random place of the run (from
the fourth on), how many are told within what is promised, three times the usual length and a minute (and 5 % more), and the
seconds until it is told as a multiple of the promise, median and 95th percentile. The usual length is the 90th percentile of
the kind; where it drifts, that of the moment; of two kinds of step that come often, the longer, else the common one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from phasewatch.stalls import Spread

Floats = NDArray[np.float64]
Shape = tuple[int, int]  # runs, phases in each
FIRST_ASKED = 3  # before, a spread is silent


class Family(NamedTuple):
    """A kind of run: the lengths, in units of the usual one, and what nine in ten of them stay below at each phase."""

    name: str
    lengths: Callable[[np.random.Generator, Shape], Floats]
    usual: Callable[[int], Floats] | None = None  # None: the 90th percentile of all lengths


def _steady(rng: np.random.Generator, shape: Shape) -> Floats:
    return 1 + 0.05 * np.clip(rng.normal(size=shape), -4, 4)


def _times(factors: Callable[[int], Floats], name: str, common: float | None = None) -> Family:
    """Steady lengths, multiplied by a factor that depends on the place; ``common`` is the usual one, else the factor is."""
    return Family(
        name,
        lambda rng, shape: _steady(rng, shape) * factors(shape[1]),
        lambda n: 1.064 * (factors(n) if common is None else np.full(n, common)),
    )


def _every(period: int, factor: float) -> Callable[[int], Floats]:
    return lambda n: np.where(np.arange(n) % period == period - 1, factor, 1.0)


def _from(share: float, factor: float) -> Callable[[int], Floats]:
    return lambda n: np.where(np.arange(n) >= share * n, factor, 1.0)


def _at(place: int, factor: float) -> Callable[[int], Floats]:
    return lambda n: np.where(np.arange(n) == place, factor, 1.0)


def _lognormal(sigma: float) -> Family:
    return Family(f"lognormal {sigma}", lambda rng, shape: rng.lognormal(0.0, sigma, size=shape))


def _pareto(alpha: float) -> Family:
    return Family(f"Pareto {alpha:g}", lambda rng, shape: 1 + rng.pareto(alpha, size=shape))


def _gamma(form: float) -> Family:
    return Family(f"gamma {form:g}", lambda rng, shape: rng.gamma(form, 1 / form, size=shape))


def _sometimes(rng: np.random.Generator, shape: Shape) -> Floats:
    return _steady(rng, shape) * np.where(rng.random(shape) < 0.1, 4.0, 1.0)


FAMILIES = [
    Family("steady, 5 %", _steady),
    _lognormal(0.3),
    _lognormal(0.5),
    _lognormal(0.8),
    _gamma(4),
    _gamma(2),
    _gamma(1),
    _pareto(3),
    _pareto(2.5),
    _times(_every(10, 4.0), "every 10th 4x", common=4.0),
    Family("one in ten 4x", _sometimes, lambda n: np.full(n, 4.0 * 1.064)),
    _times(_every(50, 2.5), "every 50th 2.5x", common=1.0),
    _times(_every(50, 4.0), "every 50th 4x", common=1.0),
    _times(lambda n: 1 + np.arange(n) / n, "drift to 2x"),
    _times(_from(0.4, 1.6), "jump to 1.6x"),
    _times(_from(0.4, 2.5), "jump to 2.5x"),
    _times(_at(0, 3.0), "first 3x", common=1.0),
    _times(_at(0, 10.0), "first 10x", common=1.0),
    _times(_at(1, 1000.0), "slept in the 2nd", common=1.0),
    _times(_at(40, 1000.0), "slept in the 41st", common=1.0),
]
SLEPT = 500.0  # usual lengths: what is above was no healthy phase, and its own alarm is true


class Outcome(NamedTuple):
    """What a family did at one length."""

    alarmed: float  # share of the runs
    in_time: float  # share of the hangs
    median: float  # seconds until a hang was told, in units of what was promised
    late: float  # the 95th percentile of these


def simulate(family: Family, unit: float, shape: Shape, seed: int = 0) -> Outcome:
    """Run a family whose usual length is ``unit`` seconds."""
    rng = np.random.default_rng(seed)
    lengths = family.lengths(rng, shape)
    usual = np.full(shape[1], np.quantile(lengths, 0.9)) if family.usual is None else family.usual(shape[1])
    promised = 3 * usual * unit + 60
    hangs = rng.integers(FIRST_ASKED, shape[1], size=shape[0])
    healthy = (lengths < SLEPT).tolist()
    alarmed, ratios = 0, []
    for run, hang, fine in zip((lengths * unit).tolist(), hangs.tolist(), healthy, strict=True):
        spread, alarm = Spread(), False
        for place, seconds in enumerate(run):
            if place == hang:
                threshold = spread.threshold()
                ratios.append(np.inf if threshold is None else threshold / promised[place])
            # No threshold is below a minute: most need not be asked for.
            if seconds > 60 and not alarm and fine[place]:
                threshold = spread.threshold()
                alarm = threshold is not None and seconds > threshold
            spread.add(seconds)
        alarmed += alarm
    told = np.array(ratios)
    return Outcome(alarmed / shape[0], float((told <= 1.05).mean()), *np.quantile(told, [0.5, 0.95]).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description="How often a healthy run is called stalled, and how soon a hang is told.")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--family", default="", help="only those whose name holds this")
    options = parser.parse_args()
    cases = [(1.0, 200), (10.0, 200), (40.0, 200), (600.0, 200), (1140.0, 5)]
    heads = [f"{unit:g} s" if phases == 200 else f"{unit / 60:g} min, {phases} phases" for unit, phases in cases]
    print("| kind | " + " | ".join(heads) + " |")
    print("|---" + "|---" * len(cases) + "|")
    for family in FAMILIES:
        if options.family in family.name:
            row = []
            for unit, phases in cases:
                it = simulate(family, unit, (options.runs, phases))
                row.append(f"{it.alarmed:.1%}; {it.in_time:.0%}, {it.median:.1f}x, {it.late:.1f}x")
            print(f"| {family.name} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
