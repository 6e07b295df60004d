"""verl's own trainers on a CPU: the loop, the data, the configuration and the metrics are verl's, the workers are not.

The policy is one logit a token, and an answer is as good as it holds the token 3: there is something to learn and to save.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-subclassing-any

import hashlib
import os
import random
import sys
from typing import Any

import numpy as np
import torch
import verl
from hydra import compose, initialize_config_dir
from torch.utils.data import Dataset
from verl import DataProto

TOKENS, PROMPT, RESPONSE, GOOD = 8, 4, 6, 3


class Questions(Dataset):
    """Ten of them."""

    def __init__(self, *_, **__):
        pass

    def __len__(self):
        return 10

    def __getitem__(self, number):
        asked = np.array([{"role": "user", "content": f"question {number}"}], dtype=object)
        said = {"data_source": "toy", "index": number, "reward_model": {"ground_truth": str(GOOD)}, "raw_prompt": asked}
        return {"dummy_tensor": torch.tensor([number]), **said}


class Tokenizer:
    eos_token_id, pad_token_id = 1, 0

    def decode(self, ids, skip_special_tokens=True):
        return " ".join(str(int(token)) for token in ids)


class Policy:
    """What learns, and the workers around it."""

    world_size = 1
    fails_at: Any = None  # the update, counted from 1, and the error

    def __init__(self):
        self.logits, self.updates = torch.zeros(TOKENS), 0

    def answer(self, count):
        return torch.multinomial(torch.softmax(self.logits, 0), count * RESPONSE, replacement=True).view(count, RESPONSE)

    def update(self, responses, advantages):
        self.updates += 1
        if self.fails_at is not None and self.fails_at[0] == self.updates:
            raise self.fails_at[1]
        self.logits += torch.stack([(advantages * (responses == token)).mean() for token in range(TOKENS)])

    def save_checkpoint(self, folder, *_, **__):
        os.makedirs(folder, exist_ok=True)
        torch.save(self.logits, os.path.join(folder, "policy.pt"))

    def load_checkpoint(self, folder="", local_path="", **_):
        self.logits = torch.load(os.path.join(folder or local_path, "policy.pt"))


class Replicas:
    """The engines that generate."""

    def update_weights(self, *_):
        pass

    def sleep_replicas(self):
        pass


def config(folder, *overrides):
    with initialize_config_dir(config_dir=os.path.join(os.path.dirname(verl.__file__), "trainer/config"), version_base=None):
        return compose(
            "ppo_trainer",
            overrides=[
                "algorithm.adv_estimator=grpo", "trainer.device=cpu", "trainer.logger=[console]", "trainer.total_epochs=2",
                "trainer.test_freq=2", "trainer.save_freq=3", "trainer.n_gpus_per_node=1", "trainer.resume_mode=disable",
                "trainer.experiment_name=toy", "trainer.balance_batch=False", f"trainer.default_local_dir={folder}",
                "data.train_batch_size=4", "data.val_batch_size=4", "data.dataloader_num_workers=0", "data.seed=1",
                f"data.custom_cls.path={os.path.abspath(__file__)}", "data.custom_cls.name=Questions",
                "actor_rollout_ref.rollout.n=2", "actor_rollout_ref.rollout.name=vllm",
                "actor_rollout_ref.rollout.calculate_log_probs=False",
                "actor_rollout_ref.rollout.agent.num_workers=1", "actor_rollout_ref.actor.ppo_mini_batch_size=4",
                *overrides,
            ],
        )  # fmt: skip


def legacy_trainer(settings, *, fails_at=None, validates=None):
    from verl.trainer.ppo.ray_trainer import RayPPOTrainer, Role

    class Manager:
        def __init__(self, policy):
            self.policy = policy

        def generate_sequences(self, batch):
            count = len(batch)
            if batch.meta_info.get("validate") and validates is not None:
                validates(batch)
            responses = self.policy.answer(count)
            prompts, scores = torch.zeros(count, PROMPT, dtype=torch.long), torch.zeros(count, RESPONSE)
            scores[:, -1] = (responses == GOOD).float().mean(1)
            tensors = {"prompts": prompts, "responses": responses, "input_ids": torch.cat([prompts, responses], 1)}
            ones = torch.ones(count, PROMPT + RESPONSE, dtype=torch.long)
            tensors |= {"attention_mask": ones, "position_ids": ones.cumsum(1) - 1, "rm_scores": scores}
            pictures = np.array([{} for _ in range(count)], dtype=object)
            return DataProto.from_dict(tensors, {"multi_modal_inputs": pictures}, meta_info={"timing": {}})

    class Trainer(RayPPOTrainer):
        def init_workers(self):
            self.actor_rollout_wg = Policy()
            self.actor_rollout_wg.fails_at = fails_at
            self.async_rollout_manager = Manager(self.actor_rollout_wg)
            self.checkpoint_manager = Replicas()
            self.llm_server_manager = self.reward_loop_manager = None

        def fit(self):  # as derived trainers do
            super().fit()
            watched = sys.modules.get("phasewatch")
            self.is_told = watched is not None and watched.current() is not None

        def _compute_old_log_prob(self, batch):
            shape = batch.batch["responses"].shape
            return DataProto.from_dict({"old_log_probs": -torch.ones(shape), "entropys": torch.ones(shape)}), 0.0

        def _update_actor(self, batch):
            self.actor_rollout_wg.update(batch.batch["responses"], batch.batch["advantages"])
            return DataProto.from_dict({"none": torch.zeros(1)}, meta_info={"metrics": {"actor/loss": [0.5]}})

    pools = type("Pools", (), {"get_n_gpus": lambda self: 1})()
    return Trainer(settings, Tokenizer(), {Role.ActorRollout: object}, pools, device_name="cpu")


def v1_trainer(settings, *, fails_at=None):
    """The trainer of V1, and what generates for it; both speak through verl's transfer queue."""
    import transfer_queue
    from tensordict import TensorDict
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
    from verl.utils import tensordict_utils

    def ragged(rows):
        return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)

    class Workers(Policy):
        def __init__(self):
            super().__init__()
            self._dispatch_info = {"actor": [0]}

        def compute_log_prob(self, batch):
            fields = {name: ragged(torch.ones(len(batch), PROMPT + RESPONSE)) for name in ("log_probs", "entropy")}
            transfer_queue.kv_batch_put(
                keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(fields, batch_size=len(batch))
            )
            return batch

        def update_actor(self, batch):
            wanted = ["responses", "advantages"]
            data = transfer_queue.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=wanted)
            self.update(data["responses"].to_padded_tensor(0), data["advantages"].to_padded_tensor(0))
            return {"metrics": {"loss": [0.5], "mfu": 0.0}}

    class Manager:
        def __init__(self, policy):
            self.policy = policy

        def generate_sequences(self, batch):
            validates = bool(tensordict_utils.get_non_tensor_data(batch, "validate", False))
            step, partition = tensordict_utils.get_non_tensor_data(batch, "global_steps", 0), "val" if validates else "train"
            answers = 1 if validates else 2
            uids = list(batch["uid"])
            keys = [f"{uid}_{number}_0" for uid in uids for number in range(answers)]
            responses = self.policy.answer(len(keys))
            prompts, scores = torch.zeros(len(keys), PROMPT, dtype=torch.long), torch.zeros(len(keys), RESPONSE)
            scores[:, -1] = (responses == GOOD).float().mean(1)
            tensors = {"prompts": prompts, "responses": responses, "rm_scores": scores}
            tensors |= {"input_ids": torch.cat([prompts, responses], 1), "response_mask": torch.ones_like(responses)}
            fields = tensordict_utils.get_tensordict(
                {name: ragged(value) for name, value in tensors.items()}
                | {
                    "uid": [uid for uid in uids for _ in range(answers)],
                    "num_turns": [1] * len(keys),
                    "reward_model": [{"ground_truth": str(GOOD)} for _ in keys],
                    "data_source": ["toy"] * len(keys),
                    "extra_fields": [{} for _ in keys],
                }
            )
            length = {"prompt_len": PROMPT, "response_len": RESPONSE, "seq_len": PROMPT + RESPONSE}
            said = {"status": "success", "global_steps": step, "min_global_steps": step - 1, "max_global_steps": step - 1}
            tags = [{**length, **said} for _ in keys]
            transfer_queue.kv_batch_put(keys=keys, partition_id=partition, fields=fields, tags=tags)
            transfer_queue.kv_batch_put(keys=uids, partition_id=partition, tags=[{"status": "finished"} for _ in uids])

    class Trainer(PPOTrainerSync):
        def _setup(self):
            self.tokenizer, self.processor = Tokenizer(), None
            self._init_dataloader()
            self._init_dump_executor()
            self.actor_rollout_wg = Workers()
            self.actor_rollout_wg.fails_at = fails_at
            self.checkpoint_manager = Replicas()
            self.reward_loop_manager = type("Rewards", (), {"reward_loop_worker_handles": []})()
            self.resource_pool_manager = type("Pools", (), {"get_n_gpus": lambda self: 1})()
            self.distillation_config = None
            self._load_checkpoint()

    trainer = Trainer(settings)
    return trainer, Manager


def seed():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    torch.set_num_threads(1)


def saved(folder):
    """The checkpoints, and what is in them."""
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name, "actor", "policy.pt")
        if os.path.exists(path):
            found[name] = hashlib.sha256(torch.load(path).numpy().tobytes()).hexdigest()
    return found


class Heard:
    """What verl logs, as verl gives it to its own logger."""

    def __init__(self):
        self.logged = []

    def log(self, data, step):
        self.logged.append((step, {name: float(value) for name, value in data.items()}))

    def finish(self, *_, **__):
        pass


def hear():
    """Have every Tracking of verl tell us too, by what verl itself offers: its loggers."""
    from verl.utils.tracking import Tracking

    heard = Heard()
    make = Tracking.__init__

    def init(self, *args, **kwargs):
        make(self, *args, **kwargs)
        self.logger["heard"] = heard

    Tracking.__init__ = init

    def undo():
        Tracking.__init__ = make

    return heard, undo
