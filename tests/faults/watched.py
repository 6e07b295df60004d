"""Runs a program twice, watched and unwatched, as real processes, and compares what anybody could see of it.

A program is Python source. It may use `phasewatch`, `phase`, `say` (prints a line of its own) and `result` (writes what it
found out to a file). Unwatched it runs with ``PHASEWATCH_DISABLE=1``, and nothing of phasewatch does anything in it.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import phasewatch

LONG = 60.0  # seconds after which a program is taken to hang

# What phasewatch reports goes to standard error, as in any program that has not set up logging; marked, so that it can be
# told from what the program writes there.
_PRELUDE = """
import logging, os, signal, sys, threading, time
import phasewatch
from phasewatch import phase
class _Marked(logging.Formatter):
    def format(self, record):
        return f"\\x02{record.name}: {super().format(record)}\\x03"
logging.lastResort.setFormatter(_Marked())
WATCHED = phasewatch._config.default_tracker.enabled
def say(text):
    print(f"own: {text}", flush=True)
def result(value):
    with open(os.environ["RESULT"], "a", encoding="utf-8") as file:
        print(repr(value), file=file)
exec(os.environ.get("SETUP", ""))  # so that the program's lines have the same numbers in both
"""
_REPORT = re.compile(r"\x02(.*?)\x03\n", re.DOTALL)

Start = Callable[[list[str], dict[str, str]], "subprocess.Popen[bytes]"]


@dataclass(frozen=True)
class Ended:
    """What is left of a program."""

    code: int  # negative: it died of this signal
    result: str
    said: tuple[str, ...]  # the lines that it printed itself
    out: str
    err: str  # without the reports
    reports: tuple[str, ...]  # of phasewatch


def captured(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program whose outputs are pipes."""
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def ended(program: str, setup: str = "", *, watched: bool, start: Start = captured) -> Ended:
    """Run a program, after a setup that is part of watching it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "result")
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(Path(phasewatch.__file__).parent.parent),
            "PYTHONIOENCODING": "utf-8",
            "PYTHON_COLORS": "0",  # in tracebacks of the interpreter, which FORCE_COLOR would colour
            "PYTHONWARNINGS": "ignore::DeprecationWarning",
            "RESULT": str(path),
            "FOLDER": folder,
        }
        environment |= {"SETUP": setup} if watched else {"PHASEWATCH_DISABLE": "1"}
        process = start([sys.executable, "-c", _PRELUDE + program], environment)
        try:
            out, err = process.communicate(timeout=LONG)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"it hangs: {process.communicate()}") from None
        text, errors = (out or b"").decode(), (err or b"").decode()
        return Ended(
            process.returncode,
            path.read_text(encoding="utf-8") if path.exists() else "nothing",
            tuple(line for line in text.splitlines() if line.startswith("own: ")),
            text,
            _REPORT.sub("", errors),
            tuple(_REPORT.findall(errors)),
        )


@functools.lru_cache(None)
def _unwatched(program: str, start: Start) -> Ended:
    return ended(program, watched=False, start=start)


def same(program: str, setup: str = "", *, start: Start = captured) -> Ended:
    """Assert that a program does watched what it does unwatched; return how it ended, watched."""
    watched, unwatched = ended(program, setup, watched=True, start=start), _unwatched(program, start)
    assert not unwatched.reports
    for what in ("code", "result", "said", "err"):
        seen, expected = getattr(watched, what), getattr(unwatched, what)
        assert seen == expected, f"{what}: {seen!r} watched, {expected!r} unwatched; reported: {watched.reports}"
    return watched
