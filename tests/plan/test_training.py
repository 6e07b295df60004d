"""The schedule of a training run, against a plain simulation of a trainer's loop."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch import TrainingPlan

options = st.fixed_dictionaries(
    {
        "total_steps": st.integers(min_value=0, max_value=30),
        "start_step": st.integers(min_value=0, max_value=32),
        "val_before_train": st.booleans(),
        "val_only": st.booleans(),
        "test_freq": st.integers(min_value=-2, max_value=12),
        "save_freq": st.integers(min_value=-2, max_value=12),
        "val_after_train": st.booleans(),
        "at_last_step": st.booleans(),
        "saves_last": st.none() | st.booleans(),
    }
)


def run_trainer(
    *, total_steps: int, start_step: int, val_before_train: bool, val_only: bool, test_freq: int, save_freq: int,
    val_after_train: bool, at_last_step: bool, saves_last: bool | None,
) -> list[tuple[str, int | None]]:  # fmt: skip
    """Train, as trainers do, and write down what happens."""
    log: list[tuple[str, int | None]] = []
    if val_before_train:
        log.append(("PRE-TRAINING VALIDATION", None))
        if val_only:
            return log
    step, saves_last = start_step, at_last_step if saves_last is None else saves_last
    while step < total_steps:
        step += 1
        log.append(("TRAINING STEP", step))
        is_last = step == total_steps
        if at_last_step:  # verl's loop: it saves, then it validates
            if save_freq > 0 and ((is_last and saves_last) or step % save_freq == 0):
                log.append(("CHECKPOINT SAVING", step))
            if test_freq > 0 and (is_last or step % test_freq == 0) and not (is_last and val_after_train):
                log.append(("PERIODIC VALIDATION", step))
        else:
            if test_freq > 0 and step % test_freq == 0 and not (is_last and val_after_train):
                log.append(("PERIODIC VALIDATION", step))
            if save_freq > 0 and ((is_last and saves_last) or step % save_freq == 0):
                log.append(("CHECKPOINT SAVING", step))
    # With verl's custom it is the last step's validation that stands here, so without a frequency there is none.
    if val_after_train and (not at_last_step or (test_freq > 0 and start_step < total_steps)):
        log.append(("POST-TRAINING VALIDATION", None))
    return log


@given(options)
def test_the_phases_are_those_that_a_training_loop_goes_through(given_options: dict[str, Any]) -> None:
    assert list(TrainingPlan(**given_options).phases()) == run_trainer(**given_options)


@given(options)
def test_the_counts_are_those_of_the_phases(given_options: dict[str, Any]) -> None:
    plan = TrainingPlan(**given_options)
    counted = Counter(name for name, _ in run_trainer(**given_options))
    assert plan.counts() == counted
    assert list(plan.counts()) == list(counted), "in the order in which they come first"
    steps = [step for name, step in plan.phases() if name == "TRAINING STEP"]
    if not (plan.val_only and plan.val_before_train):
        # All steps, not all but one: the fault of the scheme before.
        assert len(steps) == max(0, given_options["total_steps"] - given_options["start_step"])


@given(options)
def test_a_stretch_holds_all_that_follow_one_another(given_options: dict[str, Any]) -> None:
    grouped = [
        (name, len(steps), steps[0], steps[-1])
        for name, group in itertools.groupby(run_trainer(**given_options), key=lambda phase: phase[0])
        for steps in [[step for _, step in group]]
    ]
    found = [(s.name, s.count, s.first, s.last) for s in TrainingPlan(**given_options).stretches()]
    assert found == grouped


@given(options)
def test_asking_about_one_step_agrees_with_the_phases(given_options: dict[str, Any]) -> None:
    plan, happened = TrainingPlan(**given_options), run_trainer(**given_options)
    for step in range(-2, given_options["total_steps"] + 15):
        assert plan.validates_after(step) == (("PERIODIC VALIDATION", step) in happened)
        assert plan.saves_after(step) == (("CHECKPOINT SAVING", step) in happened)
    assert plan.validates_at_end() == (("POST-TRAINING VALIDATION", None) in happened)


@given(options)
def test_no_step_is_validated_twice_in_a_row(given_options: dict[str, Any]) -> None:
    training = [name for name, _ in TrainingPlan(**given_options).phases() if name != "CHECKPOINT SAVING"]
    first = 1 if given_options["val_before_train"] else 0
    # The validation before training is of the model as it was: it may be the neighbour of the last where nothing is trained.
    after = training[first:]
    assert not any(a.endswith("VALIDATION") and b.endswith("VALIDATION") for a, b in itertools.pairwise(after))


def test_the_schedule_of_the_example_configuration_neither_validates_nor_saves_on_the_way() -> None:
    plan = TrainingPlan(35, epochs=3, test_freq=50, save_freq=100)
    assert plan.counts() == {"PRE-TRAINING VALIDATION": 1, "TRAINING STEP": 35, "POST-TRAINING VALIDATION": 1}


def test_a_short_schedule_in_full() -> None:
    assert list(TrainingPlan(5, test_freq=2, save_freq=4).phases()) == [
        ("PRE-TRAINING VALIDATION", None),
        ("TRAINING STEP", 1),
        ("TRAINING STEP", 2),
        ("PERIODIC VALIDATION", 2),
        ("TRAINING STEP", 3),
        ("TRAINING STEP", 4),
        ("PERIODIC VALIDATION", 4),
        ("CHECKPOINT SAVING", 4),
        ("TRAINING STEP", 5),
        ("POST-TRAINING VALIDATION", None),
    ]


def test_a_last_step_at_the_frequency_is_validated_once() -> None:
    assert list(TrainingPlan(2, val_before_train=False, test_freq=2).phases())[1:] == [
        ("TRAINING STEP", 2), ("POST-TRAINING VALIDATION", None),
    ]  # fmt: skip
    assert list(TrainingPlan(2, val_before_train=False, test_freq=2, val_after_train=False).phases())[1:] == [
        ("TRAINING STEP", 2), ("PERIODIC VALIDATION", 2),
    ]  # fmt: skip


def test_with_verls_custom_the_last_step_saves_and_validates_whatever_the_frequency() -> None:
    plan = TrainingPlan(3, val_before_train=False, test_freq=50, save_freq=100, val_after_train=False, at_last_step=True)
    assert list(plan.phases())[2:] == [("TRAINING STEP", 3), ("CHECKPOINT SAVING", 3), ("PERIODIC VALIDATION", 3)]
    never = TrainingPlan(3, val_before_train=False, at_last_step=True)
    assert never.counts() == {"TRAINING STEP": 3}


def test_validation_only_ends_after_the_first_validation() -> None:
    plan = TrainingPlan(35, val_only=True, test_freq=5, save_freq=5)
    assert list(plan.phases()) == [("PRE-TRAINING VALIDATION", None)]
    assert plan.validates_only
    # The exit stands behind that validation: without it, it is not reached, and the run is no validation alone.
    trains = TrainingPlan(3, val_only=True, val_before_train=False)
    assert trains.counts() == {"TRAINING STEP": 3, "POST-TRAINING VALIDATION": 1}
    assert not trains.validates_only


def test_a_resumed_run_goes_on_where_it_was() -> None:
    plan = TrainingPlan(12, start_step=9, test_freq=3, save_freq=9, val_before_train=False, val_after_train=False)
    assert [step for name, step in plan.phases() if name == "TRAINING STEP"] == [10, 11, 12]
    assert not plan.saves_after(9), "that was done before"
    assert plan.validates_after(12)


@given(epochs=st.integers(min_value=1, max_value=6), steps_per_epoch=st.integers(min_value=1, max_value=9))
def test_the_epoch_of_a_step_is_that_of_two_nested_loops(epochs: int, steps_per_epoch: int) -> None:
    plan = TrainingPlan(epochs=epochs, steps_per_epoch=steps_per_epoch)
    step = 0
    for epoch in range(1, epochs + 1):
        for _ in range(steps_per_epoch):
            step += 1
            assert plan.epoch_of(step) == epoch
    assert plan.total_steps == step


def test_the_epoch_is_not_known_without_its_steps() -> None:
    assert TrainingPlan(35, epochs=3).epoch_of(1) is None
    assert TrainingPlan(35, steps_per_epoch=0).epoch_of(1) is None


def test_a_given_total_goes_before_the_product() -> None:
    assert TrainingPlan(35, epochs=3, steps_per_epoch=100).total_steps == 35


@pytest.mark.parametrize("freq", [0, -1, -50, None])
def test_a_frequency_of_zero_or_less_is_never(freq: Any) -> None:
    plan = TrainingPlan(4, test_freq=freq, save_freq=freq, at_last_step=True)
    assert plan.counts() == {"PRE-TRAINING VALIDATION": 1, "TRAINING STEP": 4}


def test_numbers_of_any_kind_are_taken() -> None:
    plan = TrainingPlan(35.0, epochs="3", test_freq=True, val_batches=28)  # type: ignore[arg-type]  # as configurations have them
    assert (plan.total_steps, plan.epochs, plan.test_freq, plan.val_batches) == (35, 3, 1, 28)
    assert type(plan.total_steps) is int


@pytest.mark.parametrize(
    ("given_options", "complaint"),
    [
        ({}, "give total_steps, or both epochs and steps_per_epoch"),
        ({"epochs": 3}, "give total_steps, or both epochs and steps_per_epoch"),
        ({"steps_per_epoch": 3}, "give total_steps, or both epochs and steps_per_epoch"),
        ({"total_steps": -1}, "total_steps=-1 must be at least 0"),
        ({"total_steps": 2.5}, "total_steps=2.5 must be a whole number"),
        ({"total_steps": float("nan")}, "total_steps=nan must be a whole number"),
        ({"total_steps": "many"}, "total_steps='many' must be a whole number"),
        ({"total_steps": [35]}, "total_steps=a list must be a whole number"),
        ({"total_steps": 1, "epochs": -1}, "epochs=-1 must be at least 0"),
        ({"total_steps": 1, "steps_per_epoch": -1}, "steps_per_epoch=-1 must be at least 0"),
        ({"total_steps": 1, "start_step": -1}, "start_step=-1 must be at least 0"),
        ({"total_steps": 1, "val_batches": -1}, "val_batches=-1 must be at least 0"),
        ({"total_steps": 1, "test_freq": 0.5}, "test_freq=0.5 must be a whole number"),
        ({"total_steps": 1, "save_freq": "often"}, "save_freq='often' must be a whole number"),
    ],
    ids=str,
)
def test_what_cannot_be_planned_is_refused_by_name(given_options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^TrainingPlan: {complaint}$"):
        TrainingPlan(**given_options)


@pytest.mark.parametrize(("drop_last", "batches"), [(False, 29), (True, 28)])
def test_samples_and_batch_sizes_give_the_batches(drop_last: bool, batches: int) -> None:
    plan = TrainingPlan(epochs=2, train_samples=7405, train_batch_size=256, drop_last=drop_last)
    assert (plan.steps_per_epoch, plan.total_steps) == (batches, 2 * batches)
    plan = TrainingPlan(1, val_samples=7405, val_batch_size=256, drop_last=drop_last)
    assert plan.val_batches == batches
    plan = TrainingPlan(1, val_samples=7405, val_batch_size=256, drop_last=not drop_last, val_drop_last=drop_last)
    assert plan.val_batches == batches
    given = TrainingPlan(
        1, steps_per_epoch=5, val_batches=6, train_samples=9, train_batch_size=1, val_samples=9, val_batch_size=1
    )
    assert (given.steps_per_epoch, given.val_batches) == (5, 6), "what is given goes before what follows"


@pytest.mark.parametrize("option", ["train_batch_size", "val_batch_size"])
def test_a_batch_holds_something(option: str) -> None:
    with pytest.raises(ValueError, match=f"^TrainingPlan: {option}=0 must be at least 1$"):
        TrainingPlan(1, **{option: 0})  # type: ignore[arg-type]  # of several options, each of which is a number


# From a trainer's configuration.

TRAINER: dict[str, Any] = {
    "total_training_steps": 35, "total_epochs": 3, "val_before_train": False, "val_only": True, "val_after_train": False,
    "test_freq": 50, "save_freq": 100,
}  # fmt: skip
OTHERS: dict[str, Any] = {"data": {"max_prompt_length": 256}, "algorithm": "grpo", "trainer": {"logger": ["console"]}}
configured = st.fixed_dictionaries(
    {"total_training_steps": st.integers(min_value=0, max_value=99)},
    optional={
        "total_epochs": st.integers(min_value=0, max_value=9),
        "val_before_train": st.booleans(),
        "val_only": st.booleans(),
        "val_after_train": st.booleans(),
        "test_freq": st.integers(min_value=-1, max_value=99),
        "save_freq": st.integers(min_value=-1, max_value=99),
    },
)


class Node:
    """A configuration that is a mapping by its methods alone, as OmegaConf's is."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def keys(self) -> Any:
        return self.values.keys()

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def __getitem__(self, key: str) -> Any:
        value = self.values[key]
        return Node(value) if isinstance(value, dict) else value


def as_text(value: object) -> str:
    return str(value).lower()


SOURCES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nested": lambda trainer: {**OTHERS, "trainer": {**OTHERS["trainer"], **trainer}},
    "dotted": lambda trainer: {"data.max_prompt_length": 256, **{f"trainer.{key}": value for key, value in trainer.items()}},
    "nested, of text": lambda trainer: {"trainer": {key: as_text(value) for key, value in trainer.items()}},
    "omegaconf": lambda trainer: Node({"trainer": trainer}),
    "overrides": lambda trainer: ["data.max_prompt_length=256", *(f"trainer.{k}={as_text(v)}" for k, v in trainer.items())],
    "overrides with a plus": lambda trainer: (f"+trainer.{key}={value}" for key, value in trainer.items()),
}


@pytest.mark.parametrize("form", SOURCES)
@given(trainer=configured)
def test_a_configuration_is_understood_in_every_form(form: str, trainer: dict[str, Any]) -> None:
    names = {"total_training_steps": "total_steps", "total_epochs": "epochs"}
    expected = TrainingPlan(**{names.get(key, key): value for key, value in trainer.items()})
    assert vars(TrainingPlan.from_config(SOURCES[form](trainer))) == vars(expected)


@pytest.mark.parametrize("form", SOURCES)
def test_every_key_of_the_specification_is_read(form: str) -> None:
    plan = TrainingPlan.from_config(SOURCES[form](TRAINER))
    assert (plan.total_steps, plan.epochs, plan.test_freq, plan.save_freq) == (35, 3, 50, 100)
    assert (plan.val_before_train, plan.val_only, plan.val_after_train) == (False, True, False)


@pytest.mark.parametrize(
    "source",
    [
        {"trainer": {"total_training_steps": None, "total_epochs": 3, "test_freq": None}},
        {"trainer.total_training_steps": None, "trainer.total_epochs": 3},
        ["trainer.total_training_steps=null", "trainer.total_epochs=3", "+trainer.test_freq=None", "trainer.save_freq="],
    ],
    ids=["nested", "dotted", "overrides"],
)
def test_what_is_null_is_as_if_it_were_not_there(source: Any) -> None:
    plan = TrainingPlan.from_config(source, steps_per_epoch=4)
    assert (plan.total_steps, plan.test_freq, plan.save_freq) == (12, -1, -1)
    with pytest.raises(ValueError, match="give total_steps, or both epochs and steps_per_epoch"):
        TrainingPlan.from_config(source)


def test_what_is_said_beside_the_configuration_takes_precedence() -> None:
    plan = TrainingPlan.from_config({"trainer": TRAINER}, total_steps=7, val_only=False, start_step=3, at_last_step=True)
    assert (plan.total_steps, plan.val_only, plan.start_step, plan.at_last_step) == (7, False, 3, True)
    assert plan.save_freq == 100


def test_of_two_overrides_the_last_holds() -> None:
    assert TrainingPlan.from_config(["trainer.total_training_steps=1", "+trainer.total_training_steps=2"]).total_steps == 2


@pytest.mark.parametrize("text", ["true", "True", "1", "yes", "on", True, 1])
def test_every_yes_is_a_yes(text: object) -> None:
    assert TrainingPlan.from_config({"trainer": {"total_training_steps": 1, "val_only": text}}).val_only


@pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", "off", False, 0])
def test_every_no_is_a_no(text: object) -> None:
    assert not TrainingPlan.from_config({"trainer": {"total_training_steps": 1, "val_before_train": text}}).val_before_train


@pytest.mark.parametrize("key", ["val_before_train", "val_only", "val_after_train"])
def test_a_truth_value_that_is_none_is_refused_by_its_key(key: str) -> None:
    with pytest.raises(ValueError, match=f"^trainer.{key}='maybe' must be true or false$"):
        TrainingPlan.from_config({"trainer": {**TRAINER, key: "maybe"}})


@pytest.mark.parametrize("key", ["total_training_steps", "total_epochs", "test_freq", "save_freq"])
@pytest.mark.parametrize("value", ["many", "2.5", [1]], ids=repr)
def test_a_number_that_is_none_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^trainer.{key}=.* must be a whole number$"):
        TrainingPlan.from_config({"trainer": {**TRAINER, key: value}})


@pytest.mark.parametrize("source", [b"x", 35, None], ids=repr)
def test_what_is_neither_a_mapping_nor_a_list_nor_a_path_is_refused(source: Any) -> None:
    with pytest.raises(TypeError, match=r"is no list of 'trainer\.x=y' overrides, nor a mapping, nor the path of a \.sh, "):
        TrainingPlan.from_config(source)
    with pytest.raises(TypeError, match=r"overrides .* is no list of 'trainer\.x=y' overrides$"):
        TrainingPlan.from_config((), overrides=source)


def test_an_override_that_is_not_in_a_list_is_told_where_to_go() -> None:
    with pytest.raises(TypeError, match=r"is no file; put overrides into a list: \['trainer\.total_training_steps=35'\]"):
        TrainingPlan.from_config("trainer.total_training_steps=35")


def test_a_trainer_that_is_no_mapping_has_nothing_to_say() -> None:
    with pytest.raises(ValueError, match="give total_steps"):
        TrainingPlan.from_config({"trainer": "verl"})


@pytest.mark.parametrize("value", [2.5, float("inf"), float("nan")])
def test_a_fraction_is_no_whole_number_wherever_it_stands(value: float) -> None:
    with pytest.raises(ValueError, match=r"total_training_steps=.* must be a whole number"):
        TrainingPlan.from_config({"trainer": {"total_training_steps": value}})
    with pytest.raises(ValueError, match=r"total_steps=.* must be a whole number"):
        TrainingPlan(value)  # type: ignore[arg-type]  # the mistake under test


def test_null_is_not_given_wherever_it_stands() -> None:
    overrides = ["trainer.total_training_steps=35", "trainer.test_freq=5", "trainer.test_freq=null"]
    assert TrainingPlan.from_config(overrides).test_freq == -1
    assert TrainingPlan.from_config({"trainer": {"total_training_steps": 35, "test_freq": "null"}}).test_freq == -1


def test_truth_values_may_be_text_and_nothing_else() -> None:
    options: dict[str, Any] = {"val_only": "false", "val_before_train": "True"}
    assert TrainingPlan(3, **options).val_only is False
    with pytest.raises(ValueError, match="val_only='perhaps' must be true or false"):
        TrainingPlan(3, val_only="perhaps")  # type: ignore[arg-type]  # the mistake under test


def test_a_plan_shows_what_it_is() -> None:
    plan = TrainingPlan(3, epochs=1, val_samples=7)
    assert vars(eval(repr(plan))) == vars(plan)
