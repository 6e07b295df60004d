"""The facade, and what importing it costs a program."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import pytest

import phasewatch


def test_all_is_what_is_public() -> None:
    public = {
        name for name, value in vars(phasewatch).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(phasewatch.__all__) - {"sinks"} - set(phasewatch._LAZY) == public - {"annotations", "TYPE_CHECKING"}
    assert all(hasattr(phasewatch, name) for name in phasewatch.__all__)


def test_every_sink_that_is_announced_is_there() -> None:
    for name in phasewatch.sinks.__all__:
        assert getattr(phasewatch.sinks, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nowhere'"):
        phasewatch.sinks.Nowhere  # noqa: B018  # the look-up is the test
    with pytest.raises(AttributeError, match="no attribute 'Nowhere'"):
        phasewatch.Nowhere  # noqa: B018  # as above


def test_importing_starts_nothing_and_leaves_the_heavy_modules_unimported() -> None:
    code = """
import sys, threading, logging
handlers, before = list(logging.root.handlers), set(sys.modules)
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
import phasewatch
assert threading.active_count() == 1
assert logging.root.handlers == handlers
own = [name for name in opened if not str(name).endswith((".py", ".pyc")) and ".pyc." not in str(name)]
assert not own, own
heavy = {"rich", "json", "re", "gzip", "asyncio", "dataclasses", "typing", "inspect", "signal", "threading"}
heavy &= set(sys.modules) - before
assert not heavy, heavy
"""
    # -S: what site imports for an editable install is not ours
    path = str(next(iter(phasewatch.__path__)))
    subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {path[: -len('/phasewatch')]!r})\n{code}"],
        check=True,
    )


@pytest.mark.parametrize(
    "use", ["phasewatch.phase('WORK').__enter__().__exit__(None, None, None)", "phasewatch.sinks.ConsoleSink()"]
)
def test_the_console_leaves_the_random_numbers_of_the_program_alone(use: str) -> None:
    program = f"import random, phasewatch; random.seed(1); {use}; assert random.random() == random.Random(1).random()"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PHASEWATCH_")}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, stdout=subprocess.DEVNULL)
