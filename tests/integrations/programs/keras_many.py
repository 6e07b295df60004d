"""Small trainings with Keras; what it reports of each goes to facts.json, by the name of the training.

usage: keras_many.py FOLDER
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import sys
import threading
import traceback
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch

import phasewatch
from phasewatch.integrations.keras import PhasewatchCallback

Facts = dict[str, Any]


def data(count: int) -> Any:
    made = np.random.default_rng(count)
    return made.normal(size=(count, 3)).astype("float32"), made.normal(size=(count, 1)).astype("float32")


def model() -> Any:
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    made.compile("adam", "mse", metrics=["mae"])
    return made


class Witness(keras.callbacks.Callback):
    """Writes down what Keras does, which makes it give its numbers at once; no sooner, if it is told not to."""

    def __init__(self, at_once: bool = True) -> None:
        super().__init__()
        self.async_safe = not at_once
        self.losses: list[float] = []
        self.called: set[str] = set()
        self.validations: list[Any] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(logs["loss"])
        self.called.add("here" if threading.current_thread() is threading.main_thread() else "elsewhere")

    def on_test_end(self, logs: Any = None) -> None:
        self.validations.append(logs)


class Break(keras.callbacks.Callback):
    """Breaks a training at a batch."""

    def __init__(self, where: str, batch: int, error: type[BaseException] = RuntimeError) -> None:
        super().__init__()
        self.where, self.batch, self.error = where, batch, error

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if (self.where, self.batch) == ("train", batch):
            raise self.error("no luck")

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        if (self.where, self.batch) == ("test", batch):
            raise self.error("no luck")


class Own(keras.Sequential):
    """Whose fit is another one: its beginning and end are not seen."""

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        return keras.Model.fit.__wrapped__(self, *args, **kwargs)


def broken() -> Any:
    x, y = data(4)
    yield x, y
    raise OSError("the disk is gone")


def digests(folder: str) -> dict[str, str]:
    found = {}
    for name in sorted(os.listdir(folder) if os.path.isdir(folder) else ()):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


def training(
    name: str, *, watched: bool = True, do: str = "fit", callbacks: Any = (), at_once: bool = True, made: Any = None,
    around: Any = None, last: bool = False, ours: Any = None, place: str | None = None, x: Any = None,
    **options: Any,
) -> Facts:  # fmt: skip
    """Do one, in the same place each time, so that files may be the same; then put the place away."""
    keras.utils.clear_session()  # the names in files
    keras.utils.set_random_seed(7)
    made = model() if made is None else made
    witness = Witness(at_once)
    given = [*callbacks, witness]
    if watched:
        given.insert(len(given) if last else 0, ours or PhasewatchCallback(log=f"{name}.jsonl"))
    os.makedirs("work", exist_ok=True)
    inputs, targets = data(24)
    facts: Facts = {"error": None}
    said, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(error):
        try:
            with around or contextlib.nullcontext():
                if x is not None:
                    result = made.fit(x, callbacks=given, verbose=0, **options)
                elif do == "fit":
                    result = made.fit(inputs, targets, batch_size=4, callbacks=given, verbose=0, **options)
                elif do == "evaluate":
                    result = made.evaluate(inputs, targets, 4, callbacks=given, verbose=0, return_dict=True)
                else:
                    result = made.predict(inputs, 4, 0, None, given)  # all by place
            facts["result"] = result.history if x is not None or do == "fit" else result if do == "evaluate" else len(result)
        except BaseException as caught:
            facts["error"] = f"{type(caught).__name__}: {caught}"
            facts["frames"] = [frame.name for frame in traceback.extract_tb(caught.__traceback__)]
    facts |= {
        "text": said.getvalue(),
        "errors": error.getvalue(),
        "losses": witness.losses,
        "called": sorted(witness.called),
        "validations": witness.validations,
        "weights": [weight.tolist() for weight in made.get_weights()],
        "iterations": int(made.optimizer.iterations),
        "random": [torch.rand(1).item(), float(np.random.rand())],
        "current": repr(phasewatch.current()),
        "files": digests("work"),
    }
    os.rename("work", f"{place or name}-{'with' if watched else 'without'}")
    return facts


def by_hand() -> Facts:
    """A loop of one's own, as the documentation of Keras has it, that does four batches at once; PyTorch's does only one."""
    made = model()
    made.steps_per_execution = 4
    callbacks = keras.callbacks.CallbackList([PhasewatchCallback(log="together.jsonl")], model=made, epochs=1, steps=10)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(0)
        for batch in (0, 4, 8):
            callbacks.on_train_batch_begin(batch)
            callbacks.on_train_batch_end(batch + 3, {"loss": 1.0})
        callbacks.on_test_begin()
        for batch in (0, 4):
            callbacks.on_test_batch_begin(batch)
            callbacks.on_test_batch_end(batch + 3, {"loss": 1.0})
        callbacks.on_test_end({"loss": 1.0})
        callbacks.on_epoch_end(0, {"loss": 1.0})
        callbacks.on_train_end()
    return {"text": said.getvalue(), "errors": "", "error": None, "current": repr(phasewatch.current())}


def main(folder: str) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    facts: dict[str, Facts] = {}

    def do(name: str, *, key: str | None = None, **options: Any) -> Any:
        facts[key or name] = training(name, place=key, **options)
        return facts[key or name]

    def whole() -> dict[str, Any]:
        saver = keras.callbacks.ModelCheckpoint("work/{epoch}.weights.h5", save_weights_only=True)
        return {"epochs": 2, "validation_data": data(10), "validation_batch_size": 4, "callbacks": [saver]}

    do("whole", key="bare", watched=False, **whole())
    do("whole", **whole())
    do("whole", key="last", last=True, ours=PhasewatchCallback(log="last.jsonl"), **whole())
    do("late", epochs=3, at_once=False, validation_split=0.5, validation_freq=2)
    saver = keras.callbacks.ModelCheckpoint("work/{epoch}-{batch}.keras", save_freq=4)
    do("batches", epochs=2, initial_epoch=1, callbacks=[saver], last=True)
    facts["together"] = by_hand()
    do("stopping", epochs=5, callbacks=[keras.callbacks.EarlyStopping("loss", patience=0, min_delta=1e9)])
    do("failing", callbacks=[Break("train", 3)])
    do("failing", key="failing-bare", watched=False, callbacks=[Break("train", 3)])
    do("failing-validation", callbacks=[Break("test", 1)], validation_data=data(10))
    do("failing-data", x=broken(), steps_per_epoch=3)
    do("failing-early", x="nothing")
    do("interrupted", callbacks=[Break("train", 5, KeyboardInterrupt)])
    do("evaluate", do="evaluate")
    do("failing-evaluate", do="evaluate", callbacks=[Break("test", 1)])
    do("predict", do="predict")
    do("inside", around=phasewatch.phase("OUTER"))
    own = Own([keras.Input((3,)), keras.layers.Dense(1)])
    own.compile("adam", "mse")
    do("unseen", made=own, epochs=2, validation_data=data(8))
    ours = PhasewatchCallback()
    do("unseen-failing", made=own, callbacks=[Break("train", 3)], ours=ours)
    do("unseen-after", made=own, ours=ours)
    again = pickle.loads(pickle.dumps(PhasewatchCallback(name="again")))
    do("pickled", ours=again)
    with open("facts.json", "w", encoding="utf-8") as file:
        json.dump(facts, file)


if __name__ == "__main__":
    main(sys.argv[1])
