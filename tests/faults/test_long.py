"""Long and large: what a run of weeks does to memory and speed, and many threads to the tree.

Each has a short form, and the whole one under the marker of the long tests (``make test-trainers``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SLACK = 3 * 2**20  # bytes; what is kept of each phase, or of a few calls, would be more

_PRELUDE = """
import gc, json, os, sys, threading, time
import phasewatch
from phasewatch import phase
from phasewatch.sinks import ConsoleSink, JsonlSink
from rich.console import Console
NULL = [ConsoleSink(Console(file=open(os.devnull, "w"))), JsonlSink(os.devnull, capacity=500)]
TIMES = int(sys.argv[1])
def memory():
    phasewatch._tracker.look()  # at which it is counted what is over
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def measured(work):
    '''Do a quarter of the work four times over; return the memory after the first and the last, and the seconds of each.'''
    figures = []
    for _ in range(4):
        began = time.process_time()  # what others do on the machine is no part of it
        work(TIMES // 4)
        figures.append((memory(), time.process_time() - began))
    print(json.dumps(figures))
"""


def run(program: str, times: int) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + program, str(times)],
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


WORK = {
    "advance": """
with phasewatch.run("r", sinks=NULL), phase("A", total=TIMES) as handle:
    def work(times):
        for _ in range(times): handle.advance()
    measured(work)
    assert handle.done == TIMES
""",
    "advance with figures": """
with phasewatch.run("r", sinks=NULL), phase("A", counters={"tokens": None}) as handle:
    def work(times):
        for n in range(times): handle.advance(tokens=7, loss=0.5)
    measured(work)
    assert (handle.done, handle.metrics["loss"].mean) == (TIMES, 0.5)
""",
    "track": """
with phasewatch.run("r", sinks=NULL), phase("A") as handle:
    def work(times):
        for _ in handle.track(range(times)): pass
    measured(work)
    assert handle.done == TIMES
""",
    "phases of one name": """
def work(times):
    for _ in range(times):
        with phase("B") as handle: handle.advance()
with phasewatch.run("r", sinks=NULL), phase("A"): measured(work)
""",
    "phases of ever new names": """
number = 0
def work(times):
    global number
    for number in range(number + 1, number + 1 + times):
        with phase(f"B {number}"), phase("C"): pass
with phasewatch.run("r", sinks=NULL), phase("A"): measured(work)
""",
    "steps that fail": """
def work(times):
    for _ in range(times):
        try:
            with training.step(): raise ValueError("no")
        except ValueError: pass
with phasewatch.run("r", sinks=NULL), phase("A", total=9) as training: measured(work)
""",
    "phases without a run": """
phasewatch.configure(sinks=NULL)
def work(times):
    for _ in range(times):
        with phase("A"): pass
measured(work)
""",
    "runs": """
def work(times):
    for _ in range(times):
        with phasewatch.run("r", sinks=NULL), phase("A"): pass
measured(work)
""",
    "phases that nobody hears of": """
phasewatch.configure(sinks=[])
def work(times):
    for _ in range(times):
        with phase("A") as handle: handle.advance()
measured(work)
""",
}
SHORT = {
    "advance": 400_000, "advance with figures": 40_000, "track": 400_000, "phases that nobody hears of": 40_000, "runs": 200,
}  # fmt: skip
LONG = {
    "advance": 10_000_000, "advance with figures": 2_000_000, "track": 10_000_000, "phases that nobody hears of": 4_000_000,
    "phases of one name": 1_000_000, "runs": 4000,
}  # fmt: skip
needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")


@needs_proc
@pytest.mark.parametrize("work", WORK)
def test_memory_does_not_grow_with_what_is_over(work: str) -> None:
    (first, _), *_, (last, _) = run(WORK[work], SHORT.get(work, 4000))
    assert last - first < SLACK


@needs_proc
@pytest.mark.trainers
@pytest.mark.parametrize("work", WORK)
def test_memory_is_flat_and_speed_constant_for_millions(work: str) -> None:
    (first, seconds_of_first), *_, (last, seconds_of_last) = run(WORK[work], LONG.get(work, 100_000))
    assert last - first < SLACK
    assert seconds_of_last < 3 * seconds_of_first


THREADS = """
class Checked:
    '''Checks each event against what came before, and keeps what is open alone.'''
    def __init__(self):
        self.lock, self.open, self.starts, self.wrong, self.most = threading.Lock(), {}, 0, [], 0
    def emit(self, event):
        with self.lock:
            if event.type == "start":
                self.starts += 1
                expected = event.name.rpartition("/")[0]  # a name tells what it must hang under
                if event.id in self.open or (expected and self.open.get(event.parent) != expected):
                    self.wrong.append((event.name, self.open.get(event.parent)))
                names = event.name.split("/")
                if list(event.path) != ["/".join(names[:n]) for n in range(2, len(names) + 1)]:
                    self.wrong.append((event.name, event.path))
                self.open[event.id] = event.name
                self.most = max(self.most, len(self.open))
            elif event.type == "end" and self.open.pop(event.id, None) != event.name:
                self.wrong.append((event.name, "ended"))
    def close(self): pass
sink = Checked()
sys.setswitchinterval(1e-4)
together = threading.Barrier(64)
def work(number):
    together.wait()
    for n in range(TIMES // 4):
        with phase(f"r/{number}"), phase(f"r/{number}/{n % 7}"):
            with phase(f"r/{number}/{n % 7}/A"): pass
            with phase(f"r/{number}/{n % 7}/B"): pass
with phasewatch.run("r", sinks=[sink]):
    threads = [threading.Thread(target=work, args=[number]) for number in range(64)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(json.dumps([sink.starts, len(sink.open), sink.wrong[:5], sink.most]))
"""


def assert_every_start_has_its_end_and_its_parent(times: int) -> None:
    starts, still_open, wrong, most = run(THREADS, times)
    assert (starts, still_open, wrong) == (64 * times + 1, 0, [])
    assert most > 4, "threads were at work at the same time"


def test_64_threads_of_many_phases() -> None:
    assert_every_start_has_its_end_and_its_parent(200)


@pytest.mark.trainers
def test_64_threads_of_10000_phases() -> None:
    assert_every_start_has_its_end_and_its_parent(10_000)
