"""A whole program with a transformers Trainer: training, then an evaluation and a prediction.

usage: transformers_whole.py FOLDER with|without [die|interrupt]
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import tiny  # first, since it says that there is no hub
from transformers import Trainer, TrainerCallback, TrainingArguments


class AtStep(TrainerCallback):
    """Somebody presses Ctrl-C in the third step."""

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)


def main(folder: str, mode: str, end: str) -> None:
    os.chdir(folder)  # what is saved names no place
    callbacks: list[Any] = [AtStep()] if end == "interrupt" else []
    if mode == "with":
        from phasewatch.integrations.transformers import PhasewatchCallback

        callbacks.append(PhasewatchCallback(log="log.jsonl"))
    args = TrainingArguments(
        output_dir="out", num_train_epochs=2, per_device_train_batch_size=4,
        gradient_accumulation_steps=2, per_device_eval_batch_size=4, eval_strategy="steps", eval_steps=3, eval_on_start=True,
        save_steps=4, logging_steps=1, report_to="none", use_cpu=True, seed=1, disable_tqdm=False,
    )  # fmt: skip
    trainer = Trainer(
        model=tiny.model(), args=args, train_dataset=tiny.sums(36), eval_dataset=tiny.sums(10), callbacks=callbacks
    )
    result = trainer.train()
    if end == "die":
        raise RuntimeError("there is no room for the model")
    evaluated = trainer.evaluate()
    predicted = trainer.predict(tiny.sums(6))
    facts = {
        "steps": result.global_step,
        "loss": result.training_loss.hex(),
        "max_steps": trainer.state.max_steps,
        "history": trainer.state.log_history,
        "evaluated": evaluated,
        "predicted": len(predicted.predictions),
        "callbacks": [type(callback).__name__ for callback in trainer.callback_handler.callbacks],
    }
    with open("facts.json", "w", encoding="utf-8") as file:
        json.dump(facts, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
