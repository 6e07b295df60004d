"""Durations of earlier runs, as what a new one expects."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phasewatch
from phasewatch import PhasewatchWarning, TrainingPlan, phase
from phasewatch._history import Durations, durations_of
from phasewatch.testing import PhaseLog

PLAN = TrainingPlan(4, test_freq=2, save_freq=2)


def train(log: PhaseLog, path: Path, step: float = 10.0) -> None:
    with phasewatch.run("grpo", plan=PLAN, log=path), phase("TRAINING", total=4, unit="step") as training:
        for _ in range(4):
            with training.step():
                log.clock.advance(step)
    with phasewatch.run("grpo", log=path), phase("PRE-TRAINING VALIDATION"):
        log.clock.advance(100)


def test_a_run_expects_of_each_kind_what_an_earlier_one_took(phaselog: PhaseLog, tmp_path: Path) -> None:
    train(phaselog, tmp_path / "log")
    plan = TrainingPlan(4, val_after_train=False)
    with phasewatch.run("grpo", plan=plan, history=tmp_path / "log") as run:
        assert run.eta == pytest.approx(140)
        with phase("PRE-TRAINING VALIDATION"):
            phaselog.clock.advance(30)
            assert run.eta == pytest.approx(110)
    with phasewatch.run("grpo", plan=plan) as run:
        assert run.eta is None, "without a history nothing is known"


def test_a_history_that_cannot_be_read_is_warned_of_and_left_out(phaselog: PhaseLog, tmp_path: Path) -> None:
    with (
        pytest.warns(PhasewatchWarning, match=r"history=.*missing.* cannot be read, and is left out"),
        phasewatch.run("r", history=tmp_path / "missing") as run,
    ):
        assert run.eta is None


def test_a_history_that_is_no_path_is_an_error() -> None:
    with pytest.raises(TypeError, match="history=7 must be the path of a file"):
        phasewatch.run("r", history=7)  # type: ignore[arg-type]


def test_phases_that_did_not_complete_tell_nothing(phaselog: PhaseLog, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"), phasewatch.run("r", log=tmp_path / "log"):
        with phase("A"):
            phaselog.clock.advance(5)
        with phase("B"):
            raise OSError("gone")
    assert durations_of(tmp_path / "log") == {"A": (5.0, 1, 0.0)}


@given(st.lists(st.floats(0, 1e4), min_size=3, max_size=30))
def test_the_first_of_several_is_left_out(seconds: list[float]) -> None:
    durations = Durations()
    for one in seconds:
        durations.add(one)
    mean, count, deviation = durations.figures
    assert count == len(seconds) - 1
    assert mean == pytest.approx(statistics.fmean(seconds[1:]), abs=1e-6)
    assert deviation == pytest.approx(statistics.stdev(seconds[1:]) if count > 1 else 0.0, abs=1e-4)


def test_of_two_both_count() -> None:
    durations = Durations()
    durations.add(10)
    durations.add(20)
    mean, count, _ = durations.figures
    assert (mean, count) == (15, 2)
