"""What phasewatch adds to a step of real trainers: processor time of all threads, with and without, in turn.

    make bench-trainers                    # in the environments of the long tests
    python benchmarks/trainers.py verl     # some of transformers, trl, lightning, keras and verl

A step does the trainer's own work on a tiny model and then waits for 50 ms, as a device would let it. The console prints
to nowhere, the event log is written. Trainings with and without take turns. What others do on the machine makes steps dearer
and never cheaper, so what is added is the difference of the steps that one in ten is cheaper than; it must be below 1 % of
50 ms.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "integrations" / "programs"))

STEPS, ROUNDS = 40, 7
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
    import verl_toy

    import phasewatch
    from phasewatch.integrations.verl import install

    toy: Any = verl_toy  # which has no types
    install()
    settings = toy.config(
        tempfile.mkdtemp(), "trainer.use_v1=False", f"trainer.total_epochs={STEPS // 2}", "trainer.test_freq=-1",
        "trainer.save_freq=-1", "trainer.val_before_train=False",
    )  # fmt: skip
    trainer = toy.legacy_trainer(settings)
    update = trainer._update_actor

    def waiting(*args: Any, **kwargs: Any) -> Any:
        wait()
        return update(*args, **kwargs)

    trainer._update_actor = waiting

    def train() -> None:
        with phasewatch.run("verl", log=log) if log is not None else contextlib.nullcontext():
            phasewatch.configure(enabled=log is not None)
            trainer.init_workers()
            trainer.fit()

    return train


TRAINERS = {"transformers": transformers, "trl": trl, "lightning": lightning, "keras": keras, "verl": verl}


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


def measured(make: Callable[[str | None], Callable[[], object]]) -> tuple[list[float], list[float]]:
    """Return the processor seconds of all steps without, and of all with, trained in turn."""
    without: list[float] = []
    having: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-1, ROUNDS):
            bare, more = steps(make, None), steps(make, os.path.join(folder, f"{number}.jsonl"))
            if number >= 0:  # the first imports and fills caches
                without += bare
                having += more
    return sorted(without), sorted(having)


def main(names: list[str]) -> int:
    """Measure and print; return whether anything is too much."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    print("| a step of | bare, without the 50 ms | added | of 50 ms | 1 % of steps of | added to the median |")
    print("|---|---|---|---|---|---|")
    over = False
    for name in names or [name for name in TRAINERS if importlib.util.find_spec(name) is not None]:
        without, having = measured(TRAINERS[name])
        bare, more = (one[len(one) // 10] for one in (without, having))
        added, of_median = more - bare, having[len(having) // 2] - without[len(without) // 2]
        figures = f"{added * 1e3:.2f} ms | {added / WAIT:.1%} | {added / MOST * 1e3:.0f} ms | {of_median * 1e3:.2f} ms"
        print(f"| {name} | {bare * 1e3:.1f} ms | {figures} |", flush=True)
        over = over or added > MOST * WAIT
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
