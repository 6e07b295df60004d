"""Trainings with verl's legacy trainer: ``verl_many.py FOLDER`` writes what verl itself says of each to ``facts.json``."""

# mypy: allow-untyped-defs, allow-untyped-calls

import json
import os
import sys
from typing import Any

import verl_toy as toy


def train(name, folder, *overrides, **options):
    """One training, whose phases are in ``{name}.jsonl`` and ``{name}.txt``."""
    toy.seed()
    kept = os.path.join(folder, name)
    heard, undo = toy.hear()
    said: dict[str, Any] = {"error": None, "steps": None}
    trainer = None
    try:
        trainer = toy.legacy_trainer(toy.config(kept, "trainer.use_v1=False", *overrides), **options)
        said["total"] = trainer.total_training_steps
        trainer.init_workers()
        trainer.fit()
    except BaseException as error:
        said["error"] = type(error).__name__
    finally:
        undo()
    said["told"] = getattr(trainer, "is_told", None)
    said.update(logged=heard.logged, saved=toy.saved(kept), steps=getattr(trainer, "global_steps", None))
    return said


def told(name, folder, *overrides, within=None, before=None, **options):
    from rich.console import Console

    import phasewatch
    from phasewatch import phase
    from phasewatch.sinks import ConsoleSink, JsonlSink

    with open(os.path.join(folder, f"{name}.txt"), "w", encoding="utf-8") as text:
        log = JsonlSink(os.path.join(folder, f"{name}.jsonl"))
        phasewatch.configure(sinks=[log, ConsoleSink(Console(file=text))])
        if before is not None:
            before.init_workers()
        if within is None:
            result = train(name, folder, *overrides, **options)
        else:
            with phasewatch.run(within):
                result = train(name, folder, *overrides, **options)
                with phase("AFTER"):
                    pass
        log.close()
        phasewatch.configure(sinks=[])
    return result


def interrupt(batch):
    if batch.meta_info["global_steps"] == 2:
        raise KeyboardInterrupt


def main(folder):
    results = {"without": train("without", folder)}

    from phasewatch.integrations import verl

    verl.install()
    results["whole"] = told("whole", folder)
    results["answers"] = told("answers", folder, "actor_rollout_ref.rollout.val_kwargs.n=3", "trainer.save_freq=-1")
    results["failed"] = told("failed", folder, fails_at=(3, RuntimeError("out of memory")))
    results["interrupted"] = told("interrupted", folder, validates=interrupt)
    results["val_only"] = told("val_only", folder, "trainer.val_only=True")
    step = os.path.join(folder, "whole", "global_step_3")
    resume = ("trainer.resume_mode=resume_path", f"trainer.resume_from_path={step}", "trainer.val_before_train=False")
    results["resumed"] = told("resumed", folder, *resume)
    results["warmup"] = told("warmup", folder, "trainer.critic_warmup=4", "trainer.val_before_train=False")
    results["inside"] = told("inside", folder, "trainer.test_freq=-1", "trainer.save_freq=-1", within="mine")
    never = toy.legacy_trainer(toy.config(os.path.join(folder, "never"), "trainer.use_v1=False"))
    results["second"] = told("second", folder, "trainer.val_only=True", before=never)
    verl.install(parts=True)
    results["parts"] = told("parts", folder, "trainer.test_freq=-1")
    with open(os.path.join(folder, "facts.json"), "w", encoding="utf-8") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main(sys.argv[1])
