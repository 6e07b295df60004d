"""The phases of a Lightning `Trainer`.

trainer = Trainer(..., callbacks=[PhasewatchCallback()])
"""

from __future__ import annotations

import math
import sys
import warnings
from typing import TYPE_CHECKING, Any

from .. import PhasewatchWarning, TrainingPlan, configure, phase
from ._flow import Flow, contained, surround
from ._later import LaterPlan

# There are two packages with the same trainer in them, and the first brings the second along: that counts which is in use.
try:
    if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
        from pytorch_lightning import Callback
        from pytorch_lightning.callbacks import GradientAccumulationScheduler, ModelCheckpoint
    else:
        try:
            from lightning.pytorch import Callback
            from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
        except ModuleNotFoundError:
            from pytorch_lightning import Callback
            from pytorch_lightning.callbacks import GradientAccumulationScheduler, ModelCheckpoint
except ImportError as error:
    raise ImportError(
        f"phasewatch.integrations.lightning needs Lightning, pip install phasewatch[lightning]: {error}", name=error.name
    ) from error

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from .. import Phase

__all__ = ["PhasewatchCallback"]

_MESSAGES = {
    "fit": "Training Finished Successfully!",
    "validate": "Validation Finished Successfully!",
    "test": "Test Finished Successfully!",
    "predict": "Prediction Finished Successfully!",
}
# How many batches several loaders make together, by the mode in which they are combined.
_TOGETHER: dict[str, Callable[[Sequence[float]], float]] = {"sequential": sum, "min_size": min}


class StepCutError(BaseException):
    """Training stopped between two batches of one optimizer step. No Exception: nothing has failed."""


class PhasewatchCallback(Callback):
    """Tells the phases of a trainer: initialization, sanity check, training and its steps, validations, saves.

    Where the program has opened a run or a phase, they hang under that; else each call of ``fit``, ``validate``, ``test``
    and ``predict`` is a run of its own. It leaves nothing in checkpoints.

    Args:
        name: of the run; by default that of the trainer's method.
        log: the path of an event log, as of `phasewatch.run`.
        history: the path of the log of an earlier run, as of `phasewatch.run`.

    Warns:
        PhasewatchWarning: this version of Lightning has no `Trainer.save_checkpoint`; saves are not told.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        log: str | os.PathLike[str] | None = None,
        history: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        # Lightning gives callbacks a method `log`.
        self._name, self._options = name, {"log": log, "history": history}
        self._flow = Flow()
        self._plan: LaterPlan | None = None
        self._training: Phase | None = None
        self._step: Phase | None = None
        self._around: Phase | None = None  # PERIODIC VALIDATION and its like
        self._loop: Phase | None = None  # that counts the batches of an evaluation
        self._step_began_at = 0  # optimizer steps done
        self._metrics: dict[str, int] = {}  # where each one was in memory when it was looked at last
        self._free: Callable[[], None] | None = None  # takes away what is around save_checkpoint
        self._has_warned = False

    # From beginning to end.

    @contained
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Begin the run and its INITIALIZATION."""
        if next((one for one in trainer.callbacks if isinstance(one, PhasewatchCallback)), self) is not self:
            return  # another one of us tells it all
        stage = str(getattr(stage, "value", stage))  # a member of an enumeration
        if getattr(trainer, "world_size", 1) > 1:
            configure(rank=trainer.global_rank)  # Lightning's own launchers do not tell it in the environment
        self._plan = LaterPlan() if stage == "fit" else None
        self._training = self._step = self._around = self._loop = None
        self._metrics = {}
        self._flow.begin_run(str(self._name or stage), plan=self._plan, message=_MESSAGES.get(stage), **self._options)
        self._flow.begin("INITIALIZATION", message="Setting up Trainer, Model and Data")
        if stage == "fit":
            self._surround_saves(trainer)

    @contained
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """End the run."""
        self._close(None)

    @contained
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End all that is open, as failed or interrupted."""
        self._close(exception)

    def _close(self, error: BaseException | None) -> None:
        if self._free is not None:
            self._free()
            self._free = None
        self._flow.close(error)
        self._training = self._step = self._around = self._loop = None

    # Training.

    @contained
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin TRAINING: all is set up, and how much there is to do is known."""
        if not self._flow:
            return
        self._flow.end(self._flow.find("INITIALIZATION"))
        outlook = _Outlook(trainer, pl_module)
        if self._plan is not None and outlook.total is not None:
            self._plan.know(outlook.plan(), unsure=("CHECKPOINT SAVING",))
        epochs = {"epochs": trainer.max_epochs} if (trainer.max_epochs or -1) > 0 else {}
        self._training = self._flow.begin("TRAINING", total=outlook.total, unit="step", start=outlook.start, **epochs)

    @contained
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Take the metrics of the epoch before: they come when its callbacks have been called."""
        self._take_metrics(trainer, self._training, bool(trainer.loggers))

    @contained
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begin a step, unless the batch goes on with one: gradients are accumulated over several."""
        if self._training is not None and self._step is None:
            self._step_began_at = trainer.global_step
            self._step = self._flow.enter(self._training.step(epoch=trainer.current_epoch + 1))

    @contained
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End the step, if the optimizer has made one."""
        if self._step is None or self._training is None:
            return
        if pl_module.automatic_optimization and trainer.global_step == self._step_began_at:
            self._take_metrics(trainer, None, False)
            return
        # Lightning makes numbers of these itself then, for its loggers.
        is_logged = bool(trainer.loggers) and (self._training.done + 1) % max(1, trainer.log_every_n_steps) == 0
        self._take_metrics(trainer, self._step, is_logged)
        self._flow.end(self._step)
        self._step = None

    @contained
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End TRAINING, if the last validation has not."""
        self._end_training(trainer)

    def _end_training(self, trainer: Any) -> None:
        if self._training is None:
            return
        if self._step is not None:  # it would count as done
            self._flow.end(self._step, StepCutError("training stopped between two batches of one optimizer step"))
        self._take_metrics(trainer, self._training, bool(trainer.loggers))
        self._flow.end(self._training)
        self._training = self._step = None

    # Validation, test and prediction.

    @contained
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin a validation: inside training, after its last step, or alone.

        The sanity check is none: a few batches, to see that nothing breaks. It is a part of INITIALIZATION.
        """
        if not self._flow:
            return
        if trainer.sanity_checking:
            self._loop = self._flow.begin("SANITY CHECK", **_batches(trainer, trainer.num_sanity_val_batches, "val"))
            return
        training = self._training
        if training is None:
            self._flow.end(self._flow.find("INITIALIZATION"))
        elif training.total is not None and training.done >= training.total:
            self._end_training(trainer)
            self._around = self._flow.begin("POST-TRAINING VALIDATION")
        else:
            self._take_metrics(trainer, None, False)
            self._around = self._flow.begin("PERIODIC VALIDATION", step=training.done)
        self._loop = self._flow.begin("VALIDATION", **_batches(trainer, trainer.num_val_batches, "val"))

    @contained
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """End it, with its metrics; those of the sanity check are of no use."""
        if trainer.sanity_checking:
            self._end_loop()
        else:
            self._end_evaluation(trainer)

    @contained
    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin TEST."""
        self._begin_alone("TEST", _batches(trainer, trainer.num_test_batches, "test"))

    @contained
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """End it, with its metrics."""
        self._end_evaluation(trainer)

    @contained
    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin PREDICTION."""
        self._begin_alone("PREDICTION", _batches(trainer, trainer.num_predict_batches, "predict"))

    @contained
    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """End it."""
        self._end_loop()

    @contained
    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Count a batch."""
        self._count()

    @contained
    def on_test_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Count a batch."""
        self._count()

    @contained
    def on_predict_batch_end(self, trainer: Any, pl_module: Any, *_: Any, **__: Any) -> None:
        """Count a batch."""
        self._count()

    def _begin_alone(self, name: str, options: dict[str, Any]) -> None:
        if self._flow:
            self._flow.end(self._flow.find("INITIALIZATION"))
            self._loop = self._flow.begin(name, **options)

    def _count(self) -> None:
        if self._loop is not None:
            self._loop.advance()

    def _end_evaluation(self, trainer: Any) -> None:
        self._take_metrics(trainer, self._loop, bool(trainer.loggers))
        self._end_loop()

    def _end_loop(self) -> None:
        self._flow.end(self._loop)
        self._flow.end(self._around)
        self._loop = self._around = None

    # Saves.

    def _surround_saves(self, trainer: Any) -> None:
        def around(*args: Any, **kwargs: Any) -> AbstractContextManager[Any]:
            path = kwargs.get("filepath", args[0] if args else "")
            return phase("CHECKPOINT SAVING", step=trainer.global_step, path=str(path))

        try:
            self._free = surround(trainer, "save_checkpoint", around)
        except AttributeError:
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"PhasewatchCallback: {type(trainer).__name__} has no save_checkpoint, by which saves are known. They "
                    "are not told, and all else is. Try another version of phasewatch, or open CHECKPOINT SAVING by hand",
                    PhasewatchWarning,
                    stacklevel=2,
                )

    # Metrics.

    def _take_metrics(self, trainer: Any, handle: Phase | None, is_logged: bool) -> None:
        """Give a phase the metrics that are new since they were looked at last.

        Args:
            trainer: whose they are.
            handle: the phase; without one they are only looked at.
            is_logged: whether Lightning makes numbers of them now in any case. Else, only of those that are in the memory
                of the host already: what is on a device would have to be waited for.
        """
        metrics = trainer.callback_metrics
        # One that is logged again is in new memory, since what it was before is kept until then; for this they are looked at
        # after each batch.
        before, places = self._metrics, {}
        told: dict[int, str] = {}  # "loss_step" is the same as "loss"
        for name, value in metrics.items():
            place = places[name] = _place(value)
            if before.get(name) != place and len(name) < len(told.get(place, name + " ")):
                told[place] = name
        self._metrics = places
        if handle is None or not told:
            return
        values = {name: _number(metrics[name], is_logged) for name in told.values()}
        if None in values.values():
            shown = trainer.progress_bar_metrics  # numbers already
            values |= {name: shown.get(name, shown.get(f"{name}_step")) for name, value in values.items() if value is None}
        known = {name: value for name, value in values.items() if value is not None}
        if known:
            handle.log(known)


def _place(value: Any) -> int:
    try:
        return int(value.data_ptr())
    except Exception:  # no tensor, or one whose memory is elsewhere
        return id(value)


def _number(value: Any, is_logged: bool) -> float | None:
    device = getattr(value, "device", None)
    if device is None:
        return value if isinstance(value, (int, float)) else None
    return value.item() if value.numel() == 1 and (is_logged or device.type == "cpu") else None


def _batches(trainer: Any, counts: Any, kind: str) -> dict[str, Any]:
    """Return the options of a phase that counts batches; the loaders are one or several."""
    counts = list(counts) if isinstance(counts, (list, tuple)) else [counts]
    total = counts[0] if len(counts) == 1 else None
    details: dict[str, Any] = {}
    try:
        loop = trainer.predict_loop if kind == "predict" else trainer._evaluation_loop
        combined = loop._combined_loader
        if len(counts) > 1:
            total = _TOGETHER.get(combined._mode, max)(counts)
            details = {"Dataloaders": len(counts)}
        else:
            size = combined.flattened[0].batch_size
            details = {"Batch size": size} if isinstance(size, int) else {}
    except Exception:  # no public name leads there: without it, less is shown
        pass
    return {"unit": "batch", "total": _whole(total), "details": details}


def _whole(number: Any) -> int | None:
    return None if number is None or math.isinf(number) else int(number)


class _Outlook:
    """What a trainer will do, from its own figures, once its data is set up.

    A step is one of the optimizer, as `Trainer.global_step` counts. Where the module optimizes by hand, that may be several
    for one batch, or none: then a step is a batch.
    """

    def __init__(self, trainer: Any, module: Any) -> None:
        self._trainer = trainer
        is_automatic = bool(module.automatic_optimization)
        schedulers = [one for one in trainer.callbacks if isinstance(one, GradientAccumulationScheduler)]
        self._scheduler = schedulers[-1] if schedulers else None
        self.batches = _whole(trainer.num_training_batches)  # of an epoch
        self.start = trainer.global_step if is_automatic else trainer.fit_loop.total_batch_idx + 1
        limit = trainer.max_steps if trainer.max_steps is not None and trainer.max_steps >= 0 else None
        epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs >= 0 else None
        by_epochs = None if self.batches is None or epochs is None else sum(map(self.steps_of, range(epochs)))
        if is_automatic:
            self.total = min((one for one in (limit, by_epochs) if one is not None), default=None)
        else:
            self.total = by_epochs if limit is None else None
        if self.total is not None and self.start > self.total:
            self.total = None

    def steps_of(self, epoch: int) -> int:
        """Return the steps of an epoch, counted from 0; the rest of its batches is one too."""
        return 0 if self.batches is None else math.ceil(self.batches / self.batches_of(epoch))

    def batches_of(self, epoch: int) -> int:
        """Return the batches of a step in an epoch, counted from 0."""
        if self._scheduler is not None:
            return int(self._scheduler.get_accumulate_grad_batches(epoch))
        return int(self._trainer.accumulate_grad_batches)

    def plan(self) -> TrainingPlan:
        """Return the plan; validations and saves that come at no steady pace are left out of it."""
        total = self.total or 0
        test_freq, (save_freq, saves_last) = self._validates_every() or -1, self._saves_every()
        return TrainingPlan(
            total,
            start_step=self.start,
            val_before_train=False,
            test_freq=test_freq,
            val_after_train=test_freq > 0 and total % test_freq == 0,
            save_freq=save_freq,
            saves_last=saves_last,
        )

    @property
    def _steady(self) -> int | None:
        """Batches of a step, if all epochs have as many."""
        is_steady = self._scheduler is None or set(self._scheduler.scheduling) <= {0}
        return self.batches_of(0) if is_steady else None

    def _validates_every(self) -> int | None:
        """Return after how many steps it validates each time, or None."""
        trainer, each = self._trainer, self._steady
        every = trainer.val_check_batch
        if not trainer.enable_validation or not sum(trainer.num_val_batches) or each is None or every is None:
            return None
        epochs = trainer.check_val_every_n_epoch
        if epochs is not None and self.batches is not None and every in (self.batches, math.inf):
            return self.steps_of(0) * epochs
        is_regular = not math.isinf(every) and every % each == 0 and epochs in (None, 1)
        if not is_regular or (self.batches is not None and self.batches % (each if epochs is None else every)):
            return None
        return int(every) // each

    def _saves_every(self) -> tuple[int, bool]:
        """Return after how many steps it saves each time, or -1, and whether it does after the last one in any case."""
        never = -1, False
        trainer = self._trainer
        savers = list(trainer.checkpoint_callbacks)
        if len(savers) != 1 or not isinstance(savers[0], ModelCheckpoint) or trainer.fast_dev_run:
            return never
        (saver,) = savers
        if saver.monitor is not None or saver.save_last or not saver.save_top_k:  # it depends, or it is more than one file
            return never
        steps = getattr(saver, "_every_n_train_steps", 0)
        if steps:
            return int(steps), False
        epochs, each = getattr(saver, "_every_n_epochs", 0), self._steady
        validates = self._validates_every()
        is_at_end = validates == self.steps_of(0) if validates else not trainer.enable_validation
        if not epochs or each is None or self.batches is None or not is_at_end:
            return never
        return self.steps_of(0) * int(epochs), epochs == 1  # the end of an epoch, even of one that is cut short
