"""A training of two ranks that Lightning starts itself: ``lightning_ranks.py FOLDER STRATEGY``.

Writes facts0.json and facts1.json: what each rank knows of itself by Lightning.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from phasewatch import phase
from phasewatch.integrations.lightning import PhasewatchCallback


class Model(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


class Witness(pl.Callback):
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        facts = {"rank": trainer.global_rank, "steps": trainer.global_step, "process": os.getpid()}
        with open(os.path.join(self.folder, f"facts{trainer.global_rank}.json"), "w", encoding="utf-8") as file:
            json.dump(facts, file)


def main(folder: str, strategy: str) -> None:
    torch.set_num_threads(1)
    if strategy == "ddp_fork":  # a console is there before the processes are, and they have it too
        with phase("BEFORE"):
            pass
    trainer = pl.Trainer(
        max_epochs=1, devices=2, strategy=strategy, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[PhasewatchCallback(log=os.path.join(folder, "logs/")), Witness(folder)],
    )  # fmt: skip
    trainer.fit(Model(), DataLoader(TensorDataset(torch.randn(24, 3)), batch_size=4))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
