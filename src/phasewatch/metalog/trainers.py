"""What trainers print themselves, to phases: for logs of runs that never used phasewatch.

Understood are the console lines of verl (``step:12 - actor/loss:0.1 - timing_s/step:98.7``), the dictionaries of the Hugging
Face Trainer (``{'loss': 0.3, 'epoch': 0.5}``), its notes of saved checkpoints, and the bars of tqdm that go with them. A bar
alone is no phase: anything may have one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..events import MetricsLogged, PhaseProgressed, Position

if TYPE_CHECKING:
    from .stack import Open, Stack

_MOST_FIGURES = 2000  # of a line
_F = r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?(?:e[+-]?[0-9]{1,3})?|\.[0-9]{1,40}|nan|inf)"

_VERL = re.compile(r"(?:^|(?<=\])|(?<=\] ))step:([0-9]{1,18}) - (?=\S+:)")
_FIGURE = re.compile(rf"(?:[\w.]{{1,40}}\()?'?({_F})'?(?:,[^()]{{0,100}})?\)?$", re.IGNORECASE)
_PAIR = re.compile(rf"'([^']{{1,500}})': '?({_F})'?(?=[,}}])", re.IGNORECASE)
_SAVED = re.compile(r"Saving model checkpoint to \S{0,1000}?(?:checkpoint|global_step)[-_]([0-9]{1,18})\b")
_BAR = re.compile(
    r"(?:(?P<what>[^|%\r]{0,100}?): +)?\s*[0-9]{1,3}%\|[^|]{0,300}\| *(?P<done>[0-9]{1,15})/(?P<total>[0-9]{1,15})"
    r" \[(?P<elapsed>[0-9:]{2,15})<(?P<left>[0-9:]{2,15}|\?)"
)

_STEP_TIME = "timing_s/step"
# What verl times beside or inside a step, and the phase that it is.
_BESIDE = {"timing_s/save_checkpoint": "CHECKPOINT SAVING", "timing_s/testing": "PERIODIC VALIDATION"}


class Trainers:
    """Makes phases of one trainer's own lines.

    Args:
        stack: where they are opened.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._bar: tuple[int, int, float, float | None] | None = None  # done, total, seconds, seconds left
        self._bar_told = 0  # units of the bar that have been told
        self._main: tuple[str, int] | None = None  # what the bar of the training says, and its total
        self._last = 0  # the last step
        self._ended = float("-inf")  # when the last step, with what is beside it, was over
        self._step_began: float | None = None  # seconds of the bar
        self._steps_seen = False
        self._over = False

    def line(self, text: str, time: float | None) -> None:
        """Look at one line."""
        if found := _VERL.search(text):
            self._stack.at(time)
            self._verl(int(found[1]), text[found.end() :])
        elif (at := text.find("{'")) >= 0 and "'epoch': " in text:
            self._stack.at(time)
            self._trainer(_numbers(text[at:]))
        elif found := _SAVED.search(text):
            self._stack.at(time)
            if self._steps_seen:
                self._short("CHECKPOINT SAVING", 0.0, int(found[1]))
        elif found := _BAR.search(text):
            self._progress(found, time)

    def stop(self) -> None:
        """Banners begin: what was before was another run, or what they tell better."""
        self._stack.give_up()

    def close(self) -> None:
        """No line follows: a training that has ended was the whole run."""
        if self._over and self._stack.run is not None:
            self._stack.end_run("completed")

    # verl.

    def _verl(self, number: int, said: str) -> None:
        metrics: dict[str, float] = {}
        for part in said.split(" - ", _MOST_FIGURES):
            name, _, text = part.rpartition(":")
            if name and (figure := _FIGURE.match(text.strip())):
                metrics[name] = float(figure[1])
        if not metrics:
            return
        names = list(metrics)
        if _STEP_TIME not in metrics and all(name.startswith(("val", "timing_s/")) for name in names):
            what = "PERIODIC VALIDATION" if self._steps_seen else "PRE-TRAINING VALIDATION"
            self._short(what, _positive(metrics.get("timing_s/testing")), number or None, metrics)
            return
        stack = self._stack
        whole = _positive(metrics.get(_STEP_TIME))
        beside = [(name, _positive(metrics[name])) for name in names if name in _BESIDE]
        # What was timed inside a step was done before the step was, and stands before it: so in old versions.
        place = names.index(_STEP_TIME) if _STEP_TIME in metrics else len(names)
        inside = sum(seconds for name, seconds in beside if names.index(name) < place)
        outside = sum(seconds for name, seconds in beside if names.index(name) > place)
        if inside > whole:
            inside, outside = 0.0, inside + outside
        now = stack.now
        if stack.has_times:
            stack.now = max(self._ended, now - whole - outside)
        training = self._training()
        if stack.has_times and _STEP_TIME not in metrics:
            whole = max(0.0, now - stack.now - outside)
        self._step(training, number, max(0.0, whole - inside), metrics)
        for name, seconds in beside:
            self._short(_BESIDE[name], seconds, number)
        if stack.has_times:
            stack.now = max(stack.now, now)
        if self._main is not None and number >= self._main[1]:
            self._end_training(None)

    # The Trainer of transformers.

    def _trainer(self, metrics: dict[str, float]) -> None:
        if "train_runtime" in metrics:
            training = self._training()
            training.metrics = metrics
            self._end_training(_positive(metrics["train_runtime"]))
        elif any(name.startswith("eval_") for name in metrics):
            what = "PERIODIC VALIDATION" if self._steps_seen else "PRE-TRAINING VALIDATION"
            if self._over:
                what = "POST-TRAINING VALIDATION"
            self._short(what, _positive(metrics.get("eval_runtime")), self._last if self._steps_seen else None, metrics)
        elif metrics:
            training = self._training()
            bar = self._bar
            if bar is None or bar[0] == self._last + 1:
                began = self._step_began or 0.0
                seconds = 0.0 if bar is None else max(0.0, bar[2] - began)
                if self._stack.has_times and bar is None and self._steps_seen:
                    seconds = max(0.0, self._stack.now - self._ended)
                self._stack.now = max(self._ended, training.started, self._stack.now - seconds)
                self._step(training, self._last + 1, seconds, metrics)
            else:
                self._last = max(self._last, bar[0])
                self._tell(training, bar)
                self._stack.emit(MetricsLogged(training.info, self._stack.now, values=metrics))
            if bar is not None:
                self._step_began = bar[2]
            self._steps_seen = True

    # Bars.

    def _progress(self, found: re.Match[str], time: float | None) -> None:
        what, total = found["what"] or "", int(found["total"])
        if self._main is None:
            if what and "train" not in what.lower():
                return
            self._main = (what, total)
        if (what, total) != self._main:
            return
        elapsed, left = _clock(found["elapsed"]), _clock(found["left"])
        if elapsed is None:
            return
        self._bar = (int(found["done"]), total, elapsed, left)
        training = self._stack.find("TRAINING")
        if training is not None and self._steps_seen:
            self._stack.at(time)
            self._tell(training, self._bar)

    def _tell(self, training: Open, bar: tuple[int, int, float, float | None]) -> None:
        done, total, elapsed, left = bar
        if done <= self._bar_told:
            return
        self._bar_told = done
        self._stack.reached(training.started, elapsed)
        training.done = max(training.done, done)
        self._stack.emit(
            PhaseProgressed(training.info, self._stack.now, done=training.done, total=total, elapsed=elapsed, eta=left)
        )

    # Phases.

    def _training(self) -> Open:
        training = self._stack.find("TRAINING")
        if training is None:
            self._over = False
            total = self._main[1] if self._main else None
            training = self._stack.begin("TRAINING", total=total, unit="step")
        return training

    def _end_training(self, elapsed: float | None) -> None:
        training = self._training()
        self._stack.end(training, elapsed=elapsed)
        self._over = True

    def _step(self, training: Open, number: int, seconds: float, metrics: dict[str, float]) -> None:
        stack = self._stack
        position = Position(number, training.info.total, "step", elapsed=max(0.0, stack.now - training.started))
        entry = stack.begin("TRAINING STEP", position)
        entry.metrics = metrics
        stack.now += seconds
        stack.end(entry, elapsed=seconds)
        self._last, self._steps_seen, self._ended = number, True, stack.now

    def _short(self, name: str, seconds: float, step: int | None, metrics: dict[str, float] | None = None) -> None:
        stack = self._stack
        now = stack.now
        if metrics is not None and stack.has_times:
            stack.now = now - seconds
        entry = stack.begin(name, step=step)
        entry.metrics = metrics or {}
        stack.now += seconds
        stack.end(entry, elapsed=seconds)
        self._ended = stack.now


def _numbers(text: str) -> dict[str, float]:
    """Return the numbers of a printed dictionary; since transformers 5 they are texts."""
    return {name: float(figure) for name, figure in _PAIR.findall(text)[:_MOST_FIGURES]}


def _positive(seconds: float | None) -> float:
    return seconds if seconds is not None and 0 < seconds < 1e10 else 0.0


def _clock(text: str) -> float | None:
    """Return the seconds of ``01:15`` or ``1:02:03``."""
    seconds = 0
    for part in text.split(":"):
        if not part.isdecimal():
            return None
        seconds = 60 * seconds + int(part)
    return float(seconds)
