"""What phasewatch adds to a step of real trainers: processor time of all threads, with and without, in turn.

    make bench-trainers                    # in the environments of the long tests
    python benchmarks/trainers.py verl     # some of transformers, lightning, keras and verl

A step does the trainer's own work on a tiny model and then waits for 50 ms, as a device would let it. The console prints to
nowhere, the event log is written. What is added is the median of the rounds' differences; it must be below 1 % of 50 ms.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import statistics
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


def transformers(log: str | None) -> Callable[[], object]:
    """Return a training with a transformers Trainer."""
    import tiny
    from transformers import Trainer, TrainingArguments

    from phasewatch.integrations.transformers import PhasewatchCallback

    class Waiting(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            time.sleep(WAIT)
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
            time.sleep(WAIT)
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
            time.sleep(WAIT)

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
        time.sleep(WAIT)
        return update(*args, **kwargs)

    trainer._update_actor = waiting

    def train() -> None:
        with phasewatch.run("verl", log=log) if log is not None else contextlib.nullcontext():
            phasewatch.configure(enabled=log is not None)
            trainer.init_workers()
            trainer.fit()

    return train


TRAINERS = {"transformers": transformers, "lightning": lightning, "keras": keras, "verl": verl}


def seconds(make: Callable[[str | None], Callable[[], object]], log: str | None) -> float:
    """Return the processor seconds of one step."""
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        train = make(log)
        started = time.process_time()
        train()
        return (time.process_time() - started) / STEPS


def measured(make: Callable[[str | None], Callable[[], object]]) -> tuple[float, list[float]]:
    """Return the processor seconds of a bare step, and those that each round found to be added."""
    bare, added = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-1, ROUNDS):
            without = seconds(make, None)
            more = seconds(make, os.path.join(folder, f"{number}.jsonl")) - without
            if number >= 0:  # the first imports and fills caches
                bare.append(without)
                added.append(more)
    return statistics.median(bare), added


def main(names: list[str]) -> int:
    """Measure and print; return whether anything is too much."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    print("| a step of | bare, without the 50 ms | added (least to most) | of 50 ms |\n|---|---|---|---|")
    over = False
    for name in names or [name for name in TRAINERS if importlib.util.find_spec(name) is not None]:
        bare, added = measured(TRAINERS[name])
        middle = statistics.median(added)
        spread = f"{min(added) * 1e3:.2f} to {max(added) * 1e3:.2f} ms"
        print(f"| {name} | {bare * 1e3:.1f} ms | {middle * 1e3:.2f} ms ({spread}) | {middle / WAIT:.1%} |", flush=True)
        over = over or middle > MOST * WAIT
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
