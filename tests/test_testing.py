"""What users' tests are given."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

import phasewatch
from phasewatch import current, phase
from phasewatch._config import default_tracker
from phasewatch.testing import FakeClock, MemorySink, recorded


def test_a_fake_clock_stands_still_until_it_is_told_to_move() -> None:
    clock = FakeClock(start=5, wall=1000)
    assert (clock(), clock.wall()) == (5, 1000)
    clock.advance(2.5)
    assert (clock(), clock.wall()) == (7.5, 1002.5)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_fake_clock_does_not_go_back(seconds: float) -> None:
    with pytest.raises(ValueError, match="time goes forward only"):
        FakeClock().advance(seconds)


def test_a_memory_sink_keeps_events_when_it_is_closed() -> None:
    sink = MemorySink()
    with recorded() as log, phase("A"):
        pass
    for event in log.events:
        sink.emit(event)
    sink.close()
    assert (sink.events, sink.closed) == (log.events, True)


def test_recording_puts_everything_back_as_it_was() -> None:
    before = dict(default_tracker.__dict__)
    with pytest.raises(ValueError, match="no"), recorded() as log:
        with phase("A"):
            log.clock.advance(61)
        assert log.text.endswith(f"Total time: 1.0m\n{'=' * 80}\n\n")
        raise ValueError("no")
    assert default_tracker.__dict__ == before
    assert current() is None


def test_a_thread_inside_a_recording_does_not_hang_under_a_run_around_it() -> None:
    def work() -> None:
        with phase("WORKER"):
            pass

    outside = MemorySink()
    with phasewatch.run("r", sinks=[outside]), recorded() as log:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [event.name for event in log.events] == ["WORKER", "WORKER"]
    assert [event.name for event in outside.events] == ["r", "r"]


def test_the_text_of_a_recording_has_no_colours_whatever_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with recorded() as log, phase("A"):
        pass
    assert "PHASE: A" in log.text
    assert "\x1b" not in log.text


def test_phases_are_recorded_though_phasewatch_is_switched_off() -> None:
    with recorded() as outside:
        phasewatch.configure(enabled=False)
        with recorded() as log, phase("A"):
            pass
        assert [event.name for event in log.events] == ["A", "A"]
        with phase("B"):
            pass
    assert outside.events == []


def test_the_fixture_comes_with_the_package(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from phasewatch import phase

        def test_users(phaselog):
            with phase("A"):
                phaselog.clock.advance(2)
            assert [event.type for event in phaselog.events] == ["start", "end"]
            assert phaselog.events[-1].elapsed == 2
            assert "PHASE COMPLETE: A" in phaselog.text
        """
    )
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=1)


def test_without_pytest_there_is_everything_but_the_fixture() -> None:
    code = """
import sys
sys.modules["pytest"] = None
from phasewatch import phase, testing
with testing.recorded() as log, phase("A"):
    pass
assert len(log.events) == 2
assert not hasattr(testing, "phaselog")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_recorded_inside_an_open_phase_is_a_record_of_its_own() -> None:
    with recorded() as outside, phase("AROUND") as around:
        with recorded() as log:
            assert current() is None
            with phase("A"):
                log.clock.advance(3)
        assert current() is around
    assert [(event.type, event.path, event.parent) for event in log.events] == [
        ("start", ("A",), None),
        ("end", ("A",), None),
    ]
    assert {event.name for event in outside.events} == {"AROUND"}
