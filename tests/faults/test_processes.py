"""Processes that come from others, in every way that Python knows. Real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes as POSIX knows them")

LONG = 60.0  # seconds after which a program is taken to hang; it shows first where

# What a started process imports must be a file.
_PRELUDE = f"""
import asyncio, concurrent.futures, faulthandler, json, multiprocessing, os, signal, subprocess, sys, threading
import phasewatch
from phasewatch import phase
LOG = os.environ["LOG"]
faulthandler.dump_traceback_later({LONG - 10}, exit=True)
"""


def run(tmp_path: Path, program: str, main: str = "", **environment: str) -> list[dict[str, Any]]:
    """Run a program, of which the part ``main`` is for the first process alone; return the event log."""
    log = tmp_path / "log"
    file = tmp_path / "program.py"
    main = 'if __name__ == "__main__":\n' + textwrap.indent(textwrap.dedent(main), "    ") if main else ""
    file.write_text(_PRELUDE + textwrap.dedent(program) + main, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(file)],
        env={
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PHASEWATCH_CONSOLE": "off",
            "PYTHONWARNINGS": "ignore::DeprecationWarning",  # of forks beside threads, in what it starts too
            "LOG": str(log),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def tree(records: list[dict[str, Any]]) -> Counter[tuple[str, ...]]:
    """How often each chain of names is there, by the ids of parents; all have ended."""
    starts = {record["id"]: record for record in records if record["event"] == "start"}
    ends = [record["id"] for record in records if record["event"] == "end"]
    assert len(starts) == sum(record["event"] == "start" for record in records), "ids are unique"
    assert sorted(ends) == sorted(starts), "each start has its end"
    (run,) = {record.get("run") for record in starts.values()}
    assert run in starts

    def chain(record: dict[str, Any]) -> tuple[str, ...]:
        parent = record.get("parent")
        return (*(chain(starts[parent]) if parent is not None else ()), record["name"])

    for record in starts.values():
        assert tuple(record.get("path", ())) == chain(record)[1:], "paths go on where the parent's end"
    return Counter(chain(record) for record in starts.values())


def processes(records: list[dict[str, Any]], name: str) -> int:
    """In how many processes phases of a name were."""
    found = {(r["place"]["process"], r["id"].split(".")[0]) for r in records if r["event"] == "start" and r["name"] == name}
    assert len({number for number, _ in found}) == len(found), "each has one identity"
    return len(found)


# Forks


def test_the_children_of_a_fork_are_as_new_and_go_on_where_their_parent_was(tmp_path: Path) -> None:
    program = """
    with phasewatch.run("r", log=LOG) as run, phase("A", total=9) as around:
        around.advance()
        assert threading.active_count() == 2  # with the thread that looks
        held = []
        for _ in range(3):
            child = os.fork()
            if not child:
                assert phasewatch.current() is None
                assert threading.active_count() == 1
                with phase("CHILD", total=2) as inside:
                    assert threading.active_count() == 2
                    inside.advance()
                    with phase("INNER"):
                        pass
                thread = threading.Thread(target=lambda: phase("THREAD").__enter__().__exit__(None, None, None))
                thread.start()
                thread.join()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    """
    records = run(tmp_path, program)
    expected = {
        ("r",): 1,
        ("r", "A"): 1,
        **{("r", "A", *names): 3 for names in [("CHILD",), ("CHILD", "INNER"), ("THREAD",)]},
    }
    assert tree(records) == expected
    assert processes(records, "CHILD") == 3


def test_the_workers_of_a_loader_tell_of_their_batches_under_the_phase_that_started_them(tmp_path: Path) -> None:
    # As torch's DataLoader: workers that are forked when an epoch begins, fed by a queue, told to end by None.
    program = """
    def worker(number, indices, batches):
        with phase("WORKER", number=number) as handle:
            for index in iter(indices.get, None):
                with phase("COLLATE"):
                    batches.put((index, index * index))
                handle.advance()

    class Loader:
        def __init__(self, length, workers):
            self.length, self.workers = length, workers
        def __len__(self):
            return self.length
        def __iter__(self):
            context = multiprocessing.get_context("fork")
            indices, batches = context.Queue(), context.Queue()
            processes = [context.Process(target=worker, args=(n, indices, batches)) for n in range(self.workers)]
            for process in processes: process.start()
            for index in range(self.length): indices.put(index)
            for _ in range(self.length): yield batches.get()
            for _ in processes: indices.put(None)
            for process in processes: process.join()
            assert [process.exitcode for process in processes] == [0] * self.workers

    with phasewatch.run("r", log=LOG):
        for epoch in (1, 2):
            with phase("EPOCH") as training:
                assert sorted(training.track(Loader(10, 2))) == [(n, n * n) for n in range(10)]
                assert training.done == 10
    """
    records = run(tmp_path, program)
    assert tree(records) == {
        ("r",): 1,
        ("r", "EPOCH"): 2,
        ("r", "EPOCH", "WORKER"): 4,
        ("r", "EPOCH", "WORKER", "COLLATE"): 20,
    }
    assert processes(records, "WORKER") == 4


def test_a_thousand_forks_beside_threads_that_emit(tmp_path: Path) -> None:
    program = f"""
    from phasewatch.sinks import ConsoleSink, JsonlSink, QueuedSink
    from phasewatch.testing import MemorySink
    from rich.console import Console
    class Nobody:
        def emit(self, event): pass
        def close(self): pass
    sys.setswitchinterval(1e-4)
    stop = threading.Event()
    def hammer():
        while not stop.wait(0.0005):  # else they would have the processors
            with phase("H") as handle:
                handle.advance(loss=1.0)
    sinks = [ConsoleSink(Console(file=open(LOG + ".text", "w"))), JsonlSink(LOG), QueuedSink(Nobody())]
    with phasewatch.run("r", sinks=sinks):
        threads = [threading.Thread(target=hammer) for _ in range(3)]
        for thread in threads: thread.start()
        with phase("A"):
            children = []
            for number in range(1000):
                child = os.fork()
                if not child:
                    signal.alarm({LONG / 2:.0f})  # a child that waits for ever dies of it
                    with phase("CHILD"):
                        pass
                    os._exit(0)
                children.append(child)
                if len(children) == 4:
                    assert os.waitpid(children.pop(0), 0)[1] == 0
            for child in children:
                assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for thread in threads: thread.join()
    """
    found = tree(run(tmp_path, program))
    assert found.pop(("r", "H")) > 100
    assert found == {("r",): 1, ("r", "A"): 1, ("r", "A", "CHILD"): 1000}


# Processes that are started anew

ATTACHED = {
    "a block": 'with phasewatch.attach(carrier), phase("SHARD") as shard:\n        shard.advance()',
    "a call": 'phasewatch.attach(carrier)\n    with phase("SHARD") as shard:\n        shard.advance()',
}


@pytest.mark.parametrize(("method", "how"), [("spawn", "a block"), ("forkserver", "a call"), ("fork", "a block")])
def test_a_carrier_as_an_argument_of_a_process(tmp_path: Path, method: str, how: str) -> None:
    program = f"""
def work(carrier):
    {ATTACHED[how]}
"""
    main = f"""
    context = multiprocessing.get_context({method!r})
    with phasewatch.run("r", log=LOG), phase("A"):
        processes = [context.Process(target=work, args=(phasewatch.carrier(),)) for _ in range(2)]
        for process in processes: process.start()
        for process in processes: process.join()
        assert [process.exitcode for process in processes] == [0, 0]
    """
    records = run(tmp_path, program, main)
    assert tree(records) == {("r",): 1, ("r", "A"): 1, ("r", "A", "SHARD"): 2}
    assert processes(records, "SHARD") == 2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_that_works_for_several_phases(tmp_path: Path, method: str) -> None:
    program = """
def square(carrier, n):
    with phasewatch.attach(carrier), phase("SQUARE"):
        return n * n
"""
    main = f"""
    from functools import partial
    context = multiprocessing.get_context({method!r})
    with phasewatch.run("r", log=LOG), concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        for name in ("A", "B"):
            with phase(name):
                squares = list(pool.map(partial(square, phasewatch.carrier()), range(5)))
                assert squares == [0, 1, 4, 9, 16]
    """
    expected = {("r",): 1, ("r", "A"): 1, ("r", "B"): 1, ("r", "A", "SQUARE"): 5, ("r", "B", "SQUARE"): 5}
    assert tree(run(tmp_path, program, main)) == expected


def test_the_environment_of_a_process_that_starts_others_in_turn(tmp_path: Path) -> None:
    program = """
    depth = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with phase(f"P{depth}") if depth else phasewatch.run("r", log=LOG):
        with phase("START"):
            environment = {**os.environ, "PHASEWATCH_PARENT": phasewatch.carrier()}
            if depth < 2:
                subprocess.run([sys.executable, __file__, str(depth + 1)], env=environment, check=True)
            child = os.fork()
            if not child:
                with phase("FORKED"): pass
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    """
    records = run(tmp_path, program)
    first = ("r", "START")
    second = (*first, "P1", "START")
    third = (*second, "P2", "START")
    assert tree(records) == Counter(
        part for chain in (first, second, third) for part in (chain[:-1], chain, (*chain, "FORKED"))
    )


def test_a_process_of_the_environment_that_forks_before_it_opens_anything(tmp_path: Path) -> None:
    program = """
    if "PHASEWATCH_PARENT" not in os.environ:
        with phasewatch.run("r", log=LOG):
            environment = {**os.environ, "PHASEWATCH_PARENT": phasewatch.carrier()}
            subprocess.run([sys.executable, __file__], env=environment, check=True)
    else:
        def square(n):
            with phase("SQUARE"): return n * n
        def work():
            with phase("WORK"): pass
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(square, range(4)) == [0, 1, 4, 9]
            pool.close()
            pool.join()
        work()
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
    """
    assert tree(run(tmp_path, program)) == {("r",): 1, ("r", "SQUARE"): 4, ("r", "WORK"): 2}


def test_a_run_in_a_started_process_is_a_record_of_its_own_that_hangs_under_the_first(tmp_path: Path) -> None:
    program = """
def work(carrier):
    with phasewatch.attach(carrier), phasewatch.run("inner"), phase("X"):
        pass
"""
    main = """
    with phasewatch.run("r", log=LOG), phase("A"):
        process = multiprocessing.get_context("spawn").Process(target=work, args=(phasewatch.carrier(),))
        process.start()
        process.join()
        assert process.exitcode == 0
    """
    starts = {record["name"]: record for record in run(tmp_path, program, main) if record["event"] == "start"}
    assert starts["inner"]["parent"] == starts["A"]["id"]
    assert (starts["X"]["parent"], starts["X"]["run"], starts["X"]["path"]) == (*[starts["inner"]["id"]] * 2, ["X"])


def test_hostile_names_reach_the_children_or_stay_away_but_hurt_nobody(tmp_path: Path) -> None:
    program = r"""
    if "PHASEWATCH_PARENT" not in os.environ:
        with phasewatch.run("r", log=LOG):
            for name in ("\0\n\x1b]0;x\x07", "\ud800", "N" * 3_000_000, "🔄" * 300_000):
                with phase(name):
                    environment = {**os.environ, "PHASEWATCH_PARENT": phasewatch.carrier()}
                    subprocess.run([sys.executable, __file__], env=environment, check=True)
    else:
        with phase("X"): pass
    """
    records = run(tmp_path, program)
    starts = {record["id"]: record for record in records if record["event"] == "start"}
    children = [record for record in starts.values() if record["name"] == "X"]
    names = [starts[child["parent"]]["name"] for child in children]
    assert names == ["\0\n\x1b]0;x\x07", "\ud800", "N" * 3_000_000, "🔄" * 300_000]
    assert [child["path"][0] for child in children] == [*names[:2], "N" * 500, "🔄" * 500]
