"""How phasewatch speaks of trouble: at the caller's line, and never as an exception."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import phasewatch
from phasewatch import PhasewatchWarning, Tracker, phase
from phasewatch._report import failure, warn
from phasewatch.testing import PhaseLog


def here() -> int:
    """Return the line of the caller."""
    return sys._getframe(1).f_lineno


def place(caught: pytest.WarningsRecorder) -> tuple[str, int]:
    (warning,) = caught
    return warning.filename, warning.lineno


@contextmanager
def logger_with(part: logging.Handler | logging.Filter) -> Iterator[None]:
    logger = logging.getLogger("phasewatch")
    add, remove = (
        (logger.addHandler, logger.removeHandler)
        if isinstance(part, logging.Handler)
        else (logger.addFilter, logger.removeFilter)
    )
    add(part)  # type: ignore[arg-type]  # the pair fits the part
    try:
        yield
    finally:
        remove(part)  # type: ignore[arg-type]  # as above


def test_a_warning_is_a_user_warning_of_its_own_kind() -> None:
    with pytest.warns(PhasewatchWarning, match="^what to do$"):
        warn("what to do")
    assert issubclass(PhasewatchWarning, UserWarning)


def test_a_mistake_in_an_option_is_shown_where_the_phase_is_made(phaselog: PhaseLog) -> None:
    with pytest.warns(PhasewatchWarning) as caught:
        line = here() + 1
        phase("A", total=-1)
    assert place(caught) == (__file__, line)


def test_a_mistake_through_calls_of_other_depth_is_shown_where_it_is_made(phaselog: PhaseLog) -> None:
    with phase("A") as handle:
        with pytest.warns(PhasewatchWarning) as caught:
            line = here() + 1
            handle.advance(-1)
        assert place(caught) == (__file__, line)
        with pytest.warns(PhasewatchWarning) as caught:
            line = here() + 1
            handle.log(loss="high")
        assert place(caught) == (__file__, line)
        with pytest.warns(PhasewatchWarning) as caught:
            line = here() + 1
            handle.step(epoch="first")  # type: ignore[arg-type]  # the mistake under test
        assert place(caught) == (__file__, line)
    with pytest.warns(PhasewatchWarning) as caught:
        line = here() + 1
        Tracker().phase("A", every=0)
    assert place(caught) == (__file__, line)
    with pytest.warns(PhasewatchWarning) as caught:
        line = here() + 1
        with phase("A", total=lambda: -1):
            pass
    assert place(caught) == (__file__, line)


def test_a_mistake_found_at_the_call_of_a_decorated_function_is_shown_at_the_call(phaselog: PhaseLog) -> None:
    @phase("A", total=lambda items: -len(items))
    def work(items: list[int]) -> int:
        return len(items)

    with pytest.warns(PhasewatchWarning) as caught:
        line = here() + 1
        assert work([1, 2]) == 2
    assert place(caught) == (__file__, line)


def test_under_errors_a_warning_is_logged_and_the_work_goes_on(phaselog: PhaseLog, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with phase("A", total=-1) as handle:
            handle.advance(-1)
        with phasewatch.run("r"):
            pass
    assert [(record.name, record.levelno) for record in caplog.records] == [("phasewatch", logging.ERROR)] * 2
    assert caplog.records[0].message == "phase 'A': total=-1 is left out; it must be a whole number of at least 0, or None"
    assert all(not record.exc_info for record in caplog.records), "a mistake in a call is no failure of ours"


def test_a_program_whose_display_of_warnings_fails_is_told_by_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no terminal")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", fail)
        warn("what to do")
    assert [record.message for record in caplog.records] == ["what to do"]


def test_a_failure_is_logged_with_the_traceback_of_what_is_being_handled(caplog: pytest.LogCaptureFixture) -> None:
    error = OSError("disk full")
    try:
        raise error
    except OSError:
        failure("the sink broke")
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert (record.name, record.levelno, record.message) == ("phasewatch", logging.ERROR, "the sink broke")
    assert "disk full" in caplog.text


def test_what_fails_for_ever_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(100):
        failure(f"phase {number} failed")
    failure("another place")
    assert len(caplog.messages) == 21
    assert caplog.messages[-3:] == [
        "phase 18 failed", "phase 19 failed; further ones of this kind are not reported", "another place",
    ]  # fmt: skip


def test_a_failure_may_hold_percent_signs(caplog: pytest.LogCaptureFixture) -> None:
    failure("100% of %s and %d", with_traceback=False)
    assert caplog.records[0].getMessage() == "100% of %s and %d"


def test_a_logging_handler_that_raises_does_no_harm(phaselog: PhaseLog) -> None:
    calls = []

    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            calls.append(record)
            raise RuntimeError("no log either")

    with logger_with(Broken()):
        failure("the sink broke")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            phase("A", total=-1)
    assert len(calls) == 2


def test_a_logging_filter_that_raises_does_no_harm() -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("no log either")

    with logger_with(Broken()):
        failure("the sink broke")


def test_an_interruption_while_logging_is_not_contained() -> None:
    class Interrupted(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise KeyboardInterrupt

    with logger_with(Interrupted()), pytest.raises(KeyboardInterrupt):
        failure("the sink broke")
