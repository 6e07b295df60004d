"""What is measured: each row the same work done by phasewatch and by its peers, with output to the same kind of sink."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time

from measuring import AtMost, Bound, Call, Case, Code, Holds, Row, Share

NULL = "import os\nnull = open(os.devnull, 'w', encoding='utf-8')"
PHASE = "from phasewatch import phase, run"
CONSOLE = (
    f"{NULL}\n{PHASE}\nfrom rich.console import Console\nfrom phasewatch.sinks import ConsoleSink\n"
    "def shown(): return run('BENCH', sinks=[ConsoleSink(Console(file=null))])"
)
LOGGED = (
    "import os, tempfile\nfrom phasewatch.sinks import JsonlSink\n"
    f"{PHASE}\n"
    "folder = tempfile.TemporaryDirectory()\n"
    "def logged(): return run('BENCH', sinks=[JsonlSink(os.path.join(folder.name, 'log.jsonl'))])"
)
QUIET = "run('BENCH', sinks=[])"
TQDM = f"{NULL}\nfrom tqdm import tqdm\ntqdm.monitor_interval = 0"
# A bar of tqdm reads the clock at every item until it has run for a tenth of a second and knows its pace. So it is measured
# over loops that take longer, in which it also shows itself now and then, as it does for whoever uses it.
LONG, LONG_WITH_FIGURES = 2_000_000, 100_000
# Where instructions are counted it has nothing to show, and no clock to read, which is when it is cheapest.
TQDM_AT_REST = f"{TQDM}\nfrom functools import partial\ntqdm = partial(tqdm, miniters=10**9)"
RICH = f"{NULL}\nfrom rich.console import Console\nfrom rich.progress import Progress, track"
ALIVE = f"{NULL}\nfrom alive_progress import alive_bar, alive_it"
ALIVE_OPTIONS = "file=null, enrich_print=False"
ENLIGHTEN = f"{NULL}\nimport enlighten"
ENLIGHTEN_SETUP = "counter = enlighten.Manager(stream=null, enabled=True).counter(total=10**9)"
CODETIMING = "from codetiming import Timer"
EMPTY = "def work(): pass"
SLOTTED = """
from time import perf_counter
class Timed:
    __slots__ = ("started", "stopped")
    def __enter__(self):
        self.started = perf_counter()
        return self
    def __exit__(self, *error):
        self.stopped = perf_counter()
"""
# What no method of Python with the signature of advance() can be faster than: one that does nothing, and one that adds.
FLOOR = """
class Nothing:
    __slots__ = ("done",)
    def __init__(self): self.done = 0
    def advance(self, n=1, /, **values): pass
    def add(self, n=1, /, **values): self.done += n
"""
# As the loaders of trainers are: an iterator in Python, of a class that knows its length.
LOADER = """
class Loader:
    def __init__(self, n): self.n = n
    def __len__(self): return self.n
    def __iter__(self): return Batches(self.n)
class Batches:
    def __init__(self, n): self.left = n
    def __iter__(self): return self
    def __next__(self):
        if not self.left: raise StopIteration
        self.left -= 1
        return self.left
"""
UNWANTED = ("rich", "json", "asyncio", "dataclasses", "typing")


def rows() -> list[Row]:
    """Return the rows, in the order of the table."""
    return [*_loops(), *_advances(), *_blocks(), *_disabled(), _imports(), _banner()]


def instructions() -> list[Row]:
    """Return what is counted in instructions: the hot paths, and tqdm's as long as it has nothing to show."""
    loops = [row for row in _loops() if row.work.endswith(("a list", "a generator"))]
    rows = [*loops, *_advances(), _blocks()[0]]
    kept = {"bare", "phasewatch", "tqdm", "codetiming", "two clock reads"}
    for row in rows:
        row.cases = {name: _counted(case) for name, case in row.cases.items() if name in kept}
    del loops[0].cases["tqdm"]  # it takes the same time over a generator, and valgrind takes its own
    return rows


def _counted(case: Case) -> Case:
    assert isinstance(case, Code)
    n = 10_000 if case.n == LONG_WITH_FIGURES else None  # each is long
    return dataclasses.replace(case, n=n, before=case.before.replace(TQDM, TQDM_AT_REST))


def _loops() -> list[Row]:
    sources = {
        "a list": ("", "data = list(range(n))"),
        "a range": ("", "data = range(n)"),
        "a tuple": ("", "data = tuple(range(n))"),
        "a generator": ("", "data = (item for item in range(n))"),
        "a dict view": ("", "data = dict.fromkeys(range(n)).values()"),
        "a DataLoader-like class": (LOADER, "data = Loader(n)"),
    }
    rows = []
    for name, (before, setup) in sources.items():
        exact = name in ("a list", "a range", "a tuple")
        beside_tqdm = not exact or name == "a list"

        long = LONG if beside_tqdm else None

        def loop(
            code: str, names: str = "", around: str = "", before: str = before, setup: str = setup, n: int | None = None
        ) -> Case:
            return Code(f"for item in {code}: pass", f"{before}\n{names}", setup, around, loops=True, n=n)

        cases = {
            "bare": loop("data", n=long),
            "phasewatch": loop("handle.track(data)", CONSOLE, "shown(), phase('TRACK', total=n) as handle", n=long),
        }
        if beside_tqdm:
            cases["tqdm"] = loop("tqdm(data, file=null, total=n)", TQDM, n=long)
            cases["rich"] = loop("track(data, total=n, console=Console(file=null))", RICH)
        if name == "a generator":
            cases["enlighten"] = loop("enlighten.Manager(stream=null, enabled=True).counter(total=n)(data)", ENLIGHTEN)
            cases["alive-progress"] = loop(f"alive_it(data, total=n, {ALIVE_OPTIONS})", ALIVE)
        must: list[Bound] = [AtMost(2e-9)] if exact else [AtMost(10e-9), Share("tqdm", 1 / 12)]
        rows.append(Row(f"`track` over {name}", cases, must, rounds=15 if beside_tqdm else 31))
    return rows


POSTFIX = "bar.set_postfix(questions=256, reward=0.5, refresh=False)"


def _advances() -> list[Row]:
    entered = "shown(), phase('ADVANCE', total=10**9, unit='batch', counters={'questions': None}) as handle"
    bar = "bar = tqdm(total=10**9, file=null)"
    values = "questions=256, reward=0.5"
    progress = "progress = Progress(console=Console(file=null)); task = progress.add_task('ADVANCE', total=10**9)"
    return [
        Row(
            "`advance()`, shown",
            {
                "phasewatch": Code("handle.advance()", CONSOLE, around=entered, n=LONG),
                "tqdm": Code("bar.update()", TQDM, bar, n=LONG),
                "rich": Code("progress.advance(task)", RICH, progress, "progress"),
                "enlighten": Code("counter.update()", ENLIGHTEN, ENLIGHTEN_SETUP),
                "alive-progress": Code("bar()", ALIVE, around=f"alive_bar(10**9, {ALIVE_OPTIONS}) as bar"),
                "an empty method of that signature": Code("nothing.advance()", FLOOR, "nothing = Nothing()"),
                "one that adds": Code("nothing.add()", FLOOR, "nothing = Nothing()"),
            },
            [Share("tqdm", 0.5), Share("rich", 0.1)],
        ),
        Row(
            "`advance(questions=256, reward=0.5)`, shown",
            {
                "phasewatch": Code(f"handle.advance({values})", CONSOLE, around=entered, n=LONG_WITH_FIGURES),
                "tqdm": Code(f"bar.update()\n{POSTFIX}", TQDM, bar, n=LONG_WITH_FIGURES),
            },
            [Share("tqdm", 0.3)],
        ),
    ]


def _blocks() -> list[Row]:
    timer = Code("with Timer(name='X', logger=None): pass", CODETIMING)
    clocks = Code("with Timed(): pass", SLOTTED)
    block = "with phase('X'): pass"
    eliot = (
        "import os, tempfile\nfrom eliot import start_action, to_file\nfolder = tempfile.TemporaryDirectory()\n"
        "to_file(open(os.path.join(folder.name, 'eliot.log'), 'ab'))"
    )
    traced = "from opentelemetry.sdk.trace import TracerProvider\ntracer = TracerProvider().get_tracer('BENCH')"
    remembered = "from phasewatch.testing import MemorySink"
    return [
        Row(
            "a block, no sink",
            {
                "phasewatch": Code(block, PHASE, around=f"{QUIET}, phase('OUTER')"),
                "codetiming": timer,
                "OpenTelemetry": Code(
                    "with tracer.start_as_current_span('X'): pass", traced, around="tracer.start_as_current_span('OUTER')"
                ),
                "two clock reads": clocks,
                "loguru": Code("with logger.contextualize(phase='X'): pass", "from loguru import logger"),
                "structlog": Code(
                    "with bound_contextvars(phase='X'): pass", "from structlog.contextvars import bound_contextvars"
                ),
            },
            [Share("codetiming", 0.9), Share("OpenTelemetry", 1 / 20)],
        ),
        Row(
            "a block, one in-memory sink",
            {
                "phasewatch": Code(
                    block, f"{PHASE}\n{remembered}", around="run('BENCH', sinks=[MemorySink()]), phase('OUTER')"
                ),
                "codetiming": timer,
                "OpenTelemetry": Code(
                    "with tracer.start_as_current_span('X'): pass",
                    f"{traced}\nfrom opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
                    "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
                    "memory = InMemorySpanExporter()\n"
                    "tracer.span_processor.add_span_processor(SimpleSpanProcessor(memory))",
                    "memory.clear()",
                    "tracer.start_as_current_span('OUTER')",
                ),
            },
            [Share("codetiming", 1.5)],
        ),
        Row(
            "a block, the event log",
            {
                "phasewatch": Code(block, LOGGED, around="logged(), phase('OUTER')"),
                "eliot": Code("with start_action(action_type='X'): pass", eliot, around="start_action(action_type='OUTER')"),
                "logfire": Code(
                    "with logfire.span('X'): pass",
                    "import logfire\nlogfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)",
                    around="logfire.span('OUTER')",
                ),
            },
            [Share("eliot", 1.0)],
        ),
        Row(
            "a decorated empty function, no sink",
            {
                "phasewatch": Code("work()", f"{PHASE}\n@phase\n{EMPTY}", around=f"{QUIET}, phase('OUTER')"),
                "codetiming": Code("work()", f"{CODETIMING}\n@Timer(name='X', logger=None)\n{EMPTY}"),
            },
            [Share("codetiming", 1.2)],
        ),
    ]


def _disabled() -> list[Row]:
    switched_off = {"PHASEWATCH_DISABLE": "1"}
    data = "data = list(range(n))"
    same = "from phasewatch import phase; data = [1]; assert phase('TRACK').track(data) is data"
    return [
        Row(
            "a block, disabled",
            {
                "phasewatch": Code("with phase('X'): pass", PHASE),
                "two clock reads": Code("with Timed(): pass", SLOTTED),
            },
            [Share("two clock reads", 0.5)],
            environment=switched_off,
        ),
        Row(
            "`track` over a list, disabled",
            {
                "bare": Code("for item in data: pass", "", data, loops=True),
                "phasewatch": Code(
                    "for item in handle.track(data): pass", PHASE, data, "phase('TRACK', total=n) as handle", loops=True
                ),
                "tqdm": Code("for item in tqdm(data, disable=True): pass", TQDM, data, loops=True),
            },
            [Holds("the list itself", lambda: _succeeds(same, **switched_off))],
            rounds=31,
            environment=switched_off,
        ),
    ]


def _succeeds(code: str, **environment: str) -> bool:
    return subprocess.run([sys.executable, "-c", code], env=os.environ | environment, check=False).returncode == 0


def _imports() -> Row:
    # With compiled files, as an installed package has them.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

    def importing(code: str) -> Case:
        command = [sys.executable, "-c", code]
        subprocess.run(command, check=True, env=environment)

        def run(n: int) -> float:
            started = time.perf_counter()
            subprocess.run(command, check=True, env=environment)
            return time.perf_counter() - started

        return Call(run)

    modules = {
        "phasewatch": "phasewatch",
        "tqdm": "tqdm",
        "rich": "rich.progress",
        "codetiming": "codetiming",
        "loguru": "loguru",
        "structlog": "structlog",
        "eliot": "eliot",
        "OpenTelemetry": "opentelemetry.sdk.trace",
    }
    lean = f"import sys, phasewatch; assert not set(sys.modules) & set({UNWANTED})"
    return Row(
        "import",
        {"bare": importing("pass")} | {name: importing(f"import {module}") for name, module in modules.items()},
        [Share("tqdm", 0.25), Holds(f"without {', '.join(UNWANTED)}", lambda: _succeeds(lean))],
        rounds=9,
    )


def _banner() -> Row:
    file = "import tempfile\nfile = tempfile.NamedTemporaryFile('w', encoding='utf-8')"
    return Row(
        "a banner to a file",
        {
            # The first banner of a phase whose completion is silent: one banner for each block.
            "phasewatch": Code(
                "with phase('INITIALIZATION'): pass",
                f"{PHASE}\n{file}\nfrom rich.console import Console\nfrom phasewatch.sinks import ConsoleSink",
                around="run('BENCH', sinks=[ConsoleSink(Console(file=file))]), phase('OUTER')",
            ),
            "rich": Code(
                "console.print(panel)",
                f"{file}\nfrom rich.console import Console\nfrom rich.panel import Panel\n"
                "console = Console(file=file)\npanel = Panel('🚀 [META] PHASE: INITIALIZATION')",
            ),
        },
        [AtMost(150e-6), Share("rich", 0.2)],
    )
