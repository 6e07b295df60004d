"""Sinks that fail, and outputs that cannot be written to: the program does what it would have done, and is told once."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from watched import Ended, Start, captured, same

# Some work of many shapes, which says and finds out what it does, and then ends in some way.
WORK = """
@phase
def compute(n):
    with phase("SQUARES", total=n, unit="number") as squares:
        return sum(x * x for x in squares.track(range(n)))

def numbers():
    with phase("NUMBERS") as handle:
        for n in range(3):
            handle.advance(value=n)
            yield n

say("begins")
with phasewatch.run("work"):
    with phase("TRAINING", total=3, unit="step") as training:
        for n in range(3):
            with training.step() as step:
                step.log(loss=1 / (n + 1))
                say(f"step {n}: {compute(n)}")
    result(list(numbers()))
    try:
        with phase("FAILING"):
            raise ValueError("of the program")
    except ValueError as error:
        result((repr(error), error.__context__, error.__cause__, getattr(error, "__notes__", None)))
    thread = threading.Thread(target=lambda: result(compute(10)))
    thread.start()
    thread.join()
say("ends")
"""
ENDS = {
    "returns": "",
    "exits": "sys.exit(3)",
    "raises": "raise ValueError('of the program')",
    "dies of a signal": "os.kill(os.getpid(), signal.SIGTERM)",
    "is gone at once": "os._exit(4)",
}
SINKS = """
from phasewatch.sinks import ConsoleSink, QueuedSink
from phasewatch.testing import MemorySink

class RaisingAlways(MemorySink):
    def emit(self, event):
        raise OSError("always")
    def close(self):
        raise OSError("in close too")
class RaisingThird(MemorySink):
    calls = 0
    def emit(self, event):
        self.calls += 1
        if self.calls == 3:
            raise OSError("the third")
class RaisingInClose(MemorySink):
    def close(self):
        raise OSError("in close")
class Hanging(MemorySink):
    def emit(self, event):
        time.sleep(60)
class HangingInClose(MemorySink):
    def close(self):
        time.sleep(60)
class Slow(MemorySink):
    def emit(self, event):
        time.sleep(0.002)
        super().emit(event)
class Recursive(MemorySink):
    def emit(self, event):
        with phase("RECURSIVE", total=2) as handle:
            handle.advance()
            handle.log(loss=1)
class Exiting(MemorySink):
    def emit(self, event):
        sys.exit("out of a sink")
class Feeding(logging.Handler):
    def emit(self, record):
        with phase("LOGGED"):
            phasewatch.current().log(records=1)
logging.getLogger("program").addHandler(Feeding())
logging.getLogger("program").propagate = False
class Logging(MemorySink):
    def emit(self, event):
        logging.getLogger("program").error("took %s", event)
class Tee:
    encoding = "utf-8"
    def write(self, text):
        logging.getLogger("program").error(text)
        return len(text)
    def flush(self):
        pass
"""


def configured(*sinks: str) -> str:
    return SINKS + f"kept = MemorySink()\nphasewatch.configure(sinks=[{', '.join([*sinks, 'kept'])}])\n"


# The last lines of a watched program: nothing was lost for the sink beside the one that failed.
KEPT = """
if WATCHED:
    own = [event for event in kept.events if event.name not in ("RECURSIVE", "LOGGED")]
    # Those of sinks on a thread of their own may be open at any moment.
    starts = [event.id for event in own if event.type == "start"]
    ends = [event.id for event in own if event.type == "end"]
    assert sorted(starts) == sorted(ends) and len(starts) == len(set(starts))
    assert len([event for event in own if event.type == "start"]) == 15, own
"""


@pytest.mark.parametrize(
    ("sink", "reports"),
    [
        ("RaisingAlways()", ["the sink RaisingAlways could not take an event"]),
        ("RaisingThird()", ["the sink RaisingThird could not take an event"]),
        ("Recursive()", []),
        ("Recursive(), Recursive()", []),
        ("Logging()", []),
        ("ConsoleSink(__import__('rich.console').console.Console(file=Tee()))", []),
        ("Slow()", []),
        ("QueuedSink(RaisingAlways())", ["the sink RaisingAlways could not take an event"]),
        ("QueuedSink(RaisingInClose())", ["the sink RaisingInClose could not be closed"]),
        ("QueuedSink(Exiting())", ["the sink Exiting could not take an event"]),
        ("QueuedSink(Recursive())", []),
        ("QueuedSink(Logging())", []),
        ("QueuedSink(Slow())", []),
        ("QueuedSink(Hanging(), drain=0.1)", ["the sink Hanging was not done 0.1 seconds after"]),
        ("QueuedSink(HangingInClose(), drain=0.1)", ["the sink HangingInClose was not done 0.1 seconds after"]),
        (
            "QueuedSink(Hanging(), capacity=3, drain=0.1)",
            [
                "the queue of the sink Hanging is full",
                "the sink Hanging was too slow",
                "the sink Hanging was not done 0.1 seconds after",
            ],
        ),
    ],
)
def test_a_sink_that_fails_changes_nothing_and_is_reported_once(sink: str, reports: list[str]) -> None:
    watched = same(WORK + KEPT + ENDS["exits"], configured(sink))
    assert watched.code == 3
    assert [report.split(": ")[1][: len(start)] for report, start in zip(watched.reports, reports, strict=True)] == reports


@pytest.mark.parametrize("end", ENDS)
def test_however_the_program_ends_sinks_that_fail_change_nothing(end: str) -> None:
    sinks = ["RaisingAlways()", "RaisingThird()", "Recursive()", "Logging()", "QueuedSink(Hanging(), drain=0.1)"]
    watched = same(WORK + KEPT + ENDS[end], configured(*sinks))
    assert sum("could not take an event" in report for report in watched.reports) == 2
    assert len(watched.reports) == 2 if end in ("dies of a signal", "is gone at once") else 3


def test_the_sinks_of_a_run_that_fail_when_they_are_closed_change_nothing() -> None:
    sinks = "sinks=[RaisingInClose(), RaisingAlways(), QueuedSink(HangingInClose(), drain=0.1)]"
    program = WORK.replace('run("work")', 'run("work", sinks=SINKS_OF_THE_RUN)') + ENDS["exits"]
    program = f"{SINKS}SINKS_OF_THE_RUN = dict({sinks})['sinks']\n" + program
    watched = same(program)
    assert [report.split(" ")[3] for report in watched.reports] == ["RaisingAlways", "RaisingInClose", "HangingInClose"]


# Outputs


ONE_REPORT = "phasewatch: the sink ConsoleSink could not take an event; the program goes on"


def reported_once(watched: Ended) -> bool:
    return len(watched.reports) == 1 and watched.reports[0].startswith(ONE_REPORT)


QUIET = WORK.replace("say(", "str(")  # which prints nothing of its own


def test_a_program_started_without_an_output_does_what_it_would() -> None:
    def closed(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return captured(["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command], environment)

    assert not same(WORK + ENDS["exits"], start=closed).reports


@pytest.mark.parametrize("program", [QUIET, "say = print = str\n" + WORK], ids=["quiet", "silenced"])
@pytest.mark.parametrize(("taken", "reports"), [("sys.stdout = None\n", 0), ("sys.stdout.close()\n", 1)])
def test_a_program_that_takes_its_own_output_away_does_what_it_would(program: str, taken: str, reports: int) -> None:
    watched = same(taken + program + ENDS["exits"])
    assert len(watched.reports) == reports
    assert all(report.startswith(ONE_REPORT) for report in watched.reports)


def with_a_reader_that_goes(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program whose reader goes away after the first line, as that of ``| head -1``."""
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    return process  # `communicate` closes its input, for which it waits


COLOURED = "os.environ['FORCE_COLOR'] = '1'\n"
GIVEN = """
from rich.console import Console
from phasewatch.sinks import ConsoleSink
phasewatch.configure(sinks=[ConsoleSink(Console(force_terminal=True))])
"""


@pytest.mark.parametrize(
    "sigpipe", ["", "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"], ids=["ignored", "of the system"]
)
@pytest.mark.parametrize("work", [WORK, WORK.replace("say(", "print("), QUIET], ids=["says", "says late", "quiet"])
@pytest.mark.parametrize("setup", ["", COLOURED, GIVEN], ids=["plain", "coloured", "given"])
def test_a_reader_that_goes_away_changes_nothing(work: str, sigpipe: str, setup: str) -> None:
    program = f"say('first')\nsys.stdin.read()\n{sigpipe}{work}{ENDS['exits']}"
    watched = same(program, setup, start=with_a_reader_that_goes)
    if work == QUIET:
        assert reported_once(watched)
        assert watched.code == 3


def in_a_terminal_that_goes(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, on a terminal that goes away after the first line."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, env={**environment, "TERM": "xterm"}, stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    os.read(ours, 1000)
    os.close(ours)
    return process


@pytest.mark.parametrize("work", [WORK, WORK.replace("say(", "print("), QUIET], ids=["says", "says late", "quiet"])
def test_a_terminal_that_goes_away_changes_nothing(work: str) -> None:
    watched = same(f"say('first')\nsys.stdin.read()\n{work}{ENDS['exits']}", start=in_a_terminal_that_goes)
    if work == QUIET:
        assert reported_once(watched)
        assert watched.code == 3


def into(path: Path) -> Start:
    """Start programs that write into a file."""

    def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with path.open("wb") as file:
            return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE)

    return start


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of one page, which the first table of a run fills."""
    command = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(tmp_path)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"a small disk cannot be mounted: {error}")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr!r}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


needs_dev_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


@needs_dev_full
@pytest.mark.parametrize("end", ["returns", "exits"])
@pytest.mark.parametrize("work", [QUIET, WORK.replace("say(", "print(")], ids=["quiet", "says"])
def test_a_full_disk_as_output_changes_nothing(work: str, end: str) -> None:
    assert reported_once(same(work + ENDS[end], start=into(Path("/dev/full"))))


def test_a_disk_that_fills_up_changes_nothing(small_disk: Path) -> None:
    watched = same(QUIET + "result('done')\n" + ENDS["exits"], start=into(small_disk / "log"))
    assert (watched.code, reported_once(watched)) == (3, True)
    text = (small_disk / "log").read_bytes()
    assert len(text) <= 4096


LOG = """
from rich.console import Console
from phasewatch.sinks import ConsoleSink
os.mkdir(os.environ["FOLDER"] + "/logs")
log = open(os.environ["FOLDER"] + "/logs/text.log", "w", encoding="utf-8")
phasewatch.configure(sinks=[ConsoleSink(Console(file=log))])
"""


@pytest.mark.parametrize(
    ("fault", "reports"),
    [
        ("import shutil; shutil.rmtree(os.environ['FOLDER'] + '/logs')", 0),  # what is open can be written to
        ("log.close()", 1),
        ("os.close(log.fileno())", 1),
        ("os.dup2(os.open('/dev/null', os.O_RDONLY), log.fileno())", 1),
    ],
    ids=["removed", "closed", "taken away", "read-only"],
)
def test_a_text_log_that_fails_changes_nothing(fault: str, reports: int) -> None:
    # The program's own clean-up of a file whose descriptor it has lost is no concern of ours.
    watched = same(WORK + "os._exit(3)", LOG + fault + "\n")
    assert len(watched.reports) == reports
    assert all(report.startswith(ONE_REPORT) for report in watched.reports)


DIFFERENCES = {
    "code": "sys.exit(WATCHED)",
    "result": "result(WATCHED)",
    "said": "say(WATCHED)",
    "err": "print(WATCHED, file=sys.stderr)",
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_the_comparison_sees_a_difference(what: str) -> None:
    with pytest.raises(AssertionError, match=f"^{what}: "):
        same(DIFFERENCES[what])
