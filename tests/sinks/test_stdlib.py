"""Phases as records of Python's logging."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from programs import stalled

import phasewatch
from phasewatch import PhaseAlive, PhaseInfo, PhaseResumed, PhaseStarted, phase
from phasewatch.sinks import LoggingSink
from phasewatch.testing import FakeClock


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def told(self) -> list[tuple[str, str]]:
        return [(record.levelname, record.getMessage()) for record in self.records]


@pytest.fixture
def kept() -> Iterator[Kept]:
    logger, handler = logging.getLogger("tests.of.phases"), Kept()
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def sink(kept: Kept) -> LoggingSink:
    return LoggingSink("tests.of.phases")


def test_levels_are_those_of_the_outcome(kept: Kept, sink: LoggingSink) -> None:
    clock = FakeClock()
    with phasewatch.run("r", sinks=[sink], clock=clock):
        with phase("A", message="now", total=2, unit="batch", every=1) as a:
            clock.advance(60)
            a.advance(2, reward=0.5)
            a.log(loss=0.25)
        with pytest.raises(ValueError, match="no"), phase("B"), phase("C", step=3):
            raise ValueError("no")
        with pytest.raises(KeyboardInterrupt), phase("D"):
            raise KeyboardInterrupt
    assert kept.told() == [
        ("INFO", "r: started"),
        ("INFO", "A: started - now"),
        ("DEBUG", "A: batch 2/2, elapsed 1.0m, ETA 0s"),
        ("DEBUG", "A: loss=0.25"),
        ("INFO", "A: completed after 1.0m, batch 2/2"),
        ("INFO", "B: started"),
        ("INFO", "B > C (step 3): started"),
        ("ERROR", "B > C (step 3): failed after 0s, ValueError: no"),
        ("ERROR", "B: failed after 0s, ValueError: no"),
        ("INFO", "D: started"),
        ("WARNING", "D: interrupted after 0s, KeyboardInterrupt"),
        ("INFO", "r: completed after 1.0m"),
    ]


def test_stalls_are_warnings(kept: Kept, sink: LoggingSink) -> None:
    one = PhaseInfo("A", id="a.1", path=("A",))
    sink.emit(stalled(one, 1.0, 90.0, 120.0))
    for kind in (PhaseAlive, PhaseResumed):
        sink.emit(kind(one, 1.0, quiet=90.0, done=0, total=None, elapsed=120.0, eta=None))
    assert kept.told() == [
        ("WARNING", "A: stalled, quiet for 1.5m, running, elapsed 2.0m, ETA --"),
        ("DEBUG", "A: running, elapsed 2.0m, ETA --"),
        ("INFO", "A: moves again after 1.5m, running, elapsed 2.0m, ETA --"),
    ]


def test_a_record_has_what_a_structured_log_needs(kept: Kept, sink: LoggingSink) -> None:
    clock = FakeClock()
    with phasewatch.run("r", sinks=[sink], clock=clock), phase("A\n", step=4, total=2) as a:
        a.log(loss=0.5)
        clock.advance(3)
    end = kept.records[-2].__dict__
    assert (end["phase_event"], end["phase_name"], end["phase_path"]) == ("end", "A\n", "A\n")
    assert end["phase_status"] == "completed"
    assert (end["phase_step"], end["phase_done"], end["phase_total"], end["phase_elapsed"]) == (4, 0, 2, 3.0)
    assert (end["phase_metrics"], end["phase_id"], end["phase_parent"]) == ({"loss": 0.5}, a.id, end["phase_run"])
    assert end["phase_time"] == clock.wall()
    assert "phase_error" not in end


def test_a_message_is_one_harmless_line(kept: Kept, sink: LoggingSink) -> None:
    clock = FakeClock()
    with (
        pytest.raises(ValueError, match="forged"),
        phasewatch.run("r", sinks=[sink], clock=clock),
        phase("A\n\x1b[31m%s [META]", unit="\n", message="\x1b[0m\n") as a,
    ):
        a.log({"b\nc": 1})
        raise ValueError("forged\n[META] PHASE: X")
    for _, message in kept.told():
        assert message.isprintable()
        assert "[META]" not in message
    assert kept.told()[-2][1].endswith("ValueError: forged [meta] PHASE: X")


def test_a_level_that_nobody_hears_costs_no_record(kept: Kept, sink: LoggingSink) -> None:
    logging.getLogger("tests.of.phases").setLevel(logging.ERROR)
    sink.emit(PhaseStarted(PhaseInfo("A", id="a.1"), 1.0))
    assert kept.records == []


def test_a_handler_that_opens_phases_itself_does_not_go_round_in_circles(kept: Kept, sink: LoggingSink) -> None:
    class Feeding(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with phase("SHIP LOGS"):
                pass

    handler = Feeding()
    logging.getLogger("tests.of.phases").addHandler(handler)
    try:
        with phasewatch.run("r", sinks=[sink], clock=FakeClock()), phase("A"):
            pass
    finally:
        logging.getLogger("tests.of.phases").removeHandler(handler)
    assert [record.getMessage().split(":")[0] for record in kept.records] == ["r", "A", "A", "r"]


def test_a_logger_is_a_logger_or_its_name() -> None:
    LoggingSink(logging.getLogger("tests.of.phases")).close()
    with pytest.raises(TypeError, match="must be a logger or the name of one"):
        LoggingSink(7)  # type: ignore[arg-type]  # the mistake is the test
