"""Phases of verl's PPO trainers, the legacy one and that of V1, without a change to either.

`install` in the process that trains, or PHASEWATCH_VERL=1 in the environment of all. The trainers are imported by nobody but
the program: their classes are given their seams when it does.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import numbers
import sys
import threading
import weakref
from importlib.abc import Loader, MetaPathFinder
from typing import TYPE_CHECKING, Any

from .. import TrainingPlan, register
from .._report import warn
from ._flow import Flow, contained, surround
from ._later import LaterPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType, TracebackType

    from .. import Phase, PlanWarning

_BEFORE, _PERIODIC, _AFTER = "PRE-TRAINING VALIDATION", "PERIODIC VALIDATION", "POST-TRAINING VALIDATION"
_SAVING = "CHECKPOINT SAVING"
# Timers around what has a phase of its own, and around next to nothing.
_NO_PARTS = frozenset({"step", "testing", "save_checkpoint", "start_profile", "stop_profile"})

_BEGIN_STEPS = frozenset({"start_profile", "step"})  # whichever comes first


class _Seams:
    """Where the trainer of one module is held."""

    def __init__(self, trainer: str, init: str, names: Sequence[str]) -> None:
        self.trainer = trainer
        self.init = init
        self.methods = (init, "fit", "_validate", "_save_checkpoint")
        self.names = ("marked_timer", *names)  # of the module

    def missing(self, module: ModuleType) -> list[str]:
        """Return what this version of verl does not have."""
        trainer = getattr(module, self.trainer, None)
        if not isinstance(trainer, type):
            return [self.trainer]
        missing = [f"{self.trainer}.{name}" for name in self.methods if not callable(getattr(trainer, name, None))]
        missing += [f"{module.__name__}.{name}" for name in self.names if not hasattr(module, name)]
        try:
            from verl.utils.tracking import Tracking

            Tracking.log  # noqa: B018  # whether it is there
        except (ImportError, AttributeError):
            missing.append("verl.utils.tracking.Tracking.log")
        return missing


_SEAMS = {
    "verl.trainer.ppo.ray_trainer": _Seams("RayPPOTrainer", "init_workers", ["extract_reward"]),
    "verl.trainer.ppo.v1.trainer_base": _Seams("PPOTrainer", "init", ["tq"]),
}
_lives: weakref.WeakKeyDictionary[Any, _Life] = weakref.WeakKeyDictionary()
_here = threading.local()  # .life: of the trainer whose fit runs in this thread
_latest: weakref.ref[_Life] | None = None  # of which a run may be open
_given = False  # what `install` was given
_known: set[str] = set()  # parts that are registered


def install(*, parts: bool = False) -> None:
    """Have every PPO trainer of verl in this process tell its phases, those that are made from now on.

    It may be called before or after verl is imported, and again. Nothing is imported by it.

    Args:
        parts: whether the text tells of the parts of a step too (gen, reward, old_log_prob, update_actor, ...). The event
            log always has them.

    Raises:
        ImportError: verl is not installed.
    """
    global _given  # what each trainer of the process is told by
    if "verl" not in sys.modules and importlib.util.find_spec("verl") is None:
        raise ImportError("phasewatch.integrations.verl: verl is not installed here (pip install verl)")
    _given = parts
    _known.clear()
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name in _SEAMS:
        module = sys.modules.get(name)
        if module is not None:
            _hold(module)


# The import hook.


class _Finder(MetaPathFinder):
    """Finds the modules of the trainers as whoever else finds them, and sees them imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a trainer's module; None for any other."""
        if name not in _SEAMS:
            return None
        for finder in sys.meta_path:
            find = None if isinstance(finder, _Finder) else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Seeing(spec.loader)
                return spec
        return None


class _Seeing(Loader):
    """A loader that says when its module is there."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return what the loader itself makes."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Import the module, and hold its trainer."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader  # who asks later finds it as if we had not been here
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _hold(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


@contained
def _hold(module: ModuleType) -> None:
    """Hold the trainer of a module, or say once that this cannot be done."""
    seams = _SEAMS[module.__name__]
    missing = seams.missing(module)
    trainer: Any = getattr(module, seams.trainer, None)
    if missing:
        warn(
            f"verl {getattr(sys.modules.get('verl'), '__version__', '')} has no {', '.join(missing)}: its {seams.trainer} "
            "runs without phases; look for a phasewatch that knows this version of verl, or set PHASEWATCH_VERL=0"
        )
        return
    from verl.utils.tracking import Tracking

    if not _is_held(trainer, "__new__"):
        trainer.__new__ = _new(trainer, seams)
        _mark(trainer, "__new__")
    if not _is_held(Tracking, "log"):
        surround(Tracking, "log", _logging)
        _mark(Tracking, "log")


def _new(trainer: Any, seams: _Seams) -> staticmethod[..., Any]:
    """Return what makes an object of a trainer, or of a class that is derived from it, and holds that first.

    The trainer's ``__init__`` is left as it is: what it warns of is told of the line that has called it.
    """
    plain = trainer.__new__

    def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        _hold_class(cls, seams)
        return plain(cls) if plain is object.__new__ else plain(cls, *args, **kwargs)

    new.__wrapped__ = trainer.__init__  # type: ignore[attr-defined]  # where inspect finds the signature
    return staticmethod(new)


@contained
def _hold_class(trainer: type, seams: _Seams) -> None:
    """Hold the methods of a trainer wherever it has them from, since a class derived from verl's may have its own."""
    arounds = {seams.init: _initializing, "fit": _fitting, "_save_checkpoint": _saving}
    if inspect.iscoroutinefunction(getattr(trainer, "fit", None)):
        return  # the asynchronous ones of verl.experimental have another life
    for owner in trainer.__mro__:
        for name, around in arounds.items():
            if name in vars(owner) and not _is_held(owner, name):
                surround(owner, name, around)
                _mark(owner, name)
        if "_validate" in vars(owner) and not _is_held(owner, "_validate"):
            owner._validate = _validation(owner._validate)  # type: ignore[attr-defined]  # it is there
        module = sys.modules.get(owner.__module__)
        if module is not None and owner is not object:
            _hold_names(module)


def _hold_names(module: ModuleType) -> None:
    """Replace what a trainer's module calls by its global names."""
    for name, wrap in {"marked_timer": _timer, "extract_reward": _reward, "tq": _Queue}.items():
        value = vars(module).get(name)
        if value is not None and not hasattr(value, "phasewatch_held"):
            setattr(module, name, wrap(value))


def _is_held(owner: Any, name: str) -> bool:
    return hasattr(vars(owner).get(name), "phasewatch_held")


def _mark(owner: Any, name: str) -> None:
    vars(owner)[name].phasewatch_held = True


# What happens at the seams.


def _initializing(trainer: Any, *args: Any, **kwargs: Any) -> Any:
    return _life_of(trainer).initialize()


def _fitting(trainer: Any, *args: Any, **kwargs: Any) -> Any:
    return _life_of(trainer).fit()


def _saving(trainer: Any, *args: Any, **kwargs: Any) -> Any:
    return _life_of(trainer).save()


def _validation(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a validation that tells its phases, and the metrics it returns."""

    @functools.wraps(method)
    def validate(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        block = _begin_validation(trainer)
        if block is None:
            return method(trainer, *args, **kwargs)
        try:
            result = method(trainer, *args, **kwargs)
        except BaseException as error:
            block.end(error)
            raise
        block.end(None, result)
        return result

    validate.phasewatch_held = True  # type: ignore[attr-defined]  # functions take attributes
    return validate


@contained
def _begin_validation(trainer: Any) -> _Validating | None:
    return _life_of(trainer).validate()


def _timer(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return verl's timer, which tells a sub-phase."""

    @functools.wraps(original)
    def marked_timer(name: str, *args: Any, **kwargs: Any) -> Any:
        timer = original(name, *args, **kwargs)
        life = getattr(_here, "life", None)
        return timer if life is None else _Timed(timer, life, name)

    marked_timer.phasewatch_held = True  # type: ignore[attr-defined]  # functions take attributes
    return marked_timer


class _Timed:
    """A timer of verl with a phase around it; what the phase costs is no part of the time."""

    def __init__(self, timer: Any, life: _Life, name: str) -> None:
        self._timer, self._life, self._name = timer, life, name
        self._phase: Phase | None = None

    def __enter__(self) -> Any:
        self._phase = self._life.begin_part(self._name)
        try:
            return self._timer.__enter__()
        except BaseException as error:
            self._life.end_part(self._phase, error)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Any:
        try:
            return self._timer.__exit__(kind, error, trace)
        finally:
            self._life.end_part(self._phase, error)


def _reward(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the legacy trainer's `extract_reward`, which each batch of a validation passes."""

    @functools.wraps(original)
    def extract_reward(batch: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(batch, *args, **kwargs)
        _count_rewards(batch, result)
        return result

    extract_reward.phasewatch_held = True  # type: ignore[attr-defined]  # functions take attributes
    return extract_reward


@contained
def _count_rewards(batch: Any, result: Any) -> None:
    life = getattr(_here, "life", None)
    if life is not None and life.validation is not None and batch.meta_info.get("validate"):
        rewards = result[0] if isinstance(result, tuple) else result
        life.count_batch(len(batch) // life.validation.answers, rewards)


class _Queue:
    """The transfer queue of V1's trainer, which each batch of a validation passes; otherwise it is itself."""

    phasewatch_held = True

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def kv_batch_get(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the queue holds; of a validation, count the questions and the rewards that are in it."""
        data = self._queue.kv_batch_get(*args, **kwargs)
        self._count(data, **kwargs)
        return data

    @contained
    def _count(self, data: Any, keys: Any = (), partition_id: Any = None, select_fields: Any = (), **_: Any) -> None:
        life = getattr(_here, "life", None)
        if life is None or life.validation is None or partition_id != "val" or "rm_scores" not in (select_fields or ()):
            return
        life.count_batch(len({key.rsplit("_", 2)[0] for key in keys}), data["rm_scores"])


def _logging(tracking: Any, data: Any = None, step: Any = None, *args: Any, **kwargs: Any) -> Any:
    life = getattr(_here, "life", None)
    return None if life is None or not isinstance(data, dict) else life.log(data, step)


# The life of one trainer.


class _Block:
    """A block that ends what it was told to."""

    def __init__(self, end: Callable[[BaseException | None], None]) -> None:
        self._end = end

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end(error)


class _Abandoned(BaseException):
    """Why a trainer's run ends that was never trained."""


class _Validating:
    """A validation under way."""

    def __init__(self, life: _Life, around: Phase, inner: Phase, answers: int) -> None:
        self._life, self._around = life, around
        self.phase = inner
        self.answers = answers  # to each question

    @contained
    def end(self, error: BaseException | None, metrics: Any = None) -> None:
        if error is None and isinstance(metrics, dict):
            self.phase.log(_figures(metrics))
        self._life.validation = None
        self._life.flow.end(self._around, error)


class _Life:
    """What is known of a trainer, and which of its phases are open."""

    def __init__(self, trainer: Any) -> None:
        self._weak = weakref.ref(trainer)
        self.flow = Flow()
        self.validation: _Validating | None = None
        self._thread = threading.get_ident()  # in which it was initialized
        self._reset()

    @property
    def _trainer(self) -> Any:
        return self._weak()  # which is there: one of its methods is running

    def _reset(self) -> None:
        self._plan: _Plan | None = None
        self._training: Phase | None = None
        self._step: Phase | None = None
        self._number: int | None = None  # of the step that began last
        self._per_epoch: int | None = None  # steps
        self._trained = False  # TRAINING has ended
        self._depth = {"init": 0, "fit": 0, "save": 0}  # calls of a method inside itself: of what it was derived from

    # The run.

    def initialize(self) -> _Block | None:
        """Begin INITIALIZATION, and the run."""
        global _latest  # a trainer that never came to train must not have the next one inside of its run
        if self.flow:
            return None
        if _latest is not None:
            before = _latest()
            if before is not None and before._is_abandoned():
                before.flow.close(_Abandoned("another trainer began"))
        _latest = weakref.ref(self)
        self._reset()
        self._begin_run()
        self._depth["init"] = 1
        initialization = self.flow.begin("INITIALIZATION", message="Creating Resource Pools and Workers")

        def end(error: BaseException | None) -> None:
            self._depth["init"] = 0
            self.flow.end(initialization, error)
            if error is not None:
                self.flow.close(error)

        return _Block(end)

    def _is_abandoned(self) -> bool:
        return self._thread == threading.get_ident() and not any(self._depth.values())

    def fit(self) -> _Block | None:
        """Begin to train: the run, if it is not there, since a trainer may be made in another way."""
        if self._depth["fit"]:
            return None
        if not self.flow:
            self._reset()
            self._begin_run()
        self._depth["fit"] = 1
        outer, _here.life = getattr(_here, "life", None), self

        def end(error: BaseException | None) -> None:
            _here.life = outer
            self._depth["fit"] = 0
            self.flow.close(error)

        return _Block(end)

    def _begin_run(self) -> None:
        trainer = self._trainer
        self._plan = _Plan(trainer)
        name = trainer.config.trainer.get("experiment_name") or "verl"
        self.flow.begin_run(str(name), plan=self._plan)

    def _know_plan(self, start: int) -> None:
        if self._plan is not None and self._plan.known is None:
            trainer = self._trainer
            plan = _plan_of(trainer, start)
            counts = plan.counts()
            if trainer.config.trainer.get("critic_warmup"):  # as long as that lasts, the legacy trainer saves nothing
                counts.pop(_SAVING, None)
            self._plan.know(plan, counts)

    # Validation and saving.

    def validate(self) -> _Validating | None:
        """Begin the validation that it is: before, between or after the steps."""
        if not self._depth["fit"] or self.validation is not None:
            return None
        trainer = self._trainer
        step = trainer.global_steps
        if self._number is None:
            self._know_plan(step)
            around = self.flow.begin(_BEFORE)
        else:
            self._end_step()
            if step >= trainer.total_training_steps:
                self._end_training()
                around = self.flow.begin(_AFTER)
            else:
                around = self.flow.begin(_PERIODIC, step=step)
        questions, answers = len(trainer.val_dataset), int(trainer.config.actor_rollout_ref.rollout.val_kwargs.n)
        inner = self.flow.begin(
            "VALIDATION",
            total=len(trainer.val_dataloader),
            unit="batch",
            counters={"questions": questions},
            details={"Batch size": trainer.config.data.val_batch_size or questions},
        )
        self.validation = _Validating(self, around, inner, max(1, answers))
        return self.validation

    def count_batch(self, questions: int, rewards: Any) -> None:
        """Count a batch of a validation.

        Args:
            questions: answered in it.
            rewards: of each token, shape (answers, tokens). Those on a device are not waited for.
        """
        assert self.validation is not None
        figures = {"questions": questions}
        if rewards.device.type == "cpu":
            each = rewards.sum(1).tolist()
            if each:
                figures["reward"] = sum(each) / len(each)
        self.validation.phase.advance(**figures)

    def save(self) -> _Block | None:
        """Begin CHECKPOINT SAVING."""
        if not self._depth["fit"] or self._depth["save"]:
            return None
        self._end_step()  # whose length says how long steps are
        self._depth["save"] = 1
        saving = self.flow.begin(_SAVING, step=self._trainer.global_steps)

        def end(error: BaseException | None) -> None:
            self._depth["save"] = 0
            self.flow.end(saving, error)

        return _Block(end)

    # Steps.

    @contained
    def begin_part(self, name: str) -> Phase | None:
        """Begin a part of a step; where all of a step begins, the step."""
        if self.validation is not None or self._trained:
            return None
        if name in _BEGIN_STEPS:
            self._begin_step()
        if name in _NO_PARTS or self._training is None:
            return None
        if name not in _known:
            register(name, opens=_given, completes=False)
            _known.add(name)
        return self.flow.begin(name)

    @contained
    def end_part(self, part: Phase | None, error: BaseException | None) -> None:
        """End a part of a step."""
        self.flow.end(part, error)

    def _begin_step(self) -> None:
        trainer = self._trainer
        number = trainer.global_steps
        if number == self._number:
            return
        self._end_step()
        if self._training is None:
            self._know_plan(number - 1)
            # Asked once: each look at verl's configuration costs as much as a phase.
            total, epochs = trainer.total_training_steps, trainer.config.trainer.total_epochs
            self._per_epoch = _steps_per_epoch(trainer)
            self._training = self.flow.begin("TRAINING", total=total, unit="step", epochs=epochs, start=number - 1)
        epoch = None if self._per_epoch is None else (number - 1) // self._per_epoch + 1
        self._number = number
        self._step = self.flow.enter(self._training.step(step=number, epoch=epoch))

    def _end_step(self) -> None:
        self.flow.end(self._step)

    def _end_training(self) -> None:
        self.flow.end(self._training)
        self._trained = True

    def log(self, metrics: Mapping[str, Any], step: Any) -> _Block | None:
        """Take the metrics that verl logs when a step is over."""
        handle = self._step
        if handle is None or step != self._number:
            return None
        if handle.status != "running":  # validated or saved since
            self.flow.log_after(handle, _figures(metrics))
            return None
        handle.log(_figures(metrics))
        return _Block(lambda error: None if error is not None else self.flow.end(handle))


def _life_of(trainer: Any) -> _Life:
    life = _lives.get(trainer)
    if life is None:
        life = _lives[trainer] = _Life(trainer)
    return life


def _figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what verl has as numbers; tensors are left where they are."""
    return {
        name: value
        for name, value in metrics.items()
        if value.__class__ is float or isinstance(value, numbers.Real)  # to ask the second costs ten times as much
    }


# The plan.


class _Plan(LaterPlan):
    """A plan that is known when a trainer has its data and its first step; what of it looks wrong, as soon as may be."""

    def __init__(self, trainer: Any) -> None:
        settings = trainer.config.trainer
        super().__init__(validates_only=bool(settings.get("val_only") and settings.get("val_before_train", True)))
        self._doubts: list[PlanWarning] = []
        try:
            self._doubts = _plan_of(trainer, 0).warnings()
        except ValueError:  # V1's trainer knows its number of steps later
            pass

    def warnings(self) -> list[PlanWarning]:
        """Return what looks like a mistake, as far as it is known before the run."""
        return self._doubts


def _plan_of(trainer: Any, start: int) -> TrainingPlan:
    known: dict[str, Any] = {
        "total_steps": getattr(trainer, "total_training_steps", None),
        "steps_per_epoch": _steps_per_epoch(trainer),
        "val_batches": len(trainer.val_dataloader) if hasattr(trainer, "val_dataloader") else None,
    }
    given = {name: value for name, value in known.items() if value is not None}
    return TrainingPlan.from_config(trainer.config, at_last_step=True, start_step=start, **given)


def _steps_per_epoch(trainer: Any) -> int | None:
    if hasattr(trainer, "steps_per_epoch"):  # V1; its dataloader may give smaller batches
        return int(trainer.steps_per_epoch)
    return len(trainer.train_dataloader) if hasattr(trainer, "train_dataloader") else None
