"""A tiny random language model, a tokenizer of words and sums to learn: all that a trainer needs, and no hub."""

from __future__ import annotations

import os
import random
from typing import Any

os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="",
)  # fmt: skip

import torch
from datasets import Dataset, disable_progress_bars
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

torch.set_num_threads(1)
disable_progress_bars()
WORDS = ["<pad>", "<eos>", "<unk>", "what", "is", "plus", "?", *"0123456789", *(f"word{number}" for number in range(40))]


def tokenizer() -> Any:
    by_word = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    by_word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=by_word, padding_side="left", **special)


def model() -> Any:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(_shape())


def judge() -> Any:
    """A model that gives a text a number."""
    torch.manual_seed(0)
    return Qwen2ForSequenceClassification(_shape(num_labels=1))


def _shape(**more: Any) -> Any:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    special = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    return Qwen2Config(vocab_size=len(WORDS), **shape, **heads, **special, **more)


def prompts(count: int) -> Any:
    chosen = random.Random(count)
    return Dataset.from_list(
        [{"prompt": f"what is {chosen.randint(0, 9)} plus {chosen.randint(0, 9)} ?"} for _ in range(count)]
    )


def sums(count: int) -> Any:
    """Token ids and labels, all of one length."""
    known = tokenizer()
    rows = [known(row["prompt"])["input_ids"] for row in prompts(count)]
    return Dataset.from_list([{"input_ids": row, "labels": row} for row in rows])


def texts(count: int) -> Any:
    return Dataset.from_list([{"text": row["prompt"]} for row in prompts(count)])


def preferences(count: int) -> Any:
    """Questions with an answer that is chosen over another one."""
    return Dataset.from_list([{**row, "chosen": " 7", "rejected": " 3"} for row in prompts(count)])
