"""A trainer with the loop and the seams of verl's legacy one, and nothing else; at each place a test may have it do more."""

# mypy: allow-untyped-defs, allow-untyped-calls

from contextlib import contextmanager

from verl.utils.tracking import Tracking


@contextmanager
def marked_timer(name, timing):
    yield


def extract_reward(batch):
    return batch.rewards, {}


class RayPPOTrainer:
    total_training_steps = 3
    train_dataloader = val_dataset = val_dataloader = range(3)

    def __init__(self, config, **does):
        self.config, self.does = config, does

    def at(self, place, *given):
        """Do what is done at a place, by default nothing."""
        return self.does.get(place, lambda *_: None)(*given)

    def init_workers(self):
        self.at("init")

    def fit(self):
        logger = Tracking()
        self.global_steps = 0
        logger.log(self._validate(), 0)
        self.at("before_training", marked_timer)
        while self.global_steps < self.total_training_steps:
            self.global_steps += 1
            with marked_timer("start_profile", {}):
                pass
            with marked_timer("step", {}):
                with marked_timer("gen", {}):
                    self.at("gen")
                if self.does.get("saves", True):
                    with marked_timer("save_checkpoint", {}):
                        self._save_checkpoint()
            if self.global_steps in (2, self.total_training_steps):
                with marked_timer("testing", {}):
                    self._validate()
            with marked_timer("stop_profile", {}):
                pass
            self.at("log", logger)
            if self.does.get("logs", True):
                logger.log({"loss": 1 / self.global_steps, "kind": "plain"}, self.global_steps)
        self.at("after_training", marked_timer)

    def _validate(self):
        with marked_timer("dump_rollout_generations", {}):
            for batch in self.does.get("batches", ()):
                extract_reward(batch)
        return self.does.get("validated", {"accuracy": 0.5})

    def _save_checkpoint(self):
        self.at("save")
