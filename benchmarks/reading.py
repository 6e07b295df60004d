"""How quickly logs are read: a text log beside ``grep -c``, an event log to the figures of its phases.

    python benchmarks/reading.py
    python benchmarks/reading.py 1000     # megabytes

The text log has lines of a hundred bytes, one in a hundred with [META], as the console of a training with its workers has;
then once more with its banners behind the prefix of Ray. grep runs with LC_ALL=C. The event log is one that a training has
written. Each figure is the median of interleaved rounds, in seconds of CPU, since a machine may have other work; the files
are in the page cache. Trust the ratios.
"""

from __future__ import annotations

import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import phasewatch
from phasewatch import phase, read, summarize
from phasewatch.metalog.banners import RULE

Work = tuple[Callable[[Path], None], Path]

ROUNDS = 5
MEGABYTE = 1_000_000
WORDS = (
    "the model actor rollout worker weights",
    "gradient norm of tokens",
    "0.123 12.4",
    "INFO",
    "engine",
    "cuda memory GiB",
    "block",
)


RAY = "\x1b[36m(main_task pid=163292)\x1b[0m "


def text_log(path: Path, megabytes: int, prefix: str = "") -> None:
    chance = random.Random(1)
    others = []
    for _ in range(20_000):
        said = " ".join(chance.choices(WORDS, k=chance.randint(1, 10)))
        others.append(chance.choice([f"{RAY}{said}", said, f"ACTIVE_TRAJ_NUM: [512, 287] {said}"]))
    size = step = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{prefix}🚀 [META] PHASE: TRAINING START\n{prefix}Total epochs: 3 | Total steps: 1000000\n")
        while size < megabytes * MEGABYTE:
            step += 1
            place = f"[Epoch 1/3] Step {step}/1000000 ({step / 1e4:.1f}%) | Elapsed: {step / 10:.1f}m | ETA: 23.8m"
            lines = ["", RULE, "🔄 [META] PHASE: TRAINING STEP", place, RULE, ""]
            banner = "".join(f"{prefix}{line}\n" for line in lines)
            size += file.write(banner + "\n".join(chance.choices(others, k=95)) + "\n")


def event_log(path: Path, megabytes: int) -> None:
    """Let a training write its event log until it is as large."""
    chance = random.Random(1)
    with phasewatch.run("grpo", log=path, sinks=[]), phase("TRAINING", total=1_000_000, unit="step") as training:
        while not path.exists() or path.stat().st_size < megabytes * MEGABYTE:
            for _ in range(1000):
                with training.step() as step:
                    step.advance(reward=chance.random())
                    step.log(
                        {"actor/loss": chance.random(), "actor/kl": chance.random(), "timing_s/gen": 40 * chance.random()}
                    )


def count_lines(path: Path) -> None:
    in_c = {**os.environ, "LC_ALL": "C"}
    subprocess.run(["grep", "-c", r"\[META\]", path], stdout=subprocess.PIPE, check=True, env=in_c)


def read_all(path: Path) -> None:
    for _ in read(path):
        pass


def add_up(path: Path) -> None:
    """Read an event log to the figures of its phases."""
    assert summarize(read(path)).kinds


def rounds_of(works: list[Work]) -> list[list[float]]:
    """Return for each work the seconds of its rounds."""
    rounds = []
    for _ in range(ROUNDS):
        taken = []
        for work, path in works:
            started = cpu_seconds()
            work(path)
            taken.append(cpu_seconds() - started)
        rounds.append(taken)
    return [list(taken) for taken in zip(*rounds, strict=True)]


def cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        text, ray, events = Path(folder, "training.log"), Path(folder, "ray.log"), Path(folder, "run.jsonl")
        text_log(text, megabytes)
        text_log(ray, megabytes, RAY)
        event_log(events, megabytes)
        works: list[Work] = [(count_lines, text), (read_all, text), (count_lines, ray), (read_all, ray), (add_up, events)]
        *texts, figures = rounds_of(works)
        large = events.stat().st_size / MEGABYTE
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    median = statistics.median
    for name, grep, ours in (("text log", texts[0], texts[1]), ("the same from Ray", texts[2], texts[3])):
        ratio = median(one / other for one, other in zip(ours, grep, strict=True))
        print(f"{name}, {megabytes} MB: grep {median(grep):.3f} s, read {median(ours):.3f} s, {ratio:.1f} times as long")
    seconds = median(figures)
    print(f"event log, {large:.0f} MB: {seconds:.2f} s, {large / seconds:.1f} MB/s; most memory {most:.0f} MB")


if __name__ == "__main__":
    main()
