"""What a training run will do, in which order: pure arithmetic over its configuration."""

from __future__ import annotations

from .._annotations import TYPE_CHECKING
from .schedule import PlanWarning, Schedule, Stretch, whole
from .values import read_bool

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

_BEFORE, _AFTER = "PRE-TRAINING VALIDATION", "POST-TRAINING VALIDATION"
_STEP, _PERIODIC, _SAVING = "TRAINING STEP", "PERIODIC VALIDATION", "CHECKPOINT SAVING"
_NEVER = -1


class TrainingPlan(Schedule):
    """The schedule of a training run with periodic validation and saving.

    Args:
        total_steps: the last training step; None for ``epochs * steps_per_epoch``.
        epochs: how often the data is gone through.
        steps_per_epoch: training steps in one epoch; None for as many batches as the training samples make.
        val_before_train: validate before the first step.
        val_only: end after that validation.
        test_freq: validate every so many steps; 0 or less is never.
        save_freq: save every so many steps; 0 or less is never.
        val_after_train: validate after the last step.
        val_batches: batches in one validation; None for as many as the validation samples make.
        start_step: steps that were done before (a resumed run).
        at_last_step: the custom of verl: the last step saves and validates, in this order, whenever the frequency is
            positive. Otherwise only multiples of the frequency do.
        saves_last: whether the last step saves whenever that frequency is positive; None for what ``at_last_step`` says.
        train_samples: those of one epoch.
        train_batch_size: samples in one step.
        val_samples: those of one validation.
        val_batch_size: samples in one batch of it.
        drop_last: whether a last batch that is not full is left out.
        val_drop_last: whether validation leaves it out; None for what ``drop_last`` says.

    Raises:
        ValueError: no total, a negative number of steps, or a value that is no whole number.
    """

    kinds = (_BEFORE, _STEP, _PERIODIC, _SAVING, _AFTER)

    def __init__(
        self,
        total_steps: int | None = None,
        *,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        val_before_train: bool = True,
        val_only: bool = False,
        test_freq: int = _NEVER,
        save_freq: int = _NEVER,
        val_after_train: bool = True,
        val_batches: int | None = None,
        start_step: int = 0,
        at_last_step: bool = False,
        saves_last: bool | None = None,
        train_samples: int | None = None,
        train_batch_size: int | None = None,
        val_samples: int | None = None,
        val_batch_size: int | None = None,
        drop_last: bool = False,
        val_drop_last: bool | None = None,
    ) -> None:
        self.train_samples, self.val_samples = _whole("train_samples", train_samples), _whole("val_samples", val_samples)
        self.train_batch_size = _whole("train_batch_size", train_batch_size, least=1)
        self.val_batch_size = _whole("val_batch_size", val_batch_size, least=1)
        self.drop_last = _truth("drop_last", drop_last)
        self.val_drop_last = self.drop_last if val_drop_last is None else _truth("val_drop_last", val_drop_last)
        self.epochs = _whole("epochs", epochs)
        self.steps_per_epoch = _whole("steps_per_epoch", steps_per_epoch)
        if self.steps_per_epoch is None:
            self.steps_per_epoch = _batches(self.train_samples, self.train_batch_size, self.drop_last)
        total = _whole("total_steps", total_steps)
        if total is None:
            if self.epochs is None or self.steps_per_epoch is None:
                raise ValueError("TrainingPlan: give total_steps, or both epochs and steps_per_epoch")
            total = self.epochs * self.steps_per_epoch
        self.total_steps = total
        self.val_before_train = _truth("val_before_train", val_before_train)
        self.val_only = _truth("val_only", val_only)
        self.test_freq = _frequency("test_freq", test_freq)
        self.save_freq = _frequency("save_freq", save_freq)
        self.val_after_train = _truth("val_after_train", val_after_train)
        self.val_batches = _whole("val_batches", val_batches)
        if self.val_batches is None:
            self.val_batches = _batches(self.val_samples, self.val_batch_size, self.val_drop_last)
        self.start_step = _whole("start_step", start_step) or 0
        self.at_last_step = _truth("at_last_step", at_last_step)
        self.saves_last = self.at_last_step if saves_last is None else _truth("saves_last", saves_last)
        self._told: tuple[PlanWarning, ...] = ()  # of the configuration that it was made from

    def __repr__(self) -> str:
        options = (f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"TrainingPlan({', '.join(options)})"

    @classmethod
    def from_config(
        cls,
        source: Mapping[str, Any] | Iterable[str] | str | os.PathLike[str] = (),
        *,
        overrides: Iterable[str] = (),
        **more: Any,
    ) -> TrainingPlan:
        """Return the plan that a trainer's configuration describes. docs/plans.md lists the keys that are read.

        Args:
            source: a mapping, nested or with dotted keys (an OmegaConf one too), a list of ``"trainer.x=y"`` overrides, or
                the path of a shell script, a YAML or a JSON file that holds them. A script is read, never run.
                What does not concern the schedule is passed over.
            overrides: ``"trainer.x=y"`` ones that go before the source; of a script, the arguments that it is called with.
            **more: arguments of `TrainingPlan` that the configuration does not hold; they take precedence.

        Raises:
            TypeError: the source is none of these.
            ValueError: a value that is not of its option's type, a file that holds no such configuration, or no total of
                steps.
            OSError: a file that cannot be read.
            ImportError: YAML, where PyYAML is not installed.
        """
        from .configuration import arguments_of  # here: it imports json, which programs without it need not pay for

        arguments = arguments_of(source, overrides, more)
        plan = cls(**arguments.values)
        plan._told = arguments.warnings
        return plan

    @property
    def validates_only(self) -> bool:  # type: ignore[override]  # here it depends on what was given
        """Whether the run ends after its first validation. That is where trainers exit: without it, they train."""
        return self.val_only and self.val_before_train

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
        return step % self.save_freq == 0 or (self.saves_last and step == self.total_steps)

    def validates_at_end(self) -> bool:
        """Whether a POST-TRAINING VALIDATION follows the last step."""
        if not self.val_after_train or self.validates_only:
            return False
        # By the custom of verl, the last step does it.
        return not self.at_last_step or (self.test_freq > 0 and self.start_step < self.total_steps)

    def epoch_of(self, step: int) -> int | None:
        """Return the epoch of a step, both counted from 1; None if the steps per epoch are not known."""
        return (step - 1) // self.steps_per_epoch + 1 if self.steps_per_epoch else None

    def stretches(self) -> Iterator[Stretch]:
        """Yield what will run from the first validation on, in order, steps with nothing between them as one."""
        if self.val_before_train:
            yield Stretch(_BEFORE)
        if self.validates_only:
            return
        step, frequencies = self.start_step, [freq for freq in (self.test_freq, self.save_freq) if freq > 0]
        while step < self.total_steps:
            first = step + 1
            step = min([self.total_steps, *((step // freq + 1) * freq for freq in frequencies)])
            yield Stretch(_STEP, step - first + 1, first, step)
            after = [(_PERIODIC, self.validates_after(step)), (_SAVING, self.saves_after(step))]
            for name, happens in reversed(after) if self.at_last_step else after:
                if happens:
                    yield Stretch(name, 1, step, step)
        if self.validates_at_end():
            yield Stretch(_AFTER)

    def counts(self) -> dict[str, int]:
        """Return how often each phase will run, in the order in which they come first. It takes no time to speak of."""
        counts = {_BEFORE: 1} if self.val_before_train else {}
        steps = 0 if self.validates_only else max(0, self.total_steps - self.start_step)
        if steps:
            counts[_STEP] = steps
            periodic = []
            for name, freq, happens_after in (
                (_PERIODIC, self.test_freq, self.validates_after), (_SAVING, self.save_freq, self.saves_after),
            ):  # fmt: skip
                # The last step has customs of its own.
                count = self._multiples(freq, self.total_steps - 1) + happens_after(self.total_steps)
                if count:
                    first = min(self.total_steps, (self.start_step // freq + 1) * freq)
                    periodic.append((first, (name == _PERIODIC) == self.at_last_step, name, count))
            counts |= {name: count for _, _, name, count in sorted(periodic)}
        if self.validates_at_end():
            counts[_AFTER] = 1
        return counts

    def _multiples(self, freq: int, last: int) -> int:
        """Return how many multiples of a frequency there are from the first step to do to another one."""
        return last // freq - self.start_step // freq if freq > 0 else 0

    # What looks like a mistake.

    def warnings(self) -> list[PlanWarning]:
        """Return what looks like a mistake in the plan; docs/plans.md lists the codes."""
        found = [*self._told, *self._of_the_only_validation(), *self._of_the_data()]
        if not self.validates_only:
            found += [*self._of_the_length(), *self._of_the_epochs()]
            if self.start_step < self.total_steps:
                found += [*self._of_validation(), *self._of_saving()]
        return found

    def _of_the_only_validation(self) -> Iterator[PlanWarning]:
        if self.val_only and not self.val_before_train:
            yield PlanWarning(
                "val-only-trains",
                f"val_only without val_before_train does not end the run: it trains {_steps(self.total_steps)}",
                "set val_before_train too",
            )

    def _of_the_data(self) -> Iterator[PlanWarning]:
        if self.val_batches is None or self.val_batch_size is None or self.val_samples is None:
            return
        covered = self.val_batches * self.val_batch_size
        if covered < self.val_samples and self._validates():
            yield PlanWarning(
                "validation-incomplete",
                f"a validation of {self.val_batches} x {self.val_batch_size} reaches {covered} of {self.val_samples} "
                f"samples: {self.val_samples - covered} are never validated",
                "do not drop the last batch"
                if self.val_batches == self.val_samples // self.val_batch_size
                else f"it takes {-(-self.val_samples // self.val_batch_size)} batches",
            )

    def _of_the_length(self) -> Iterator[PlanWarning]:
        if self.start_step >= self.total_steps:
            done = f"start_step={self.start_step}, total_steps={self.total_steps}" if self.start_step else "total_steps=0"
            yield PlanWarning("nothing-to-do", f"{done}: no training step is left to do", "raise the total")

    def _of_the_epochs(self) -> Iterator[PlanWarning]:
        if not self.epochs or not self.steps_per_epoch:
            return
        whole, last = self.epochs * self.steps_per_epoch, self.epoch_of(self.total_steps)
        product = f"epochs={self.epochs} x steps_per_epoch={self.steps_per_epoch}"
        if self.total_steps > whole:
            yield PlanWarning(
                "total-contradicts-epochs",
                f"total_steps={self.total_steps} is more than {product} = {whole}: the data ends {self.total_steps - whole} "
                "steps before",
                f"raise epochs to {last}, or lower the total",
            )
        elif self.total_steps and last is not None and last < self.epochs:
            yield PlanWarning(
                "total-contradicts-epochs",
                f"total_steps={self.total_steps} is less than {product} = {whole}: training ends in epoch {last} of "
                f"{self.epochs}",
                f"lower epochs to {last}, or leave the total out",
            )

    def _of_validation(self) -> Iterator[PlanWarning]:
        freq, total = self.test_freq, self.total_steps
        if freq > total and not self.at_last_step:
            instead = "" if self._validates() else ", and there is no other"
            yield PlanWarning(
                "no-validation",
                f"test_freq={freq} is never reached in {_steps(total)}: no {_PERIODIC} runs{instead}",
                f"set test_freq to {total} or less",
            )
        elif not self._validates() and (self.val_samples or self.val_batches):
            yield PlanWarning(
                "no-validation",
                f"there is data to validate with, but with test_freq={freq} and none before or after training nothing does",
                # Where the last step validates, as in verl, nothing is to validate after it.
                "set test_freq or val_before_train"
                if self.at_last_step
                else "set test_freq, val_before_train or val_after_train",
            )
        elif freq == 0 or freq < _NEVER:
            yield _odd("test_freq", freq, f"no {_PERIODIC} runs")

    def _of_saving(self) -> Iterator[PlanWarning]:
        freq, total = self.save_freq, self.total_steps
        if freq > total and not self.saves_last:
            yield PlanWarning(
                "no-saving",
                f"save_freq={freq} is never reached in {_steps(total)}: nothing is ever saved",
                f"set save_freq to {total} or less",
            )
        elif freq > 0 and total % freq and not self.saves_last:
            last = total - total % freq
            lost = f"step {total} comes" if last + 1 == total else f"steps {max(last, self.start_step) + 1} to {total} come"
            yield PlanWarning(
                "steps-not-saved",
                f"{lost} after the last {_SAVING} (step {last}) and {'is' if last + 1 == total else 'are'} lost",
                f"save after the last step, or set a save_freq that divides {total}",
            )
        elif freq <= 0 and self.start_step:
            yield PlanWarning(
                "no-saving",
                f"the run resumes after step {self.start_step}, but with save_freq={freq} it saves nothing itself",
                "set save_freq",
            )
        elif freq == 0 or freq < _NEVER:
            yield _odd("save_freq", freq, "nothing is ever saved")

    def _validates(self) -> bool:
        return any(name in (_BEFORE, _PERIODIC, _AFTER) for name in self.counts())


def _odd(option: str, freq: int, so: str) -> PlanWarning:
    return PlanWarning("odd-frequency", f"{option}={freq} means never: {so}", f"set {option}=-1 if that is meant")


def _steps(number: int) -> str:
    return f"{number} step{'' if number == 1 else 's'}"


def _whole(option: str, value: object, *, least: int | None = 0) -> int | None:
    return whole("TrainingPlan", option, value, least=least)


def _truth(option: str, value: object) -> bool:
    return read_bool(f"TrainingPlan: {option}", value)


def _frequency(option: str, value: object) -> int:
    number = _whole(option, value, least=None)
    return _NEVER if number is None else number


def _batches(samples: int | None, size: int | None, drops_last: bool) -> int | None:
    if samples is None or size is None:
        return None
    return samples // size if drops_last else -(-samples // size)
