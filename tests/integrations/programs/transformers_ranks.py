"""A rank of a training by a Trainer of transformers under torchrun: ``transformers_ranks.py FOLDER``.

Writes facts0.json and so on: what each rank knows of itself by the trainer.
"""

from __future__ import annotations

import json
import os
import sys

import tiny  # first, since it says that there is no hub
from transformers import Trainer, TrainingArguments

from phasewatch.integrations.transformers import PhasewatchCallback


def main(folder: str) -> None:
    args = TrainingArguments(
        os.path.join(folder, "out"), max_steps=3, per_device_train_batch_size=4, per_device_eval_batch_size=2,
        eval_strategy="steps", eval_steps=2, save_steps=2, logging_steps=1, report_to="none", use_cpu=True, seed=1,
        ddp_backend="gloo",
    )  # fmt: skip
    trainer = Trainer(
        model=tiny.model(), args=args, train_dataset=tiny.sums(32), eval_dataset=tiny.sums(10),
        callbacks=[PhasewatchCallback(log=os.path.join(folder, "logs/"))],
    )  # fmt: skip
    trainer.train()
    facts = {
        "rank": args.process_index, "size": args.world_size, "steps": trainer.state.global_step, "process": os.getpid(),
        "history": trainer.state.log_history,
    }  # fmt: skip
    with open(os.path.join(folder, f"facts{args.process_index}.json"), "w", encoding="utf-8") as file:
        json.dump(facts, file)


if __name__ == "__main__":
    main(sys.argv[1])
