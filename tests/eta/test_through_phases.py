"""The forecast through the public interface."""

from __future__ import annotations

import phasewatch
from phasewatch import phase
from phasewatch.events import PhaseProgressed, PhaseStarted
from phasewatch.testing import FakeClock, MemorySink, PhaseLog


def told(handle: phasewatch.Phase) -> float | None:
    """Return the ETA, which a type checker takes to be what it was before."""
    return handle.eta


def validate(clock: FakeClock, name: str) -> None:
    with phase(name), phase("VALIDATION", total=4, unit="batch") as validation:
        for _ in range(4):
            clock.advance(25)
            validation.advance()


def test_a_run_with_a_plan_knows_when_it_will_be_done() -> None:
    clock, sink = FakeClock(), MemorySink()
    plan = phasewatch.TrainingPlan(20, test_freq=5, save_freq=10)
    with phasewatch.run("r", plan=plan, clock=clock, sinks=[sink]) as run:
        assert told(run) is None
        validate(clock, "PRE-TRAINING VALIDATION")
        with phase("TRAINING", total=20, unit="step") as training:
            for number in range(1, 21):
                with training.step():
                    clock.advance(40)
                if number == 1:
                    assert (told(training), told(run)) == (19 * 40 + 3 * 100, 19 * 40 + 4 * 100)
                if plan.validates_after(number):
                    before = told(training)
                    assert before is not None
                    with phase("PERIODIC VALIDATION") as validation:
                        clock.advance(60)
                        assert (told(validation), told(training)) == (40, before - 60)
                        clock.advance(40)
                if plan.saves_after(number):
                    with phase("CHECKPOINT SAVING"):
                        clock.advance(30)
        assert told(run) == 100
        validate(clock, "POST-TRAINING VALIDATION")
        assert told(run) == 0
    positions = [event.phase.position for event in sink.events if isinstance(event, PhaseStarted) and event.phase.position]
    # At the beginning of a step, until the loop ends. The first save takes a time that nobody could know.
    assert [position.eta for position in positions[:3]] == [None, 19 * 40 + 300, 18 * 40 + 300]
    assert positions[-1].eta == 40 + 30
    progress = [
        event.eta for event in sink.events if isinstance(event, PhaseProgressed) and event.phase.name == "VALIDATION"
    ]
    assert progress == [75, 50, 25, 0] * 2


def test_an_outer_phase_is_told_by_the_loop_inside_it(phaselog: PhaseLog) -> None:
    with phasewatch.run("r"), phase("PERIODIC VALIDATION") as outer:
        with phase("VALIDATION", total=4) as inner:
            assert told(outer) is None
            for _ in inner.track(range(4)):
                phaselog.clock.advance(25)
                if inner.done == 1:
                    assert told(outer) == told(inner) == 50
        assert told(outer) is None, "what comes after it is not known"


def test_a_step_that_failed_is_still_to_be_done(phaselog: PhaseLog) -> None:
    plan = phasewatch.TrainingPlan(3, val_before_train=False, val_after_train=False)
    with phasewatch.run("r", plan=plan, clock=phaselog.clock, sinks=[]) as run:
        with phase("TRAINING", total=3, unit="step") as training:
            with training.step():
                phaselog.clock.advance(40)
            try:
                with training.step():
                    phaselog.clock.advance(1)
                    raise ValueError
            except ValueError:
                pass
            assert training.eta == run.eta == 80
