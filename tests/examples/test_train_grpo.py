"""The main job: a real training run that announces all its phases."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import train_grpo
from train_grpo import Config, Trainer, main, train

from phasewatch import PhaseEnded
from phasewatch.testing import PhaseLog

EXAMPLE = Path(train_grpo.__file__)

# Small enough for a second, large enough to have every phase.
SMALL = [
    "trainer.total_training_steps=6", "trainer.test_freq=2", "trainer.save_freq=3", "trainer.total_epochs=2",
    "data.train_questions=96", "data.train_batch_size=32", "data.val_questions=100", "data.val_batch_size=30",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def output(*overrides: str, env: dict[str, str] | None = None) -> str:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})}
    done = subprocess.run([sys.executable, str(EXAMPLE), *overrides], capture_output=True, check=True, env=environment)
    assert done.stderr == b""
    return done.stdout.decode()


def found(pattern: str, text: str) -> list[str]:
    """What grep finds."""
    return subprocess.run(
        ["grep", pattern], input=text, capture_output=True, encoding="utf-8", env={"LC_ALL": "C.UTF-8"}, check=False
    ).stdout.splitlines()


def rewards(text: str) -> list[float]:
    """The mean reward at the end of each validation."""
    return [float(reward) for reward in re.findall(r"\(100\.0%\) \| Questions: \S+ \| Avg Reward: (\S+)", text)]


def phases(log: PhaseLog) -> list[str]:
    return [event.name for event in log.events if event.type == "start"]


def test_a_run_has_the_phases_that_its_plan_calls_for(phaselog: PhaseLog) -> None:
    assert main(SMALL) == 0
    step = ["TRAINING STEP"]
    periodic = ["PERIODIC VALIDATION", "VALIDATION"]
    save = ["CHECKPOINT SAVING"]
    assert phases(phaselog) == [
        "grpo", "INITIALIZATION", "PRE-TRAINING VALIDATION", "VALIDATION", "TRAINING",
        *step, *step, *periodic, *step, *save, *step, *periodic, *step, *step, *save,
        "POST-TRAINING VALIDATION", "VALIDATION",
    ]  # fmt: skip
    ends = [event for event in phaselog.events if isinstance(event, PhaseEnded)]
    assert {end.status for end in ends} == {"completed"}
    assert [end.counters["questions"] for end in ends if end.name == "VALIDATION"] == [100] * 4
    assert next(end.done for end in ends if end.name == "TRAINING") == 6
    assert "[Epoch 2/2] Step 4/6 (66.7%)" in phaselog.text


def test_each_search_of_the_specification_finds_what_it_says() -> None:
    text = output(*SMALL)
    assert len(found(r"\[META\]", text)) == 1 + 1 + 2 * 4 + 2 + 6 + 2 + 2 * 2 + 1 + 1
    validations = found(r"\[META\] PHASE.*VALIDATION", text)
    assert [line.split("PHASE")[1] for line in validations if "COMPLETE" not in line] == [
        ": PRE-TRAINING VALIDATION", ": VALIDATION",
        ": PERIODIC VALIDATION (Step 2)", ": VALIDATION", ": PERIODIC VALIDATION (Step 4)", ": VALIDATION",
        ": POST-TRAINING VALIDATION", ": VALIDATION",
    ]  # fmt: skip
    assert found(r"\[META\] PHASE: TRAINING STEP", text) == ["🔄 [META] PHASE: TRAINING STEP"] * 6
    saves = ["💾 [META] PHASE: CHECKPOINT SAVING (Step 3)", "✅ [META] CHECKPOINT SAVED SUCCESSFULLY"]
    assert found("CHECKPOINT", text) == [*saves, saves[0].replace("3", "6"), saves[1]]
    assert found("COMPLETE", text) == [
        *["✅ [META] PHASE COMPLETE: VALIDATION"] * 3,
        "🎉 [META] PHASE: TRAINING COMPLETE",
        "✅ [META] PHASE COMPLETE: VALIDATION",
        "🏁 [META] ALL PHASES COMPLETE - Training Finished Successfully!",
    ]


def test_the_trainers_own_lines_stand_among_ours() -> None:
    text = output(*SMALL)
    assert len(re.findall(r"^ACTIVE_TRAJ_NUM: \[256, \d+, \d+, \d+\]$", text, re.MULTILINE)) == 6
    assert re.findall(r"^\[Step (\d)\] mean=\d\.\d+ kl=\S+ loss=\S+ finish_ratio=\S+$", text, re.MULTILINE) == list("123456")
    step = text[text.index("Step 2/6") : text.index("PERIODIC VALIDATION (Step 2)")]
    assert step.index("=\n\nACTIVE_TRAJ_NUM") < step.index("[Step 2]") < step.index("📊 Metrics: finish_ratio=")


def test_validation_only_ends_after_the_first_validation() -> None:
    text = output(*SMALL, "trainer.val_only=true")
    titles = [line.split("[META] ")[1] for line in found(r"\[META\]", text)]
    assert titles == [
        "PHASE: INITIALIZATION - Creating Resource Pools and Workers", "PHASE: PRE-TRAINING VALIDATION", "PHASE: VALIDATION",
        "PHASE COMPLETE: VALIDATION", "PHASE: COMPLETE - Validation Only Mode",
    ]  # fmt: skip


def test_validation_only_without_the_first_validation_trains_as_verl_does(phaselog: PhaseLog) -> None:
    assert main([*SMALL, "trainer.val_only=true", "trainer.val_before_train=false"]) == 0
    assert phases(phaselog).count("TRAINING STEP") == 6
    assert "ALL PHASES COMPLETE" in phaselog.text


def test_a_resumed_run_goes_on_exactly_where_it_was(phaselog: PhaseLog) -> None:
    whole = train(Config.from_overrides(SMALL))
    resumed = train(Config.from_overrides([*SMALL, "trainer.resume_from_path=checkpoints/global_step_3.npz"]))
    assert resumed.global_step == whole.global_step == 6
    for name, value in whole.state().items():
        np.testing.assert_array_equal(resumed.state()[name], value)
    assert "Step 4/6 (66.7%) | Elapsed: 0s | ETA: --" in phaselog.text.split("TRAINING START")[2]


def test_what_is_watched_trains_exactly_as_what_is_not() -> None:
    def trained(env: dict[str, str]) -> dict[str, Any]:
        text = output(*SMALL, env=env)
        with np.load("checkpoints/global_step_6.npz") as saved:
            return {
                "lines": re.findall(r"^(?:ACTIVE|\[Step).*", text, re.MULTILINE),
                **{name: saved[name] for name in saved},
            }

    watched, unwatched = trained({}), trained({"PHASEWATCH_DISABLE": "1"})
    assert watched.keys() == unwatched.keys()
    for name, value in watched.items():
        np.testing.assert_array_equal(value, unwatched[name])


def test_the_gradient_is_that_of_the_probabilities() -> None:
    trainer = Trainer(Config.from_overrides(SMALL))
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4, trainer.policy.weights["w1"].shape[0]))
    action = np.array([0, 5, 9, 20])
    log_probs, hidden = trainer.policy.forward(features)
    by_logits = np.eye(train_grpo.ACTIONS)[action] - np.exp(log_probs)
    gradient = trainer.policy.backward(features, hidden, by_logits)
    for name, weights in trainer.policy.weights.items():
        spot = tuple(size // 2 for size in weights.shape)
        sums = []
        for shift in (1e-5, -2e-5):
            weights[spot] += shift
            sums.append(trainer.policy.forward(features)[0][np.arange(4), action].sum())
        assert gradient[name][spot] == pytest.approx((sums[0] - sums[1]) / 2e-5, rel=1e-4, abs=1e-8)
        weights[spot] += 1e-5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "trainer.test_frq=5",
            "unknown override 'trainer.test_frq=5' (did you mean trainer.test_freq?); known keys: trainer.",
        ),
        ("nonsense", "unknown override 'nonsense'; known keys:"),
        ("trainer.test_freq", "has no value; write trainer.test_freq=VALUE"),
        ("trainer.test_freq=often", "trainer.test_freq='often' must be a whole number"),
        ("trainer.val_only=perhaps", "trainer.val_only='perhaps' must be true or false"),
        ("data.val_batch_size=0", "data.val_batch_size='0' must be at least 1"),
        ("trainer.resume_from_path=nowhere.npz", "cannot read 'nowhere.npz'"),
        ("trainer.total_training_steps=7", "is more than the 6 steps of trainer.total_epochs=2"),
    ],
)
def test_an_override_that_cannot_be_followed_is_one_clear_line(
    override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, override]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_more_steps_need_no_word_on_epochs(phaselog: PhaseLog) -> None:
    config = Config.from_overrides(["trainer.total_training_steps=200"])
    assert (config.total_epochs, config.steps_per_epoch) == (6, 34)


def test_a_saved_file_of_another_run_is_refused(phaselog: PhaseLog, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    assert main([*SMALL, "trainer.resume_from_path=checkpoints/global_step_3.npz", "trainer.seed=1"]) == 2
    assert "the saved run has trainer.seed=0, this one 1" in capsys.readouterr().err
    assert "RUN FAILED - in INITIALIZATION" in phaselog.text


def test_help_names_every_override(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(key in printed for key in Config().as_mapping())


def test_ctrl_c_is_told_as_an_interruption_and_keeps_its_exit_code() -> None:
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE), "trainer.total_training_steps=2000", "trainer.test_freq=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert process.stdout
    for line in process.stdout:
        if "Step 2/2000" in line:
            process.send_signal(signal.SIGINT)
            break
    rest, errors = process.communicate()
    assert process.returncode == 130
    assert errors == ""
    assert len(found(r"\[META\] PHASE INTERRUPTED: ", rest)) == 1
    assert "🛑 [META] RUN INTERRUPTED - in TRAINING" in rest
    assert "COMPLETE" not in rest


# The default configuration, which takes some ten seconds a run


@pytest.mark.trainers
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_agent_learns(seed: int) -> None:
    before, between, after = rewards(output(f"trainer.seed={seed}"))
    assert before < 0.2
    assert between > 0.5
    assert after > 0.8


@pytest.mark.trainers
def test_all_nine_phases_occur_by_default() -> None:
    text = output()
    titles = """
        🔧 [META] PHASE: INITIALIZATION - Creating Resource Pools and Workers
        🧪 [META] PHASE: PRE-TRAINING VALIDATION
        🚀 [META] PHASE: TRAINING START
        🔄 [META] PHASE: TRAINING STEP
        🧪 [META] PHASE: PERIODIC VALIDATION (Step 50)
        💾 [META] PHASE: CHECKPOINT SAVING (Step 100)
        🎉 [META] PHASE: TRAINING COMPLETE
        🧪 [META] PHASE: POST-TRAINING VALIDATION
        🏁 [META] ALL PHASES COMPLETE - Training Finished Successfully!
    """
    for title in filter(None, map(str.strip, titles.splitlines())):
        assert f"\n{'=' * 80}\n{title}\n" in text
    assert len(found(r"\[META\] PHASE: TRAINING STEP", text)) == 100
    assert len(found("CHECKPOINT", text)) == 2
    assert "\nTotal batches: 28 | Total questions: 7405 | Batch size: 265\n" in text
    assert "\nTotal epochs: 3 | Total steps: 100\n" in text
