"""Many short trainings with a transformers Trainer, each with an event log of its own.

usage: transformers_many.py FOLDER

Writes facts.json: by the name of the training, what the trainer itself says of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import json
import os
import pickle
import sys
import threading
import warnings
from typing import Any

import tiny  # first, since it says that there is no hub
from torch.utils.data import IterableDataset
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

import phasewatch
from phasewatch import phase
from phasewatch.integrations.transformers import PhasewatchCallback

FOLDER = sys.argv[1]
FACTS: dict[str, Any] = {}


def log(name: str) -> str:
    return os.path.join(FOLDER, f"{name}.jsonl")


def make(name: str, callback: Any = None, kind: type[Trainer] = Trainer, **options: Any) -> Any:
    data = {"train_dataset": tiny.sums(16), "eval_dataset": tiny.sums(6)}
    data |= {key: options.pop(key) for key in list(options) if key in ("train_dataset", "eval_dataset")}
    more = options.pop("callbacks", [])
    callbacks = [PhasewatchCallback(log=log(name), wait=False) if callback is None else callback, *more]
    defaults = {
        "output_dir": os.path.join(FOLDER, name), "max_steps": 4, "per_device_train_batch_size": 4, "logging_steps": 1,
        "per_device_eval_batch_size": 4, "save_strategy": "no", "report_to": "none", "use_cpu": True, "seed": 1,
    }  # fmt: skip
    return kind(model=tiny.model(), args=TrainingArguments(**{**defaults, **options}), callbacks=callbacks, **data)


def note(name: str, trainer: Any, **more: Any) -> None:
    state = trainer.state
    FACTS[name] = {"steps": state.global_step, "max_steps": state.max_steps, "history": state.log_history, **more}


class Failing(Trainer):
    """Fails in the loss of its third batch, in training or in evaluation."""

    error: BaseException = RuntimeError("CUDA out of memory")
    where = "train"
    calls = 0

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        if model.training == (self.where == "train"):
            self.calls += 1
            if self.calls == 3:
                raise self.error
        return super().compute_loss(model, *args, **kwargs)


def resume() -> None:
    make("first", save_strategy="steps", save_steps=2).train()
    again = make("resume", save_strategy="steps", save_steps=2, output_dir=os.path.join(FOLDER, "first"), max_steps=6)
    again.train(resume_from_checkpoint=True)
    note("resume", again)
    done = make("done", save_strategy="steps", save_steps=2, output_dir=os.path.join(FOLDER, "first"), max_steps=6)
    done.train(resume_from_checkpoint=True)
    note("done", done)


def epochs() -> None:
    trainer = make("epochs", max_steps=-1, num_train_epochs=3, eval_strategy="epoch", save_strategy="epoch", logging_steps=3)
    trainer.train()
    note("epochs", trainer)


def stream() -> None:
    class Stream(IterableDataset):
        def __iter__(self) -> Any:
            return iter(tiny.sums(40))

    trainer = make("stream", train_dataset=Stream(), eval_dataset=Stream(), eval_strategy="steps", eval_steps=2)
    trainer.train()
    note("stream", trainer)


def several() -> None:
    sets = {"easy": tiny.sums(5), "hard": tiny.sums(9)}
    trainer = make("several", eval_dataset=sets, eval_strategy="steps", eval_steps=2)
    trainer.train()
    note("several", trainer)


def early_stop() -> None:
    stopping: dict[str, Any] = {"metric_for_best_model": "loss", "greater_is_better": True, "load_best_model_at_end": True}
    trainer = make(
        "early_stop", max_steps=12, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2,
        callbacks=[EarlyStoppingCallback(1)], learning_rate=0.01, **stopping,
    )  # fmt: skip
    trainer.train()
    note("early_stop", trainer)


def failures() -> None:
    for name, where, error in (
        ("fails", "train", RuntimeError("CUDA out of memory")),
        ("interrupted", "train", KeyboardInterrupt()),
        ("fails_in_evaluation", "eval", ValueError("no such label")),
    ):
        trainer = make(name, kind=Failing, eval_strategy="steps", eval_steps=2, eval_dataset=tiny.sums(16))
        trainer.error, trainer.where = error, where
        try:
            trainer.train()
        except BaseException as raised:
            note(name, trainer, is_the_same=raised is error, after=phasewatch.current() is None)


def twice() -> None:
    trainer = make("twice", callback=PhasewatchCallback(log=log("twice"), wait=True), max_steps=2)
    trainer.train()
    trainer.train()
    trainer.evaluate()
    other = make("other", max_steps=1)
    other.train()
    note("twice", trainer, after=phasewatch.current() is None)
    closed = make("closed", callback=PhasewatchCallback(log=log("closed"), wait=True), max_steps=1)
    closed.train()
    closed.callback_handler.callbacks[1].close()
    note("closed", closed, after=phasewatch.current() is None)


def alone() -> None:
    trainer = make("alone")
    metrics = trainer.evaluate()
    predicted = trainer.predict(tiny.sums(6))
    note("alone", trainer, metrics=metrics, predicted=len(predicted.predictions))


def inside() -> None:
    trainer = make("inside", callback=PhasewatchCallback(), max_steps=2)
    with phasewatch.run("mine", log=log("inside"), sinks=[]), phase("EXPERIMENT"):
        trainer.evaluate()
        trainer.train()
        trainer.evaluate()
    note("inside", trainer)


def later() -> None:
    """The callback comes by add_callback(), as a class, beside a trainer that has none."""
    folder = os.path.join(FOLDER, "later")
    args = TrainingArguments(folder, max_steps=2, report_to="none", use_cpu=True, save_strategy="no")
    trainer, other = (Trainer(model=tiny.model(), args=copy.copy(args), train_dataset=tiny.sums(8)) for _ in range(2))
    trainer.add_callback(PhasewatchCallback)
    with phasewatch.run("later", log=log("later"), sinks=[]):
        other.train()
        trainer.train()
        trainer.remove_callback(PhasewatchCallback)
        trainer.train()
    note("later", trainer, other=sorted(vars(other).keys() & {"train", "evaluate", "_save_checkpoint"}))


def early() -> None:
    callback = PhasewatchCallback(log=log("early"), early=True, wait=False)
    with phase("LOADING"):
        trainer = make("early", callback=callback, max_steps=1)
    trainer.train()
    note("early", trainer)


def progress() -> None:
    said = {}
    for name, keep in {"with": True, "without": False}.items():
        for disabled in (False, True):
            trainer = make("progress", callback=PhasewatchCallback(progress=keep), max_steps=1, disable_tqdm=disabled)
            with contextlib.redirect_stderr(io.StringIO()) as bars, phasewatch.run("p", sinks=[]):
                trainer.train()
            kinds = [type(callback).__name__ for callback in trainer.callback_handler.callbacks]
            said[f"{name} {disabled}"] = [kinds, "it/s" in bars.getvalue()]
    FACTS["progress"] = said


def moved() -> None:
    class Moved(Trainer):
        _save_checkpoint = None

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", phasewatch.PhasewatchWarning)
        trainer = make("moved", kind=Moved)
        trainer.train()
        trainer.evaluate()
        direct = Trainer(model=tiny.model(), args=trainer.args, train_dataset=tiny.sums(8))
        direct.callback_handler.callbacks.append(PhasewatchCallback(log=log("moved")))
        direct.train()
        direct.train()
    messages = [str(one.message) for one in told if one.category is phasewatch.PhasewatchWarning]
    note("moved", trainer, messages=messages, direct=direct.state.global_step)


def again() -> None:
    """The batch is too large at first."""

    class TooLarge(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            if self._train_batch_size > 2:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
            return super().training_step(*args, **kwargs)

    trainer = make("again", kind=TooLarge, auto_find_batch_size=True, max_steps=2)
    trainer.train()
    note("again", trainer)


def copies() -> None:
    trainer = make("copies", max_steps=1)
    trainer.train()
    callback = trainer.callback_handler.callbacks[1]
    other = pickle.loads(pickle.dumps(callback))
    twin = copy.deepcopy(trainer)
    twin.args.max_steps = 3
    with phasewatch.run("copies", log=log("copies_twin"), sinks=[]):
        twin.train()
    FACTS["copies"] = {"log": other.log == callback.log, "steps": [trainer.state.global_step, twin.state.global_step]}


def in_a_thread() -> None:
    trainer = make("thread", callback=PhasewatchCallback(log=log("thread")), max_steps=1)
    thread = threading.Thread(target=trainer.train)
    thread.start()
    thread.join()
    note("thread", trainer, after=phasewatch.current() is None)


def shared() -> None:
    """One callback that two trainers have."""
    callback = PhasewatchCallback()
    one, two = (
        make(f"shared_{number}", callback, max_steps=number, save_strategy="steps", save_steps=number) for number in (1, 2)
    )
    with phasewatch.run("shared", log=log("shared"), sinks=[]):
        for trainer in (one, two, one):
            trainer.train()
            trainer.evaluate()
    note("shared", one)


def at_a_prompt() -> None:
    """Where a person types, and where an event loop runs, nobody knows what comes after the training, or when it ends."""
    open_after = []
    for name in ("prompt", "loop"):
        trainer = make(name, callback=PhasewatchCallback(log=log(name)), max_steps=1)
        if name == "prompt":
            sys.ps1 = ">>> "
            trainer.train()
            del sys.ps1
        else:

            async def train(trainer: Any = trainer) -> None:
                trainer.train()

            asyncio.run(train())
        open_after.append(phasewatch.current() is not None)
    FACTS["prompt"] = open_after


class Nosy(TrainerCallback):
    """Evaluates where it should not, and catches what comes of it."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 1:
            with contextlib.suppress(ValueError):
                TRAINERS[0].evaluate()


TRAINERS: list[Any] = []


def caught() -> None:
    trainer = make("caught", kind=Failing, callbacks=[Nosy()], eval_dataset=tiny.sums(16), max_steps=2)
    trainer.error, trainer.where = ValueError("no such label"), "eval"
    TRAINERS.append(trainer)
    trainer.train()
    note("caught", trainer)


def broken() -> None:
    """What phasewatch itself does wrong, the trainer does not notice."""
    callback = PhasewatchCallback(log=log("broken"), wait=False)
    setattr(callback, "_begin_training", lambda state: 1 // 0)  # noqa: B010  # mypy would not have it assigned
    trainer = make("broken", callback=callback, max_steps=2)
    trainer.train()
    note("broken", trainer)


if __name__ == "__main__":
    for part in (
        resume, epochs, stream, several, early_stop, failures, twice, alone, inside, later, early, progress, moved, again,
        copies, in_a_thread, caught, broken, shared, at_a_prompt,
    ):  # fmt: skip
        part()
    with open(os.path.join(FOLDER, "facts.json"), "w", encoding="utf-8") as file:
        json.dump(FACTS, file)
