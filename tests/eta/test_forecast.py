"""When a run and the phases in it will be done."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch.eta import Forecast, Running
from phasewatch.plan import TrainingPlan

STEP, VALIDATION, SAVE = 40.0, 1140.0, 60.0


class Work:
    """A forecast and its run, on a clock that only this moves."""

    def __init__(self, plan: TrainingPlan | None = None) -> None:
        self.forecast = Forecast(() if plan is None else plan.phases())
        self.now = 0.0
        self.run = self.forecast.begin("run", 0.0)

    def begin(self, name: str, inside: Running | None = None, *, is_unit: bool = False) -> Running:
        return self.forecast.begin(name, self.now, inside or self.run, is_unit=is_unit)

    def end(self, running: Running, *, completed: bool = True) -> None:
        self.forecast.end(running, self.now, completed=completed)

    def do(self, name: str, seconds: float, inside: Running | None = None, *, is_unit: bool = False) -> None:
        running = self.begin(name, inside, is_unit=is_unit)
        self.now += seconds
        self.end(running)

    def left(self, running: Running | None = None) -> float | None:
        return self.forecast.left(running or self.run, self.now)

    def loop(self, total: int | None, start: int = 0) -> Running:
        training = self.begin("TRAINING")
        training.count(total, start)
        return training

    def step(self, training: Running, seconds: float = STEP) -> None:
        self.do("TRAINING STEP", seconds, training, is_unit=True)


def test_while_a_step_goes_on_less_is_left_and_never_less_than_of_the_steps_after_it() -> None:
    work = Work()
    training = work.loop(total=5)
    work.step(training)
    work.step(training)
    step = work.begin("TRAINING STEP", training, is_unit=True)
    left = []
    for _ in range(4):
        left.append(work.left(training))
        work.now += STEP / 2
    assert left == [3 * STEP, 2.5 * STEP, 2 * STEP, 2 * STEP]
    work.end(step)


def seconds_of(name: str) -> float:
    return STEP if name == "TRAINING STEP" else SAVE if name == "CHECKPOINT SAVING" else VALIDATION


plans = st.builds(
    TrainingPlan, st.integers(1, 60), test_freq=st.integers(-1, 20), save_freq=st.integers(-1, 20),
    val_before_train=st.booleans(), val_after_train=st.booleans(), at_last_step=st.booleans(), start_step=st.integers(0, 30),
)  # fmt: skip


@given(plans)
def test_a_planned_run_of_constant_durations_is_known_exactly_once_each_kind_was_seen(plan: TrainingPlan) -> None:
    work = Work(plan)
    training = work.loop(plan.total_steps, plan.start_step)
    phases = list(plan.phases())
    seen = set()
    for number, (name, _) in enumerate(phases):
        work.do(name, seconds_of(name), training if name != "POST-TRAINING VALIDATION" else work.run,
                is_unit=name == "TRAINING STEP")  # fmt: skip
        seen.add(name.split()[-1])
        to_come = [later for later, _ in phases[number + 1 :]]
        if all(later.split()[-1] in seen for later in to_come):
            assert work.left() == pytest.approx(sum(map(seconds_of, to_come)))
    assert work.left() == 0.0


def test_the_loop_of_a_plan_holds_what_the_plan_puts_between_its_steps() -> None:
    plan = TrainingPlan(200, test_freq=50, save_freq=25)
    work = Work(plan)
    work.do("PRE-TRAINING VALIDATION", VALIDATION)
    training = work.loop(200)
    assert work.left(training) is None, "no step was seen"
    assert work.left() is None, "what is most of the run is unknown"
    work.step(training)
    # The last validation is that after training, which is none of the loop.
    assert work.left(training) == 199 * STEP + 3 * VALIDATION
    assert work.left() == 199 * STEP + 4 * VALIDATION


def test_a_resumed_run_is_planned_from_where_it_goes_on() -> None:
    work = Work(TrainingPlan(200, test_freq=10, start_step=100, val_after_train=False))
    work.do("PRE-TRAINING VALIDATION", VALIDATION)
    training = work.loop(200, 100)
    work.step(training)
    assert work.left(training) == work.left() == 99 * STEP + 10 * VALIDATION


def test_kinds_that_do_the_same_work_inform_each_other_until_each_was_seen() -> None:
    work = Work(TrainingPlan(20, test_freq=5))
    work.do("PRE-TRAINING VALIDATION", 100.0)
    training = work.loop(20)
    work.step(training)
    assert work.left() == 19 * STEP + 3 * 100 + 100
    work.do("PERIODIC VALIDATION", 160.0, training)
    assert work.left() == 19 * STEP + 2 * 160 + 160


def test_a_validation_inside_another_is_no_kind_of_its_outer_one() -> None:
    work = Work(TrainingPlan(20, test_freq=5))
    outer = work.begin("PRE-TRAINING VALIDATION")
    work.now += 10
    work.do("VALIDATION", 90.0, outer)
    work.end(outer)
    training = work.loop(20)
    work.step(training)
    assert work.left() == 19 * STEP + 4 * 100


def test_the_units_of_an_inner_phase_tell_how_long_the_outer_one_takes() -> None:
    work = Work()
    for _ in range(2):
        outer = work.begin("PERIODIC VALIDATION")
        work.now += 10  # before the inner one, and as much after it
        inner = work.begin("VALIDATION", outer)
        units = inner.count(28)
        for batch in range(28):
            work.now += 40
            units.note(batch + 1, work.now)
        work.end(inner)
        work.now += 10
        work.end(outer)
    outer = work.begin("PERIODIC VALIDATION")
    assert work.left(outer) == 28 * 40 + 20
    work.now += 10
    inner = work.begin("VALIDATION", outer)
    units = inner.count(28)
    assert work.left(inner) == 28 * 40
    for batch in range(14):
        work.now += 60  # slower than before
        units.note(batch + 1, work.now)
    left = work.left(inner)
    assert left is not None
    assert 14 * 40 < left < 14 * 60, "what was seen before counts too"
    assert work.left(outer) == left + 10


def test_a_first_validation_under_way_tells_of_those_to_come() -> None:
    work = Work(TrainingPlan(20, test_freq=5, val_before_train=False, val_after_train=False))
    training = work.loop(20)
    for _ in range(5):
        work.step(training)
    outer = work.begin("PERIODIC VALIDATION", training)
    units = work.begin("VALIDATION", outer).count(10)
    work.now += 50
    units.note(5, work.now)
    assert work.left() == 15 * STEP + 50 + 3 * 100


def test_without_a_plan_other_work_comes_in_the_turns_in_which_it_came() -> None:
    work = Work()
    training = work.loop(200)
    told = []
    for number in range(1, 201):
        work.step(training)
        told.append(work.left(training))
        if number % 50 == 0 and number < 200:
            work.do("PERIODIC VALIDATION", VALIDATION, training)
            assert work.left(training) == (200 - number) * STEP + (200 - number) // 50 * VALIDATION
    assert told[0] == 199 * STEP
    assert told[60] == 139 * STEP + 3 * VALIDATION
    assert told[110] == 89 * STEP + 2 * VALIDATION


def test_without_a_plan_what_is_under_way_beside_the_units_is_counted_once() -> None:
    work = Work()
    training = work.loop(200)
    for number in range(1, 101):
        work.step(training)
        if number == 50:
            work.do("PERIODIC VALIDATION", VALIDATION, training)
    work.begin("PERIODIC VALIDATION", training)
    assert work.left(training) == 100 * STEP + 3 * VALIDATION, "this one, after 150, and after 200"


def test_of_several_loops_each_has_its_share_of_what_the_plan_puts_between_steps() -> None:
    work = Work(TrainingPlan(20, test_freq=5, val_before_train=False, val_after_train=False))
    for first in (1, 11):
        epoch = work.begin(f"EPOCH {first}")
        epoch.count(10)
        for number in range(first, first + 10):
            work.step(epoch)
            if number == 6:
                assert work.left(epoch) == pytest.approx(4 * STEP + 3 * 100 * 4 / 14)
                assert work.left() == 14 * STEP + 3 * 100
            if number % 5 == 0:
                work.do("PERIODIC VALIDATION", 100.0, epoch)
        work.end(epoch)


def test_what_came_once_after_the_first_unit_is_no_turn() -> None:
    work = Work()
    training = work.loop(100)
    work.do("COMPILATION", 500.0, training)
    work.step(training)
    work.do("PROFILING", 500.0, training)
    assert work.left(training) == 99 * STEP


def test_other_work_beside_the_units_takes_nothing_off_them() -> None:
    work = Work(TrainingPlan(4, test_freq=2, val_after_train=False))
    work.do("PRE-TRAINING VALIDATION", 500.0)
    training = work.loop(4)
    work.step(training)
    work.step(training)
    validation = work.begin("PERIODIC VALIDATION", training)
    told = []
    for _ in range(6):
        told.append(work.left(training))
        work.now += 100
    assert told == [2 * STEP + 1000, 2 * STEP + 900, 2 * STEP + 800, 2 * STEP + 700, 2 * STEP + 600, 2 * STEP + 500]
    work.end(validation)


def test_what_lies_between_two_steps_is_part_of_their_time() -> None:
    work = Work()
    training = work.loop(100)
    for _ in range(10):
        work.step(training)
        work.now += 5
    assert work.left(training) == pytest.approx(90 * 45 - 5, rel=0.01)


def test_one_phase_whose_units_are_what_is_planned_counts_once() -> None:
    class Items:
        def phases(self) -> list[tuple[str, int | None]]:
            return [("DOWNLOAD", None), *[("PARSE", None)] * 120]

    work = Work()
    work.forecast = Forecast(Items().phases())
    work.run = work.forecast.begin("run", 0.0)
    work.do("DOWNLOAD", 30.0)
    assert work.left() is None
    parse = work.begin("PARSE")
    units = parse.count(120)
    work.now += 20
    units.note(10, work.now)
    assert work.left() == 220
    for number in range(20, 121, 10):
        work.now += 20
        units.note(number, work.now)
    work.end(parse)
    assert work.left() == 0


def test_an_earlier_run_tells_the_whole_before_anything_was_seen() -> None:
    work = Work(TrainingPlan(100, test_freq=50, save_freq=50))
    for name, seconds in (("TRAINING STEP", STEP), ("PRE-TRAINING VALIDATION", 90.0), ("PERIODIC VALIDATION", 100.0),
                          ("POST-TRAINING VALIDATION", 200.0), ("CHECKPOINT SAVING", SAVE)):  # fmt: skip
        work.forecast.expect(name, seconds, 5, 1.0)
    assert work.left() == 100 * STEP + 90 + 100 + 200 + 2 * SAVE
    work.do("PRE-TRAINING VALIDATION", 99.0)
    # The one was as long as the other within what chance does, the third twice as long: so it is taken to be now.
    assert work.left() == pytest.approx(100 * STEP + 99 + 220 + 2 * SAVE, rel=0.01)


def test_a_phase_that_was_broken_off_says_nothing_of_how_long_such_work_takes() -> None:
    work = Work()
    training = work.loop(10)
    work.step(training)
    broken = work.begin("TRAINING STEP", training, is_unit=True)
    work.now += 4
    work.end(broken, completed=False)
    assert work.left(training) == 9 * STEP


def test_names_that_differ_in_a_number_are_the_same_work() -> None:
    work = Work()
    work.do("EPOCH 1", 100.0)
    epoch = work.begin("EPOCH 2")
    work.now += 30
    assert work.left(epoch) == 70


def test_names_without_end_do_not_fill_the_memory() -> None:
    work = Work()
    for number in range(3000):
        work.do(f"file-{number}.txt", 1.0)
    assert len(work.forecast._kinds) <= 1001
    assert not work.run.children


def test_it_ends_twice_or_out_of_order_without_harm() -> None:
    work = Work()
    outer, inner = work.begin("A"), work.begin("B")
    work.end(outer)
    work.end(outer)
    work.end(inner)
    assert work.left() is None


@given(seed=st.integers(0, 10**6))
def test_it_is_never_negative_and_counts_down_as_time_goes_by_while_nothing_ends(seed: int) -> None:
    draw = random.Random(seed)
    plan = TrainingPlan(30, test_freq=7, save_freq=5) if draw.random() < 0.5 else None
    work = Work(plan)
    work.do("PRE-TRAINING VALIDATION", draw.uniform(50, 150))
    training = work.loop(30)
    for number in range(1, 31):
        names = ["TRAINING STEP"] + ["PERIODIC VALIDATION"] * (number % 7 == 0) + ["CHECKPOINT SAVING"] * (number % 5 == 0)
        for name in names:
            running = work.begin(name, training, is_unit=name == "TRAINING STEP")
            before: float | None = None
            passed = 0.0
            for _ in range(4):
                told = work.left()
                if told is not None:
                    assert told >= 0
                    assert before is None or before - passed - 1e-6 <= told <= before + 1e-6
                before, passed = told, draw.expovariate(1 / 20)
                work.now += passed
            work.end(running)
