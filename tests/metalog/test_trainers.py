"""What trainers print themselves, to phases."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch import MetricsLogged, PhaseEnded, PhaseProgressed, PhaseStarted
from phasewatch.events import Event
from phasewatch.metalog.parse import Parser


def parsed(text: str) -> list[Event]:
    parser = Parser()
    return parser.feed(text.encode()) + parser.close()


def ends(text: str) -> list[tuple[str, float]]:
    """Names and seconds of what ended, the run left out."""
    return [(e.name, e.elapsed) for e in parsed(text) if isinstance(e, PhaseEnded) and e.path]


PREFIX = "\x1b[36m(TaskRunner pid=9)\x1b[0m "


# verl.


def test_a_line_of_verl_is_a_step_with_its_metrics() -> None:
    (end,) = [
        event
        for event in parsed(f"{PREFIX}step:12 - actor/loss:np.float64(0.7) - lr:1e-06 - x:nan - timing_s/step:98.7\n")
        if isinstance(event, PhaseEnded)
    ]
    assert (end.path, end.status, end.elapsed) == (("TRAINING", "TRAINING STEP"), "completed", 98.7)
    assert end.phase.position is not None
    assert end.phase.position.number == 12
    assert {name: value for name, value in end.metrics.items() if name != "x"} == {
        "actor/loss": 0.7, "lr": 1e-6, "timing_s/step": 98.7,
    }  # fmt: skip
    assert math.isnan(end.metrics["x"])


def test_validation_inside_the_step_of_an_old_version_is_taken_out_of_it() -> None:
    # A timer is noted when its block is left, so what was inside the step stands before it.
    old = "step:1 - timing_s/gen:20.0 - timing_s/testing:20.0 - timing_s/save_checkpoint:5.0 - timing_s/step:60.0\n"
    assert ends(old) == [("TRAINING STEP", 35.0), ("PERIODIC VALIDATION", 20.0), ("CHECKPOINT SAVING", 5.0)]


def test_validation_beside_the_step_of_a_new_version_is_not_taken_out_of_it() -> None:
    new = "step:1 - timing_s/gen:20.0 - timing_s/save_checkpoint:5.0 - timing_s/step:60.0 - timing_s/testing:20.0\n"
    assert ends(new) == [("TRAINING STEP", 55.0), ("CHECKPOINT SAVING", 5.0), ("PERIODIC VALIDATION", 20.0)]


def test_a_first_validation_has_no_time() -> None:
    text = "step:0 - val-core/gsm8k/acc/mean@1:0.508 - val-aux/score:0.5\nstep:1 - a:1.0 - timing_s/step:3.0\n"
    assert ends(text) == [("PRE-TRAINING VALIDATION", 0.0), ("TRAINING STEP", 3.0)]


@pytest.mark.parametrize(
    "line",
    [
        "global_step:12 - timing_s/step:99.0",
        "timing_s/step:12 - foo:3.0",
        "at step:12 - foo:3.0",
        "step: 12 - foo:3.0",
        "step:12 of the plan",
        "step:12 - no figures",
    ],
)
def test_a_metric_that_is_called_step_is_no_step(line: str) -> None:
    assert parsed(line + "\n") == []


def test_a_metric_whose_name_holds_that_of_the_step_time_is_not_it() -> None:
    text = "step:1 - foo/timing_s/step:99.0 - global_step:1.0 - timing_s/step:3.0 - timing_s/step:x:7.0\n"
    assert ends(text) == [("TRAINING STEP", 3.0)]


def test_the_bar_of_verl_tells_how_many_steps_there_are() -> None:
    text = f"{PREFIX}Training Progress:   0%|          | 0/2 [00:00<?, ?it/s]\n"
    text += "".join(f"{PREFIX}step:{n} - a:1.0 - timing_s/step:50.0\n" for n in (1, 2))
    events = parsed(text)
    (training,) = [e for e in events if isinstance(e, PhaseStarted) and e.name == "TRAINING"]
    assert training.phase.total == 2
    assert [(e.name, e.status, e.elapsed) for e in events if isinstance(e, PhaseEnded)][-2:] == [
        ("TRAINING", "completed", 100.0), ("run", "completed", 100.0),
    ]  # fmt: skip


def test_times_of_lines_place_the_steps_before_them() -> None:
    line = "2026-01-01T12:{:02}:00Z step:{} - a:1.0 - timing_s/step:50.0\n"
    events = parsed(line.format(1, 1) + line.format(2, 2))
    steps = [e for e in events if e.name == "TRAINING STEP"]
    since = steps[0].time
    assert [round(e.time - since) for e in steps] == [0, 50, 60, 110]


# The Trainer of transformers.

LOG = """\
  0%|          | 0/4 [00:00<?, ?it/s]\r 25%|##5       | 1/4 [00:01<00:03,  1.00s/it]\r{'loss': '0.5', 'epoch': '0.25'}
\r 50%|#####     | 2/4 [00:03<00:03,  1.50s/it]\r{'loss': 0.4, 'grad_norm': nan, 'learning_rate': 1e-05, 'epoch': 0.5}
  0%|          | 0/7 [00:00<?, ?it/s]\r100%|###| 7/7 [00:00<00:00]\r{'eval_loss': 0.3, 'eval_runtime': 1.5, 'epoch': 0.5}
Saving model checkpoint to /tmp/out/checkpoint-2
100%|##########| 4/4 [00:06<00:00,  1.50s/it]
{'loss': 0.3, 'epoch': 1.0}
{'train_runtime': 6.5, 'train_loss': 0.4, 'epoch': 1.0}
{'eval_loss': 0.2, 'eval_runtime': 1.0, 'epoch': 1.0}
"""


def test_the_dictionaries_of_the_trainer_are_steps_and_validations() -> None:
    assert ends(LOG) == [
        ("TRAINING STEP", 1.0),
        ("TRAINING STEP", 2.0),
        ("PERIODIC VALIDATION", 1.5),
        ("CHECKPOINT SAVING", 0.0),
        ("TRAINING", 6.5),
        ("POST-TRAINING VALIDATION", 1.0),
    ]


def test_figures_are_understood_as_numbers_and_as_texts() -> None:
    steps = [e for e in parsed(LOG) if isinstance(e, PhaseEnded) and e.name == "TRAINING STEP"]
    assert steps[0].metrics == {"loss": 0.5, "epoch": 0.25}
    assert steps[1].metrics["learning_rate"] == 1e-5


def test_steps_that_were_not_logged_one_by_one_are_progress() -> None:
    events = parsed(LOG)
    last = [e for e in events if isinstance(e, PhaseProgressed)][-1]
    assert (last.name, last.done, last.total, last.elapsed, last.eta) == ("TRAINING", 4, 4, 6.0, 0.0)
    (metrics,) = [e for e in events if isinstance(e, MetricsLogged)]
    assert metrics.values == {"loss": 0.3, "epoch": 1.0}


def test_an_evaluation_before_the_first_step_is_the_one_before_training() -> None:
    text = "{'eval_loss': 0.3, 'eval_runtime': 1.5, 'epoch': 0}\n{'loss': 0.4, 'epoch': 0.5}\n"
    assert ends(text) == [("PRE-TRAINING VALIDATION", 1.5), ("TRAINING STEP", 0.0)]


def test_a_bar_alone_is_no_phase() -> None:
    assert parsed("Loading shards:  50%|#####     | 1/2 [00:01<00:01,  1.0s/it]\n 50%|#####     | 1/2 [00:01<00:01]\n") == []


def test_once_there_are_banners_they_alone_count() -> None:
    text = "🚀 [META] PHASE: TRAINING START\nstep:1 - a:1.0 - timing_s/step:50.0\n{'loss': 0.4, 'epoch': 0.5}\n"
    assert [e.name for e in parsed(text) if e.path] == ["TRAINING"]


PIECES = st.sampled_from(
    [
        "step:",
        "1",
        " - ",
        "timing_s/step:",
        "9" * 400,
        "{'",
        "'epoch': ",
        "loss': ",
        "}",
        "nan",
        "%|",
        "| 1/2 [",
        "00:01<",
        "\r",
        "\n",
    ]
)


@given(st.lists(PIECES | st.text(max_size=3)))
def test_lines_of_any_kind_are_no_error(pieces: list[str]) -> None:
    for event in parsed("".join(pieces)):
        assert not isinstance(event, PhaseEnded) or event.elapsed >= 0
