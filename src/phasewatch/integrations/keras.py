"""The phases of a Keras model's `fit`, `evaluate` and `predict`.

    model.fit(..., callbacks=[PhasewatchCallback()])

A callback is not told that one of them begins to prepare its data, that it failed, or that the model is saved. So these
methods of `keras.Model` are surrounded when this is imported: in `model.fit(..., callbacks=[PhasewatchCallback()])` the
method is looked up before the callback is made. A call without a `PhasewatchCallback` is done as it was.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from typing import TYPE_CHECKING, Any

from .. import PhasewatchWarning, TrainingPlan, current, phase
from ._flow import Flow, contained, surround
from ._later import LaterPlan

try:
    import keras
except ImportError as error:
    raise ImportError(
        f"phasewatch.integrations.keras needs Keras 3, pip install phasewatch[keras], and a backend of it: {error}",
        name=error.name,
    ) from error

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .. import Phase

__all__ = ["PhasewatchCallback"]

_MESSAGES = {
    "fit": "Training Finished Successfully!",
    "evaluate": "Evaluation Finished Successfully!",
    "predict": "Prediction Finished Successfully!",
}
_SAVING = "CHECKPOINT SAVING"


class AbandonedError(BaseException):
    """A call ended, and how was not to be seen. No Exception: nobody knows that something has failed."""


class PhasewatchCallback(keras.callbacks.Callback):
    """Tells the phases of a model: initialization, training and its steps, validations, saves.

    Where the program has opened a run or a phase, they hang under that; else each call of ``fit``, ``evaluate`` and
    ``predict`` is a run of its own.

    Args:
        name: of the run; by default that of the model's method.
        log: the path of an event log, as of `phasewatch.run`.
        history: the path of the log of an earlier run, as of `phasewatch.run`.

    Warns:
        PhasewatchWarning: this version of Keras lacks a method that is surrounded; what it shows is not told.
    """

    # Keras waits for the device after each batch, to make numbers for callbacks, unless all of them say that they may be
    # called from other threads, later than it happens. It is no part of ours to make it wait.
    async_safe = True

    def __init__(
        self,
        *,
        name: str | None = None,
        log: str | os.PathLike[str] | None = None,
        history: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.log, self.history = name, log, history
        self._flow = Flow()
        self._call: _Call | None = None  # of fit, evaluate or predict, that the phases belong to
        self._doing: str | None = None  # which of them
        self._owner: Any = None  # the model; Keras' own name for it may make the model wait
        self._forget()
        _warn_of_missing()

    def _forget(self) -> None:
        self._thread = 0  # in which it happens
        self._plan: LaterPlan | None = None
        self._own_run: Phase | None = None
        self._training: Phase | None = None
        self._last: int | None = None  # steps done, when training has ended
        self._step: Phase | None = None
        self._batch = 0  # the first one of the step
        self._latest: tuple[int, dict[str, float]] = (-1, {})  # metrics, and the batch that they were told of
        self._epoch = 0
        self._around: Phase | None = None  # PERIODIC VALIDATION and its like
        self._loop: Phase | None = None  # that counts the batches of an evaluation

    def __getstate__(self) -> dict[str, Any]:
        # What is open stays with the process.
        return {"name": self.name, "log": self.log, "history": self.history}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a copy begins anew

    def set_model(self, model: Any) -> None:
        """Take the model that this is about."""
        super().set_model(model)
        self._owner = model

    # From beginning to end.

    def _begin(self, doing: str) -> None:
        """Begin the run and its INITIALIZATION, unless they are begun."""
        if self._doing is not None:
            if self._call is not None:
                return
            # The call before this one was not seen to end.
            self._close(AbandonedError("it ended unseen"))
        self._forget()
        self._thread = threading.get_ident()
        self._doing = doing
        _at_work.append(self)
        self._plan = LaterPlan() if doing == "fit" else None
        self._flow.begin_run(
            str(self.name or doing), plan=self._plan, log=self.log, history=self.history, message=_MESSAGES[doing]
        )
        self._own_run = self._flow.find(str(self.name or doing))
        self._flow.begin("INITIALIZATION", message="Preparing Model and Data")

    def _close(self, error: BaseException | None) -> None:
        if self in _at_work:
            _at_work.remove(self)
        self._doing = self._call = None
        self._flow.close(error)
        self._forget()

    # Training.

    @contained
    def on_train_begin(self, logs: Any = None) -> None:
        """Begin the run, if the call was not seen to begin."""
        self._begin("fit")

    @contained
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin TRAINING with the first epoch, which a resumed one may not count as 0."""
        self._epoch = epoch
        if self._doing != "fit" or self._training is not None or self._flow.find("INITIALIZATION") is None:
            return
        steps, epochs = self._params("steps"), self._params("epochs")
        total = steps * epochs if steps and epochs else None
        start = epoch * (steps or 0)
        if self._plan is not None and total is not None and steps is not None:
            self._plan.know(self._plan_of(total, steps, start), unsure=(_SAVING,))
        self._flow.end(self._flow.find("INITIALIZATION"))
        known = {} if epochs is None else {"epochs": epochs}
        self._training = self._flow.begin("TRAINING", total=total, unit="step", start=start, **known)

    @contained
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Begin a step; the one before it ends here, where it was not seen to end."""
        self._end_step()
        if self._training is not None:
            self._batch = batch
            self._step = self._flow.enter(self._training.step(epoch=self._epoch + 1))

    @contained
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Keep the metrics, and end the step, if this is told when it happens."""
        self._latest = (batch, _numbers(logs))
        if threading.get_ident() == self._thread:
            self._end_step()

    @contained
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Take the metrics of the epoch, which are those of the run so far: of the last one, TRAINING has ended before."""
        self._end_step()
        self._latest = (-1, {})
        values = _numbers(logs)
        if self._own_run is not None and values:
            self._own_run.log(values)

    @contained
    def on_train_end(self, logs: Any = None) -> None:
        """End the run."""
        self._end_training()
        if self._doing == "fit":
            self._close(None)

    def _end_step(self) -> None:
        if self._step is None or self._training is None:
            return
        batch, values = self._latest
        if values and batch >= self._batch:  # else they are of the step before: theirs are not made yet
            self._step.log(values)
        self._flow.end(self._step)
        self._step = None
        more = self._at_once(self._batch, self._params("steps")) - 1
        if more > 0:
            self._training.advance(more)

    def _end_training(self) -> None:
        self._end_step()
        if self._training is not None:
            self._last = self._training.done
            self._flow.end(self._training)
            self._training = None

    def _done(self) -> int | None:
        """Return the steps done, while or after training."""
        if self._training is not None:
            return self._training.done
        return self._last

    def _params(self, name: str) -> int | None:
        value = (self.params or {}).get(name)
        return value if isinstance(value, int) and value > 0 else None

    def _at_once(self, batch: int, total: int | None) -> int:
        """Return how many batches are done in one go, from this one on."""
        count = getattr(self._owner, "steps_per_execution", 1)
        count = count if isinstance(count, int) and count > 0 else 1
        return count if total is None else max(1, min(count, total - batch))

    def _plan_of(self, total: int, steps: int, start: int) -> TrainingPlan:
        options = {} if self._call is None else self._call.options
        freq = options.get("validation_freq", 1)
        validates = options.get("validation_data") is not None or bool(options.get("validation_split"))
        test_freq = steps * freq if validates and isinstance(freq, int) else -1
        return TrainingPlan(
            total,
            start_step=min(start, total),
            val_before_train=False,
            test_freq=test_freq,
            val_after_train=test_freq > 0 and total % test_freq == 0,
            save_freq=_saves_every(options.get("callbacks"), steps),
        )

    # Validation and prediction.

    @contained
    def on_test_begin(self, logs: Any = None) -> None:
        """Begin a validation: inside of training, after its last step, or alone."""
        if self._doing != "fit":
            self._begin("evaluate")
            self._begin_loop("VALIDATION", self._params("steps"))
            return
        self._end_step()
        training = self._training
        if training is not None and self._epoch + 1 == self._params("epochs"):
            self._end_training()
            self._around = self._flow.begin("POST-TRAINING VALIDATION")
        else:
            self._around = self._flow.begin("PERIODIC VALIDATION", step=None if training is None else training.done)
        # No public name leads to these batches; without it, how many there are is not shown.
        total = getattr(getattr(self._owner, "_eval_epoch_iterator", None), "num_batches", None)
        self._begin_loop("VALIDATION", total if isinstance(total, int) and total > 0 else None)

    @contained
    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Count those before it."""
        self._count(batch)

    @contained
    def on_test_end(self, logs: Any = None) -> None:
        """End it, with its metrics."""
        self._end_loop(_numbers(logs))
        if self._doing == "evaluate":
            self._close(None)

    @contained
    def on_predict_begin(self, logs: Any = None) -> None:
        """Begin PREDICTION."""
        if self._doing != "fit":
            self._begin("predict")
        self._begin_loop("PREDICTION", self._params("steps"))

    @contained
    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Count those before it."""
        self._count(batch)

    @contained
    def on_predict_end(self, logs: Any = None) -> None:
        """End it."""
        self._end_loop({})
        if self._doing == "predict":
            self._close(None)

    def _begin_loop(self, name: str, total: int | None) -> None:
        self._flow.end(self._flow.find("INITIALIZATION"))
        self._loop = self._flow.begin(name, total=total, unit="batch")
        self._batch = -1

    def _count(self, batch: int) -> None:
        if self._loop is not None and threading.get_ident() == self._thread:
            if batch > self._loop.done:
                self._loop.advance(batch - self._loop.done)
            self._batch = batch

    def _end_loop(self, values: dict[str, float]) -> None:
        if self._loop is None:
            return
        if self._batch >= 0:
            self._count(self._batch + self._at_once(self._batch, self._loop.total))
        if values:
            self._loop.log(values)
        self._flow.end(self._loop)
        self._flow.end(self._around)
        self._loop = self._around = None


def _numbers(logs: Any) -> dict[str, float]:
    """Return what Keras has made numbers of."""
    return {str(name): value for name, value in (logs or {}).items() if isinstance(value, (int, float))}


def _saves_every(callbacks: Any, steps: int) -> int:
    """Return after how many steps the model is saved each time; -1 if it is not, or at no steady pace."""
    callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
    savers = [
        one for one in callbacks if isinstance(one, (keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore))
    ]
    if len(savers) != 1 or getattr(savers[0], "save_best_only", False):
        return -1
    freq = getattr(savers[0], "save_freq", None)
    return steps if freq == "epoch" else freq if isinstance(freq, int) and freq > 0 else -1


# What is around the methods of all models.

_SAVES = ("save", "save_weights")
_at_work: list[PhasewatchCallback] = []  # those with phases open


class _Call:
    """A call of `fit`, `evaluate` or `predict` that has a callback of ours: it shows how the call ends."""

    def __init__(self, callback: PhasewatchCallback, doing: str, options: dict[str, Any]) -> None:
        self._callback, self._doing, self.options = callback, doing, options

    def __enter__(self) -> None:
        self._callback._begin(self._doing)
        self._callback._call = self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self._callback._call is self:  # else it has told its end itself
            self._callback._close(error)


def _install() -> list[str]:
    """Put something around the methods of all models; return those that are not there."""
    missing = []
    for name in (*_MESSAGES, *_SAVES):
        try:
            surround(keras.Model, name, _around_save if name in _SAVES else _around_call(name))
        except AttributeError:
            missing.append(name)
    return missing


def _warn_of_missing() -> None:
    missing = ", ".join(_missing)
    _missing.clear()
    if missing:
        warnings.warn(
            f"PhasewatchCallback: keras.Model has no {missing}. How fit, evaluate or predict begin and fail, or "
            "what is saved, is not told; all else is. Try another version of phasewatch, or open phases by hand",
            PhasewatchWarning,
            stacklevel=3,
        )


def _around_call(doing: str) -> Callable[..., _Call | None]:
    signature = inspect.signature(getattr(keras.Model, doing))

    def around(*args: Any, **kwargs: Any) -> _Call | None:
        options = signature.bind_partial(*args, **kwargs).arguments
        given = options.get("callbacks")
        callbacks = given if isinstance(given, (list, tuple)) else getattr(given, "callbacks", [given])
        ours = next((one for one in callbacks if isinstance(one, PhasewatchCallback)), None)
        # Inside of fit, evaluate is given the list that fit has made of its callbacks.
        if ours is None or ours._call is not None or (ours._doing is not None and hasattr(given, "callbacks")):
            return None
        return _Call(ours, doing, options)

    return around


def _around_save(model: Any, *args: Any, **kwargs: Any) -> AbstractContextManager[Any] | None:
    callback = next((one for one in _at_work if one._owner is model), None)
    around = current()
    if callback is None or (around is not None and around.name == _SAVING):
        return None
    callback._end_step()  # a callback before this one saves at the end of a batch
    path = kwargs.get("filepath", args[0] if args else "")
    return phase(_SAVING, step=callback._done(), path=str(path))


_missing = _install()
