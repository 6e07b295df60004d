"""Trainings with verl's legacy trainer: ``verl_many.py FOLDER`` prints as JSON what verl itself says of each."""

import json
import os
import sys

import verl_toy as toy


def train(name, folder, *overrides, prepare=None, **options):
    """One training, whose phases are in ``{name}.jsonl`` and ``{name}.txt``."""
    toy.seed()
    kept = os.path.join(folder, name)
    heard, undo = toy.hear()
    said = {"error": None, "steps": None}
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
    said.update(logged=heard.logged, saved=toy.saved(kept), steps=getattr(trainer, "global_steps", None))
    return said


def told(name, folder, *overrides, **options):
    import phasewatch
    from phasewatch.sinks import ConsoleSink, JsonlSink
    from rich.console import Console

    with open(os.path.join(folder, f"{name}.txt"), "w", encoding="utf-8") as text:
        log = JsonlSink(os.path.join(folder, f"{name}.jsonl"))
        phasewatch.configure(sinks=[log, ConsoleSink(Console(file=text))])
        result = train(name, folder, *overrides, **options)
        log.close()
        phasewatch.configure(sinks=[])
    return result


def interrupt(batch):
    if batch.meta_info["global_steps"] == 2:
        raise KeyboardInterrupt


def main(folder):
    results = {"without": train("without", folder)}

    from phasewatch.integrations import verl

    results["hook_imported"] = "phasewatch" in sys.modules
    verl.install()
    results["whole"] = told("whole", folder)
    results["answers"] = told("answers", folder, "actor_rollout_ref.rollout.val_kwargs.n=3", "trainer.save_freq=-1")
    results["failed"] = told("failed", folder, fails_at=(3, RuntimeError("out of memory")))
    results["interrupted"] = told("interrupted", folder, validates=interrupt)
    results["val_only"] = told("val_only", folder, "trainer.val_only=True")
    step = os.path.join(folder, "whole", "global_step_3")
    resume = ("trainer.resume_mode=resume_path", f"trainer.resume_from_path={step}", "trainer.val_before_train=False")
    results["resumed"] = told("resumed", folder, *resume)
    verl.install(substeps=True)
    results["substeps"] = told("substeps", folder, "trainer.test_freq=-1")
    print("RESULTS", json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
