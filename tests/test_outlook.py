"""What a plan comes to, and how long it takes by the figures of an earlier run."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phasewatch
from phasewatch import Event, Plan, TrainingPlan, outlook, phase
from phasewatch._tables import show
from phasewatch.summary import Summary, summarize
from phasewatch.testing import FakeClock, MemorySink
from phasewatch.timeline import Timeline


def history(
    plan: TrainingPlan, *, initialisation: float = 0.0, step: float = 10.0, beside: float = 0.0, validation: float = 60.0,
    save: float = 5.0,
) -> Summary:  # fmt: skip
    """The figures of a run that did what the plan says, each kind of phase in its own time."""
    clock, sink = FakeClock(), MemorySink()
    seconds = {"TRAINING STEP": step, "CHECKPOINT SAVING": save}
    with phasewatch.run("earlier", sinks=[sink], clock=clock):
        with phase("INITIALIZATION"):
            clock.advance(initialisation)
        inside = [name for name, number in plan.phases() if number is None]
        for name in inside[:1]:
            with phase(name):
                clock.advance(validation)
        with phase("TRAINING", total=plan.total_steps, unit="step") as training:
            for name, number in plan.phases():
                if number is not None:
                    with training.step() if name == "TRAINING STEP" else phase(name, step=number):
                        clock.advance(seconds.get(name, validation))
                    if name == "TRAINING STEP":
                        clock.advance(beside)
        for name in inside[1:]:
            with phase(name):
                clock.advance(validation)
    return figures(sink.events)


def figures(events: list[Event]) -> Summary:
    return summarize(Timeline.from_events(events))


def test_a_plan_takes_as_long_as_the_run_that_did_it() -> None:
    plan = TrainingPlan(20, test_freq=5, save_freq=10)
    options = {"initialisation": 100.0, "beside": 1.0}
    found = outlook.expected(plan, history(plan, **options))
    assert found.each == {
        "PRE-TRAINING VALIDATION": 60.0, "TRAINING STEP": 10.0, "PERIODIC VALIDATION": 60.0, "CHECKPOINT SAVING": 5.0,
        "POST-TRAINING VALIDATION": 60.0,
    }  # fmt: skip
    assert found.beside == pytest.approx(100 + 20)
    assert found.total == pytest.approx(100 + 20 * 11 + 5 * 60 + 2 * 5)


@given(
    total=st.integers(1, 30), test_freq=st.integers(-1, 9), save_freq=st.integers(-1, 9), step=st.floats(0.5, 99),
    validation=st.floats(0.5, 99),
)  # fmt: skip
def test_another_plan_takes_what_its_own_phases_take(
    total: int, test_freq: int, save_freq: int, step: float, validation: float
) -> None:
    earlier = history(TrainingPlan(10, test_freq=2, save_freq=2), initialisation=7.0, step=step, validation=validation)
    plan = TrainingPlan(total, test_freq=test_freq, save_freq=save_freq)
    counts = plan.counts()
    validations = sum(count for name, count in counts.items() if name.endswith("VALIDATION"))
    expected = 7 + total * step + validations * validation + 5 * counts.get("CHECKPOINT SAVING", 0)
    assert outlook.expected(plan, earlier).total == pytest.approx(expected)


def test_a_validation_that_the_earlier_run_did_not_have_goes_by_the_others() -> None:
    earlier = history(TrainingPlan(4, val_before_train=False, val_after_train=False, test_freq=2))
    found = outlook.expected(TrainingPlan(4, test_freq=2), earlier)
    assert found.each["PRE-TRAINING VALIDATION"] == found.each["POST-TRAINING VALIDATION"] == 60.0
    assert "CHECKPOINT SAVING" not in outlook.expected(TrainingPlan(4, save_freq=2), earlier).each


def test_a_validation_goes_by_whole_ones_and_not_by_what_runs_inside_them() -> None:
    clock, sink = FakeClock(), MemorySink()
    with phasewatch.run(sinks=[sink], clock=clock), phase("PRE-TRAINING VALIDATION"):
        clock.advance(10)
        with phase("VALIDATION"):
            clock.advance(50)
    found = outlook.expected(TrainingPlan(1, val_before_train=True), figures(sink.events))
    assert found.each == {"PRE-TRAINING VALIDATION": 60.0, "POST-TRAINING VALIDATION": 60.0}


def test_what_the_plan_leaves_out_this_time_does_not_count() -> None:
    earlier = history(TrainingPlan(4, test_freq=2, save_freq=2))
    plan = TrainingPlan(4, val_before_train=False, val_after_train=False)
    assert outlook.expected(plan, earlier).total == pytest.approx(40)


def test_nothing_is_guessed_from_an_earlier_run_of_other_work() -> None:
    sink = MemorySink()
    with phasewatch.run(sinks=[sink], clock=FakeClock()), phase("DOWNLOAD"):
        pass
    for events in (sink.events, []):
        found = outlook.expected(TrainingPlan(35), figures(events))
        assert (found.each, found.total) == ({}, None)
    assert outlook.expected(Plan({"DOWNLOAD": 3}), figures(sink.events)).total == 0
    assert outlook.expected(Plan({}), figures(sink.events)).total is None


def printed(plan: TrainingPlan | Plan, *args: Any, **options: Any) -> str:
    out = io.StringIO()
    show(outlook.parts(plan, *args, **options), out)
    return out.getvalue()


def test_a_plan_is_shown_as_a_table_of_what_follows_what() -> None:
    assert printed(TrainingPlan(5, test_freq=2, save_freq=5, val_after_train=False)) == (
        "What will run            Times  Step\n"
        "PRE-TRAINING VALIDATION     x1\n"
        "TRAINING STEP               x2   1-2\n"
        "PERIODIC VALIDATION         x1     2\n"
        "TRAINING STEP               x2   3-4\n"
        "PERIODIC VALIDATION         x1     4\n"
        "TRAINING STEP               x1     5\n"
        "CHECKPOINT SAVING           x1     5\n"
        "\n"
        "How often                Count\n"
        "PRE-TRAINING VALIDATION      1\n"
        "TRAINING STEP                5\n"
        "PERIODIC VALIDATION          2\n"
        "CHECKPOINT SAVING            1\n"
    )


def test_warnings_stand_last_where_they_are_seen() -> None:
    assert printed(TrainingPlan(35, test_freq=50)).endswith(
        "\n\nWarnings\n"
        "  test_freq=50 is never reached in 35 steps: no PERIODIC VALIDATION runs; set test_freq to 35 or less\n"
    )


def test_a_long_schedule_is_cut_and_its_data_too() -> None:
    plan = TrainingPlan(10**12, test_freq=1)
    text = printed(plan, rows=3)
    assert text.splitlines()[4] == "... and so on (--all shows the rest)"
    data = outlook.as_dict(plan)
    assert (len(data["schedule"]), data["schedule_is_whole"]) == (10_000, False)
    assert "so on" not in printed(TrainingPlan(3), rows=3)


def test_the_data_is_what_json_can_hold() -> None:
    plan = TrainingPlan(35, test_freq=50)
    data = outlook.as_dict(plan, outlook.expected(plan, history(plan)))
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["schedule"][1] == {"name": "TRAINING STEP", "count": 35, "first_step": 1, "last_step": 35}
    assert (data["counts"], data["schedule_is_whole"]) == (plan.counts(), True)
    assert [warning["code"] for warning in data["warnings"]] == ["no-validation"]
    assert data["expected"] == pytest.approx(35 * 10 + 2 * 60)


def test_how_long_it_takes_says_what_is_not_known() -> None:
    plan = TrainingPlan(4, save_freq=2)
    found = outlook.expected(plan, history(TrainingPlan(4)))
    assert "It takes 2.7m; without CHECKPOINT SAVING, of which nothing is known\n" in printed(plan, found)
    nothing = outlook.expected(plan, figures([]))
    assert "How long it takes is not known" in printed(plan, nothing)


def test_a_hostile_name_stays_in_its_row() -> None:
    text = printed(Plan({"\x1b[2J[bold]A\n[META] B": 1, "C": 0}))
    assert "\x1b" not in text
    assert "\\x1b[2J[bold]A [meta] B" in text
    assert len(text.splitlines()) == 8
