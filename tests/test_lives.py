"""Whether processes are there still: real ones, that end, are killed, or have a number that another one had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import ended, started

import phasewatch
from phasewatch import Event, PhaseInfo, Place, _lives
from phasewatch._lives import Lives, birth, is_there
from phasewatch.testing import MemorySink

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes have no birth")

HERE = os.uname().nodename
WAITING = "import sys, phasewatch._lives; print(phasewatch._lives.birth(), flush=True); sys.stdin.read()"


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], Place]]:
    """Another process, and its place."""
    with subprocess.Popen([sys.executable, "-c", WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        yield one, Place(host=HERE, process=one.pid, birth=one.stdout.readline().strip())
        one.kill()


def test_a_process_is_there_until_it_ends(other: tuple[subprocess.Popen[str], Place]) -> None:
    process, place = other
    assert is_there(place) is True
    process.communicate("")
    assert is_there(place) is False


def test_a_process_that_was_killed_is_gone_before_anybody_takes_note(other: tuple[subprocess.Popen[str], Place]) -> None:
    process, place = other
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie
    assert is_there(place) is False


def test_another_process_with_the_number_is_another_one() -> None:
    system, _, start = (birth() or "").rpartition(".")
    assert is_there(Place(host=HERE, process=os.getpid(), birth=f"{system}.{start}"))
    assert is_there(Place(host=HERE, process=os.getpid(), birth=f"{system}.{int(start) - 1}")) is False


def gone_number() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("host", "number", "born"),
    [
        ("elsewhere", None, birth()),
        (None, None, birth()),
        (HERE, None, "0." + (birth() or "").rpartition(".")[2]),  # another container, or before the machine was started
        (HERE, None, None),
        (HERE, None, "nonsense"),
        (HERE, 0, birth()),
        (HERE, -1, birth()),
        (HERE, 10**30, birth()),
    ],
    ids=str,
)
def test_what_cannot_be_known_is_not_said(host: str | None, number: int | None, born: str | None) -> None:
    number = gone_number() if number is None else number
    assert is_there(Place(host=host, process=number, birth=born)) is None
    assert is_there(Place(host=host, process=None, birth=born)) is None


def test_where_the_system_tells_nothing_nobody_has_a_birth(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise PermissionError

    place = Place(host=HERE, process=gone_number(), birth=birth())
    monkeypatch.setattr(_lives, "_known", None)
    monkeypatch.setattr(os, "readlink", refuse)
    assert birth() is None
    assert is_there(place) is None
    assert is_there(Place(host=HERE, process=gone_number())) is None


def test_where_processes_have_no_births_number_and_machine_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lives, "_known", (os.getpid(), None))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert is_there(Place(host=HERE, process=gone_number())) is False
    assert is_there(Place(host=HERE, process=os.getpid())) is None
    assert is_there(Place(host=HERE, process=gone_number(), birth="1.2")) is None  # of a container that runs here
    assert is_there(Place(host="elsewhere", process=gone_number())) is None


def test_files_of_the_system_that_count_otherwise_are_not_asked(
    monkeypatch: pytest.MonkeyPatch, other: tuple[subprocess.Popen[str], Place]
) -> None:
    process, place = other
    renumbered = Place(host=HERE, process=process.pid, birth=(place.birth or "") + "0")
    assert is_there(renumbered) is False
    monkeypatch.setattr(os, "readlink", lambda path: "1")
    assert is_there(renumbered) is None


def test_the_child_of_a_fork_has_a_birth_of_its_own_and_threads_have_not() -> None:
    sink = MemorySink()
    tracker = phasewatch.Tracker([sink])
    with tracker.phase("A"):
        place = sink.events[0].phase.place
    assert place is not None
    assert place.birth == birth()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with tracker.phase("B"):
            os.write(write, str(getattr(sink.events[-1].phase.place, "birth", "")).encode())
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(read, 100).decode()
    os.close(read)
    os.close(write)
    assert told
    assert told != place.birth


# What a log has of them.


def run_of(process: int) -> PhaseInfo:
    return PhaseInfo("job", id=f"{process}.1", role="run", run=f"{process}.1", place=Place(host=HERE, process=process))


def phase_of(process: int, run: int, parent: str) -> PhaseInfo:
    return PhaseInfo("A", id=f"{process}.2", parent=parent, run=f"{run}.1", path=("A",), place=Place(process=process))


def lives(*events: Event, gone: set[int]) -> Lives:
    """Of a log in which these events stand, when these processes are gone."""
    made = Lives(lambda place: place.process not in gone)
    for event in events:
        made.take(event)
    made.look()
    return made


RUN, OTHER = started(run_of(1), 0.0), started(run_of(2), 0.0)


def test_a_run_is_over_when_its_process_is_gone() -> None:
    inner = started(phase_of(1, 1, "1.1"), 1.0)
    assert not lives(RUN, inner, gone=set()).is_over(["1.1"], any_ended=False)
    one = lives(RUN, inner, gone={1})
    assert one.is_over(["1.1"], any_ended=False)
    assert one.lost == [RUN.phase], "what is inside it goes without saying"
    assert one.look() is False, "it is told once"


def test_a_run_goes_on_while_a_process_that_it_started_does() -> None:
    worker = phase_of(2, 1, "1.1")
    assert not lives(RUN, started(worker, 1.0), gone={1}).is_over(["1.1"], any_ended=False)
    assert lives(RUN, started(worker, 1.0), gone={1, 2}).is_over(["1.1"], any_ended=False)
    assert lives(RUN, started(worker, 1.0), ended(worker, 2.0, 1.0), gone={1}).is_over(["1.1"], any_ended=False)
    assert not lives(RUN, started(worker, 1.0), gone={2}).is_over(["1.1"], any_ended=False)


def test_all_runs_of_a_log_must_be_over() -> None:
    assert not lives(RUN, OTHER, gone={1}).is_over(["1.1", "2.1"], any_ended=False)
    assert lives(RUN, OTHER, gone={1, 2}).is_over(["1.1", "2.1"], any_ended=False)
    assert lives(RUN, OTHER, gone=set()).is_over([], any_ended=True)


def test_phases_without_a_run_are_over_when_their_processes_are_gone() -> None:
    alone = PhaseInfo("A", id="1.1", path=("A",), place=Place(process=1))
    for told in ([started(alone, 0.0)], [started(alone, 0.0), ended(alone, 1.0, 1.0)]):
        assert not lives(*told, gone=set()).is_over([], any_ended=False)
        assert lives(*told, gone={1}).is_over([], any_ended=False)
    assert not lives(gone={1}).is_over([], any_ended=False), "nothing has begun"


def test_a_run_of_which_nobody_knows_where_it_is_goes_on() -> None:
    nowhere = PhaseInfo("job", id="3.1", role="run", run="3.1")
    assert not lives(RUN, started(nowhere, 0.0), gone={1}).is_over(["1.1", "3.1"], any_ended=True)


KILLED = """
import os, signal, sys, threading
import phasewatch
with phasewatch.run("job", log=sys.argv[1], sinks=[]), phasewatch.phase("TRAINING", total=3) as training:
    training.advance()
    if sys.stdin.read(1):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_log_that_is_followed_ends_with_the_process_that_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, text=True)
    waits = 0

    def wait(_: float) -> None:
        nonlocal waits
        waits += 1
        assert waits < 10, "it is known at once"
        process.communicate("x")

    while not path.exists():
        assert process.poll() is None
    reading = phasewatch.read(path, follow=True, wait=wait)
    timeline = phasewatch.Timeline.from_events(reading)
    assert [node.status for node in timeline.nodes()] == ["lost", "lost"]
    assert [lost.name for lost in reading.lost] == ["job"]


def test_what_was_written_just_before_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    sink = phasewatch.sinks.JsonlSink(path)
    tracker = phasewatch.Tracker([sink])

    def is_there(_: Place) -> bool:
        if "LAST" not in path.read_text():
            with tracker.phase("LAST"):
                pass
        return False

    with tracker.phase("FIRST"):
        pass
    monkeypatch.setattr(Lives.__init__, "__defaults__", (is_there,))
    names = [event.name for event in phasewatch.read(path, follow=True, wait=lambda _: pytest.fail("it is over"))]
    assert names == ["FIRST", "FIRST", "LAST", "LAST"]
