"""What a training run will do, in which order: pure arithmetic over its configuration."""

from __future__ import annotations

from ._annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

_NOTHING = ("", "null", "none")  # as configurations write that a value is not given
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class TrainingPlan:
    """The schedule of a training run with periodic validation and saving.

    Args:
        total_steps: the last training step; None for ``epochs * steps_per_epoch``.
        epochs: how often the data is gone through.
        steps_per_epoch: training steps in one epoch.
        val_before_train: validate before the first step.
        val_only: end after that validation.
        test_freq: validate every so many steps; 0 or less is never.
        save_freq: save every so many steps; 0 or less is never.
        val_after_train: validate after the last step.
        val_batches: batches in one validation.
        start_step: steps that were done before (a resumed run).
        at_last_step: the custom of verl: the last step saves and validates, in this order, whenever the frequency is
            positive. Otherwise only multiples of the frequency do.

    Raises:
        ValueError: no total, a negative number of steps, or a value that is no whole number.
    """

    def __init__(
        self,
        total_steps: int | None = None,
        *,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        val_before_train: bool = True,
        val_only: bool = False,
        test_freq: int = -1,
        save_freq: int = -1,
        val_after_train: bool = True,
        val_batches: int | None = None,
        start_step: int = 0,
        at_last_step: bool = False,
    ) -> None:
        self.epochs = _whole("epochs", epochs)
        self.steps_per_epoch = _whole("steps_per_epoch", steps_per_epoch)
        total = _whole("total_steps", total_steps)
        if total is None:
            if self.epochs is None or self.steps_per_epoch is None:
                raise ValueError("TrainingPlan: give total_steps, or both epochs and steps_per_epoch")
            total = self.epochs * self.steps_per_epoch
        self.total_steps = total
        self.val_before_train = read_bool("TrainingPlan: val_before_train", val_before_train)
        self.val_only = read_bool("TrainingPlan: val_only", val_only)
        self.test_freq = _whole("test_freq", test_freq, least=None) or -1
        self.save_freq = _whole("save_freq", save_freq, least=None) or -1
        self.val_after_train = read_bool("TrainingPlan: val_after_train", val_after_train)
        self.val_batches = _whole("val_batches", val_batches)
        self.start_step = _whole("start_step", start_step) or 0
        self.at_last_step = read_bool("TrainingPlan: at_last_step", at_last_step)

    def __repr__(self) -> str:
        options = {**vars(self), "total_steps": self.total_steps}
        return f"TrainingPlan({', '.join(f'{name}={value!r}' for name, value in options.items())})"

    @classmethod
    def from_config(cls, source: Mapping[str, Any] | Iterable[str], **more: Any) -> TrainingPlan:
        """Return the plan that a trainer's configuration describes.

        Args:
            source: a mapping, nested or with dotted keys (an OmegaConf one too), or a list of ``"trainer.x=y"`` overrides.
                What does not concern the schedule is passed over.
            **more: arguments of `TrainingPlan` that the configuration does not hold; they take precedence.

        Raises:
            TypeError: the source is neither a mapping nor a list of overrides.
            ValueError: a value that is not of its option's type, or no total of steps.
        """
        config = source if hasattr(source, "keys") else _overrides(source)
        given: dict[str, Any] = {}
        for key, (option, read) in _KEYS.items():
            value = _look_up(config, key)
            if value is not None and str(value).lower() not in _NOTHING:
                given[option] = read(key, value)
        return cls(**{**given, **more})

    def validates_after(self, step: int) -> bool:
        """Whether a PERIODIC VALIDATION follows this step."""
        if self.validates_only or self.test_freq <= 0 or not self.start_step < step <= self.total_steps:
            return False
        if step == self.total_steps:  # validated once: after training, if that is asked for
            return not self.val_after_train and (self.at_last_step or step % self.test_freq == 0)
        return step % self.test_freq == 0

    def saves_after(self, step: int) -> bool:
        """Whether a CHECKPOINT SAVING follows this step."""
        if self.validates_only or self.save_freq <= 0 or not self.start_step < step <= self.total_steps:
            return False
        return step % self.save_freq == 0 or (self.at_last_step and step == self.total_steps)

    def validates_at_end(self) -> bool:
        """Whether a POST-TRAINING VALIDATION follows the last step."""
        if not self.val_after_train or self.validates_only:
            return False
        # By the custom of verl, the last step does it.
        return not self.at_last_step or (self.test_freq > 0 and self.start_step < self.total_steps)

    def epoch_of(self, step: int) -> int | None:
        """Return the epoch of a step, both counted from 1; None if the steps per epoch are not known."""
        return (step - 1) // self.steps_per_epoch + 1 if self.steps_per_epoch else None

    def phases(self) -> Iterator[tuple[str, int | None]]:
        """Yield the name and step of every phase from the first validation on, in the order in which they will run."""
        if self.val_before_train:
            yield "PRE-TRAINING VALIDATION", None
        if self.validates_only:
            return
        for step in range(self.start_step + 1, self.total_steps + 1):
            yield "TRAINING STEP", step
            after = [("PERIODIC VALIDATION", self.validates_after(step)), ("CHECKPOINT SAVING", self.saves_after(step))]
            for name, happens in reversed(after) if self.at_last_step else after:
                if happens:
                    yield name, step
        if self.validates_at_end():
            yield "POST-TRAINING VALIDATION", None

    def counts(self) -> dict[str, int]:
        """Return how often each phase will run."""
        counts: dict[str, int] = {}
        for name, _ in self.phases():
            counts[name] = counts.get(name, 0) + 1
        return counts

    @property
    def validates_only(self) -> bool:
        """Whether the run ends after its first validation. That is where trainers exit: without it, they train."""
        return self.val_only and self.val_before_train


def _whole(option: str, value: object, *, least: int | None = 0) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)  # type: ignore[call-overload]  # anything that is a whole number
        if number != float(value):  # type: ignore[arg-type]  # as above
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"TrainingPlan: {option}={value!r} must be a whole number") from None
    if least is not None and number < least:
        raise ValueError(f"TrainingPlan: {option}={value!r} must be at least {least}")
    return int(number)


def read_int(key: str, value: object) -> int:
    """Return a configured whole number, which may be text. Raises ValueError."""
    try:
        number = int(value)  # type: ignore[call-overload]  # a number, or text that is one
        if isinstance(value, (str, bytes)) or number == value:
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{key}={value!r} must be a whole number")


def read_bool(key: str, value: object) -> bool:
    """Return a configured truth value, which may be text. Raises ValueError."""
    text = str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise ValueError(f"{key}={value!r} must be true or false")
    return text in _TRUE


_KEYS = {
    "trainer.total_training_steps": ("total_steps", read_int),
    "trainer.total_epochs": ("epochs", read_int),
    "trainer.val_before_train": ("val_before_train", read_bool),
    "trainer.val_only": ("val_only", read_bool),
    "trainer.val_after_train": ("val_after_train", read_bool),
    "trainer.test_freq": ("test_freq", read_int),
    "trainer.save_freq": ("save_freq", read_int),
}


def _overrides(source: object) -> dict[str, str]:
    if isinstance(source, (str, bytes)) or not hasattr(source, "__iter__"):
        raise TypeError(f"TrainingPlan.from_config: {source!r} is neither a mapping nor a list of 'trainer.x=y' overrides")
    pairs = [str(override).lstrip("+").partition("=") for override in source]
    return {key: value for key, _, value in pairs}


def _look_up(config: Any, key: str) -> Any:
    """Return what stands in a mapping under a dotted key, flat or nested; None if nothing does."""
    if key in config:
        return config[key]
    for part in key.split("."):
        if not hasattr(config, "keys") or part not in config:
            return None
        config = config[part]
    return config
