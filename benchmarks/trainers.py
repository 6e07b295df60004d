"""What phasewatch adds to a step of real trainers: processor time of all threads, with and without, in turn.

    make bench-trainers                    # in the environments of the long tests
    make bench-trainers ARGS=--readme      # writes docs/performance.md too
    python benchmarks/trainers.py verl     # some of transformers, trl, lightning, keras, verl and verl_v1

A step does the trainer's own work on a tiny model and then waits for 50 ms, as a device would let it. The console prints
to nowhere, the event log is written. What counts is the processor time inside of phasewatch, in whatever the trainer calls
of it: the median of all steps must be below 1 % of the step. How far apart trainings with and without it are is shown
beside it: that holds what ours costs theirs, in the processor's caches for instance, and far more of the machine's moods.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pages import write_between

import phasewatch
from phasewatch.integrations import _flow

os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "integrations" / "programs"))

STEPS, ROUNDS = 40, 5
WAIT = 0.05  # seconds
MOST = 0.01  # of a step
marks: list[tuple[float, float]] = []  # processor seconds so far, and those inside of phasewatch, at each wait


def wait() -> None:
    """Wait as for a device: the end of one step's work, and the beginning of the next one's."""
    marks.append((time.process_time(), inside.seconds))
    time.sleep(WAIT)


def transformers(log: str | None) -> Callable[[], object]:
    """Return a training with a transformers Trainer."""
    import tiny
    from transformers import Trainer, TrainingArguments

    from phasewatch.integrations.transformers import PhasewatchCallback

    class Waiting(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            wait()
            return loss

    args = TrainingArguments(
        tempfile.mkdtemp(), max_steps=STEPS, logging_steps=1, report_to="none", use_cpu=True, save_strategy="no", seed=1,
        disable_tqdm=True,
    )  # fmt: skip
    callbacks: list[Any] = [] if log is None else [PhasewatchCallback(log=log, wait=False)]
    train: Callable[[], object] = Waiting(
        model=tiny.model(), args=args, train_dataset=tiny.sums(64), callbacks=callbacks
    ).train
    return train


def trl(log: str | None) -> Callable[[], object]:
    """Return a training with TRL's GRPOTrainer, each step of which has parts."""
    import tiny
    from trl import GRPOConfig, GRPOTrainer

    from phasewatch.integrations.transformers import PhasewatchCallback

    class Waiting(GRPOTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            wait()
            return loss

    def length(completions: Any, **_: Any) -> list[float]:
        return [float(len(text)) for text in completions]

    args = GRPOConfig(
        tempfile.mkdtemp(), max_steps=STEPS, logging_steps=1, report_to="none", use_cpu=True, save_strategy="no", seed=1,
        disable_tqdm=True, bf16=False, num_generations=2, per_device_train_batch_size=2, max_completion_length=2,
    )  # fmt: skip
    callbacks: list[Any] = [] if log is None else [PhasewatchCallback(log=log, wait=False)]
    train: Callable[[], object] = Waiting(
        model=tiny.model(), args=args, train_dataset=tiny.prompts(64), processing_class=tiny.tokenizer(),
        reward_funcs=length, callbacks=callbacks,
    ).train  # fmt: skip
    return train


def lightning(log: str | None) -> Callable[[], object]:
    """Return a training with a Lightning Trainer."""
    import lightning.pytorch as pl
    import torch

    from phasewatch.integrations.lightning import PhasewatchCallback

    class Line(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)

        def training_step(self, batch: Any, number: int) -> Any:
            loss = self.layer(batch[0]).pow(2).mean()
            self.log("loss", loss)
            wait()
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.01)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(STEPS * 2, 3)), batch_size=2)
    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet: dict[str, Any] = dict.fromkeys(silent, False)
    callbacks = [] if log is None else [PhasewatchCallback(log=log)]
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", callbacks=callbacks, **quiet)
    return lambda: trainer.fit(Line(), loader)


def keras(log: str | None) -> Callable[[], object]:
    """Return a training of a Keras model."""
    import keras
    import numpy as np

    from phasewatch.integrations.keras import PhasewatchCallback

    class Waiting(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            wait()

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = np.zeros((STEPS * 2, 3), "float32")
    callbacks: list[Any] = [Waiting()] if log is None else [Waiting(), PhasewatchCallback(log=log)]
    return lambda: model.fit(data, data[:, :1], batch_size=2, verbose=0, callbacks=callbacks)


def verl(log: str | None) -> Callable[[], object]:
    """Return a training with verl's legacy trainer, whose workers are not there."""
    toy, settings = _verl("trainer.use_v1=False")
    trainer = toy.legacy_trainer(settings)
    trainer._update_actor = _waiting(trainer._update_actor)

    def train() -> None:
        with _told(log):
            trainer.init_workers()
            trainer.fit()

    return train


def verl_v1(log: str | None) -> Callable[[], object]:
    """Return a training with verl's V1, whose workers are not there either."""
    import ray
    import transfer_queue

    toy, settings = _verl("transfer_queue.enable=True")
    if not ray.is_initialized():
        settings.transfer_queue.backend.SimpleStorage.num_data_storage_units = 1
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
        transfer_queue.init(settings.transfer_queue)
    trainer, manager = toy.v1_trainer(settings)

    def train() -> None:
        with _told(log):
            trainer.init()
            trainer.actor_rollout_wg.update_actor = _waiting(trainer.actor_rollout_wg.update_actor)
            trainer.fit(manager(trainer.actor_rollout_wg))

    return train


def _verl(*overrides: str) -> tuple[Any, Any]:
    """Return what makes trainers of verl, and their configuration."""
    import verl_toy

    from phasewatch.integrations.verl import install

    toy: Any = verl_toy  # which has no types
    install()
    never = [f"trainer.{name}=-1" for name in ("test_freq", "save_freq")]
    return toy, toy.config(
        tempfile.mkdtemp(), f"trainer.total_epochs={STEPS // 2}", "trainer.val_before_train=False", *never, *overrides
    )


def _waiting(update: Callable[..., Any]) -> Callable[..., Any]:
    def updating(*args: Any, **kwargs: Any) -> Any:
        wait()
        return update(*args, **kwargs)

    return updating


@contextlib.contextmanager
def _told(log: str | None) -> Iterator[None]:
    """A run in which verl's phases are told, or are not."""
    phasewatch.configure(enabled=log is not None)
    with phasewatch.run("verl", log=log) if log is not None else contextlib.nullcontext():
        yield


TRAINERS = {
    "transformers": transformers,
    "trl": trl,
    "lightning": lightning,
    "keras": keras,
    "verl": verl,
    "verl_v1": verl_v1,
}


class Inside:
    """Processor time inside of phasewatch's integrations: of what a trainer calls, and what is around its methods."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._is_inside = False

    def timed(self, function: Any) -> Any:
        """Return a function that counts its time, unless another one does already."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._is_inside:
                return function(*args, **kwargs)
            self._is_inside, begun = True, time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.thread_time() - begun
                self._is_inside = False

        return call

    def watch(self) -> None:
        """Count from now on; the integrations are not imported yet, and find what is put here."""
        contained = _flow.contained
        _flow.contained = lambda function: self.timed(contained(function))
        _flow._enter, _flow._leave = self.timed(_flow._enter), self.timed(_flow._leave)


inside = Inside()


def steps(make: Callable[[str | None], Callable[[], object]], log: str | None) -> tuple[list[float], list[float]]:
    """Return of each step of a training, but for the first, the processor seconds of all, and those inside of phasewatch."""
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        train = make(log)
        marks.clear()
        train()
        whole, ours = ([after - before for before, after in itertools.pairwise(one)] for one in zip(*marks, strict=True))
        return whole, ours


class Measured(NamedTuple):
    """Seconds."""

    step: float  # without phasewatch, the wait not included
    ours: list[float]  # inside of phasewatch, of each step of all rounds, in order of size
    apart: list[float]  # by how much a step with is longer than one without, of each round, in order of size


def measured(make: Callable[[str | None], Callable[[], object]]) -> Measured:
    """Train without and with, in turn: the two of a round follow each other, in turns one of them first."""
    bare: list[float] = []
    ours: list[float] = []
    apart: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-1, ROUNDS):
            logs = [None, os.path.join(folder, f"{number}.jsonl")]
            taken = {log: steps(make, log) for log in (logs if number % 2 else reversed(logs))}
            if number >= 0:  # the first imports and fills caches
                bare.append(statistics.median(taken[None][0]))
                ours += taken[logs[1]][1]
                apart.append(statistics.median(taken[logs[1]][0]) - bare[-1])
    return Measured(statistics.median(bare), sorted(ours), sorted(apart))


HEADER = [
    "| a step of | bare, with the 50 ms | inside of phasewatch (10th to 90th percentile) | share | 1 % of | apart |",
    "|---|---|---|---|---|---|",
]


def main(arguments: list[str]) -> int:
    """Measure and print; return whether anything is too much."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    inside.watch()
    names = [name for name in arguments if name in TRAINERS]
    print(*HEADER, sep="\n")
    table, over = list(HEADER), False
    for name in names or [name for name in TRAINERS if importlib.util.find_spec(name) is not None]:
        bare, ours, apart = measured(TRAINERS[name])
        step, added = bare + WAIT, statistics.median(ours)
        shares = f"{added / step:.1%} | {added / MOST * 1e3:.0f} ms"
        figures = f"{added * 1e3:.2f} ms ({_part(ours, 0.1):.2f} to {_part(ours, 0.9):.2f}) | {shares}"
        table.append(f"| {name} | {step * 1e3:.0f} ms | {figures} | {_part(apart, 0):.2f} to {_part(apart, 1):.2f} ms |")
        print(table[-1], flush=True)
        over = over or added > MOST * step
    if "--readme" in arguments:
        place = "verl" if "verl" in names else "trainers"
        write_between(Path(__file__).parent.parent / "docs" / "performance.md", place, "\n".join([*table, ""]))
    return 1 if over else 0


def _part(ordered: list[float], part: float) -> float:
    """Return a quantile of ordered seconds, in milliseconds."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1e3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
