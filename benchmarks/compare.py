"""What phasewatch costs beside what people use today, and beside what it must reach, in one run.

    make bench                  # about four minutes; writes docs/performance.md and its picture
    make bench ARGS=--readme    # and the table into the README
    make bench ARGS=--check     # only what must be reached: the exit code tells whether it is; writes nothing
    python benchmarks/compare.py --only advance     # some rows, while one works on them; writes nothing

Every row is measured in interleaved rounds, ours and the peers' in turn, so that the machine's moods hit all alike; the
medians are printed, the ratio of ours to the peers', and how far the rounds' ratios spread. Trust the ratios. A row that
falls short is measured again, and all its rounds count, before it is said to.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cases
import growth
import instructions
import report
import workloads
from measuring import Row, Times, measure
from pages import write_between
from report import Line

ROOT = Path(__file__).parent.parent
AGAIN = 2  # times the rounds, for a row that falls short
FEW = 5  # rounds of what has no bound
REAL_WORK = """## Real work

Processor time of all threads beside that of the same work without phasewatch and tqdm, the console on. The training run is
`examples/train_grpo.py`; the loop multiplies matrices, and shows the loss. Both print to nowhere.
"""
GROWTH = """## How the costs grow

They should not: medians of one turn. With threads, all turns by the time in which all threads are done with them. Of a loop,
what it adds to the bare one, the few microseconds in which it begins included. Ten million blocks are measured once.
"""
INSTRUCTIONS = """## Instructions

Of one turn, as valgrind counts them: they repeat where times do not, to about one instruction for loops and ten for the
rest. tqdm has nothing to show meanwhile, which is when it is cheapest; phasewatch's thread has nothing to look at. Loops
count what they add to the bare one.
"""
README = (
    "`track` over a list", "`track` over a generator", "`advance()`, shown", "`advance(questions=256, reward=0.5)`, shown",
    "a block, no sink", "a block, one in-memory sink", "a block, the event log", "a decorated empty function, no sink",
    "a block, disabled", "import", "a banner to a file",
)  # fmt: skip


def _measure(row: Row, rounds: int) -> None:
    """Add rounds to a row."""
    for name, times in (_elsewhere(row, rounds) if row.environment else measure(row.cases, rounds)).items():
        row.raw.setdefault(name, []).extend(times)


def _elsewhere(row: Row, rounds: int) -> Times:
    """Measure a row in a process with an environment of its own."""
    command = [sys.executable, __file__, "--row", row.work, "--rounds", str(rounds)]
    environment = os.environ | (row.environment or {})
    times: Times = json.loads(subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout)
    return times


def _said(rows: list[Row], rounds: int | None, *, also_long: bool) -> Iterator[Line]:
    """Measure the rows, each again if it falls short, and yield what is to be said of them."""
    for row in rows:
        _measure(row, rounds or row.rounds)
        if not all(line.is_met for line in report.lines(row)):
            _measure(row, AGAIN * (rounds or row.rounds))
        yield from report.lines(row)
    if also_long:
        lines = report.of_million(growth.million())
        yield from lines if all(line.is_met for line in lines) else report.of_million(growth.million())


def _of_workloads(rounds: int) -> Iterator[str]:
    return report.of_workloads(workloads.measured(rounds))


def _of_growth(rounds: int) -> Iterator[str]:
    return report.of_growth(growth.growths(rounds))


def _of_instructions(rounds: int) -> Iterator[str]:
    if instructions.is_present():
        yield from report.of_instructions(instructions.count(cases.instructions()))
    else:
        yield "There was no valgrind to count them."


def main(arguments: list[str]) -> int:
    """Measure, print, and write; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say whether all that must be reached is")
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    parser.add_argument("--rounds", type=int, help="fewer or more than each row has, to try something out; writes nothing")
    parser.add_argument("--only", metavar="TEXT", help="only the rows that have this in their name; writes nothing")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # only that row, as JSON
    options = parser.parse_args(arguments)
    rows = cases.rows()
    if options.row:
        row = next(row for row in rows if row.work == options.row)
        print(json.dumps(measure(row.cases, options.rounds)))
        return 0

    print(report.head(), end="\n\n", flush=True)
    if options.only:
        rows = [row for row in rows if options.only in row.work]
    said: list[Line] = []
    print(*report.HEADER, sep="\n")
    for line in _said(rows, options.rounds, also_long=not options.only):
        print(line.cells(first=not said or said[-1].work != line.work), flush=True)
        said.append(line)
    short = [line for line in said if not line.is_met]
    print(f"\n{len(said) - len(short)} of {len(said)} bounds are met.\n")
    if options.check or options.only:
        return 1 if short else 0

    few = options.rounds or FEW
    parts = [f"{report.head()}\n\n{len(said) - len(short)} of {len(said)} bounds are met.\n", *report.table(said), ""]
    for heading, section in ((REAL_WORK, _of_workloads), (GROWTH, _of_growth), (INSTRUCTIONS, _of_instructions)):
        lines = [heading, *section(few), ""]
        print(*lines, sep="\n", flush=True)
        parts += lines
    if options.rounds:
        return 0
    write_between(ROOT / "docs" / "performance.md", "figures", "\n".join(parts))
    drawn = [row for row in rows if row.work in README]
    (ROOT / "docs" / "images" / "performance.svg").write_text(report.picture(drawn), encoding="utf-8")
    if options.readme:
        table = [report.head() + " Medians of interleaved rounds.", "", *report.beside_peers(drawn), ""]
        write_between(ROOT / "README.md", "benchmark", "\n".join(table))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
