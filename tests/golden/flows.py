"""The flows whose text is kept in golden files, each on a fake clock.

``python tests/golden/flows.py`` writes the files anew; read the difference before you commit it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

import phasewatch
from phasewatch import phase
from phasewatch.sinks import ConsoleSink
from phasewatch.testing import FakeClock

BATCHES, QUESTIONS, BATCH_SIZE = 28, 7405, 265


class Trainer:
    """A trainer with the schedule of the specification and no work: time passes as it is told to."""

    def __init__(self, clock: FakeClock, out: io.StringIO, plan: phasewatch.TrainingPlan) -> None:
        self.clock, self.out, self.plan = clock, out, plan
        self.global_step = 0

    def validate(self, reward: float) -> None:
        with phase(
            "VALIDATION", total=BATCHES, unit="batch", counters={"questions": QUESTIONS}, details={"Batch size": BATCH_SIZE}
        ) as validation:
            for batch in range(BATCHES):
                self.clock.advance(41.1)
                questions = min(BATCH_SIZE, QUESTIONS - batch * BATCH_SIZE)
                validation.advance(questions=questions, reward=reward)

    def step(self, training: phasewatch.Phase, number: int) -> None:
        with training.step() as step:
            self.clock.advance(42)
            self.out.write("ACTIVE_TRAJ_NUM: [512, 287, 45, 23]\n")
            step.log({"rollout/finish_ratio": 0.955, "timing_s/gen": 11.234, "actor/kl": 0.012}, loss=0.234)
            self.global_step = number
        self.out.write(f"[Step {number}] mean=0.782 kl=0.012 loss=0.234 finish_ratio=0.955\n")

    @phase("CHECKPOINT SAVING", step=lambda self: self.global_step)
    def save_checkpoint(self) -> None:
        self.clock.advance(30)

    def fit(self) -> None:
        plan = self.plan
        with phase("INITIALIZATION", message="Creating Resource Pools and Workers"):
            self.clock.advance(95)
        if plan.val_before_train:
            with phase("PRE-TRAINING VALIDATION"):
                self.validate(0.456)
        if plan.val_only:
            return
        with phase("TRAINING", total=plan.total_steps, unit="step", epochs=plan.epochs) as training:
            for number in range(1, plan.total_steps + 1):
                self.step(training, number)
                if plan.validates_after(number):
                    with phase("PERIODIC VALIDATION", step=number):
                        self.validate(0.623)
                if plan.saves_after(number):
                    self.save_checkpoint()
        if plan.validates_at_end():
            with phase("POST-TRAINING VALIDATION"):
                self.validate(0.812)


def _run(work: Callable[[Trainer], None], **options: bool) -> str:
    clock, out = FakeClock(), io.StringIO()
    plan = phasewatch.TrainingPlan(100, epochs=3, steps_per_epoch=34, test_freq=50, save_freq=100, **options)
    try:
        # The width must not matter: the bytes of a pipe are those of the specification.
        with phasewatch.run("grpo", plan=plan, clock=clock, sinks=[ConsoleSink(Console(file=out, width=40))]):
            work(Trainer(clock, out, plan))
    except (RuntimeError, KeyboardInterrupt):
        pass
    return out.getvalue()


def whole_run() -> str:
    """All nine phases, in a consistent configuration."""
    return _run(Trainer.fit)


def validation_only() -> str:
    """The exit after the first validation."""
    return _run(Trainer.fit, val_only=True)


def failing_run() -> str:
    """An error in the twelfth batch of a periodic validation."""
    return _run(lambda trainer: _broken_off(trainer, RuntimeError("CUDA out of memory.\nTried to allocate 20.00 MiB")))


def interrupted_run() -> str:
    """Ctrl-C at the same place."""
    return _run(lambda trainer: _broken_off(trainer, KeyboardInterrupt()))


def _broken_off(trainer: Trainer, error: BaseException) -> None:
    with phase("TRAINING", total=100, unit="step", epochs=3) as training:
        for number in (1, 2):
            trainer.step(training, number)
        with phase("PERIODIC VALIDATION", step=2), phase("VALIDATION", total=BATCHES, unit="batch") as validation:
            for batch in validation.track(range(BATCHES)):
                if batch == 12:
                    raise error
                trainer.clock.advance(41.1)


FLOWS: dict[str, Callable[[], str]] = {
    "whole_run": whole_run,
    "validation_only": validation_only,
    "failing_run": failing_run,
    "interrupted_run": interrupted_run,
}


def golden_file(name: str) -> Path:
    """Return where the text of a flow is kept."""
    return Path(__file__).with_name(f"{name}.log")


if __name__ == "__main__":
    for name, flow in FLOWS.items():
        golden_file(name).write_text(flow(), encoding="utf-8", newline="\n")
