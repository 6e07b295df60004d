"""What a plan warns of, each with an example that raises it and healthy ones that do not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch import Plan, PlanWarning, TrainingPlan


def codes(**options: Any) -> list[str]:
    return [warning.code for warning in TrainingPlan(**options).warnings()]


def test_the_example_of_the_specification_never_validates_and_never_saves() -> None:
    plan = TrainingPlan(35, epochs=3, test_freq=50, save_freq=100)
    assert [str(warning) for warning in plan.warnings()] == [
        "test_freq=50 is never reached in 35 steps: no PERIODIC VALIDATION runs; set test_freq to 35 or less",
        "save_freq=100 is never reached in 35 steps: nothing is ever saved; set save_freq to 35 or less",
    ]


HEALTHY: dict[str, dict[str, Any]] = {
    "nothing but a total": {"total_steps": 35},
    "the example, in a consistent form": {
        "total_steps": 100, "epochs": 3, "steps_per_epoch": 34, "test_freq": 50, "save_freq": 100,
    },
    "never, said as trainers say it": {"total_steps": 35, "test_freq": -1, "save_freq": -1},
    "verl validates and saves at the last step": {
        "total_steps": 35, "test_freq": 50, "save_freq": 100, "at_last_step": True,
    },
    "the frequency is the total": {"total_steps": 35, "test_freq": 35, "save_freq": 35},
    "transformers save at the last step": {"total_steps": 35, "save_freq": 10, "saves_last": True},
    "validation only": {"total_steps": 35, "val_only": True, "test_freq": 50, "save_freq": 100},
    "validation only, of the last save": {"total_steps": 35, "val_only": True, "start_step": 35, "save_freq": 100},
    "a resumed run that is nearly done": {"total_steps": 100, "start_step": 90, "test_freq": 50, "save_freq": 50},
    "a total inside the last epoch": {"total_steps": 35, "epochs": 3, "steps_per_epoch": 12},
    "a total that is the product": {"total_steps": 36, "epochs": 3, "steps_per_epoch": 12},
    "epochs alone": {"epochs": 3, "steps_per_epoch": 12},
    "a last batch that is not full": {"total_steps": 3, "val_samples": 7405, "val_batch_size": 256},
    "batches that cover all": {"total_steps": 3, "val_samples": 7405, "val_batch_size": 265, "val_batches": 28},
    "training drops its last batch, validation does not": {
        "epochs": 1, "train_samples": 1000, "train_batch_size": 300, "drop_last": True, "val_samples": 7405,
        "val_batch_size": 256, "val_drop_last": False,
    },
    "no validation at all, and no data for it": {"total_steps": 3, "val_before_train": False, "val_after_train": False},
    "a validation that would not reach all, and never runs": {
        "total_steps": 3, "val_before_train": False, "val_after_train": False, "val_batch_size": 256, "test_freq": -1,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_plan_warns_of_nothing(name: str) -> None:
    assert TrainingPlan(**HEALTHY[name]).warnings() == []


SUSPECT: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "a validation that is never reached": ({"total_steps": 35, "test_freq": 36}, ["no-validation"], "test_freq=36 is never"),
    "data to validate with, and no validation": (
        {"total_steps": 35, "val_samples": 7405, "val_before_train": False, "val_after_train": False},
        ["no-validation"], "there is data to validate with",
    ),
    "as verl does it, which needs a frequency for the last one too": (
        {"total_steps": 35, "val_batches": 28, "val_before_train": False, "at_last_step": True},
        ["no-validation"], "there is data to validate with",
    ),
    "a validation that would not reach all, if there were one": (
        {
            "total_steps": 3, "val_before_train": False, "val_after_train": False, "val_samples": 7405, "val_batches": 28,
            "val_batch_size": 256,
        },
        ["no-validation"], "there is data to validate with",
    ),
    "a save that is never reached": ({"total_steps": 35, "save_freq": 36}, ["no-saving"], "save_freq=36 is never reached"),
    "a resumed run that saves nothing": ({"total_steps": 35, "start_step": 5}, ["no-saving"], "resumes after step 5"),
    "steps after the last save": (
        {"total_steps": 35, "save_freq": 10}, ["steps-not-saved"], "steps 31 to 35 come after the last CHECKPOINT SAVING",
    ),
    "one step after the last save": ({"total_steps": 31, "save_freq": 10}, ["steps-not-saved"], "step 31 comes after"),
    "a resumed run whose steps are all lost": (
        {"total_steps": 35, "start_step": 33, "save_freq": 10}, ["steps-not-saved"], "steps 34 to 35 come",
    ),
    "a validation that drops its last batch": (
        {"total_steps": 3, "val_samples": 7405, "val_batch_size": 256, "drop_last": True},
        ["validation-incomplete"], "28 x 256 reaches 7168 of 7405 samples: 237 are never validated",
    ),
    "the validation of the specification": (
        {"total_steps": 3, "val_samples": 7405, "val_batch_size": 256, "val_batches": 28},
        ["validation-incomplete"], "28 x 256 reaches 7168 of 7405",
    ),
    "validation only, of too few": (
        {"total_steps": 3, "val_only": True, "val_samples": 10, "val_batch_size": 4, "val_batches": 1},
        ["validation-incomplete"], "1 x 4 reaches 4 of 10 samples: 6 are never validated; it takes 3 batches",
    ),
    "an exit that is never reached": (
        {"total_steps": 35, "val_only": True, "val_before_train": False}, ["val-only-trains"], "it trains 35 steps",
    ),
    "a validation every 0 steps": ({"total_steps": 35, "test_freq": 0}, ["odd-frequency"], "test_freq=0 means never"),
    "a save every -50 steps": ({"total_steps": 35, "save_freq": -50}, ["odd-frequency"], "save_freq=-50 means never"),
    "more steps than the data has": (
        {"total_steps": 100, "epochs": 3, "steps_per_epoch": 12}, ["total-contradicts-epochs"],
        "epochs=3 x steps_per_epoch=12 = 36: the data ends 64 steps before; raise epochs to 9",
    ),
    "epochs that never begin": (
        {"total_steps": 24, "epochs": 3, "steps_per_epoch": 12}, ["total-contradicts-epochs"], "ends in epoch 2 of 3",
    ),
    "a run that is done": ({"total_steps": 35, "start_step": 35}, ["nothing-to-do"], "start_step=35, total_steps=35: no "),
    "a run that was more than done": ({"total_steps": 35, "start_step": 40, "test_freq": 50}, ["nothing-to-do"], "=40"),
    "a batch that is larger than the data": (
        {"epochs": 3, "train_samples": 10, "train_batch_size": 20, "drop_last": True}, ["nothing-to-do"], "total_steps=0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SUSPECT)
def test_a_suspect_plan_is_warned_of(name: str) -> None:
    options, expected, text = SUSPECT[name]
    found = TrainingPlan(**options).warnings()
    assert [warning.code for warning in found] == expected
    assert text in str(found[0])


plans = st.fixed_dictionaries(
    {"total_steps": st.integers(0, 40)},
    optional={
        "start_step": st.integers(0, 40),
        "val_before_train": st.booleans(),
        "val_after_train": st.booleans(),
        "val_only": st.booleans(),
        "test_freq": st.integers(-3, 45),
        "save_freq": st.integers(-3, 45),
        "at_last_step": st.booleans(),
        "saves_last": st.booleans(),
    },
)


@given(plans)
def test_the_step_of_the_last_save_is_the_step_from_which_steps_are_lost(options: dict[str, Any]) -> None:
    plan = TrainingPlan(**options)
    phases = list(plan.phases())
    saves = [step for name, step in phases if name == "CHECKPOINT SAVING"]
    trained = [step for name, step in phases if name == "TRAINING STEP"]
    lost = bool(trained and plan.save_freq > 0 and (not saves or saves[-1] != trained[-1]))
    assert lost == bool({"steps-not-saved", "no-saving"} & set(codes(**options)) and plan.save_freq > 0)


@given(plans)
def test_a_validation_on_the_way_that_is_asked_for_runs_or_is_warned_of(options: dict[str, Any]) -> None:
    plan = TrainingPlan(**options)
    counts = plan.counts()
    if plan.test_freq > 0 and counts.get("TRAINING STEP") and plan.start_step == 0:
        validated = any(step is not None for name, step in plan.phases() if name == "PERIODIC VALIDATION")
        at_the_end = plan.validates_at_end() and (plan.total_steps % plan.test_freq == 0 or plan.at_last_step)
        assert (validated or at_the_end) == ("no-validation" not in codes(**options))


def test_a_warning_is_data() -> None:
    warning = TrainingPlan(35, save_freq=100).warnings()[0]
    same = PlanWarning(warning.code, warning.message, warning.advice)
    assert (warning, hash(warning)) == (same, hash(same))
    assert warning != PlanWarning("other", warning.message, warning.advice)
    assert warning != "no-saving"
    assert eval(repr(warning)) == warning
    assert warning.as_dict() == {"code": "no-saving", "message": warning.message, "advice": "set save_freq to 35 or less"}
    assert str(PlanWarning("x", "no advice")) == "no advice"


def test_a_plan_of_other_work_warns_of_what_never_runs() -> None:
    assert [str(warning) for warning in Plan({"A": 1, "B": 0}).warnings()] == ["B is planned 0 times: it never runs"]
    assert [warning.code for warning in Plan({}).warnings()] == ["nothing-to-do"]
    assert Plan({"A": 1, "B": 120}).warnings() == []


def test_looking_a_plan_through_takes_no_time_however_long_it_is() -> None:
    plan = TrainingPlan(10**15, test_freq=7, save_freq=11)
    assert plan.counts()["PERIODIC VALIDATION"] == 10**15 // 7
    assert [warning.code for warning in plan.warnings()] == ["steps-not-saved"]


@pytest.mark.parametrize(
    ("at_last_step", "advice"),
    [(False, "set test_freq, val_before_train or val_after_train"), (True, "set test_freq or val_before_train")],
)
def test_what_is_advised_is_there_in_that_trainer(at_last_step: bool, advice: str) -> None:
    plan = TrainingPlan(3, val_batches=28, val_before_train=False, val_after_train=False, at_last_step=at_last_step)
    (warning,) = (warning for warning in plan.warnings() if warning.code == "no-validation")
    assert warning.advice == advice
