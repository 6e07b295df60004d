"""What phasewatch adds to a step of real trainers: processor time of all threads, with and without, in turn.

    make bench-trainers                    # in the environments of the long tests
    make bench-trainers ARGS=--readme      # writes docs/performance.md too
    python benchmarks/trainers.py verl     # some of transformers, trl, lightning, keras, verl and verl_v1

A step does the trainer's own work on a tiny model and then waits for 50 ms, as a device would let it. The console prints
to nowhere, the event log is written. What others do on the machine makes steps dearer and never cheaper, so of each
training the step counts that one in ten is cheaper than. Trainings with and without take turns; what is added is the median
of the rounds' differences, and must be below 1 % of the step.
"""

from __future__ import annotations

import contextlib
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
from typing import Any

from pages import write_between

import phasewatch

os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "integrations" / "programs"))

STEPS, ROUNDS = 40, 9
WAIT = 0.05  # seconds
MOST = 0.01  # of a step
marks: list[float] = []  # processor seconds so far, at each wait


def wait() -> None:
    """Wait as for a device: the end of one step's work, and the beginning of the next one's."""
    marks.append(time.process_time())
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


def steps(make: Callable[[str | None], Callable[[], object]], log: str | None) -> list[float]:
    """Return the processor seconds of each step of a training, but for the first."""
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        train = make(log)
        marks.clear()
        train()
        return [after - before for before, after in itertools.pairwise(marks)]


def measured(make: Callable[[str | None], Callable[[], object]]) -> tuple[float, list[float]]:
    """Return the processor seconds of a step without, and how many more it has with, by rounds, in order of size.

    The two trainings of a round follow each other, in turns one of them first, so that the machine is in about one mood.
    """
    bare: list[float] = []
    added: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-1, ROUNDS):
            logs = [None, os.path.join(folder, f"{number}.jsonl")]
            cheap: dict[str | None, float] = {}
            for log in logs if number % 2 else reversed(logs):
                taken = sorted(steps(make, log))
                cheap[log] = taken[len(taken) // 10]
            if number >= 0:  # the first imports and fills caches
                bare.append(cheap[None])
                added.append(cheap[logs[1]] - cheap[None])
    return statistics.median(bare), sorted(added)


HEADER = ["| a step of | bare, the 50 ms included | added (least to most of the rounds) | of the step | of 50 ms |"]
HEADER.append("|---|---|---|---|---|")


def main(arguments: list[str]) -> int:
    """Measure and print; return whether anything is too much."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    names = [name for name in arguments if name in TRAINERS]
    print(*HEADER, sep="\n")
    table, over = list(HEADER), False
    for name in names or [name for name in TRAINERS if importlib.util.find_spec(name) is not None]:
        bare, rounds = measured(TRAINERS[name])
        step, added = bare + WAIT, statistics.median(rounds)
        figures = f"{added * 1e3:.2f} ms ({rounds[0] * 1e3:.2f} to {rounds[-1] * 1e3:.2f})"
        table.append(f"| {name} | {step * 1e3:.0f} ms | {figures} | {added / step:.1%} | {added / WAIT:.1%} |")
        print(table[-1], flush=True)
        over = over or added > MOST * step
    if "--readme" in arguments:
        place = "verl" if "verl" in names else "trainers"
        write_between(Path(__file__).parent.parent / "docs" / "performance.md", place, "\n".join([*table, ""]))
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
