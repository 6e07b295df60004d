"""Real work with phasewatch, with tqdm, and bare: the example's training run, and a loop over a loader of batches."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the example does, but numpy is imported before it here
sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

import numpy as np
import train_grpo
from measuring import BARE, OURS, Call, Times, measure
from rich.console import Console
from tqdm import tqdm
from train_grpo import Config, Trainer, roll_out

import phasewatch
from phasewatch import phase, run
from phasewatch.sinks import ConsoleSink, JsonlSink

STEPS, BATCHES = 10, 2_000


def measured(rounds: int) -> dict[str, Times]:
    """Return the processor seconds of each way to do each work."""
    with open(os.devnull, "w", encoding="utf-8") as null, tempfile.TemporaryDirectory() as folder:
        phasewatch.configure(sinks=[ConsoleSink(Console(file=null))])
        try:
            return {
                f"the example's training run, {STEPS} steps": _training(rounds, null, folder),
                f"{BATCHES} batches of a loader": _loading(rounds, null, folder),
            }
        finally:
            phasewatch.configure(sinks=[])


def _seconds(work: Callable[[], object], null: TextIO) -> Call:
    def timed(n: int) -> float:
        with contextlib.redirect_stdout(null):  # the work prints too
            started = time.process_time()  # of all threads: what others do on the machine is no cost of ours
            work()
            return time.process_time() - started

    return Call(timed)


def _training(rounds: int, null: TextIO, folder: str) -> Times:
    config = Config.from_overrides(
        [
            f"trainer.total_training_steps={STEPS}", f"trainer.test_freq={STEPS // 2}", f"trainer.save_freq={STEPS}",
            f"trainer.default_local_dir={folder}",
        ]
    )  # fmt: skip
    return measure(
        {
            BARE: _seconds(lambda: _train(config, null, shown=False), null),
            OURS: _seconds(lambda: train_grpo.train(config), null),
            "tqdm": _seconds(lambda: _train(config, null, shown=True), null),
        },
        rounds,
    )


class _Plain(Trainer):
    """The example's trainer without phasewatch, with a bar of tqdm or nothing in its place."""

    null: TextIO
    shown: bool

    def validate(self) -> float:
        size, count = self.config.val_batch_size, len(self.val_set)
        right = 0
        starts = range(0, count, size)
        bar: Any = tqdm(starts, "VALIDATION", math.ceil(count / size), file=self.null) if self.shown else starts
        for start in bar:
            batch = self.val_set[start : start + size]
            rewards = roll_out(self.policy, self.world, batch, self.config.max_turns).answer == batch.answer
            right += int(rewards.sum())
            if self.shown:
                bar.set_postfix(reward=rewards.mean(), refresh=False)
        return right / count


def _train(config: Config, null: TextIO, *, shown: bool) -> None:
    """Do what `train_grpo.train` does."""
    trainer = _Plain(config)
    trainer.null, trainer.shown = null, shown
    save: Callable[[Trainer], None] = Trainer.save_checkpoint.__wrapped__  # type: ignore[attr-defined]  # functools.wraps
    trainer.validate()
    numbers = range(1, config.total_training_steps + 1)
    bar: Any = tqdm(numbers, "TRAINING", file=null) if shown else numbers
    for number in bar:
        metrics = trainer.train_step()
        names = ("reward/mean", "actor/kl", "actor/loss", "rollout/finish_ratio")
        print(f"[Step {number}]", *(f"{name.partition('/')[2]}={metrics[name]:.3f}" for name in names))
        if shown:
            bar.set_postfix(metrics, refresh=False)
        if number % config.test_freq == 0 and number < config.total_training_steps:
            trainer.validate()
        if number % config.save_freq == 0:
            save(trainer)
    trainer.validate()


class _Loader:
    """Batches of numbers, made when they are asked for."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[Any]:
        for _ in range(BATCHES):
            yield self._random.random((64, 64))


def _loading(rounds: int, null: TextIO, folder: str) -> Times:
    weights = np.random.default_rng(1).random((64, 64))

    def bare() -> None:
        for batch in _Loader():
            float((batch @ weights).sum())

    def ours() -> None:
        with phase("LOADER") as handle:
            for batch in handle.track(_Loader()):
                handle.advance(loss=float((batch @ weights).sum()))

    def logged() -> None:
        with run("LOADER", sinks=[JsonlSink(os.path.join(folder, "log.jsonl"))]):
            ours()

    def theirs() -> None:
        bar = tqdm(_Loader(), file=null)
        for batch in bar:
            bar.set_postfix(loss=float((batch @ weights).sum()), refresh=False)

    works = {BARE: bare, OURS: ours, "phasewatch, event log": logged, "tqdm": theirs}
    return measure({name: _seconds(work, null) for name, work in works.items()}, 3 * rounds)
