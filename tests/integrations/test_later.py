"""A plan that is known when the run is under way already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import phasewatch
from phasewatch import TrainingPlan, phase
from phasewatch.integrations._later import LaterPlan

if TYPE_CHECKING:
    from phasewatch.testing import PhaseLog

KNOWN = TrainingPlan(4, steps_per_epoch=2, test_freq=2, val_before_train=False, val_after_train=False)


def train(log: PhaseLog, plan: LaterPlan, steps: int = 4, known: TrainingPlan = KNOWN) -> list[float | None]:
    """Return the time left of the run after each step."""
    left: list[float | None] = []
    with phasewatch.run(plan=plan) as run:
        with phase("INITIALIZATION"):
            log.clock.advance(30)
            assert run.eta is None, "somebody asks before anything is known"
        plan.know(known)
        with phase("TRAINING", total=known.total_steps, unit="step") as training:
            for number in range(1, steps + 1):
                with training.step():
                    log.clock.advance(10)
                if known.validates_after(number):
                    with phase("PERIODIC VALIDATION", step=number):
                        log.clock.advance(100)
                left.append(run.eta)
    return left


def test_the_time_left_knows_what_became_known_later(phaselog: PhaseLog) -> None:
    # After step 2, the length of a validation is known, of which there is one more.
    assert train(phaselog, LaterPlan())[1:] == pytest.approx([120, 110, 0])
    assert "PLAN" not in phaselog.text


def test_the_time_left_has_what_is_planned_and_not_what_came_so_far(phaselog: PhaseLog) -> None:
    # By what came so far, no validation follows step 4; the one after the training takes as long as they do.
    known = TrainingPlan(5, test_freq=2, val_before_train=False)
    assert train(phaselog, LaterPlan(), 4, known)[-1] == pytest.approx(10 + 100)


def test_steps_know_their_epoch_from_it(phaselog: PhaseLog) -> None:
    train(phaselog, LaterPlan())
    assert "[Epoch 1] Step 2/4" in phaselog.text
    assert "[Epoch 2] Step 3/4" in phaselog.text


def test_a_run_is_held_against_what_became_known_later(phaselog: PhaseLog) -> None:
    train(phaselog, LaterPlan(), steps=3)
    assert "PLAN: 3 of 4 TRAINING STEP ran" in phaselog.text
    assert "PLAN: 1 of 2 PERIODIC VALIDATION ran" in phaselog.text


def test_what_is_left_out_of_the_counts_is_not_held_against_the_run(phaselog: PhaseLog) -> None:
    plan = LaterPlan()
    with phasewatch.run(plan=plan):
        plan.know(KNOWN, {"TRAINING STEP": 1, "TRAINING": 5}, unsure=["TRAINING"])
    assert phaselog.text.count("[META] PLAN") == 1


def test_nothing_is_held_against_a_run_where_nothing_is_counted(phaselog: PhaseLog) -> None:
    plan = LaterPlan()
    with phasewatch.run(plan=plan):
        plan.know(KNOWN, {})
    planned = [(one.name, one.first, one.last) for one in plan.stretches()]
    assert planned == [(one.name, one.first, one.last) for one in KNOWN.stretches()], "it is planned all the same"
    assert "[META] PLAN" not in phaselog.text


def test_what_is_known_anew_stands_for_what_was_known_before(phaselog: PhaseLog) -> None:
    plan = LaterPlan()
    with phasewatch.run(plan=plan), phase("TRAINING", total=1, unit="step") as training:
        plan.know(KNOWN)
        plan.know(TrainingPlan(1, val_before_train=False, val_after_train=False))
        with training.step():
            pass
    assert "[META] PLAN" not in phaselog.text


def test_nothing_is_planned_as_long_as_nothing_is_known(phaselog: PhaseLog) -> None:
    plan = LaterPlan()
    assert (list(plan.phases()), list(plan.stretches()), plan.counts(), plan.warnings(), plan.epoch_of(1)) == (
        [], [], {}, [], None,
    )  # fmt: skip
    with phasewatch.run(plan=plan), phase("WORK"):
        pass
    assert "PLAN" not in phaselog.text


def test_a_run_for_one_evaluation_ends_as_such(phaselog: PhaseLog) -> None:
    with phasewatch.run(plan=LaterPlan(validates_only=True)):
        pass
    assert "🏁 [META] PHASE: COMPLETE - Validation Only Mode" in phaselog.text
