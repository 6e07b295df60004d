"""Small trainings with Lightning; what it reports of each goes to facts.json, by the name of the training.

usage: lightning_many.py FOLDER [pytorch_lightning]
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import sys
import traceback
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

import phasewatch

if "pytorch_lightning" in sys.argv:
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import GradientAccumulationScheduler, ModelCheckpoint
    from pytorch_lightning.loggers import CSVLogger
else:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

from phasewatch.integrations.lightning import PhasewatchCallback

Facts = dict[str, Any]


def loader(batches: int, shuffle: bool = False) -> Any:
    made = torch.Generator().manual_seed(batches)
    data = TensorDataset(torch.randn(4 * batches, 3, generator=made), torch.randn(4 * batches, 1, generator=made))
    return DataLoader(data, batch_size=4, shuffle=shuffle)


class Model(pl.LightningModule):
    def __init__(self, fail_in: str = "", fail_at: int = -1, error: type[BaseException] = RuntimeError) -> None:
        super().__init__()
        self.layer = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.2), torch.nn.Linear(4, 1))
        self.fail_in, self.fail_at, self.error = fail_in, fail_at, error

    def loss(self, batch: Any, where: str, number: int) -> Any:
        if (where, number) == (self.fail_in, self.fail_at) and not self.trainer.sanity_checking:
            raise self.error("no luck")
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch, "train", batch_idx)
        self.log("loss", loss, prog_bar=True)
        self.log("twice", loss * 2, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch, "validate", batch_idx))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch, "test", batch_idx))

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class ByHand(Model):
    """Two optimizers, so that Lightning counts two steps a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch, "train", batch_idx))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.layer[0].parameters(), 0.01), torch.optim.SGD(self.layer[2].parameters(), 0.01)]


class Skipping(Model):
    """The rest of an epoch is skipped from its third batch on."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 2 else None


class Stop(pl.Callback):
    """Stops the training after a batch."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            trainer.should_stop = True


class Witness(pl.Callback):
    """Writes down what Lightning does."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.validations: list[Any] = []
        self.sanity = 0
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps.append(trainer.global_step)
        if not pl_module.automatic_optimization:
            return
        self.losses.append(trainer.callback_metrics["loss"].item())

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        self.sanity += trainer.sanity_checking
        if not trainer.sanity_checking:
            if not self.validations or "val_loss" in self.validations[-1]:
                self.validations.append({"step": trainer.global_step, "batches": 0})
            self.validations[-1]["batches"] += 1

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            metrics = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val_loss")}
            self.validations[-1] |= {"val_loss": None, **metrics}


def digests(folder: str) -> dict[str, str]:
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


def training(
    name: str, model: Any, *, watched: bool = True, do: str = "fit", train: Any = None, val: Any = None,
    ckpt_path: str | None = None, around: Any = None, **options: Any,
) -> Facts:  # fmt: skip
    """Do one, in the same place each time, so that files may be the same; then put the place away."""
    witness = Witness()
    callbacks = [*options.pop("callbacks", []), witness]
    if watched:
        callbacks.insert(0, PhasewatchCallback(log=f"{name}.jsonl"))
    if options.get("logger", False):
        options["logger"] = CSVLogger("work", name="csv", version=0)
    pl.seed_everything(7, verbose=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    settings = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(default_root_dir="work", callbacks=callbacks, **(settings | options))
    facts: Facts = {"error": None}
    said, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(error):
        try:
            with around or contextlib.nullcontext():
                if do == "fit":
                    trainer.fit(model, loader(8, shuffle=True) if train is None else train, val, ckpt_path=ckpt_path)
                else:
                    result = getattr(trainer, do)(model, loader(3), ckpt_path=ckpt_path)
                    facts["result"] = len(result) if do == "predict" else result
        except BaseException as caught:
            facts["error"] = f"{type(caught).__name__}: {caught}"
            facts["frames"] = [frame.name for frame in traceback.extract_tb(caught.__traceback__)]
    facts |= {
        "text": said.getvalue(),
        "errors": error.getvalue(),
        "steps": witness.steps,
        "losses": witness.losses,
        "validations": witness.validations,
        "sanity": witness.sanity,
        "global_step": trainer.global_step,
        "weights": [parameter.tolist() for parameter in model.parameters()],
        "random": torch.rand(1).item(),
        "current": repr(phasewatch.current()),
        "left": "save_checkpoint" in vars(trainer),
        "files": digests("work") if os.path.isdir("work") else {},
    }
    if os.path.isfile("work/csv/version_0/metrics.csv"):
        with open("work/csv/version_0/metrics.csv", encoding="utf-8") as file:
            facts["csv"] = list(csv.DictReader(file))
    if os.path.isdir("work"):
        os.rename("work", f"{name}-{'with' if watched else 'without'}")
    return facts


def whole(**more: Any) -> Any:
    return {
        "val": [loader(3), loader(2)],
        "max_epochs": 2,
        "accumulate_grad_batches": 2,
        "val_check_interval": 0.5,
        "logger": True,
        "log_every_n_steps": 1,
        "callbacks": [ModelCheckpoint(every_n_train_steps=4, save_top_k=-1, filename="{step}")],
    } | more


def main(folder: str) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    facts: dict[str, Facts] = {}
    few: dict[str, Any] = {"enable_checkpointing": False}

    def do(name: str, *args: Any, key: str | None = None, **options: Any) -> None:
        facts[key or name] = training(name, *args, **options)

    if "pytorch_lightning" in sys.argv:
        do("other", Model(), val=loader(2), max_epochs=1, **few)
        facts["other"]["class"] = PhasewatchCallback.__mro__[1].__module__
        do("asked", Model(), watched=False, max_epochs=1, **few)
        os.environ["PHASEWATCH_LIGHTNING"] = "0"
        do("asleep", Model(), watched=False, max_epochs=1, **few)
    else:
        do("whole", Model(), key="bare", watched=False, **whole())
        do("whole", Model(), **whole())
        (checkpoint,) = [
            os.path.join(place, "step=4.ckpt") for place, _, names in os.walk("whole-with") if "step=4.ckpt" in names
        ]
        facts["whole"]["checkpoint"] = sorted(torch.load(checkpoint, weights_only=False)["callbacks"])
        do("resumed", Model(), **whole(ckpt_path=checkpoint))
        do("nothing-left", Model(), max_steps=4, val=loader(2), ckpt_path=checkpoint, accumulate_grad_batches=2, **few)
        do("by-steps", Model(), max_steps=11, max_epochs=-1, val=loader(2))
        do("endless", Model(), max_epochs=-1, callbacks=[Stop()], accumulate_grad_batches=2, **few)
        do("by-epochs", Model(), max_epochs=3, val=loader(2), check_val_every_n_epoch=2, num_sanity_val_steps=0)
        do("uneven", Model(), max_epochs=2, val=loader(2), val_check_interval=3, accumulate_grad_batches=3)
        do("scheduled", Model(), max_epochs=2, callbacks=[GradientAccumulationScheduler({0: 4, 1: 2})], **few)
        do("by-hand", ByHand(), max_epochs=2, **few)
        do("skipping", Skipping(), max_epochs=2, **few)
        do("failing", Model("train", 3), max_epochs=1, val=loader(2), **few)
        do("failing", Model("train", 3), max_epochs=1, val=loader(2), watched=False, key="failing-bare", **few)
        do("failing-validation", Model("validate", 1), max_epochs=1, val=loader(2), val_check_interval=4, **few)
        do("interrupted", Model("train", 5, KeyboardInterrupt), max_epochs=1, **few)
        do("validate", Model(), do="validate", **few)
        do("test", Model(), do="test", **few)
        do("predict", Model(), do="predict", **few)
        do("inside", Model(), max_epochs=1, around=phasewatch.phase("OUTER"), **few)
        do("twice", Model(), max_epochs=1, callbacks=[PhasewatchCallback()], **few)
    with open("facts.json", "w", encoding="utf-8") as file:
        json.dump(facts, file)


if __name__ == "__main__":
    main(sys.argv[1])
