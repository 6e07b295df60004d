"""How far the time left is off: phasewatch beside the progress bars that people use, on simulated runs.

    python benchmarks/eta.py           # prints the tables
    python benchmarks/eta.py --docs    # and writes them and the picture into docs/eta.md

A run is 200 steps of 40 s, the first of them three times as long, with a validation of 19 minutes (28 batches) before,
every 50 steps and after, and a checkpoint every 25. All on one fake clock: phasewatch through its public interface, the
others through their own code. The errors are means of |told - true| / true, in percent, over twenty runs; where nothing was
told, nothing is counted. The floor is what knowing the true law of all durations gives: only chance is left.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import rich.progress
from alive_progress.utils.timing import fn_simple_eta, gen_simple_exponential_smoothing
from rich.console import Console
from tqdm import tqdm

import phasewatch
from phasewatch import phase
from phasewatch.testing import FakeClock

SEEDS = range(20)
GRID = 200  # questions at even times
VALIDATION, BATCHES, SAVE = 19 * 60.0, 28, 60.0
SPREAD = 0.05  # of a step, as a logarithm
NEAR = 1.0  # seconds before the end at which a share of what is left says nothing any more
REFRESHES = 40  # by which alive-progress has smoothed what it shows, at several a second

Law = Callable[[int, int], float]  # the mean of a step as a share of the usual one, by its number and the number of all
Chance = Callable[[random.Random], float]  # a factor with the mean 1


def lognormal(spread: float) -> Chance:
    """Return a factor with a mean of 1, whose logarithm has such a spread."""
    return lambda draw: math.exp(draw.gauss(-spread * spread / 2, spread))


class Shape(NamedTuple):
    """A family of runs."""

    steps: int = 200
    step: float = 40.0
    law: Law = lambda number, steps: 1.0
    chance: Chance = lognormal(SPREAD)
    validates: int = 50
    saves: int = 25
    start: int = 0
    first: float = 3.0

    @property
    def plan(self) -> phasewatch.TrainingPlan:
        """What will run."""
        validates = self.validates > 0
        return phasewatch.TrainingPlan(
            self.steps, test_freq=self.validates, save_freq=self.saves, start_step=self.start, val_batches=BATCHES,
            val_before_train=validates, val_after_train=validates,
        )  # fmt: skip

    def mean(self, name: str, step: int | None) -> float:
        """Return how long such a phase takes by the true law."""
        if name != "TRAINING STEP":
            return VALIDATION if name.endswith("VALIDATION") else SAVE
        assert step is not None
        return self.step * self.law(step, self.steps) * (self.first if step == self.start + 1 else 1.0)

    def durations(self, seed: int) -> list[tuple[str, int | None, list[float]]]:
        """Return the phases of one run, each with its durations: of a validation, those of its batches."""
        draw = random.Random(seed)
        phases = []
        for name, step in self.plan.phases():
            mean = self.mean(name, step)
            if name.endswith("VALIDATION"):
                whole = mean * lognormal(0.03)(draw)
                shares = [lognormal(0.15)(draw) for _ in range(BATCHES)]
                seconds = [whole * share / sum(shares) for share in shares]
            else:
                seconds = [mean * (self.chance(draw) if name == "TRAINING STEP" else lognormal(0.1)(draw))]
            phases.append((name, step, seconds))
        return phases


def grows_and_shrinks(number: int, steps: int) -> float:
    """Answers that get longer, and then shorter: what a policy under training does."""
    return 1 + math.sin(math.pi * number / steps) ** 2


SHAPES = {
    "steady": Shape(),
    "drift to 2x": Shape(law=lambda number, steps: 1 + number / steps),
    "jump x1.6 at 40 %": Shape(law=lambda number, steps: 1.6 if number > 0.4 * steps else 1.0),
    "heavy tail": Shape(chance=lognormal(0.6)),
    "no validation": Shape(validates=-1),
    "2,000 short steps": Shape(steps=2000, step=0.5, validates=-1, saves=-1),
    "grows, then shrinks": Shape(law=grows_and_shrinks),
    "every tenth x4": Shape(law=lambda number, steps: 4.0 if number % 10 == 0 else 1.0),
    "validates every 10, from 101": Shape(validates=10, start=100),
}


# Who tells the time left.

Teller = Callable[[], "tuple[float | None, float | None]"]  # of the whole run and of the loop


class Peers:
    """The progress bars, on a clock that is told the time, each counting steps from the beginning of the run."""

    def __init__(self, clock: FakeClock, shape: Shape, null: TextIO) -> None:
        self.clock = clock
        self.total = shape.steps - shape.start
        self.done = 0
        self.tqdm = tqdm(total=self.total, file=null)
        self.tqdm._time = clock  # type: ignore[attr-defined]  # nobody is meant to
        self.tqdm.start_t = self.tqdm.last_print_t = clock()
        self.rich = rich.progress.Progress(get_time=clock, auto_refresh=False, console=Console(file=null))
        self.task = self.rich.add_task("", total=self.total)
        self.rate = gen_simple_exponential_smoothing(0.3, lambda done, elapsed: done / elapsed)
        self.alive = gen_simple_exponential_smoothing(0.5, fn_simple_eta(self.total))  # type: ignore[no-untyped-call]  # it has none
        next(self.rate), next(self.alive)
        self.alive_eta: float | None = None

    def step(self) -> None:
        """Count a step."""
        self.done += 1
        self.tqdm.update(1)
        self.rich.advance(self.task)

    def tell(self) -> dict[str, float | None]:
        """Return what each shows."""
        state = self.tqdm.format_dict
        rate = state["rate"] or (state["n"] / state["elapsed"] if state["elapsed"] else None)
        if self.done:
            for _ in range(REFRESHES):
                self.alive_eta = self.alive.send((self.done, self.rate.send((self.done, self.clock()))))
        return {
            "tqdm": (self.total - self.done) / rate if rate else None,
            "rich": self.rich.tasks[0].time_remaining,
            "alive-progress": self.alive_eta,
        }

    def close(self) -> None:
        """Take the bars down."""
        self.tqdm.close()


class Answer(NamedTuple):
    """What was told at one moment, and how it was."""

    at_step: bool  # or at an even time
    now: float
    of_run: float
    of_loop: float
    told_of_run: dict[str, float | None]
    told_of_loop: dict[str, float | None]


def earlier_run(shape: Shape, seed: int, path: str) -> None:
    """Leave the log of a similar run, in which each kind of phase took about a tenth more or less."""
    draw, off = random.Random(seed), dict[str, float]()
    clock = FakeClock()
    with phasewatch.run("earlier", clock=clock, sinks=[], log=path):
        for name, step, seconds in shape.durations(seed + 1000):
            with phase(name, step=step):
                clock.advance(sum(seconds) * off.setdefault(name, draw.choice([0.9, 1.1])))


class Simulation:
    """One run, which is asked at the end of each step and at even times."""

    def __init__(self, shape: Shape, seed: int, run: phasewatch.Phase, clock: FakeClock, null: TextIO) -> None:
        self.run, self.clock = run, clock
        self.phases = shape.durations(seed)
        self.expected = [shape.mean(name, step) for name, step, _ in self.phases]
        self.after = [sum(seconds) for name, _, seconds in self.phases if name == "POST-TRAINING VALIDATION"]
        self.ends = sum(sum(seconds) for *_, seconds in self.phases)
        self.peers = Peers(clock, shape, null)
        self.training = phase("TRAINING", total=shape.steps, unit="step", start=shape.start)
        self.answers: list[Answer] = []
        self.questions = iter([self.ends * (number + 0.5) / GRID for number in range(GRID)])
        self.next_question = next(self.questions)
        self.index, self.spent = 0, 0.0  # the phase under way, and how long it has been

    def ask(self, *, at_step: bool) -> None:
        """Note what everybody tells now."""
        floor = max(0.0, self.expected[self.index] - self.spent) + sum(self.expected[self.index + 1 :])
        left, told = self.ends - self.clock(), self.peers.tell()
        of_run = {"phasewatch": self.run.eta, **told, "floor": floor}
        of_loop = {"phasewatch": self.training.eta, **told, "floor": floor - len(self.after) * VALIDATION}
        self.answers.append(Answer(at_step, self.clock(), left, left - sum(self.after), of_run, of_loop))

    def spend(self, seconds: float) -> None:
        """Let time pass, and ask where it is time to."""
        until = self.clock() + seconds
        while self.next_question < until:
            self._pass(self.next_question)
            self.ask(at_step=False)
            self.next_question = next(self.questions, math.inf)
        self._pass(until)

    def _pass(self, until: float) -> None:
        seconds = max(0.0, until - self.clock())
        self.clock.advance(seconds)
        self.spent += seconds

    def work(self, name: str, step: int | None, seconds: list[float]) -> None:
        """Do one phase."""
        if name == "TRAINING STEP":
            with self.training.step():
                self.spend(seconds[0])
            self.peers.step()
            self.spent = self.expected[self.index]
            self.ask(at_step=True)
        elif name == "CHECKPOINT SAVING":
            with phase(name, step=step):
                self.spend(seconds[0])
        else:
            with phase(name, step=step), phase("VALIDATION", total=BATCHES, unit="batch") as validation:
                for batch in validation.track(seconds):
                    self.spend(batch)

    def go(self) -> None:
        """Do all of it."""
        with contextlib.ExitStack() as loop:
            for index, (name, step, seconds) in enumerate(self.phases):
                self.index, self.spent = index, 0.0
                if name == "TRAINING STEP" and self.training.status == "pending":
                    loop.enter_context(self.training)
                if name == "POST-TRAINING VALIDATION":
                    loop.close()
                self.work(name, step, seconds)
        self.peers.close()


def simulate(shape: Shape, seed: int, *, history: bool = False) -> list[Answer]:
    """Run, and return what was told."""
    clock = FakeClock()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w", encoding="utf-8") as null:
        log = os.path.join(folder, "earlier.jsonl") if history else None
        if log is not None:
            earlier_run(shape, seed, log)
        with phasewatch.run("simulated", plan=shape.plan, clock=clock, sinks=[], history=log) as run:
            simulation = Simulation(shape, seed, run, clock, null)
            simulation.go()
    return simulation.answers


# Tables.

TELLERS = ["phasewatch", "tqdm", "rich", "alive-progress", "floor"]


def errors(answers: list[Answer], teller: str, *, at_step: bool, of_loop: bool) -> list[float]:
    """Return the errors of one run in percent, of those that told anything."""
    found = []
    for answer in answers:
        true = answer.of_loop if of_loop else answer.of_run
        told = (answer.told_of_loop if of_loop else answer.told_of_run)[teller]
        if answer.at_step == at_step and true > NEAR and told is not None:
            found.append(100 * abs(told - true) / true)
    return found


def _row(runs: list[list[Answer]], teller: str, *, at_step: bool, of_loop: bool) -> float:
    means = [statistics.mean(found) for run in runs if (found := errors(run, teller, at_step=at_step, of_loop=of_loop))]
    return statistics.mean(means) if means else math.nan


def _share(runs: list[list[Answer]], teller: str, *, at_step: bool) -> float:
    """Return the share of questions that were answered."""
    told = [answer.told_of_run[teller] is not None for run in runs for answer in run if answer.at_step == at_step]
    return sum(told) / len(told)


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def tables() -> Iterator[str]:
    """Simulate, and yield the lines of the tables in Markdown."""
    simulated = {name: [simulate(shape, seed) for seed in _seeds(shape)] for name, shape in SHAPES.items()}
    for title, at_step, of_loop in (
        ("the whole run, asked after every step", True, False),
        ("the whole run, asked at even times", False, False),
        ("the training loop, asked after every step", True, True),
        ("the training loop, asked at even times", False, True),
    ):
        yield f"| {title} | " + " | ".join(TELLERS) + " |"
        yield "|---|" + "---|" * len(TELLERS)
        for name, runs in simulated.items():
            figures = []
            for teller in TELLERS:
                share = _share(runs, teller, at_step=at_step)
                told = "" if share > 0.9 else f" ({100 * share:.0f} % told)"
                figures.append(_figure(_row(runs, teller, at_step=at_step, of_loop=of_loop)) + told)
            yield f"| {name} | " + " | ".join(figures) + " |"
        yield ""
    yield "| with an earlier run as history, after every step | whole run | first tenth of the steps |"
    yield "|---|---|---|"
    for name, shape in SHAPES.items():
        runs = [simulate(shape, seed, history=True) for seed in _seeds(shape)]
        early = [[answer for answer in run if answer.at_step][: (shape.steps - shape.start) // 10] for run in runs]
        figures = [_figure(_row(these, "phasewatch", at_step=True, of_loop=False)) for these in (runs, early)]
        yield f"| {name} | " + " | ".join(figures) + " |"


def _seeds(shape: Shape) -> range:
    return SEEDS if shape.steps < 1000 else SEEDS[:5]


# The picture.

COLOURS = {"phasewatch": "#2a7de1", "tqdm": "#d9822b", "alive-progress": "#8a56ac"}
WIDTH, HEIGHT, MARGIN = 760, 340, 48


def picture() -> str:
    """Return what was told of one steady run, in hours, beside the truth, as an SVG."""
    answers = simulate(SHAPES["steady"], 0)
    ends = answers[0].now + answers[0].of_run
    top = 1.6 * ends

    def points(pairs: list[tuple[float, float | None]]) -> str:
        return " ".join(
            f"{MARGIN + (WIDTH - 2 * MARGIN) * now / ends:.1f},"
            f"{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * min(told, top) / top:.1f}"
            for now, told in pairs
            if told is not None
        )

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        "<title>The time left of a run as it was told, beside what it was</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for hour in range(int(top / 3600) + 1):
        (at,) = points([(0.0, hour * 3600.0)]).split()
        y = at.split(",")[1]
        lines.append(f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        lines.append(f'<text x="{MARGIN - 8}" y="{y}" dy="4" text-anchor="end" fill="#555">{hour} h</text>')
    truth = points([(0.0, ends), (ends, 0.0)])
    lines.append(f'<polyline points="{truth}" fill="none" stroke="#222" stroke-width="1.5" stroke-dasharray="5 4"/>')
    for teller, colour in COLOURS.items():
        told = points([(answer.now, answer.told_of_run[teller]) for answer in answers])
        lines.append(f'<polyline points="{told}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for number, (label, colour) in enumerate({"the truth": "#222", **COLOURS}.items()):
        x = MARGIN + 160 * number
        lines.append(f'<rect x="{x}" y="14" width="18" height="4" fill="{colour}"/>')
        lines.append(f'<text x="{x + 24}" y="20" fill="#222">{label}</text>')
    lines.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle" fill="#555">'
        "a steady run from its beginning to its end: the time left, as told</text>"
    )
    return "\n".join([*lines, "</svg>", ""])


def main(arguments: list[str]) -> None:
    """Print the tables; with --docs, put them and the picture into the documentation."""
    lines = []
    for line in tables():
        print(line, flush=True)
        lines.append(line)
    if "--docs" in arguments:
        docs = Path(__file__).parent.parent / "docs"
        page = docs / "eta.md"
        before, mark, rest = page.read_text(encoding="utf-8").partition("<!-- benchmark -->\n")
        _, end, after = rest.partition("<!-- end of benchmark -->\n")
        page.write_text(before + mark + "\n".join([*lines, ""]) + end + after, encoding="utf-8")
        (docs / "images" / "eta.svg").write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
