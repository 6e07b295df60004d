"""The run: a record of its own, with its last banner."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import phasewatch
from phasewatch import Event, PhaseEnded, PhaseStarted, PhasewatchWarning, Plan, TrainingPlan, current, phase
from phasewatch._config import default_tracker
from phasewatch.sinks import JsonlSink
from phasewatch.testing import FakeClock, MemorySink, PhaseLog


def test_a_run_goes_to_the_configured_sinks_and_leaves_them_open(phaselog: PhaseLog) -> None:
    with phasewatch.run("grpo") as run:
        phaselog.clock.advance(2)
        assert current() is run
        with phase("A") as inner:
            assert inner.path == ("A",)
    start = phaselog.events[0]
    assert isinstance(start, PhaseStarted)
    assert (start.phase.role, start.path) == ("run", ())
    assert {event.phase.run for event in phaselog.events} == {start.id}
    assert not phaselog.sink.closed
    assert run.elapsed == 2


def test_a_run_closes_the_sinks_that_it_was_given(phaselog: PhaseLog) -> None:
    sink, clock = MemorySink(), FakeClock(start=100)
    with phasewatch.run(sinks=[sink], clock=clock):
        clock.advance(1)
        closed_inside = sink.closed
    assert (closed_inside, sink.closed) == (False, True)
    assert phaselog.events == []
    end = sink.events[-1]
    assert isinstance(end, PhaseEnded)
    assert end.elapsed == 1


def test_a_run_that_is_entered_twice_ends_once(phaselog: PhaseLog) -> None:
    sink, before = MemorySink(), signal.getsignal(signal.SIGTERM)
    with phasewatch.run(sinks=[sink]) as run:
        with pytest.warns(PhasewatchWarning, match="is entered while it is open"), run:
            pass
        with phase("A"):
            closed_inside = sink.closed
    assert (closed_inside, sink.closed) == (False, True)
    assert [event.type for event in sink.events] == ["start", "start", "end", "end"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_runs_may_be_left_in_any_order(phaselog: PhaseLog) -> None:
    seen = []

    def work() -> None:
        with phase("WORKER") as worker:
            seen.append(worker._parent)

    first, second = MemorySink(), MemorySink()
    outer, inner = phasewatch.run("outer", sinks=[first]), phasewatch.run("inner", sinks=[second])
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    closed = [(first.closed, second.closed)]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    inner.__exit__(None, None, None)
    closed.append((first.closed, second.closed))
    assert seen == [inner]
    assert closed == [(True, False), (True, True)]


def test_a_name_of_a_run_is_taken_as_text(phaselog: PhaseLog) -> None:
    number: Any = 7
    with phasewatch.run(number):
        pass
    assert [event.name for event in phaselog.events] == ["7", "7"]


def test_a_run_with_no_sinks_is_silent(phaselog: PhaseLog) -> None:
    with phasewatch.run(sinks=[]), phase("A"):
        pass
    assert phaselog.events == []


def test_a_run_of_which_nobody_hears_forecasts_from_when_it_is_asked(phaselog: PhaseLog) -> None:
    with phasewatch.run(sinks=[]) as run:
        with phase("UNSEEN"):
            phaselog.clock.advance(10)
        assert run.eta is None
        with phase("SHARD"):
            phaselog.clock.advance(10)
        with phase("SHARD"):
            phaselog.clock.advance(4)
            assert run.eta == pytest.approx(6)
    assert run.eta == 0


def test_a_run_with_a_plan_of_which_nobody_hears_forecasts_from_the_start(phaselog: PhaseLog) -> None:
    with phasewatch.run(sinks=[], plan=phasewatch.Plan({"SHARD": 3})) as run:
        with phase("SHARD"):
            phaselog.clock.advance(10)
        assert run.eta == pytest.approx(20)


def test_a_run_of_which_nobody_hears_ends_as_any_other(phaselog: PhaseLog) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with phasewatch.run(sinks=[]):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    assert default_tracker.open_runs == []


def test_ctrl_c_before_a_run_is_open_leaves_nothing_behind(phaselog: PhaseLog, mocker: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    mocker.patch.object(phasewatch.Tracker, "_use_clock", side_effect=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        phasewatch.run("r").__enter__()
    assert signal.getsignal(signal.SIGTERM) is before
    assert default_tracker.open_runs == []
    assert current() is None


def test_a_run_inside_a_run_is_a_record_of_its_own(phaselog: PhaseLog) -> None:
    with phasewatch.run("outer"), phase("A"):
        with phasewatch.run("inner") as inner:
            with phase("B") as b:
                assert b.path == ("B",)
            assert current() is inner
        with phase("C") as c:
            assert c.path == ("A", "C")
    outer_id, inner_id = (event.id for event in phaselog.events if event.phase.role == "run" and event.type == "start")
    runs = {event.name: event.phase.run for event in phaselog.events}
    assert runs == {"outer": outer_id, "A": outer_id, "inner": inner_id, "B": inner_id, "C": outer_id}


def test_a_failed_run_knows_the_path_of_the_phase_that_failed(phaselog: PhaseLog) -> None:
    with pytest.raises(ValueError, match="no"), phasewatch.run("grpo"), phase("A"), phase("B"):
        raise ValueError("no")
    end = phaselog.events[-1]
    assert isinstance(end, PhaseEnded)
    assert (end.status, end.innermost, end.origin) == ("failed", False, ("A", "B"))
    assert "RUN FAILED - in A > B\n" in phaselog.text


def test_a_run_that_fails_between_phases_tells_the_error_itself(phaselog: PhaseLog) -> None:
    with pytest.raises(ValueError, match="no"), phasewatch.run("grpo"):
        with phase("A"):
            pass
        raise ValueError("no")
    assert "❌ [META] RUN FAILED - in grpo\n" + "=" * 80 + "\nValueError: no | Elapsed: 0s\n" in phaselog.text


def test_a_run_decorates_a_main_function(phaselog: PhaseLog) -> None:
    @phasewatch.run("main", message=None)
    def main(n: int) -> int:
        with phase("A"):
            return n

    assert [main(1), main(2)] == [1, 2]
    assert [event.phase.role for event in phaselog.events if event.type == "start"] == ["run", "phase"] * 2
    assert phaselog.text.count("🏁 [META] ALL PHASES COMPLETE\n") == 2


def test_the_plan_of_a_run_gives_the_steps_their_epochs(phaselog: PhaseLog) -> None:
    plan = TrainingPlan(epochs=2, steps_per_epoch=2)
    with phasewatch.run("grpo", plan=plan) as run, phase("TRAINING", total=4, unit="step", epochs=2) as training:
        assert run.plan is plan
        for _ in range(4):
            with training.step():
                pass
    assert [f"[Epoch {epoch}/2] Step" in phaselog.text for epoch in (1, 2, 3)] == [True, True, False]
    steps = [e.phase.position for e in phaselog.events if isinstance(e, PhaseStarted) and e.phase.position]
    assert [position.epoch for position in steps] == [1, 1, 2, 2]


def test_an_epoch_that_is_given_goes_before_that_of_the_plan(phaselog: PhaseLog) -> None:
    plan = TrainingPlan(epochs=2, steps_per_epoch=2)
    with phasewatch.run("grpo", plan=plan), phase("TRAINING", total=4, unit="step", epochs=2) as training:
        with training.step(epoch=2):
            pass
    assert "[Epoch 2/2] Step 1/4" in phaselog.text


def test_without_plan_or_epoch_the_bracket_is_left_out(phaselog: PhaseLog) -> None:
    with phasewatch.run("grpo"), phase("TRAINING", total=1, unit="step") as training, training.step():
        pass
    assert "\nStep 1/1 (100.0%) | Elapsed: 0s | ETA: --\n" in phaselog.text


def lines_of_the_plan(text: str) -> list[str]:
    return [line for line in text.splitlines() if "[META] PLAN" in line]


def work(plan: TrainingPlan, *, steps: int | None = None) -> None:
    """Do what a plan says, or fewer steps."""
    if plan.val_before_train:
        with phase("PRE-TRAINING VALIDATION"):
            pass
    if plan.validates_only:
        return
    with phase("TRAINING", total=plan.total_steps, unit="step", start=plan.start_step) as training:
        for number in range(plan.start_step + 1, (plan.total_steps if steps is None else steps) + 1):
            with training.step():
                pass
            if plan.validates_after(number):
                with phase("PERIODIC VALIDATION", step=number):
                    pass
            if plan.saves_after(number):
                with phase("CHECKPOINT SAVING", step=number):
                    pass
    if plan.validates_at_end():
        with phase("POST-TRAINING VALIDATION"):
            pass


def test_what_looks_wrong_in_a_plan_is_told_before_anything_runs(phaselog: PhaseLog, tmp_path: Path) -> None:
    plan = TrainingPlan(35, epochs=3, test_freq=50, save_freq=100)
    with phasewatch.run("grpo", plan=plan, log=tmp_path / "log"):
        assert phaselog.text == (
            "⚠️ [META] PLAN WARNING: test_freq=50 is never reached in 35 steps: no PERIODIC VALIDATION runs; "
            "set test_freq to 35 or less\n"
            "⚠️ [META] PLAN WARNING: save_freq=100 is never reached in 35 steps: nothing is ever saved; "
            "set save_freq to 35 or less\n"
        )
    start = json.loads((tmp_path / "log").read_text().splitlines()[0])
    assert start["attributes"]["plan_warnings"] == [warning.as_dict() for warning in plan.warnings()]


@pytest.mark.parametrize(
    "plan",
    [
        TrainingPlan(6, test_freq=2, save_freq=3),
        TrainingPlan(7, test_freq=2, save_freq=3, at_last_step=True),
        TrainingPlan(6, test_freq=2, save_freq=3, start_step=3, val_before_train=False, val_after_train=False),
        TrainingPlan(6, val_only=True),
    ],
    ids=["multiples", "at the last step", "resumed", "validation only"],
)
def test_a_run_that_did_what_its_plan_says_has_nothing_to_say_of_it(phaselog: PhaseLog, plan: TrainingPlan) -> None:
    with phasewatch.run("grpo", plan=plan):
        work(plan)
    assert lines_of_the_plan(phaselog.text) == []
    end = phaselog.events[-1]
    assert isinstance(end, PhaseEnded)
    assert end.deviations == {}


def test_a_run_that_did_one_step_too_few_says_so_before_its_last_banner(phaselog: PhaseLog, tmp_path: Path) -> None:
    plan = TrainingPlan(35, test_freq=10, save_freq=35)
    with phasewatch.run("grpo", plan=plan, log=tmp_path / "log"):
        work(plan, steps=34)
    told = ["⚠️ [META] PLAN: 34 of 35 TRAINING STEP ran", "⚠️ [META] PLAN: 0 of 1 CHECKPOINT SAVING ran"]
    assert lines_of_the_plan(phaselog.text) == told
    assert "\n".join(told) + "\n\n" + "=" * 80 + "\n🏁 [META] ALL PHASES COMPLETE" in phaselog.text
    end = phaselog.events[-1]
    assert isinstance(end, PhaseEnded)
    assert end.deviations == {"TRAINING STEP": (34, 35), "CHECKPOINT SAVING": (0, 1)}
    stored = json.loads((tmp_path / "log").read_text().splitlines()[-1])
    assert stored["deviations"] == {"TRAINING STEP": [34, 35], "CHECKPOINT SAVING": [0, 1]}


def test_a_run_that_did_more_than_its_plan_says_so(phaselog: PhaseLog) -> None:
    with phasewatch.run("r", plan=Plan({"A": 1})):
        for _ in range(2):
            with phase("A"):
                pass
    assert lines_of_the_plan(phaselog.text) == ["⚠️ [META] PLAN: 2 of 1 A ran"]


def test_what_failed_inside_a_run_that_completed_did_not_run(phaselog: PhaseLog) -> None:
    with phasewatch.run("r", plan=Plan({"A": 2})):
        for error in (None, ValueError("no")):
            with contextlib.suppress(ValueError), phase("A"):
                if error is not None:
                    raise error
    assert lines_of_the_plan(phaselog.text) == ["⚠️ [META] PLAN: 1 of 2 A ran"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=repr)
def test_a_run_that_did_not_complete_has_told_already_what_it_did_not_do(phaselog: PhaseLog, error: BaseException) -> None:
    with pytest.raises(type(error)), phasewatch.run("r", plan=Plan({"A": 2, "B": 1})), phase("A"):
        raise error
    assert lines_of_the_plan(phaselog.text) == []


@pytest.mark.parametrize("done", [120, 119])
def test_what_is_planned_may_be_units_of_one_phase_as_well_as_phases(phaselog: PhaseLog, done: int) -> None:
    expected = [] if done == 120 else ["⚠️ [META] PLAN: 119 of 120 PARSE ran"]
    plan = Plan({"DOWNLOAD": 1, "PARSE": 120})
    with phasewatch.run("units", plan=plan):
        with phase("DOWNLOAD", total=9) as download:
            download.advance(9)
        with phase("PARSE", total=120, start=0) as parse:
            for _ in parse.track(range(done)):
                pass
    with phasewatch.run("phases", plan=plan):
        with phase("DOWNLOAD"):
            pass
        for _ in range(done):
            with phase("PARSE") as parse:
                parse.advance(500)
    assert lines_of_the_plan(phaselog.text) == expected * 2


@pytest.mark.parametrize("done", [35, 34])
def test_steps_that_are_merely_counted_are_held_against_the_plan(phaselog: PhaseLog, done: int) -> None:
    plan = TrainingPlan(35, start_step=5, val_before_train=False, val_after_train=False, save_freq=-1, at_last_step=True)
    with phasewatch.run("r", plan=plan), phase("TRAINING", total=35, unit="step", start=5) as training:
        for _ in training.track(range(done - 5)):
            pass
    assert lines_of_the_plan(phaselog.text)[1:] == ([] if done == 35 else ["⚠️ [META] PLAN: 29 of 30 TRAINING STEP ran"])


def test_what_runs_in_other_threads_is_counted_each_time(phaselog: PhaseLog) -> None:
    def do_some() -> None:
        for _ in range(50):
            with phase("A"):
                pass

    with phasewatch.run("r", plan=Plan({"A": 200})):
        threads = [threading.Thread(target=do_some) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert lines_of_the_plan(phaselog.text) == []


def test_a_main_function_that_runs_twice_is_held_against_its_plan_each_time(phaselog: PhaseLog) -> None:
    @phasewatch.run("r", plan=Plan({"A": 1}))
    def main() -> None:
        with phase("A"):
            pass

    main()
    main()
    assert lines_of_the_plan(phaselog.text) == []


def test_a_plan_with_a_fault_does_not_reach_the_work(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Plan):
        def counts(self) -> dict[str, int]:
            raise RuntimeError("no counts")

        def warnings(self) -> list[phasewatch.PlanWarning]:
            raise RuntimeError("no warnings")

    sink = MemorySink()
    with phasewatch.run("r", plan=Faulty({"A": 1}), sinks=[sink]), phase("A"):
        pass
    assert len(sink.events) == 4
    assert [record.getMessage().rpartition(" could")[2] for record in caplog.records] == [
        " not be looked through; the program goes on", " not be counted; the program goes on without it",
    ]  # fmt: skip


def told(path: Path) -> list[tuple[str, str]]:
    """The types of event and names in an event log."""
    return [(record["event"], record["name"]) for record in map(json.loads, path.read_text().splitlines())]


WHOLE = [("start", "r"), ("start", "A"), ("end", "A"), ("end", "r")]


@pytest.mark.parametrize("as_text", [str, Path])
def test_the_event_log_of_a_run_has_all_of_it_beside_the_configured_sinks(
    phaselog: PhaseLog, tmp_path: Path, as_text: Any
) -> None:
    path = tmp_path / "runs" / "log.jsonl"
    with phasewatch.run("r", log=as_text(path)) as run, phase("A"):
        assert told(path) == WHOLE[:2], "at once"
        log = run._tracker.sinks[0]
    assert told(path) == WHOLE
    assert [(event.type, event.name) for event in phaselog.events] == WHOLE
    assert not phaselog.sink.closed
    assert getattr(log, "_file", 0) is None, "it is closed"


def test_the_event_log_hears_first_since_a_console_may_hang(phaselog: PhaseLog, tmp_path: Path) -> None:
    class Console(MemorySink):
        def emit(self, event: Event) -> None:
            assert told(tmp_path / "log")[-1] == (event.type, event.name)
            super().emit(event)

    console = Console()
    with phasewatch.run("r", log=tmp_path / "log", sinks=[console]), phase("A"):
        pass
    assert [(event.type, event.name) for event in console.events] == WHOLE


def test_the_event_log_of_a_run_is_beside_the_sinks_that_it_was_given_and_closed_with_them(
    phaselog: PhaseLog, tmp_path: Path
) -> None:
    sink = MemorySink()
    with phasewatch.run("r", log=tmp_path / "log", sinks=[sink]) as run, phase("A"):
        log = run._tracker.sinks[0]
    assert (len(sink.events), sink.closed, getattr(log, "_file", 0)) == (4, True, None)
    with phasewatch.run("r", log=tmp_path / "log", sinks=[]), phase("A"):
        pass
    assert told(tmp_path / "log") == WHOLE * 2
    assert phaselog.events == []


def test_a_main_function_may_run_twice_into_one_event_log(phaselog: PhaseLog, tmp_path: Path) -> None:
    @phasewatch.run("r", log=tmp_path / "log")
    def main() -> None:
        with phase("A"):
            pass

    assert not (tmp_path / "log").exists()
    main()
    main()
    assert told(tmp_path / "log") == WHOLE * 2


def test_an_event_log_that_is_configured_already_is_not_written_twice(phaselog: PhaseLog, tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "log")
    phasewatch.configure(sinks=[sink])
    with phasewatch.run("r", log=tmp_path / "log"), phase("A"):
        pass
    with phasewatch.run("r", log=tmp_path / "other"), phase("A"):
        pass
    sink.close()
    assert (told(tmp_path / "log"), told(tmp_path / "other")) == (WHOLE * 2, WHOLE)


def test_a_log_that_cannot_be_written_is_reported_once_and_the_run_goes_on(
    phaselog: PhaseLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with phasewatch.run("r", log=tmp_path / "file" / "log") as run, phase("A"):
        pass
    assert run.status == "completed"
    (record,) = caplog.records
    assert record.name == "phasewatch"
    assert "the sink JsonlSink could not take an event; the program goes on" in record.getMessage()
    assert record.exc_info is not None
    assert str(tmp_path / "file" / "log") in str(record.exc_info[1])
    run_sink: Any = run._tracker.sinks[0]
    (tmp_path / "file").unlink()
    run_sink.close()
    assert told(tmp_path / "file" / "log") == WHOLE


def test_a_disabled_run_writes_no_log(phaselog: PhaseLog, tmp_path: Path) -> None:
    phasewatch.configure(enabled=False)
    with phasewatch.run("r", log=tmp_path / "log"):
        pass
    assert not (tmp_path / "log").exists()


def test_a_broken_sink_of_a_run_does_not_reach_the_work(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def emit(self, event: object) -> None:
            raise OSError("no space left")

        def close(self) -> None:
            raise OSError("still none")

    sink = MemorySink()
    with phasewatch.run(sinks=[Broken(), sink]), phase("A"):
        pass
    assert len(sink.events) == 4
    assert sink.closed
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plan": 5}, "run: plan=5 must be a TrainingPlan or a Plan"),
        ({"sinks": 5}, r"run: sinks=5 must be a list of sinks; \[\] is nobody"),
        ({"sinks": [5]}, "run: 5 is no sink; a sink has the methods"),
        ({"clock": 5}, "run: clock=5 must be callable and return seconds"),
        ({"log": 5}, "run: log=5 must be the path of a file"),
        ({"log": True}, "run: log=True must be the path of a file"),
        ({"log": ""}, "run: log='' must be the path of a file"),
    ],
)
def test_what_a_run_cannot_work_with_is_refused_before_it_begins(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        phasewatch.run("r", **options)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_forked_child_a_run_is_the_parents_to_close_and_phases_go_where_its_went(tmp_path: Any) -> None:
    path = tmp_path / "told"

    class Told:
        def emit(self, event: phasewatch.Event) -> None:
            with open(path, "a") as file:
                file.write(f"{event.type} {event.name}\n")

        def close(self) -> None:
            with open(path, "a") as file:
                file.write("close\n")

    child = None
    with phasewatch.run("r", sinks=[Told()]):
        child = os.fork()
        if child == 0:
            with phase("CHILD"):
                pass
        else:
            os.waitpid(child, 0)
    if child == 0:
        os._exit(0)
    assert path.read_text().split("\n")[:-1] == ["start r", "start CHILD", "end CHILD", "end r", "close"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_forked_child_phases_hang_under_the_phase_that_was_current(phaselog: PhaseLog) -> None:
    reading, writing = os.pipe()
    with phasewatch.run("r") as run, phase("A") as around:
        child = os.fork()
        if child == 0:
            try:
                with phase("CHILD") as inside:
                    event = phaselog.events[-1]
                    os.write(writing, repr((event.parent, event.phase.run, event.path, inside.path)).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 1000) == repr((around.id, run.id, ("A", "CHILD"), ("A", "CHILD"))).encode()
    os.close(reading)
    os.close(writing)


def test_ctrl_c_while_the_start_of_a_run_is_told_closes_its_sinks_and_leaves_nothing_open() -> None:
    class Interrupted(MemorySink):
        def emit(self, event: Event) -> None:
            super().emit(event)
            if event.type == "start":
                raise KeyboardInterrupt

    sink = Interrupted()
    with pytest.raises(KeyboardInterrupt), phasewatch.run("r", sinks=[sink]):
        pytest.fail("the block is not entered")
    assert sink.closed
    assert [event.type for event in sink.events] == ["start", "end"]
    assert phasewatch.current() is None
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_run_that_nobody_hears_of_leaves_nothing_behind() -> None:
    with phasewatch.run("r", sinks=[]):
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert phasewatch.current() is None
    with phasewatch.Tracker().phase("A") as handle:
        assert handle.path == ("A",)
