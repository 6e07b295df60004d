"""Draws the pictures of the documentation, as a terminal shows them: ``python docs/images/draw.py``."""

from __future__ import annotations

import io
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

import phasewatch
from phasewatch import phase
from phasewatch._tables import summary_parts
from phasewatch.sinks import ConsoleSink
from phasewatch.sinks.live import LiveView
from phasewatch.testing import FakeClock, MemorySink

if TYPE_CHECKING:
    from collections.abc import Callable

# Fonts come from the reader's own machine: a picture that asks the network for one is not shown everywhere.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def console() -> Console:
    """Return a console that remembers what it shows."""
    return Console(record=True, file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm-256color"})


def a_run(screen: Console) -> None:
    """The end of a training run on a fake clock."""
    clock = FakeClock()
    with phasewatch.run("grpo", clock=clock, sinks=[ConsoleSink(screen)]):
        with phase("TRAINING", total=35, unit="step", epochs=3, start=33) as training:
            for _ in range(2):
                with training.step(epoch=3) as step:
                    clock.advance(42)
                    screen.print("ACTIVE_TRAJ_NUM: [512, 287, 45, 23]", highlight=False)
                    step.log({"timing_s/gen": 11.234}, loss=0.234, kl=0.012, finish_ratio=0.955)
        with (
            phase("POST-TRAINING VALIDATION"),
            phase(
                "VALIDATION", total=3, unit="batch", counters={"questions": 768}, details={"Batch size": 256}
            ) as validation,
        ):
            for reward in (0.75, 0.8, 0.82):
                clock.advance(41.1)
                validation.advance(questions=256, reward=reward)


def a_failure(screen: Console) -> None:
    """A run that dies in a validation."""
    clock = FakeClock()
    try:
        with (
            phasewatch.run("grpo", clock=clock, sinks=[ConsoleSink(screen)]),
            phase("TRAINING", total=100, unit="step"),
            phase("PERIODIC VALIDATION", step=50),
            phase("VALIDATION", total=28, unit="batch") as validation,
        ):
            for batch in validation.track(range(28)):
                clock.advance(41.1)
                if batch == 2:
                    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
    except RuntimeError:
        pass


def a_live_view(screen: Console) -> None:
    """A run in which live mode shows what is open, below what scrolls."""
    clock, kept = FakeClock(), MemorySink()
    view = LiveView(clock=clock, age=lambda event: clock.wall() - event.time)
    above = ConsoleSink(screen)
    plan = phasewatch.TrainingPlan(35, epochs=3, steps_per_epoch=12, test_freq=10)
    with (
        phasewatch.run("grpo", clock=clock, plan=plan, sinks=[kept]),
        phase("TRAINING", total=35, unit="step", epochs=3, start=18) as training,
    ):
        for _ in range(2):
            with training.step() as step:
                clock.advance(42)
                step.log(loss=0.234, kl=0.012, finish_ratio=0.955)
        with (
            phase("PERIODIC VALIDATION", step=20),
            phase("VALIDATION", total=28, unit="batch", counters={"questions": 7405}) as validation,
        ):
            for reward in (0.71, 0.68, 0.74, 0.73, 0.74):
                clock.advance(41.1)
                validation.advance(questions=265, reward=reward)
            clock.advance(12)
            for event in kept.events:
                view.take(event)
            for event in kept.events[-20:]:
                if not isinstance(event, phasewatch.PhaseProgressed):
                    above.emit(event)
            for row in view.rows(screen.width - 1, 12):
                screen.print(row, soft_wrap=True, end="\n")


def a_summary(screen: Console) -> None:
    """What ``phasewatch summary`` says of a run that died."""
    clock, kept = FakeClock(), MemorySink()
    try:
        with phasewatch.run("grpo", clock=clock, sinks=[kept]):
            with phase("INITIALIZATION"):
                clock.advance(95)
            with phase("TRAINING", total=100, unit="step") as training:
                for number in range(1, 51):
                    with training.step():
                        with phase("ROLLOUT"):
                            clock.advance(26 + number % 7)
                        with phase("UPDATE"):
                            clock.advance(14)
                    if number % 25 == 0:
                        with phase("VALIDATION", step=number, total=28, unit="batch") as validation:
                            for batch in validation.track(range(28)):
                                clock.advance(41.1)
                                if (number, batch) == (50, 11):
                                    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
    except RuntimeError:
        pass
    for part in summary_parts(phasewatch.summarize(kept.events), width=screen.width):
        screen.print(part)
        screen.print()


def a_trainer(screen: Console, log: str) -> None:
    """A training that somebody else's trainer did, as its event log has it, with a few of its metrics."""
    sink = ConsoleSink(screen)
    for event in phasewatch.read(Path(__file__).with_name(log)):
        sink.emit(event)


def a_run_on_ray(screen: Console) -> None:
    """What ``phasewatch summary`` says of the program of docs/ray.md, as it ran once."""
    recorded = phasewatch.read(Path(__file__).with_name("ray.jsonl"))
    for part in summary_parts(phasewatch.summarize(recorded), width=screen.width):
        screen.print(part)
        screen.print()


def main() -> None:
    """Write each picture beside this file."""
    flows: dict[str, Callable[[Console], None]] = {
        "run": a_run, "failure": a_failure, "live": a_live_view, "summary": a_summary, "ray": a_run_on_ray,
        "transformers": partial(a_trainer, log="transformers.jsonl"), "verl": partial(a_trainer, log="verl.jsonl"),
    }  # fmt: skip
    for name, flow in flows.items():
        screen = console()
        flow(screen)
        svg = screen.export_svg(title=f"phasewatch: {name}", theme=MONOKAI, code_format=FORMAT, unique_id=name)
        Path(__file__).with_name(f"{name}.svg").write_text(re.sub(r"[ \t]+\n", "\n", svg), encoding="utf-8")


if __name__ == "__main__":
    main()
