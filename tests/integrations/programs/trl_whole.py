"""TRL's trainers that are made from the Trainer of transformers: GRPO, supervised fine-tuning, preferences and their model.

usage: trl_whole.py FOLDER with|without
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import tiny  # first, since it says that there is no hub
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer


def distinct_words(completions: Any, **_: Any) -> list[float]:
    return [len(set(text.split())) / 8 for text in completions]


async def few_words(completions: Any, **_: Any) -> list[float]:
    return [1 / (1 + len(text.split())) for text in completions]


def callbacks(mode: str, name: str, **options: Any) -> list[Any]:
    if mode == "without":
        return []
    from phasewatch.integrations.transformers import PhasewatchCallback

    return [PhasewatchCallback(log=f"{name}.jsonl", progress=False, **options)]


def main(folder: str, mode: str) -> None:
    os.chdir(folder)  # what is saved names no place
    common: dict[str, Any] = {
        "eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True, "save_steps": 3, "per_device_eval_batch_size": 4,
        "per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False, "seed": 1,
    }  # fmt: skip
    facts = {}
    args = SFTConfig(output_dir="sft", max_steps=4, **common)
    sft = SFTTrainer(
        model=tiny.model(), args=args, train_dataset=tiny.texts(16), eval_dataset=tiny.texts(8),
        processing_class=tiny.tokenizer(), callbacks=callbacks(mode, "sft"),
    )  # fmt: skip
    sft.train()
    facts["sft"] = {"steps": sft.state.global_step, "history": sft.state.log_history}
    dpo = DPOTrainer(
        model=tiny.model(), ref_model=tiny.model(), args=DPOConfig(output_dir="dpo", max_steps=4, **common),
        train_dataset=tiny.preferences(16), eval_dataset=tiny.preferences(8), processing_class=tiny.tokenizer(),
        callbacks=callbacks(mode, "dpo"),
    )  # fmt: skip
    dpo.train()
    facts["dpo"] = {"steps": dpo.state.global_step, "history": dpo.state.log_history}
    reward = RewardTrainer(
        model=tiny.judge(), args=RewardConfig(output_dir="reward", max_steps=4, **common),
        train_dataset=tiny.preferences(16), eval_dataset=tiny.preferences(8), processing_class=tiny.tokenizer(),
        callbacks=callbacks(mode, "reward"),
    )  # fmt: skip
    reward.train()
    facts["reward"] = {"steps": reward.state.global_step, "history": reward.state.log_history}
    more = {"num_generations": 4, "max_completion_length": 8, "gradient_accumulation_steps": 2, "max_steps": 5}
    for name in ("grpo", "shown"):
        args = GRPOConfig(output_dir=name, **common, **more)
        grpo = GRPOTrainer(
            model=tiny.model(), reward_funcs=[distinct_words, few_words], args=args, train_dataset=tiny.prompts(40),
            eval_dataset=tiny.prompts(8), processing_class=tiny.tokenizer(),
            callbacks=callbacks(mode, name, parts=name == "shown"),
        )  # fmt: skip
        print(f"--- {name}")
        grpo.train()
        print(f"--- {name} has trained")
        facts[name] = {"steps": grpo.state.global_step, "history": grpo.state.log_history}
    with open("facts.json", "w", encoding="utf-8") as file:
        json.dump(facts, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
