"""Trainings in a Ray actor, of which the program knows nothing: ``verl_ray.py FOLDER``."""

# mypy: allow-untyped-defs, allow-untyped-calls

import json
import os
import sys
from typing import Any

import ray


class TaskRunner:
    """As verl's own: the trainer lives in an actor."""

    def run(self, folder, only_v1=False):
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
        import verl_toy as toy

        results = {"lazy": "verl.trainer.ppo.ray_trainer" not in sys.modules}
        if not only_v1:
            results["legacy"] = self.legacy(toy, os.path.join(folder, "legacy"))
        import transfer_queue

        settings = toy.config(os.path.join(folder, "v1"), "transfer_queue.enable=True")
        settings.transfer_queue.backend.SimpleStorage.num_data_storage_units = 1
        transfer_queue.init(settings.transfer_queue)
        try:
            results["v1"] = self.v1(toy, settings, os.path.join(folder, "v1"))
            if not only_v1:
                error = RuntimeError("no memory")
                results["v1_failed"] = self.v1(toy, settings, os.path.join(folder, "v1_failed"), (2, error))
                settings.trainer.val_only = True
                results["v1_val_only"] = self.v1(toy, settings, os.path.join(folder, "v1_val_only"))
                settings.trainer.val_only = settings.trainer.val_before_train = False
                settings.trainer.resume_mode = "resume_path"
                settings.trainer.resume_from_path = os.path.join(folder, "v1", "global_step_3")
                results["v1_resumed"] = self.v1(toy, settings, os.path.join(folder, "v1_resumed"))
        finally:
            transfer_queue.close()
        results["phases"] = "phasewatch.integrations.verl" in sys.modules
        return results

    def legacy(self, toy, folder):
        toy.seed()
        heard, undo = toy.hear()
        trainer = toy.legacy_trainer(toy.config(folder, "trainer.use_v1=False"))
        trainer.init_workers()
        trainer.fit()
        undo()
        return {"logged": heard.logged, "saved": toy.saved(folder)}

    def v1(self, toy, settings, folder, fails_at=None):
        toy.seed()
        heard, undo = toy.hear()
        settings.trainer.default_local_dir = folder
        said: dict[str, Any] = {"error": None}
        try:
            trainer, manager = toy.v1_trainer(settings, fails_at=fails_at)
            trainer.init()
            trainer.fit(manager(trainer.actor_rollout_wg))
        except RuntimeError as error:
            said["error"] = str(error)
        undo()
        return {**said, "logged": heard.logged, "saved": toy.saved(folder)}


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=True, configure_logging=False)
    folder, runner = sys.argv[1], ray.remote(num_cpus=1)(TaskRunner)
    asleep = runner.options(runtime_env={"env_vars": {"PHASEWATCH_VERL": "0"}}).remote()
    without = ray.get(asleep.run.remote(os.path.join(folder, "without"), only_v1=True))
    ray.kill(asleep)
    facts = ray.get(runner.remote().run.remote(folder)) | {"without": without}
    with open(os.path.join(folder, "facts.json"), "w", encoding="utf-8") as file:
        json.dump(facts, file)
    ray.shutdown()
