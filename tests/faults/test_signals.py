"""Ends that come from outside, and those at which nothing of the program runs any more. Real processes, real signals.

Each program runs watched and unwatched: it dies in the same way, and what was open is told as interrupted.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from watched import Ended, ended, same

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals as POSIX knows them")

TERM = -signal.SIGTERM
KILL = "os.kill(os.getpid(), signal.SIGTERM)"
DONE = "\nsay('survived')\n"


def logged(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ends(log: Path) -> list[tuple[str, str]]:
    """Name and status of what has ended, in order."""
    return [(record["name"], record["status"]) for record in logged(log) if record["event"] == "end"]


def interruptions(watched: Ended) -> list[str]:
    """What the text tells as interrupted, in order."""
    return [line.split("[META] ")[1] for line in watched.out.splitlines() if "INTERRUPTED" in line]


def assert_every_start_has_one_end(log: Path) -> None:
    records = logged(log)
    for kind in ("start", "end"):
        twice = [id for id, times in Counter(r["id"] for r in records if r["event"] == kind).items() if times > 1]
        assert twice == [], kind
    began, over = ({r["id"]: r["name"] for r in records if r["event"] == kind} for kind in ("start", "end"))
    assert began.items() - over.items() == set()
    assert over.items() - began.items() == set()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


# SIGTERM


def test_what_is_open_ends_innermost_first_in_text_and_log_and_all_sinks_are_closed(log: Path) -> None:
    setup = f"""
class Told:
    def __init__(self, name): self.name = name
    def emit(self, event): pass
    def close(self):
        with open({str(log)!r} + ".closed", "a") as file: print(self.name, file=file)
from phasewatch.sinks import ConsoleSink, JsonlSink
phasewatch.configure(sinks=[ConsoleSink(), Told("configured")])
GIVEN = [ConsoleSink(), Told("given"), JsonlSink({str(log)!r})]
"""
    program = f"""
with phasewatch.run("r", sinks=globals().get("GIVEN")), phase("A"):
    with phase("OVER"):
        pass
    with phase("B", total=3) as b, phase("C"):
        b.advance()
        {KILL}
"""
    watched = same(program + DONE, setup)
    assert (watched.code, watched.err, watched.said) == (TERM, "", ())
    assert ends(log) == [("OVER", "completed")] + [(name, "interrupted") for name in ("C", "B", "A", "r")]
    assert interruptions(watched) == ["PHASE INTERRUPTED: C", "RUN INTERRUPTED - in A > B > C"]
    last = logged(log)[-1]
    assert (last["error"]["type"], last["origin"]) == ("SIGTERM", ["A", "B", "C"])
    closed = log.with_suffix(".closed").read_text().split()
    assert closed == ["given", "configured"]


def test_phases_of_all_threads_end(log: Path) -> None:
    program = f"""
ready = threading.Barrier(4)
def work(name):
    with phase(name), phase("IN " + name):
        ready.wait()
        threading.Event().wait()
with phasewatch.run("r", log={str(log)!r}), phase("MAIN"):
    for name in "ABC":
        threading.Thread(target=work, args=[name], daemon=True).start()
    ready.wait()
    {KILL}
"""
    watched = same(program + DONE)
    assert (watched.code, watched.err) == (TERM, "")
    names = [name for name, status in ends(log) if status == "interrupted"]
    assert sorted(names) == ["A", "B", "C", "IN A", "IN B", "IN C", "MAIN", "r"]
    assert all(names.index("IN " + name) < names.index(name) < names.index("r") for name in "ABC")
    assert names[-1] == "r"
    assert_every_start_has_one_end(log)
    assert len(interruptions(watched)) == 5, "one for the innermost of each thread, and one for the run"


def test_threads_that_go_on_meanwhile_are_told_of_no_mistake_and_each_phase_ends_once(log: Path) -> None:
    program = f"""
sys.setswitchinterval(1e-5)
def hammer():
    while True:
        with phase("OUTER") as outer:
            for _ in range(3):
                with phase("INNER"):
                    outer.advance(loss=1.0)
with phasewatch.run("r"):
    for _ in range(4):
        threading.Thread(target=hammer, daemon=True).start()
    time.sleep(0.1)
    {KILL}
"""
    setup = f"""
from phasewatch.sinks import JsonlSink
class Closing:
    def emit(self, event): pass
    def close(self): time.sleep(0.2)
phasewatch.configure(sinks=[JsonlSink({str(log)!r}), Closing()])
"""
    watched = same(program + DONE, setup)
    assert (watched.code, watched.err, watched.reports) == (TERM, "", ())
    records = logged(log)
    assert set(Counter(r["id"] for r in records if r["event"] == "end").values()) == {1}
    unended = {r["id"] for r in records if r["event"] == "start"} - {r["id"] for r in records if r["event"] == "end"}
    assert len(unended) <= 4, "of each thread, what it was just about to open or to end"
    run_ended = next(number for number, r in enumerate(records) if r["event"] == "end" and r["name"] == "r")
    assert len([r for r in records[run_ended:] if r["event"] == "start"]) <= 4


def test_tasks_of_a_running_loop(log: Path) -> None:
    program = f"""
import asyncio
async def work(name):
    with phase(name):
        async with asyncio.timeout(60) if hasattr(asyncio, "timeout") else asyncio.Lock():
            with phase("IN " + name):
                await asyncio.Event().wait()
async def main():
    with phase("MAIN"):
        tasks = [asyncio.create_task(work(name)) for name in "AB"]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        await asyncio.gather(*tasks)
with phasewatch.run("r", log={str(log)!r}):
    asyncio.run(main())
"""
    watched = same(program + DONE)
    assert (watched.code, watched.err) == (TERM, "")
    names = [name for name, status in ends(log) if status == "interrupted"]
    assert sorted(names) == ["A", "B", "IN A", "IN B", "MAIN", "r"]
    assert_every_start_has_one_end(log)


FULL_PIPE = """
from phasewatch.sinks import ConsoleSink, JsonlSink
from rich.console import Console
reading, writing = os.pipe()  # nobody reads
os.set_blocking(writing, False)
try:
    while True: os.write(writing, b"x" * 4096)
except BlockingIOError:
    os.set_blocking(writing, True)
CONSOLE = ConsoleSink(Console(file=open(writing, "w")))
"""


HANGS = {
    "a thread that opens a phase": """
def work():
    with phase("HANGS"):
        threading.Event().wait()
threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
phasewatch.run("r", sinks=[]).__enter__()""",
    "the thread that looks": """
from phasewatch._tracker import look
phasewatch.run("r", sinks=[]).__enter__()
CONSOLE._mode = "off"
handle = phasewatch.Tracker(TRACKED).phase("HANGS", total=5).__enter__()
for n in handle.track(range(5)):
    if n == 3: break
CONSOLE._mode = "plain"
threading.Thread(target=look, daemon=True).start()
time.sleep(0.2)""",
}


@pytest.mark.parametrize("who", HANGS)
def test_who_hangs_in_a_sink_with_its_lock_costs_a_moment_and_no_other_sink_its_events(who: str, log: Path) -> None:
    setup = f"""{FULL_PIPE}
phasewatch._forks._PATIENCE = 0.2
TRACKED = [CONSOLE, JsonlSink({str(log)!r})]
phasewatch.configure(sinks=TRACKED)
"""
    watched = ended(f"{HANGS[who]}\n{KILL}{DONE}", setup, watched=True)
    assert (watched.code, watched.err, watched.said) == (TERM, "", ())
    assert ends(log) == [("HANGS", "interrupted")]
    (report,) = watched.reports
    assert "the sink ConsoleSink could not take an event" in report
    assert "TimeoutError: another thread does not let go of its lock" in report


def test_the_process_dies_though_a_sink_hangs_in_the_handler() -> None:
    setup = f"""{FULL_PIPE}
import phasewatch._termination
phasewatch._termination._PATIENCE = 0.2
phasewatch.configure(sinks=[CONSOLE])
"""
    # Only the end of the run goes to the full pipe: its start is silent.
    watched = same(f'with phasewatch.run("r"):\n    {KILL}{DONE}', setup)
    assert (watched.code, watched.err, watched.reports) == (TERM, "", ())


def test_the_main_thread_is_inside_a_sink(log: Path) -> None:
    setup = f"""
from phasewatch.sinks import ConsoleSink, JsonlSink
class Slow:
    def emit(self, event):
        if event.type == "start" and event.name == "B":
            {KILL}
            time.sleep(60)
    def close(self): pass
phasewatch.configure(sinks=[JsonlSink({str(log)!r}), Slow(), ConsoleSink()])
"""
    watched = ended('with phasewatch.run("r"), phase("A"), phase("B"):\n    pass' + DONE, setup, watched=True)
    assert (watched.code, watched.err, watched.said) == (TERM, "", ())
    assert ends(log) == [("B", "interrupted"), ("A", "interrupted"), ("r", "interrupted")]
    assert interruptions(watched) == ["PHASE INTERRUPTED: B", "RUN INTERRUPTED - in A > B"]


def test_a_signal_that_comes_twice_is_one(log: Path) -> None:
    setup = f"""
from phasewatch.sinks import JsonlSink
class Again:
    def emit(self, event):
        if event.type == "end": {KILL}
    def close(self): pass
phasewatch.configure(sinks=[Again(), JsonlSink({str(log)!r})])
"""
    watched = same(f'with phasewatch.run("r"), phase("A"), phase("B"):\n    {KILL}' + DONE, setup)
    assert (watched.code, watched.err) == (TERM, "")
    assert [name for name, _ in ends(log)] == ["B", "A", "r"]


HANDLERS = {
    "a function": ("def handler(*_): say('handled')\nsignal.signal(signal.SIGTERM, handler)", ""),
    "one that exits": ("def handler(*_): sys.exit(7)\nsignal.signal(signal.SIGTERM, handler)", ""),
    "one that raises": ("def handler(*_): raise RuntimeError('term')\nsignal.signal(signal.SIGTERM, handler)", ""),
    "ignored": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", ""),
    "set inside": ("", "signal.signal(signal.SIGTERM, lambda *_: say('handled'))"),
    "ignored inside": ("", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"),
    "default inside": ("", "signal.signal(signal.SIGTERM, signal.SIG_DFL)"),
    # As Lightning does: a handler of its own, and then the one before it, if there was one.
    "one that calls the one before": (
        "",
        """before = signal.getsignal(signal.SIGTERM)
    def handler(*args):
        say('handled')
        if callable(before): before(*args)
    signal.signal(signal.SIGTERM, handler)""",
    ),
    "only if there is none": (
        "",
        """if signal.getsignal(signal.SIGTERM) in (None, signal.SIG_DFL):
        signal.signal(signal.SIGTERM, lambda *_: say('handled'))""",
    ),
    "one that was put back": (
        "",
        """before = signal.signal(signal.SIGTERM, lambda *_: say('handled'))
    os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)""",
    ),
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_of_the_program_is_called_and_kept(handler: str) -> None:
    before, inside = HANDLERS[handler]
    program = f"""
{before}
with phasewatch.run("r"), phase("A"):
    {inside}
    {KILL}
    say("goes on")
result(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
{KILL}
"""
    same(program + DONE)


@pytest.mark.parametrize("inside", [False, True], ids=["before", "inside"])
def test_a_handler_of_an_asyncio_loop_is_called_and_kept(inside: bool) -> None:
    program = f"""
import asyncio
async def main():
    stop = asyncio.Event()
    if not {inside}:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with phasewatch.run("r"), phase("A"):
        if {inside}:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        {KILL}
        await stop.wait()
        say("stopped in good order")
asyncio.run(main())
{KILL}
"""
    watched = same(program + DONE)
    assert watched.said == ("own: stopped in good order",)
    assert interruptions(watched) == []


def test_a_forked_child_dies_of_it_and_ends_its_own_phases_only(log: Path) -> None:
    program = f"""
with phasewatch.run("r", log={str(log)!r}), phase("A"):
    child = os.fork()
    if not child:
        with phase("CHILD"):
            {KILL}
            say("survived")
    result(os.waitpid(child, 0)[1])
    with phase("B"):
        pass
"""
    watched = same(program)
    assert (watched.code, watched.result, watched.err) == (0, f"{int(signal.SIGTERM)}\n", "")
    assert ends(log) == [("CHILD", "interrupted"), ("B", "completed"), ("A", "completed"), ("r", "completed")]
    assert interruptions(watched) == ["PHASE INTERRUPTED: CHILD"]


def test_a_child_to_which_it_comes_before_the_fork_is_over_leaves_its_parents_phases_alone(log: Path) -> None:
    # What is registered first is called first in the child.
    program = f"""
os.register_at_fork(after_in_child=lambda: {KILL})
with phasewatch.run("r", log={str(log)!r}), phase("A"):
    child = os.fork()
    if not child:
        os._exit(0)
    result(os.waitpid(child, 0)[1])
"""
    watched = same(program)
    assert watched.result == f"{int(signal.SIGTERM)}\n"
    assert ends(log) == [("A", "completed"), ("r", "completed")]


def test_a_pool_whose_workers_are_ended_by_it(log: Path) -> None:
    program = f"""
import multiprocessing
def work(n):
    with phase("SHARD"):
        return n * n
with phasewatch.run("r", log={str(log)!r}), phase("A"):
    with multiprocessing.get_context("fork").Pool(2) as pool:  # which sends SIGTERM to its workers
        result(pool.map(work, range(20)))
"""
    watched = same(program)
    assert watched.code == 0
    statuses = Counter(ends(log))
    assert statuses == {("SHARD", "completed"): 20, ("A", "completed"): 1, ("r", "completed"): 1}


# SIGINT


def test_ctrl_c(log: Path) -> None:
    program = f"""
try:
    with phasewatch.run("r", log={str(log)!r}), phase("A"):
        with phase("B"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
finally:
    say("cleaned up")
"""
    watched = same(program)
    assert watched.code == -signal.SIGINT
    assert ends(log) == [("B", "interrupted"), ("A", "interrupted"), ("r", "interrupted")]
    assert interruptions(watched) == ["PHASE INTERRUPTED: B", "RUN INTERRUPTED - in A > B"]


def test_ctrl_c_twice(log: Path) -> None:
    program = f"""
with phasewatch.run("r", log={str(log)!r}), phase("A"):
    try:
        with phase("B"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
    finally:
        with phase("CLEAN UP"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
"""
    watched = same(program)
    assert watched.code == -signal.SIGINT
    assert ends(log) == [(name, "interrupted") for name in ("B", "CLEAN UP", "A", "r")]


def test_ctrl_c_again_while_a_sink_takes_the_end_of_what_the_first_one_ended(log: Path) -> None:
    setup = f"""
from phasewatch.sinks import JsonlSink
class Impatient:
    def emit(self, event):
        if event.type == "end" and event.name == "B": os.kill(os.getpid(), signal.SIGINT)
    def close(self): pass
phasewatch.configure(sinks=[Impatient(), JsonlSink({str(log)!r})])
"""
    program = """
try:
    with phasewatch.run("r"), phase("A"):
        with phase("B"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
except KeyboardInterrupt:
    result(phasewatch.current())
"""
    watched = same(program, setup)
    assert watched.result == "None\n"
    assert ends(log) == [("A", "interrupted"), ("r", "interrupted")]


# Where nothing of the program runs any more


def test_os_exit_leaves_a_log_that_tells_what_was_open(log: Path) -> None:
    watched = same(f'with phasewatch.run("r", log={str(log)!r}), phase("A"), phase("B"):\n    os._exit(5)')
    assert (watched.code, watched.err) == (5, "")
    assert [(record["event"], record["name"]) for record in logged(log)] == [("start", name) for name in ("r", "A", "B")]


def test_sigkill_in_the_middle_of_threads_and_children_leaves_a_log_that_can_be_read(log: Path) -> None:
    program = f"""
def hammer():
    while True:
        with phase("H") as handle:
            handle.log(loss=1.0)
with phasewatch.run("r", log={str(log)!r}), phase("A"):
    child = os.fork()
    for _ in range(2):
        threading.Thread(target=hammer, daemon=True).start()
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    watched = same(program)
    assert watched.code == -signal.SIGKILL
    records = logged(log)
    assert len(records) > 100
    assert len({record["id"].split(".")[0] for record in records}) == 2
    assert [name for name, _ in ends(log) if name != "H"] == []


LAST_WORDS = {
    "handles": 'handle = phase("A", total=9).__enter__()\nhandle.advance()',
    "a run": 'run = phasewatch.run("r").__enter__()\nphase("A").__enter__()',
    "a loop": 'for n in phase("A").__enter__().track(range(9)):\n    if n == 3: break',
    "daemon threads": """
def work():
    with phase("A") as handle:
        while True: handle.advance(loss=1.0)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)""",
    "daemon threads that open phases": """
def work():
    while True:
        with phase("A"), phase("B"): pass
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)""",
    "threads": """
def work():
    with phase("A"):
        time.sleep(0.1)
        say("the thread ends")
threading.Thread(target=work).start()""",
    "generators": """
@phase("GENERATOR")
def numbers():
    with phase("INSIDE"):
        try:
            yield 1
        finally:
            say("closed")
reading = numbers()
next(reading)""",
    "generators in a cycle": """
@phase("GENERATOR")
def numbers():
    with phase("INSIDE"):
        me = yield 1
        yield me
reading = numbers()
next(reading)
reading.send(reading)""",
    "coroutines": """
import asyncio
@phase("COROUTINE")
async def work():
    await asyncio.sleep(60)
async def main():
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    say("the loop ends")
asyncio.run(main())""",
    "what is registered for the end": """
import atexit
@phase("LAST")
def last():
    with phase("A", total=2) as handle:
        handle.advance()
        say("last")
atexit.register(last)
with phase("BEFORE"): pass""",
    "only what is registered for the end": """
import atexit
@atexit.register
def last():
    with phasewatch.run("r"), phase("A", total=2) as handle:
        handle.advance()
        say("last")""",
    "what is deleted last": """
class Thing:
    def __del__(self, phase=phase, say=say):
        with phase("DELETED"):
            say("deleted")
thing = Thing()
with phase("BEFORE"): pass""",
}
ENDINGS = ["", "sys.exit(3)", "raise ValueError('of the program')"]


@pytest.mark.parametrize(("words", "ending"), [(words, ENDINGS[n % 3]) for n, words in enumerate(LAST_WORDS)])
def test_the_interpreter_ends_with_phases_open(words: str, ending: str, log: Path) -> None:
    setup = f"""
from phasewatch.sinks import ConsoleSink, JsonlSink
phasewatch.configure(sinks=[ConsoleSink(), JsonlSink({str(log)!r})])
"""
    watched = same(LAST_WORDS[words] + "\n" + ending, setup)
    assert watched.reports == ()
    assert logged(log)


def test_sys_exit_inside_of_phases(log: Path) -> None:
    watched = same(f'with phasewatch.run("r", log={str(log)!r}), phase("A"), phase("B"):\n    sys.exit("goodbye")')
    assert watched.code == 1
    assert ends(log) == [("B", "interrupted"), ("A", "interrupted"), ("r", "interrupted")]
