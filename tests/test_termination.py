"""SIGTERM inside a run: told, and died of as before. Real processes, real signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import phasewatch
from phasewatch import _termination, phase
from phasewatch.testing import PhaseLog

RULE = "=" * 80


def ended(program: str) -> tuple[int, str, str]:
    """The exit code and the output of a program."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def program(body: str, before: str = "") -> str:
    return f"""
import os, signal
import phasewatch
from phasewatch import phase
{before}
with phasewatch.run("r"):
    with phase("TRAINING", total=3, unit="step") as training:
        training.advance(2)
        with phase("VALIDATION"):
            {body}
print("survived")
"""


KILL = "os.kill(os.getpid(), signal.SIGTERM)"


def test_open_phases_end_as_interrupted_and_the_process_dies_of_the_signal() -> None:
    code, out, err = ended(program(KILL))
    assert (code, err) == (-signal.SIGTERM, "")
    assert f"{RULE}\n🛑 [META] PHASE INTERRUPTED: VALIDATION\n{RULE}\nSIGTERM | Elapsed: " in out
    assert out.count("INTERRUPTED") == 2
    assert f"{RULE}\n🛑 [META] RUN INTERRUPTED - in TRAINING > VALIDATION\n{RULE}\n" in out
    assert "The whole run" in out.splitlines()[-2]
    assert "survived" not in out


def test_a_run_inside_a_run_and_a_phase_around_it_end_too() -> None:
    body = f"""
            with phasewatch.run("inner"), phase("INNER"):
                {KILL}"""
    code, out, _ = ended(program(body))
    assert code == -signal.SIGTERM
    assert [line[2:] for line in out.splitlines() if "INTERRUPTED" in line] == [
        "[META] PHASE INTERRUPTED: INNER",
        "[META] RUN INTERRUPTED - in INNER",
        "[META] PHASE INTERRUPTED: VALIDATION",
        "[META] RUN INTERRUPTED - in TRAINING > VALIDATION",
    ]


def test_a_handler_of_the_program_is_called_and_kept() -> None:
    handler = """
def handler(signum, frame):
    print("handled")
signal.signal(signal.SIGTERM, handler)"""
    code, out, _ = ended(program(f"{KILL}; assert signal.getsignal(signal.SIGTERM) is handler", handler))
    assert code == 0
    assert "handled\n" in out
    assert "survived\n" in out
    assert "INTERRUPTED" not in out


def test_a_handler_that_is_set_inside_the_run_stays() -> None:
    body = "signal.signal(signal.SIGTERM, print)"
    code, out, _ = ended(program(body) + "assert signal.getsignal(signal.SIGTERM) is print")
    assert (code, out.splitlines()[-1]) == (0, "survived")


def test_an_ignored_signal_stays_ignored() -> None:
    code, out, _ = ended(program(KILL, "signal.signal(signal.SIGTERM, signal.SIG_IGN)"))
    assert (code, out.splitlines()[-1]) == (0, "survived")


def test_after_a_run_the_signal_is_as_it_was(phaselog: PhaseLog) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with phasewatch.run("outer"):
        with phasewatch.run("inner"):
            assert signal.getsignal(signal.SIGTERM) is not before
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_in_another_thread_leaves_signals_alone(phaselog: PhaseLog) -> None:
    def work() -> None:
        with phasewatch.run("r"), phase("A"):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [event.name for event in phaselog.events] == ["r", "A", "A", "r"]


def test_a_run_that_another_thread_leaves_ends_without_an_error(phaselog: PhaseLog) -> None:
    errors: list[BaseException] = []
    run = phasewatch.run("r")
    run.__enter__()

    def leave() -> None:
        try:
            run.__exit__(None, None, None)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    _termination.unwatch()  # what only this thread may do
    assert errors == []
    assert [event.type for event in phaselog.events] == ["start", "end"]


def test_the_process_dies_of_the_signal_though_the_run_is_open_in_a_context_of_its_own() -> None:
    program = f"""
import contextvars, os, signal
import phasewatch
contextvars.copy_context().run(phasewatch.run("r").__enter__)
{KILL}
print("survived")
"""
    code, out, err = ended(program)
    assert (code, err) == (-signal.SIGTERM, "")
    assert "survived" not in out
