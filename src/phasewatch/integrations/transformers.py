"""The phases of a transformers `Trainer`, and of the trainers of TRL that are made from it.

    trainer = Trainer(..., callbacks=[PhasewatchCallback()])

A callback is told when a step begins and ends, but not when an evaluation or a save begins, nor that training failed. So
what the trainer does these things with is surrounded, on that trainer alone.
"""

from __future__ import annotations

import atexit
import functools
import math
import os
import sys
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from .. import PhasewatchWarning, TrainingPlan, current, phase, register
from ._flow import Flow, contained, surround
from ._later import LaterPlan

try:
    from transformers import PrinterCallback, Trainer, TrainerCallback
    from transformers.trainer_callback import DefaultFlowCallback, ProgressCallback, TrainerControl
except ImportError as error:
    raise ImportError(
        "phasewatch.integrations.transformers needs transformers and PyTorch, pip install phasewatch[transformers] torch: "
        f"{error}",
        name=error.name,
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from .. import Phase

__all__ = ["PhasewatchCallback"]

_PREPARING = "Preparing Data, Model and Optimizer"
_MOST_PARTS = 128  # of steps that are remembered by their names
_POSITION = frozenset({"epoch", "step", "total_flos"})  # of what is logged: where it is in the run, which is told anyway
_PARTS = {  # of TRL's sub-phases, what is no name for a person
    "_prepare_inputs": "INPUTS",
    "_generate": "GENERATION",
    "transformers.generate": "GENERATION",
    "transformers.generate_batch": "GENERATION",
    "vLLM.generate": "GENERATION",
    "_calculate_rewards": "REWARDS",
    "_get_per_token_logps": "LOG PROBS",
    "_get_per_token_logps_and_entropies": "LOG PROBS",
    "compute_loss": "LOSS",
    "sync_weights": "SYNC WEIGHTS",
}


class PhasewatchCallback(TrainerCallback):
    """Tells the phases of a trainer: initialization, training and its steps, validations, saves, predictions.

    Where the program has opened a run or a phase, they hang under that; else a run is opened for them.

    Args:
        name: of the run.
        log: the path of an event log, as of `phasewatch.run`.
        history: the path of the log of an earlier run, as of `phasewatch.run`.
        progress: keep the bars, or the lines, that the trainer shows by itself; False takes them away.
        parts: show the sub-phases of TRL's steps (generation, rewards, log probs, loss) in the text too; they are
            in the event log anyway.
        early: begin the run, and its INITIALIZATION, now rather than when the trainer trains or evaluates: for trainers
            whose constructor loads the models.
        wait: after the training, keep the run open for the evaluations to come, until the program ends or trains again,
            or `close` is called; False ends the run with the training. None is True in a plain program, where the
            trainer is used in its main thread, and False in interactive ones and in worker processes.

    Warns:
        PhasewatchWarning: this version of transformers or TRL does something otherwise than known; the trainer goes on
            without its phases.
    """

    def __init__(
        self,
        *,
        name: str = "train",
        log: str | os.PathLike[str] | None = None,
        history: str | os.PathLike[str] | None = None,
        progress: bool = True,
        parts: bool = False,
        early: bool = False,
        wait: bool | None = None,
    ) -> None:
        self.name, self.log, self.history = name, log, history
        self.progress, self.parts, self.early, self.wait = progress, parts, early, wait
        self._flow = Flow()
        self._trainer: Callable[[], Any] = lambda: None  # a weak reference to the one that is at work
        self._trainers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._plan: LaterPlan | None = None
        self._initialization: Phase | None = None
        self._training: Phase | None = None
        self._step: Phase | None = None
        self._validation: Phase | None = None  # around those of each set of data
        self._loop: _Loop | None = None  # that goes through one of them
        self._loops_are = "VALIDATION"
        self._depth = 0  # of evaluate() and predict()
        self._is_step_done = True
        self._is_in_train = self._has_trained = self._has_warned = False
        self._epoch = 0
        if early:
            self._begin_early()

    def __reduce__(self) -> tuple[Any, ...]:
        # What is open stays with the process; a copy of the trainer, on another machine perhaps, begins anew.
        options = {name: getattr(self, name) for name in ("name", "log", "history", "progress", "parts", "wait")}
        return functools.partial(type(self), **options), ()

    def close(self) -> None:
        """End the run, if it was kept open after the training; it ends by itself when the program does."""
        self._close(None)

    # What is surrounded.

    def _adopt(self, trainer: Any) -> None:
        """Watch a trainer."""
        if trainer in self._trainers:
            return
        around: dict[str, Callable[..., _Block | None]] = {
            "train": self._around_train,
            "evaluate": self._around_evaluate,
            "predict": self._around_predict,
            "evaluation_loop": self._around_loop,
            "_save_checkpoint": self._around_save,
        }
        missing = [name for name in around if not callable(getattr(trainer, name, None))]
        if missing:
            self._warn(f"{type(trainer).__name__} has no {', '.join(missing)}, by which its phases are known")
            return
        if callable(getattr(trainer, "prediction_loop", None)):  # in versions 4, where it is asked for
            around["prediction_loop"] = self._around_loop
        reference = weakref.ref(trainer)
        for name, make in around.items():
            surround(trainer, name, functools.partial(self._at_work, reference, make))
        self._trainers.add(trainer)
        if any(one.__module__.partition(".")[0] == "trl" for one in type(trainer).__mro__):
            self._watch_parts()

    def _watch_parts(self) -> None:
        if all(reference() is not self for reference in _callbacks):
            _callbacks.append(weakref.ref(self, _callbacks.remove))
        module = sys.modules.get("trl.extras.profiling")
        if module is None or module in _with_parts:  # a trainer without sub-phases does not import it
            return
        context = getattr(module, "ProfilingContext", None)
        if context is None:
            self._warn("TRL has no ProfilingContext, by which the parts of a step are known", "They are not told")
            return
        _with_parts.append(module)
        surround(context, "__enter__", _begin_part)
        surround(context, "__exit__", _end_part)

    def _warn(self, what: str, so: str = "Its phases are not told, and it goes on without them") -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"PhasewatchCallback: {what}. {so}. Try another version of phasewatch, or open phases by hand",
                PhasewatchWarning,
                stacklevel=2,
            )

    def _at_work(
        self, reference: Callable[[], Any], make: Callable[..., _Block | None], *args: Any, **kwargs: Any
    ) -> _Block | None:
        """Return what a call of a trainer's method is done inside of."""
        trainer = reference()
        if trainer is None or self not in trainer.callback_handler.callbacks:
            return None
        self._trainer = reference
        return make(trainer, *args, **kwargs)

    def _around_train(self, trainer: Any, *_: object, **__: object) -> _Block | None:
        return _Block(self._begin_train, self._end_train)

    def _begin_train(self) -> None:
        if self._initialization is None and (self._has_trained or not self._flow):  # else the run was begun early
            self._begin_run(LaterPlan())
        self._is_in_train, self._has_trained = True, False
        if self._initialization is None:
            self._initialization = self._flow.begin("INITIALIZATION", message=_PREPARING)

    def _end_train(self, error: BaseException | None) -> None:
        self._is_in_train, self._has_trained = False, True
        if error is not None:
            self._close(error)
            return
        self._end_training()
        if self._flow and (_is_plain_program() if self.wait is None else self.wait):
            _keep(self)
        else:
            self._close(None)

    def _around_evaluate(self, trainer: Any, *_: object, **__: object) -> _Block | None:
        return self._around_loops("VALIDATION")

    def _around_predict(self, trainer: Any, *_: object, **__: object) -> _Block | None:
        return self._around_loops("PREDICTION")

    def _around_loops(self, name: str) -> _Block:
        """Return what a call is done inside of that may come inside of the training or outside."""
        opens_run = not self._is_in_train and not self._flow and not self._depth

        def begin() -> None:
            self._depth += 1
            if self._depth > 1:  # several sets of data are evaluated one after the other
                return
            self._loops_are = name
            if opens_run:
                self._begin_run(LaterPlan(validates_only=name == "VALIDATION"), message=None)
            self._end_initialization()
            self._end_step()
            if name == "VALIDATION":
                self._validation = self._begin_validation()

        def end(error: BaseException | None) -> None:
            self._depth -= 1
            if self._depth == 0:
                self._flow.end(self._validation, error)
                self._validation = None
                if opens_run:
                    self._close(error)

        return _Block(begin, end)

    def _begin_validation(self) -> Phase:
        if self._training is not None:
            return self._flow.begin("PERIODIC VALIDATION", step=self._trainer().state.global_step)
        return self._flow.begin("POST-TRAINING VALIDATION" if self._has_trained else "PRE-TRAINING VALIDATION")

    def _around_loop(
        self, trainer: Any, dataloader: Any, *_: object, metric_key_prefix: Any = "", **__: object
    ) -> _Block | None:
        if not self._depth:
            return None
        around = self._loop
        data = str(metric_key_prefix).partition("_")[2] if self._depth > 1 else ""  # of several sets, its name

        def begin() -> None:
            self._loop = _Loop(self._flow, self._loops_are, trainer, dataloader, data)

        def end(error: BaseException | None) -> None:
            loop, self._loop = self._loop, around
            if loop is not None and loop is not around:
                self._flow.end(loop.handle, error)

        return _Block(begin, end)

    def _around_save(self, trainer: Any, *args: Any, **kwargs: Any) -> _Block | None:
        if not self._is_in_train:
            return None
        trial = kwargs.get("trial", args[1] if len(args) > 1 else None)
        saving: list[Phase] = []

        def begin() -> None:
            self._end_step()
            number = trainer.state.global_step
            # Where a trial of a search saves is for the trainer to say.
            path = {} if trial else {"path": os.path.join(str(trainer.args.output_dir), f"checkpoint-{number}")}
            saving.append(self._flow.begin("CHECKPOINT SAVING", step=number, **path))

        def end(error: BaseException | None) -> None:
            for handle in saving:
                self._flow.end(handle, error)

        return _Block(begin, end)

    # What the trainer tells.

    @contained
    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        """Know what will run; the training itself begins after the evaluation that comes before it."""
        if not self._is_in_train:
            if not self._trainers:
                self._warn("a trainer was given this callback otherwise than by callbacks= or add_callback()")
            return
        if self._training is not None:  # the memory did not suffice, and the batch is smaller now
            self._flow.end(self._training, BatchTooLargeError("the trainer begins again with a smaller one"))
            self._training = self._step = None
        self._end_initialization()
        self._epoch = math.floor(state.epoch or 0)
        if self._plan is not None:
            self._plan.know(*_plan_of(args, state, train_dataloader))

    @contained
    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin the training, if it is the first epoch of it."""
        if self._is_in_train:
            self._epoch += 1
            self._begin_training(state)

    @contained
    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin a step, which takes several batches where gradients are accumulated."""
        if self._training is None:
            return
        self._end_step()
        # In the older versions, the batches left over at the end of an epoch begin a step that the next one goes on with;
        # after the last step, they are for nothing.
        total = self._training.total
        if self._step is None and (total is None or state.global_step < total):
            self._is_step_done = False
            self._step = self._flow.enter(self._training.step(step=state.global_step + 1, epoch=self._epoch))

    @contained
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the step, unless its metrics are to come."""
        self._is_step_done = True
        if not control.should_log:
            self._end_step()

    @contained
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Take the metrics of the evaluation, the step or the training, whichever is under way."""
        loop = self._loop.handle if self._loop is not None else None
        handle = loop or self._validation or self._step or self._training
        if handle is None:
            return
        # What a callback before this one has made texts of for a person stands as numbers in the history.
        values = _numbers(logs) or _numbers(state.log_history[-1] if state.log_history else None)
        if values:
            handle.log(values)
        if handle is self._step:
            self._end_step()

    @contained
    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count a batch."""
        if self._loop is not None:
            self._loop.count()

    @contained
    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the step, if its metrics did not come."""
        self._end_step()

    @contained
    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the training; what is evaluated from now on comes after it."""
        if self._is_in_train:
            self._begin_training(state)  # else there was nothing left to train
            self._end_training()
            self._has_trained = True

    # Phases.

    def _begin_run(self, plan: LaterPlan, **options: Any) -> None:
        _end_kept(self)
        self._close(None)
        self._plan = plan
        self._flow.begin_run(str(self.name), plan=plan, log=self.log, history=self.history, **options)

    @contained
    def _begin_early(self) -> None:
        self._begin_run(LaterPlan())
        self._initialization = self._flow.begin("INITIALIZATION")
        _keep(self)

    def _begin_training(self, state: Any) -> None:
        self._end_initialization()
        if self._training is None:
            epochs = state.num_train_epochs
            # Where data is a stream without end, it is said to be gone through an astronomic number of times.
            known = {"epochs": epochs} if 0 < epochs <= max(1, state.max_steps) else {}
            # One that resumes where all is done may take a step more, which is past the total.
            total = state.max_steps if state.global_step < state.max_steps else None
            self._training = self._flow.begin("TRAINING", total=total, unit="step", start=state.global_step, **known)

    def _end_initialization(self) -> None:
        self._flow.end(self._initialization)
        self._initialization = None

    def _end_step(self) -> None:
        if self._is_step_done:  # else it goes on after what interrupts it
            self._flow.end(self._step)
            self._step = None

    def _end_training(self) -> None:
        self._end_initialization()
        self._end_step()
        self._flow.end(self._training)
        self._training = self._step = None

    def _is_innermost(self) -> bool:
        return self._flow.innermost() is current()

    def _is_at_work(self, class_name: str) -> bool:
        trainer = self._trainer() if self._is_in_train or self._depth else None
        return trainer is not None and type(trainer).__name__ == class_name

    def _close(self, error: BaseException | None) -> None:
        if _kept and _kept[0] is self:
            _kept.clear()
        while self._flow:
            self._flow.close(error)
        self._initialization = self._training = self._step = self._validation = self._loop = self._plan = None


class BatchTooLargeError(RuntimeError):
    """What a training ended of that its trainer begins again; it is never raised."""


class _Block:
    """What a call is done inside of; one that fails to begin ends all the same."""

    def __init__(self, begin: Callable[[], None], end: Callable[[BaseException | None], None]) -> None:
        self._begin, self._end = contained(begin), contained(end)

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._end(error)


class _Loop:
    """One way through a set of data, batch by batch."""

    def __init__(self, flow: Flow, name: str, trainer: Any, dataloader: Any, data: str) -> None:
        size = trainer.args.eval_batch_size * trainer.args.world_size
        batches, samples = _length(dataloader), _length(getattr(dataloader, "dataset", None))
        # Where one sample is one of the set; the trainers of TRL that generate take each question several times.
        self._left = samples if samples is not None and batches == -(-samples // size) else None
        self._size = size
        self._seen = len(_rewards(trainer))
        self._trainer = weakref.ref(trainer)
        counters = {} if self._left is None else {"samples": samples}
        details = {"Batch size": size, **({"Data": data} if data else {})}
        self.handle = flow.begin(name, total=batches, unit="batch", counters=counters, details=details)

    def count(self) -> None:
        """Count a batch that is done."""
        values: dict[str, float] = {}
        if self._left is not None:
            values["samples"] = samples = min(self._size, self._left)
            self._left -= samples
        trainer = self._trainer()
        rewards = [] if trainer is None else _rewards(trainer)
        if len(rewards) > self._seen and isinstance(rewards[-1], (int, float)):
            values["reward"] = rewards[-1]
        self._seen = len(rewards)
        self.handle.advance(1, **values)


def _rewards(trainer: Any) -> list[Any]:
    """Return what TRL keeps of the rewards of an evaluation, a number for each batch; nothing for other trainers."""
    found = getattr(trainer, "_metrics", None)
    for key in ("eval", "reward"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, list) else []


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except Exception:  # a stream has none, and says so in ways of its own
        return None


def _numbers(logs: Any) -> dict[str, float]:
    """Return the numbers of what is logged, nothing that a device still holds."""
    if not isinstance(logs, dict):
        return {}
    return {
        name: value
        for name, value in logs.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in _POSITION
    }


# The plan.


def _plan_of(args: Any, state: Any, dataloader: Any) -> tuple[TrainingPlan, dict[str, int]]:
    """Return what a trainer will do, from its arguments and what it has made of them, and how often each phase comes."""
    total = state.max_steps
    every = _steps_per_epoch(args, state, dataloader)
    at_end = _is_due_at_end(args, state)
    test_freq, evaluates_last = _frequency(args.eval_strategy, state.eval_steps, every), at_end.should_evaluate
    save_freq, saves_last = _frequency(args.save_strategy, state.save_steps, every), at_end.should_save
    plan = TrainingPlan(
        total,
        val_before_train=bool(args.eval_on_start),
        val_after_train=False,
        test_freq=test_freq,
        save_freq=save_freq,
        # The trainer's own rule of the last step; the evaluation of an epoch comes at its end, wherever that is.
        at_last_step=evaluates_last or _kind(args.eval_strategy) == "epoch",
        saves_last=saves_last or _kind(args.save_strategy) == "epoch",
        start_step=min(state.global_step, total),
    )
    counts = plan.counts()
    if args.eval_delay:
        counts.pop("PERIODIC VALIDATION", None)  # the first ones are left out
    if "CHECKPOINT SAVING" in counts and saves_last and _kind(args.save_strategy) == "epoch":
        counts["CHECKPOINT SAVING"] += 1  # older versions save after the last step, and again after its epoch
    return plan, counts


def _kind(strategy: Any) -> str:
    return str(getattr(strategy, "value", strategy))


def _frequency(strategy: Any, steps: Any, steps_per_epoch: int | None) -> int:
    each = {"steps": steps, "epoch": steps_per_epoch}.get(_kind(strategy))
    return int(each) if each else -1


def _steps_per_epoch(args: Any, state: Any, dataloader: Any) -> int | None:
    """Return the steps of an epoch; the rest of its batches is a step or is not, by version."""
    batches, each = _length(dataloader), args.gradient_accumulation_steps
    if not batches:
        return None
    counts = [max(1, -(-batches // each)), max(1, batches // each)]
    fitting = [count for count in counts if math.ceil(args.num_train_epochs * count) == state.max_steps]
    return counts[0] if args.max_steps > 0 else fitting[0] if fitting else None


def _is_due_at_end(args: Any, state: Any) -> Any:
    """Return the trainer's own answer to what it does after its last step."""
    control, step = TrainerControl(), state.global_step
    state.global_step = state.max_steps
    try:
        return DefaultFlowCallback().on_step_end(args, state, control) or control
    finally:
        state.global_step = step


# Runs that are kept open for what comes after the training. There is one at most: the next one ends it.

_kept: list[PhasewatchCallback] = []


def _keep(callback: PhasewatchCallback) -> None:
    if not _kept:
        atexit.unregister(_end_at_exit)  # it is registered once, after whatever writes the events
        atexit.register(_end_at_exit)
    _kept[:] = [callback]


def _end_kept(other: PhasewatchCallback) -> None:
    """End what another callback has kept open, unless something is open inside of it."""
    if _kept and _kept[0] is not other and _kept[0]._is_innermost():
        _kept[0].close()


def _end_at_exit() -> None:
    if _kept:
        _kept[0]._close(getattr(sys, "last_value", None))  # what the program died of, if it did


def _is_plain_program() -> bool:
    """Whether what comes after the training comes in this thread, and then the program ends as programs do."""
    multiprocessing, asyncio = sys.modules.get("multiprocessing"), sys.modules.get("asyncio")
    return (
        threading.current_thread() is threading.main_thread()
        and not hasattr(sys, "ps1")  # a notebook, or a person at a prompt
        and (multiprocessing is None or multiprocessing.parent_process() is None)
        and (asyncio is None or asyncio._get_running_loop() is None)
    )


# The parts of TRL's steps. Each of them runs in a context of its own, which knows its name, and not its trainer.

_callbacks: list[weakref.ref[PhasewatchCallback]] = []  # of trainers that have them
_with_parts: list[Any] = []  # modules whose context is watched
_announced: dict[str, bool] = {}  # whether the text shows phases of a name


@functools.lru_cache(_MOST_PARTS)
def _owner_and_name(context: str) -> tuple[str, str]:
    """Return the class of the trainer, and the name of the phase, of a context that is named after both."""
    owner, _, part = context.partition(".")
    what = _PARTS.get(part) or part.strip("_").replace("_", " ").upper()
    return owner, f"{owner.removesuffix('Trainer')} {what}".strip()


def _begin_part(context: Any) -> None:
    owner, name = _owner_and_name(str(context.name))
    shows: bool | None = None
    for reference in _callbacks:
        callback = reference()
        if callback is not None and callback._is_at_work(owner):
            shows = callback.parts
            break
    if shows is None or current() is None:
        return
    if _announced.get(name) is not shows:
        register(name, opens=shows, completes=shows)
        _announced[name] = shows
    handle = phase(name)
    handle.__enter__()
    context._phasewatch = handle


def _end_part(context: Any, kind: Any = None, error: BaseException | None = None, traceback: Any = None) -> None:
    handle = vars(context).pop("_phasewatch", None)
    if handle is not None:
        handle.__exit__(kind, error, traceback)


# A trainer is met where it is given its callbacks: its constructor does it too, after those that came as callbacks=.


class _Meet:
    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        callbacks = [one for one in self._trainer.callback_handler.callbacks if isinstance(one, PhasewatchCallback)]
        for callback in callbacks[:1]:
            callback._adopt(self._trainer)
            if not callback.progress:
                for kind in (ProgressCallback, PrinterCallback):
                    self._trainer.remove_callback(kind)


surround(Trainer, "add_callback", lambda trainer, *_, **__: _Meet(trainer))
