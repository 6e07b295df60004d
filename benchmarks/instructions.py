"""Instructions of one turn, counted by valgrind: they repeat on a noisy machine, where times do not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from measuring import BARE, Case, Code, Row

# Two counts that differ in their turns alone. Starting up varies by thousands of instructions, so many turns lie between.
FEW, MANY, MANY_OF_A_LOOP = 2_000, 42_000, 802_000
SCRIPT = """
import sys
sys.path[:] = {path!r}
import gc, itertools
if {phasewatch!r}:
    import phasewatch._monitor
    phasewatch._monitor.INTERVAL = 3600.0  # it would look the oftener the slower the machine is
{source}
gc.disable()
measured({n}, lambda: 0, itertools.repeat)
"""


def is_present() -> bool:
    """Whether there is a valgrind."""
    return shutil.which("valgrind") is not None


def count(rows: list[Row]) -> list[tuple[str, dict[str, float]]]:
    """Return the instructions of one turn of each case of each row, over those of the bare case if there is one."""
    cases = [(row.work, name, case) for row in rows for name, case in row.cases.items()]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # counts do not mind each other
        counts = list(pool.map(lambda case: _of_one_turn(case[2]), cases))
    counted = []
    for row in rows:
        of_row = {name: number for (work, name, _), number in zip(cases, counts, strict=True) if work == row.work}
        bare = of_row.pop(BARE, 0.0)
        counted.append((row.work, {name: number - bare for name, number in of_row.items()}))
    return counted


def _of_one_turn(case: Case) -> float:
    assert isinstance(case, Code)
    many = case.n or (MANY_OF_A_LOOP if case.loops else MANY)
    return (_instructions(case, many) - _instructions(case, FEW)) / (many - FEW)


def _instructions(code: Code, n: int) -> int:
    script = SCRIPT.format(path=sys.path, source=code.source(), n=n, phasewatch="phasewatch" in code.before)
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [
        "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-S", "-B", "-c", script,
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"valgrind could not count {code.code!r}: {done.stderr[-2000:]}")
    return int(found[1])
