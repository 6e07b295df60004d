"""How the costs grow with open phases, with threads, with length, and over a million phases: they should not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cases import LOGGED, PHASE, QUIET, SLOTTED
from measuring import BARE, OURS, Call, Case, Code, Row, measure

from phasewatch import phase, run

DEEP = """
from contextlib import ExitStack, contextmanager
@contextmanager
def deep(n):
    with ExitStack() as stack:
        yield [stack.enter_context(phase(f"DEPTH {i}")) for i in range(n)][-1]
"""
BLOCK, ADVANCE, TRACK = "with phase('X'): pass", "handle.advance()", "for item in handle.track(data): pass"
SOURCE = "data = (item for item in range(n))"
MILLION = 1_000_000


@dataclass
class Growth:
    """What one turn costs at several sizes, in seconds."""

    work: str
    over: str  # what grows
    costs: dict[int, float]


def growths(rounds: int) -> list[Growth]:
    """Measure all."""
    return [*_with_depth(rounds), *_with_threads(rounds), *_with_length(rounds)]


def _with_depth(rounds: int) -> list[Growth]:
    depths = (1, 10, 100)

    def entered(
        code: str, depth: int, before: str = PHASE, around: str = QUIET, setup: str = "", n: int | None = None
    ) -> Case:
        loops = code == TRACK
        return Code(code, before + DEEP, setup, f"{around}, deep({depth}) as handle", loops=loops, n=n)

    works: dict[str, Callable[[int], Case]] = {
        "a block, no sink": lambda depth: entered(BLOCK, depth),
        "a block, the event log": lambda depth: entered(BLOCK, depth, LOGGED, "logged()"),
        "`advance()`": lambda depth: entered(ADVANCE, depth),
        "an item of `track` over a generator": lambda depth: entered(TRACK, depth, setup=SOURCE),
    }
    grown = []
    for work, make in works.items():
        cases: dict[str, Case] = {str(depth): make(depth) for depth in depths}
        if work.startswith("an item"):
            cases[BARE] = Code("for item in data: pass", "", SOURCE, loops=True)
        row = Row(work, cases, raw=measure(cases, rounds))
        grown.append(Growth(work, "open phases", {int(name): _median(times) for name, times in row.times.items()}))
    return grown


def _median(times: list[float]) -> float:
    return sorted(times)[len(times) // 2]


def _with_threads(rounds: int) -> list[Growth]:
    counts = (1, 8, 64)
    works = {
        "two clock reads in a class with slots, for scale": ("with Timed(): pass", SLOTTED, ""),
        "a block, no sink": (BLOCK, PHASE, "phase('THREAD')"),
        "`advance()`": (ADVANCE, PHASE, "phase('THREAD') as handle"),
    }
    turns = 64_000  # of all threads together
    grown = []
    for work, (code, before, around) in works.items():

        def threaded(count: int, code: str = code, before: str = before, around: str = around) -> Case:
            one = Code(code, before, around=around).measure()

            def measured(n: int) -> float:
                start = threading.Barrier(count + 1)

                def share() -> None:
                    start.wait()
                    one(turns // count)

                threads = [threading.Thread(target=share) for _ in range(count)]
                with run("BENCH", sinks=[]):
                    for thread in threads:
                        thread.start()
                    start.wait()
                    started = time.perf_counter()
                    for thread in threads:
                        thread.join()
                    return (time.perf_counter() - started) / turns

            return Call(measured)

        times = measure({str(count): threaded(count) for count in counts}, rounds)
        grown.append(Growth(work, "threads", {int(name): _median(values) for name, values in times.items()}))
    return grown


def _with_length(rounds: int) -> list[Growth]:
    lengths = [10**exponent for exponent in range(3, 8)]
    works = {
        "a block, no sink": (BLOCK, ""),
        "`advance()`": (ADVANCE, ""),
        "an item of `track` over a range": (TRACK, "data = range(n)"),
        "an item of `track` over a generator": (TRACK, SOURCE),
    }
    grown = []
    for work, (code, setup) in works.items():
        costs = {}
        for length in lengths:
            loops = code == TRACK
            cases: dict[str, Case] = {
                OURS: Code(code, PHASE, setup, f"{QUIET}, phase('LENGTH') as handle", loops=loops, n=length)
            }
            if loops:
                cases[BARE] = Code("for item in data: pass", "", setup, loops=True, n=length)
            # The long ones need no repeating, and there is no time for it.
            times = measure(cases, rounds if length <= 10**6 else 1 if code == BLOCK else 3)
            costs[length] = _median(Row(work, cases, raw=times).times[OURS])
        grown.append(Growth(work, "turns", costs))
    return grown


@dataclass
class Million:
    """What a million phases in one run, with the event log, did."""

    grown: int | None  # bytes of memory from a tenth of them to the end; None where it cannot be read
    tenths: list[float]  # processor seconds of each tenth of them

    @property
    def pace(self) -> float:
        """The last tenth beside the first."""
        return self.tenths[-1] / self.tenths[0]


def million() -> Million:
    """Open and close a million phases in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, os.path.join(folder, "log.jsonl")]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    first, last = map(int, lines[:2])
    return Million(last - first if first else None, [float(line) for line in lines[2:]])


def _resident() -> int:
    """Return the bytes of memory that the process holds; 0 where it cannot be read."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _open_a_million(log: str) -> None:
    memory, tenths = [], []
    with run("MILLION", sinks=[], log=log):
        for _ in range(10):
            started = time.process_time()  # over minutes, others on the machine come and go
            for _ in range(MILLION // 10 // 1000):
                with phase("THOUSAND"):
                    for _ in range(999):
                        with phase("ONE"):
                            pass
            tenths.append(time.process_time() - started)
            memory.append(_resident())
    print(memory[0], memory[-1], *tenths)


if __name__ == "__main__":
    _open_a_million(sys.argv[1])
