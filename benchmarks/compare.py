"""What phasewatch costs beside what people use today, in one run.

    make bench
    make bench ARGS=--readme    # and write the table into the README

Every row is measured in interleaved rounds, ours and the peers' in turn, so that the machine's moods hit all alike; the
medians are printed, and the ratio of ours to each peer's. Trust the ratios.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

import rich.progress
from codetiming import Timer
from rich.console import Console
from rich.panel import Panel
from tqdm import tqdm

import phasewatch
from phasewatch import phase
from phasewatch.sinks import ConsoleSink

ROUNDS = 15
Case = Callable[[int], float]  # seconds for one of n repetitions


def _loop(body: Callable[[], object]) -> Case:
    def run(n: int) -> float:
        started = time.perf_counter()
        for _ in range(n):
            body()
        return (time.perf_counter() - started) / n

    return run


def _iterate(make: Callable[[int], object]) -> Case:
    """Seconds of one iteration over what a bare loop takes."""

    def run(n: int) -> float:
        started = time.perf_counter()
        for _ in range(n):
            pass
        bare = time.perf_counter() - started
        iterable = make(n)
        started = time.perf_counter()
        for _ in iterable:  # type: ignore[attr-defined]  # each is an iterable
            pass
        return (time.perf_counter() - started - bare) / n

    return run


def _block() -> None:
    with phase("X"):
        pass


def _timer() -> None:
    with Timer(name="X", logger=None):
        pass


def _import(module: str) -> Case:
    # With compiled files, as an installed package has them.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, env=environment)

    def run(n: int) -> float:
        times = []
        for code in ("pass", f"import {module}"):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)
            times.append(time.perf_counter() - started)
        return times[1] - times[0]

    return run


def _cases(null: TextIO) -> dict[str, tuple[int, dict[str, Case]]]:
    """Rows: repetitions, and the cases of each, ours first."""
    shown = phasewatch.Tracker([ConsoleSink(Console(file=null))])
    handle = shown.phase("ADVANCE", total=10**9, unit="batch", counters={"questions": None}).__enter__()
    silent = phasewatch.Tracker().phase("TRACK").__enter__()
    bar = tqdm(total=10**9, file=null)
    postfix = tqdm(total=10**9, file=null)
    progress = rich.progress.Progress(console=Console(file=null))
    task = progress.add_task("advance", total=10**9)
    banner = ConsoleSink(Console(file=null))
    console = Console(file=null)

    def update_with_figures() -> None:
        postfix.update(1)
        postfix.set_postfix(questions=256, reward=0.5, refresh=False)

    def print_banner() -> None:
        with phasewatch.Tracker([banner]).phase("INITIALIZATION"):  # one banner: its completion is silent
            pass

    @phase
    def decorated() -> None: ...

    @Timer(name="X", logger=None)
    def timed() -> None: ...

    return {
        "a timed block, no sink": (20_000, {"phasewatch": _loop(_block), "codetiming": _loop(_timer)}),
        "a decorated call, no sink": (20_000, {"phasewatch": _loop(decorated), "codetiming": _loop(timed)}),
        "advance(), shown": (50_000, {"phasewatch": _loop(handle.advance), "tqdm": _loop(bar.update),
                                      "rich": _loop(lambda: progress.advance(task))}),
        "advance(questions=256, reward=0.5)": (20_000, {
            "phasewatch": _loop(lambda: handle.advance(questions=256, reward=0.5)), "tqdm": _loop(update_with_figures)}),
        "one iteration, over a bare loop": (200_000, {
            "phasewatch": _iterate(lambda n: silent.track(iter(range(n)))),
            "tqdm": _iterate(lambda n: tqdm(iter(range(n)), file=null)),
            "rich": _iterate(lambda n: rich.progress.track(range(n), console=Console(file=null)))}),
        "a banner to a file": (1_000, {"phasewatch": _loop(print_banner),
                                       "rich panel": _loop(lambda: console.print(Panel("PHASE: INITIALIZATION")))}),
        "import, over a bare interpreter": (1, {"phasewatch": _import("phasewatch"), "tqdm": _import("tqdm")}),
    }  # fmt: skip


def _amount(seconds: float) -> str:
    for unit, size in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 1000 * size:
            return f"{seconds / size:.{0 if seconds >= 9.95 * size or unit == 'ns' else 1}f} {unit}"
    return f"{seconds:.1f} s"


def _rows(null: TextIO) -> Iterator[str]:
    """Measure, and yield the lines of a table in Markdown."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("phasewatch", "tqdm", "rich", "codetiming"))
    yield f"Python {platform.python_version()}, {os.cpu_count()} cores; {versions}; medians of {ROUNDS} interleaved rounds."
    yield ""
    yield "| work | phasewatch | peers (ours as a share of theirs) |"
    yield "|---|---|---|"
    for work, (repetitions, cases) in _cases(null).items():
        rounds: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, case in cases.items():
                rounds[name].append(case(repetitions))
        peers = []
        for name in list(cases)[1:]:
            share = statistics.median(a / b for a, b in zip(rounds["phasewatch"], rounds[name], strict=True))
            peers.append(f"{name} {_amount(statistics.median(rounds[name]))} ({share:.2f})")
        yield f"| {work} | {_amount(statistics.median(rounds['phasewatch']))} | {', '.join(peers)} |"


def main(arguments: list[str]) -> None:
    """Print the table; with --readme, put it into the README too."""
    phasewatch.configure(sinks=[])
    lines = []
    with open(os.devnull, "w", encoding="utf-8") as null:
        for line in _rows(null):
            print(line, flush=True)
            lines.append(line)
    if "--readme" in arguments:
        page = Path(__file__).parent.parent / "README.md"
        before, mark, rest = page.read_text(encoding="utf-8").partition("<!-- benchmark -->\n")
        _, end, after = rest.partition("<!-- end of benchmark -->\n")
        page.write_text(before + mark + "\n".join([*lines, ""]) + end + after, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
