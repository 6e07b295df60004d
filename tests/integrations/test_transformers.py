"""The Trainer of transformers, and TRL's: what is told, held against what the trainer itself reports."""

from __future__ import annotations

import copy
import importlib
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

import phasewatch
from phasewatch.sinks import ConsoleSink

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from phasewatch.testing import PhaseLog

PROGRAMS = Path(__file__).parent / "programs"
RULE = "=" * 80
VALIDATIONS = ("PRE-TRAINING VALIDATION", "PERIODIC VALIDATION", "POST-TRAINING VALIDATION")


class Done:
    """What a program did."""

    def __init__(self, folder: Path, program: str, *arguments: str) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PHASEWATCH_", "COV"))}
        environment |= {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
        folder.mkdir()
        self.folder = folder
        done = subprocess.run(
            [sys.executable, PROGRAMS / program, folder, *arguments],
            cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False,
        )  # fmt: skip
        self.status, self.text, self.errors = done.returncode, done.stdout, done.stderr
        facts = folder / "facts.json"
        self.facts: Any = json.loads(facts.read_text(encoding="utf-8")) if facts.exists() else {}

    def runs(self, name: str = "log") -> list[Any]:
        """The runs of an event log, each the root of a tree."""
        return list(phasewatch.Timeline.from_events(phasewatch.read(self.folder / f"{name}.jsonl")).roots)

    def run(self, name: str = "log") -> Any:
        (run,) = self.runs(name)
        return run

    def told(self, name: str) -> str:
        """The text of an event log."""
        out = io.StringIO()
        sink = ConsoleSink(Console(file=out), mode="plain")
        for event in phasewatch.read(self.folder / f"{name}.jsonl"):
            sink.emit(event)
        return out.getvalue()


def all_of(root: Any, *names: str) -> list[Any]:
    found = [root] if root.name in names else []
    return found + [node for child in root.children for node in all_of(child, *names)]


def outline(root: Any) -> list[str]:
    """The phases right below a run, and those of the training with their steps."""
    return [
        f"{node.name} {node.step}" if node.step is not None and node.name != "VALIDATION" else node.name
        for child in root.children
        for node in (child, *(child.children if child.name == "TRAINING" else ()))
    ]


def titles(text: str) -> list[str]:
    return re.findall(r"^\S+ \[META\] (.*)$", text, re.MULTILINE)


def losses(history: list[dict[str, Any]]) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in history if "loss" in entry}


def evaluations(history: list[dict[str, Any]], metric: str = "eval_loss") -> list[tuple[int, float]]:
    return [(entry["step"], entry[metric]) for entry in history if metric in entry]


def without_times(history: Any) -> Any:
    ours = re.compile("runtime|per_second|preparation_time|step_time")
    return [{key: value for key, value in entry.items() if not ours.search(key)} for entry in history]


def saved_files(folder: Path) -> dict[str, Any]:
    """What is saved: bytes, and of the state of the trainer all but how long it took."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "trainer_state.json":
            state = json.loads(path.read_text(encoding="utf-8"))
            found[str(path.relative_to(folder))] = {**state, "log_history": without_times(state["log_history"])}
        elif path.is_file() and path.name != "README.md":  # whose tags are in the order of their hashes
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return Done(tmp_path_factory.mktemp("whole") / "with", "transformers_whole.py", "with")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return Done(tmp_path_factory.mktemp("whole") / "without", "transformers_whole.py", "without")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Done:
    done = Done(tmp_path_factory.mktemp("many") / "many", "transformers_many.py")
    assert done.status == 0, done.errors
    return done


@pytest.fixture(scope="module")
def trl(tmp_path_factory: pytest.TempPathFactory) -> Done:
    done = Done(tmp_path_factory.mktemp("trl") / "with", "trl_whole.py", "with")
    assert done.status == 0, done.errors
    return done


# Without transformers.


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "phasewatch.integrations.transformers", raising=False)
    with pytest.raises(ImportError, match=r"pip install phasewatch\[transformers\]"):
        importlib.import_module("phasewatch.integrations.transformers")


class StandIn:
    """A trainer without a model, which calls and tells what one of transformers does."""

    fails_in = ""

    def __init__(self, *callbacks: Any) -> None:
        self.args = SimpleNamespace(
            eval_strategy="no", save_strategy="no", eval_on_start=False, eval_delay=0, gradient_accumulation_steps=1,
            num_train_epochs=1, max_steps=2, eval_batch_size=4, world_size=1, output_dir="out",
        )  # fmt: skip
        self.control = SimpleNamespace(should_log=False)
        self.callback_handler = SimpleNamespace(callbacks=list(callbacks))
        self.state: Any = None
        self.add_callback(object())  # as the real one does with its bar

    def add_callback(self, callback: Any) -> None:
        self.callback_handler.callbacks.append(callback)

    def tell(self, event: str, **more: Any) -> None:
        for callback in self.callback_handler.callbacks:
            getattr(callback, event, lambda *_, **__: None)(self.args, self.state, self.control, **more)

    def train(self, trial: Any = None) -> None:
        options: dict[str, Any] = {"max_steps": 2, "num_train_epochs": 1, "eval_steps": None, "save_steps": None}
        self.state = SimpleNamespace(global_step=0, epoch=0, log_history=[], **options)
        self.tell("on_train_begin", train_dataloader=range(2))
        if self.args.eval_on_start:
            self.evaluate()
        self.tell("on_epoch_begin")
        for _ in range(2):
            self.tell("on_step_begin")
            self.state.global_step += 1
            self.tell("on_step_end")
        self._save_checkpoint(None, trial)
        self.tell("on_epoch_end")
        self.tell("on_train_end")

    def evaluate(self) -> None:
        self.evaluation_loop(range(2), "Evaluation", metric_key_prefix="eval")

    def predict(self) -> None:
        self.evaluation_loop(range(2), "Prediction", metric_key_prefix="test")

    def evaluation_loop(self, dataloader: Any, description: str, metric_key_prefix: str = "eval") -> None:
        for _ in dataloader:
            self.tell("on_prediction_step")
        if self.fails_in == "evaluate":
            raise ValueError("no such label")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.fails_in == "save":
            raise OSError("no room")


@pytest.fixture
def integration(mocker: MockerFixture) -> Any:
    """The integration, over a framework of which there is a trainer that has nothing to do."""
    framework: Any = ModuleType("transformers")
    parts: Any = ModuleType("transformers.trainer_callback")
    framework.Trainer = type("Trainer", (StandIn,), {"add_callback": StandIn.add_callback})
    names = ("PrinterCallback", "TrainerCallback", "ProgressCallback", "TrainerControl", "DefaultFlowCallback")
    for name in names:
        setattr(framework, name, type(name, (), {}))
        setattr(parts, name, getattr(framework, name))
    never = SimpleNamespace(should_evaluate=False, should_save=False)
    parts.DefaultFlowCallback.on_step_end = lambda *_: never
    mocker.patch.dict(sys.modules, {"transformers": framework, "transformers.trainer_callback": parts})
    mocker.patch("atexit.register")
    sys.modules.pop("phasewatch.integrations.transformers", None)
    return importlib.import_module("phasewatch.integrations.transformers")


def told_of(phaselog: PhaseLog) -> list[tuple[str, str]]:
    return [(event.phase.name, event.status) for event in phaselog.events if isinstance(event, phasewatch.PhaseEnded)]


def test_an_evaluation_alone_that_fails_is_a_run_that_failed(integration: Any, phaselog: PhaseLog) -> None:
    trainer = integration.Trainer(integration.PhasewatchCallback())
    trainer.fails_in = "evaluate"
    with pytest.raises(ValueError, match="no such label"):
        trainer.evaluate()
    names = ["VALIDATION", "PRE-TRAINING VALIDATION", "train"]
    assert told_of(phaselog) == [(name, "failed") for name in names]
    assert phasewatch.current() is None


def test_a_save_that_fails_is_told_as_such(integration: Any, phaselog: PhaseLog) -> None:
    trainer = integration.Trainer(integration.PhasewatchCallback())
    trainer.fails_in = "save"
    with pytest.raises(OSError, match="no room"):
        trainer.train()
    assert told_of(phaselog)[-3:] == [(name, "failed") for name in ("CHECKPOINT SAVING", "TRAINING", "train")]
    assert titles(phaselog.text)[-1] == "RUN FAILED - in TRAINING > CHECKPOINT SAVING"


def test_what_a_program_dies_of_before_the_training_is_told_where_the_run_began_early(
    integration: Any, phaselog: PhaseLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = integration.PhasewatchCallback(early=True)
    monkeypatch.setattr(sys, "last_value", MemoryError("the model is too large"), raising=False)
    integration._end_at_exit()
    assert told_of(phaselog) == [("INITIALIZATION", "failed"), ("train", "failed")]
    callback.close()  # there is nothing left to end


def test_a_save_of_a_trial_of_a_search_has_a_path_only_the_trainer_knows(integration: Any, phaselog: PhaseLog) -> None:
    trainer = integration.Trainer(integration.PhasewatchCallback(wait=False))
    for trial in (None, {"learning_rate": 0.1}):
        trainer.train(trial)
    roots = phasewatch.Timeline.from_events(phaselog.events).roots
    paths = [node.phase.attributes.get("path") for root in roots for node in all_of(root, "CHECKPOINT SAVING")]
    assert paths == [os.path.join("out", "checkpoint-2"), None]


def test_a_second_training_validates_before_it_as_the_first_one_does(integration: Any, phaselog: PhaseLog) -> None:
    callback = integration.PhasewatchCallback(wait=True)
    trainer = integration.Trainer(callback)
    trainer.args.eval_on_start = True
    for _ in range(2):
        trainer.train()
        trainer.evaluate()
    callback.close()
    names = [name for name, _ in told_of(phaselog) if name in VALIDATIONS]
    assert names == ["PRE-TRAINING VALIDATION", "POST-TRAINING VALIDATION"] * 2


def test_what_is_evaluated_after_a_training_that_failed_comes_after_it(integration: Any, phaselog: PhaseLog) -> None:
    trainer = integration.Trainer(integration.PhasewatchCallback())
    trainer.fails_in = "save"
    with phasewatch.phase("EXPERIMENT"):
        with pytest.raises(OSError, match="no room"):
            trainer.train()
        trainer.evaluate()
    assert told_of(phaselog)[-2:] == [("POST-TRAINING VALIDATION", "completed"), ("EXPERIMENT", "completed")]


def test_a_callback_more_changes_nothing_of_what_is_told(integration: Any, phaselog: PhaseLog) -> None:
    trainer = integration.Trainer(integration.PhasewatchCallback(wait=False), integration.PhasewatchCallback(wait=False))
    trainer.add_callback(object())
    trainer.train()
    names = ["INITIALIZATION", "TRAINING STEP", "TRAINING STEP", "CHECKPOINT SAVING", "TRAINING", "train"]
    assert told_of(phaselog) == [(name, "completed") for name in names]
    assert phasewatch.current() is None


def test_a_copy_of_a_callback_is_asked_for_the_same(integration: Any) -> None:
    options = {"name": "mine", "log": "a", "history": "b", "progress": False, "parts": True, "wait": False}
    copied = copy.copy(integration.PhasewatchCallback(**options))
    assert {name: getattr(copied, name) for name in options} == options
    assert not copied.early, "the run that began early goes on where it began"


def test_parts_of_trl_that_have_moved_cost_one_warning_and_only_these(
    integration: Any, phaselog: PhaseLog, mocker: MockerFixture
) -> None:
    mocker.patch.dict(sys.modules, {"trl.extras.profiling": ModuleType("trl.extras.profiling")})
    kind = type("GRPOTrainer", (integration.Trainer,), {"__module__": "trl.trainer"})
    with pytest.warns(phasewatch.PhasewatchWarning, match="no ProfilingContext.*They are not told"):
        trainer = kind(integration.PhasewatchCallback(wait=False))
    trainer.train()
    assert ("TRAINING", "completed") in told_of(phaselog)


# A whole program.


@pytest.mark.trainers
def test_the_text_has_the_flow_of_the_meta_log(whole: Done) -> None:
    validation = ["PHASE: VALIDATION", "PHASE COMPLETE: VALIDATION"]
    steps = []
    for number in range(1, 11):
        steps.append("PHASE: TRAINING STEP")
        if number % 3 == 0 or number == 10:
            steps += [f"PHASE: PERIODIC VALIDATION (Step {number})", *validation]
        if number % 4 == 0 or number == 10:
            steps += [f"PHASE: CHECKPOINT SAVING (Step {number})", "CHECKPOINT SAVED SUCCESSFULLY"]
    assert titles(whole.text) == [
        "PHASE: INITIALIZATION - Preparing Data, Model and Optimizer",
        *["PHASE: PRE-TRAINING VALIDATION", *validation],
        *["PHASE: TRAINING START", *steps, "PHASE: TRAINING COMPLETE"],
        *["PHASE: POST-TRAINING VALIDATION", *validation],
        *["PHASE: PREDICTION", "PHASE COMPLETE: PREDICTION"],
        "ALL PHASES COMPLETE - Training Finished Successfully!",
    ]
    assert f"PHASE: TRAINING START\n{RULE}\nTotal epochs: 2 | Total steps: 10\n{RULE}" in whole.text
    assert "Total batches: 3 | Total samples: 10 | Batch size: 4" in whole.text
    assert "📊 Validation [3/3] (100.0%) | Samples: 10/10 | " in whole.text
    assert "[Epoch 2/2] Step 6/10 (60.0%) | " in whole.text
    assert "warning" not in whole.errors.lower()


@pytest.mark.trainers
def test_steps_are_those_of_the_optimizer_with_the_trainers_own_figures(whole: Done) -> None:
    history, run = whole.facts["history"], whole.run()
    steps = all_of(run, "TRAINING STEP")
    assert [node.step for node in steps] == list(range(1, whole.facts["steps"] + 1))
    assert {node.step: node.metrics["loss"] for node in steps} == losses(history)
    epochs = {entry["step"]: entry["epoch"] for entry in history if "loss" in entry}
    for node in steps:
        assert node.metrics["learning_rate"] >= 0
        assert node.phase.position.epoch == math.ceil(epochs[node.step])
        assert node.phase.position.epochs == 2
    (training,) = all_of(run, "TRAINING")
    assert (training.done, training.total) == (whole.facts["steps"], whole.facts["max_steps"])
    assert training.metrics["train_loss"].hex() == whole.facts["loss"]


@pytest.mark.trainers
def test_validations_are_those_that_the_trainer_logged(whole: Done) -> None:
    run = whole.run()
    nodes = all_of(run, *VALIDATIONS)
    assert [node.metrics["eval_loss"] for node in nodes] == [loss for _, loss in evaluations(whole.facts["history"])]
    assert [node.step for node in nodes] == [None, 3, 6, 9, 10, None]
    for node in nodes:
        (validation,) = node.children
        assert (validation.name, validation.done, validation.total) == ("VALIDATION", 3, 3)
        assert validation.counters == {"samples": 10}
        assert node.duration >= validation.duration > 0
    assert nodes[-1].metrics["eval_loss"] == whole.facts["evaluated"]["eval_loss"]
    (prediction,) = all_of(run, "PREDICTION")
    assert prediction.counters == {"samples": whole.facts["predicted"]}


@pytest.mark.trainers
def test_saves_are_those_on_the_disk(whole: Done) -> None:
    saves = all_of(whole.run(), "CHECKPOINT SAVING")
    on_disk = sorted(int(path.name.removeprefix("checkpoint-")) for path in (whole.folder / "out").iterdir())
    assert [node.step for node in saves] == on_disk == [4, 8, 10]
    for node in saves:
        assert (whole.folder / node.phase.attributes["path"] / "trainer_state.json").is_file()
        assert node.duration > 0


@pytest.mark.trainers
def test_the_bars_of_the_trainer_stay(whole: Done) -> None:
    assert whole.facts["callbacks"] == ["DefaultFlowCallback", "PhasewatchCallback", "ProgressCallback"]
    assert "10/10" in whole.errors


@pytest.mark.trainers
def test_losses_and_checkpoints_are_the_same_without(whole: Done, bare: Done) -> None:
    assert (whole.status, bare.status) == (0, 0)
    assert whole.facts["loss"] == bare.facts["loss"]
    assert without_times(whole.facts["history"]) == without_times(bare.facts["history"])
    files = saved_files(whole.folder / "out")
    assert len(files) > 20
    assert files == saved_files(bare.folder / "out")


@pytest.mark.trainers
def test_what_a_program_dies_of_after_the_training_is_told(tmp_path: Path) -> None:
    done = Done(tmp_path / "die", "transformers_whole.py", "with", "die")
    assert done.status == 1
    assert titles(done.text)[-2:] == ["PHASE: TRAINING COMPLETE", "RUN FAILED - in train"]
    assert "RuntimeError: there is no room for the model | Elapsed" in done.text
    assert done.run().status == "failed"


@pytest.mark.trainers
def test_ctrl_c_is_told_where_it_came_and_ends_the_program_as_ever(tmp_path: Path) -> None:
    done = Done(tmp_path / "interrupt", "transformers_whole.py", "with", "interrupt")
    assert done.status in (130, -2)
    assert "KeyboardInterrupt" in done.errors
    interrupted = ["PHASE INTERRUPTED: TRAINING STEP", "RUN INTERRUPTED - in TRAINING > TRAINING STEP"]
    assert titles(done.text)[-2:] == interrupted
    assert "KeyboardInterrupt | Elapsed" in done.text
    assert "Step 3/10" in done.text


# One thing each.


@pytest.mark.trainers
def test_a_resumed_training_starts_at_its_step(many: Done) -> None:
    run = many.run("resume")
    assert outline(run) == ["INITIALIZATION", "TRAINING", "TRAINING STEP 5", "TRAINING STEP 6", "CHECKPOINT SAVING 6"]
    assert [(node.phase.start, node.done, node.total) for node in all_of(run, "TRAINING")] == [(4, 6, 6)]
    assert [node.phase.position.epoch for node in all_of(run, "TRAINING STEP")] == [2, 2]
    assert "[META] PLAN" not in many.told("resume")


@pytest.mark.trainers
def test_a_training_that_was_done_already_has_no_total_to_exceed(many: Done) -> None:
    (training,) = all_of(many.run("done"), "TRAINING")
    assert (training.phase.start, training.done, training.total) == (6, many.facts["done"]["steps"], None)
    assert "past its total" not in many.errors


@pytest.mark.trainers
def test_epochs_validate_and_save_at_their_ends(many: Done) -> None:
    run, history = many.run("epochs"), many.facts["epochs"]["history"]
    validated = [node.step for node in all_of(run, "PERIODIC VALIDATION")]
    assert validated == [step for step, _ in evaluations(history)] == [4, 8, 12]
    assert [node.step for node in all_of(run, "CHECKPOINT SAVING")] == [4, 8, 12]
    assert [node.phase.position.epoch for node in all_of(run, "TRAINING STEP")] == [1] * 4 + [2] * 4 + [3] * 4
    assert {node.step: node.metrics["loss"] for node in all_of(run, "TRAINING STEP") if node.metrics} == losses(history)
    assert "[META] PLAN" not in many.told("epochs")


@pytest.mark.trainers
def test_a_stream_has_no_number_of_epochs_and_no_number_of_batches(many: Done) -> None:
    run = many.run("stream")
    (training,) = all_of(run, "TRAINING")
    assert "epochs" not in training.phase.attributes
    assert [(node.done, node.total) for node in all_of(run, "VALIDATION")] == [(10, None)] * 2
    assert "[META] PLAN" not in many.told("stream")


@pytest.mark.trainers
def test_each_of_several_sets_is_validated_by_its_name(many: Done) -> None:
    run, history = many.run("several"), many.facts["several"]["history"]
    for node, (step, loss), (_, hard) in zip(
        all_of(run, "PERIODIC VALIDATION"),
        evaluations(history, "eval_easy_loss"),
        evaluations(history, "eval_hard_loss"),
        strict=True,
    ):
        assert node.step == step
        assert (node.metrics["eval_easy_loss"], node.metrics["eval_hard_loss"]) == (loss, hard)
        assert [child.phase.details["Data"] for child in node.children] == ["easy", "hard"]
        assert [child.counters for child in node.children] == [{"samples": 5}, {"samples": 9}]


@pytest.mark.trainers
def test_a_training_that_stops_early_is_held_against_its_plan(many: Done) -> None:
    steps, text = many.facts["early_stop"]["steps"], many.told("early_stop")
    assert 0 < steps < 12
    assert f"PLAN: {steps} of 12 TRAINING STEP ran" in text
    assert titles(text)[-1] == "ALL PHASES COMPLETE - Training Finished Successfully!"


@pytest.mark.trainers
@pytest.mark.parametrize(
    ("name", "status", "failed"),
    [
        ("fails", "failed", ["TRAINING", "TRAINING STEP"]),
        ("interrupted", "interrupted", ["TRAINING", "TRAINING STEP"]),
        ("fails_in_evaluation", "failed", ["TRAINING", "PERIODIC VALIDATION", "VALIDATION"]),
    ],
)
def test_a_failure_is_told_in_its_phase_and_passed_on(many: Done, name: str, status: str, failed: list[str]) -> None:
    run, facts = many.run(name), many.facts[name]
    assert facts["is_the_same"]
    assert facts["after"], "nothing is open afterwards"
    names = {node.name for node in all_of(run, "TRAINING", "TRAINING STEP", *VALIDATIONS, "VALIDATION", "INITIALIZATION")}
    ends = [node.name for node in all_of(run, *names) if node.status == status]
    assert ends == failed
    assert titles(many.told(name))[-1] == f"RUN {status.upper()} - in {' > '.join(failed)}"
    (training,) = all_of(run, "TRAINING")
    assert training.done == facts["steps"]


@pytest.mark.trainers
def test_a_second_training_is_a_run_of_its_own_and_so_is_that_of_another_trainer(many: Done) -> None:
    first, second = many.runs("twice")
    assert outline(first) == ["INITIALIZATION", "TRAINING", "TRAINING STEP 1", "TRAINING STEP 2"]
    assert outline(second) == [*outline(first), "POST-TRAINING VALIDATION"]
    assert {first.status, second.status, many.run("other").status, many.run("closed").status} == {"completed"}
    assert many.facts["twice"]["after"]
    assert many.facts["closed"]["after"]


@pytest.mark.trainers
def test_an_evaluation_or_a_prediction_alone_is_a_run(many: Done) -> None:
    evaluated, predicted = many.runs("alone")
    assert outline(evaluated) == ["PRE-TRAINING VALIDATION"]
    assert evaluated.children[0].metrics["eval_loss"] == many.facts["alone"]["metrics"]["eval_loss"]
    assert outline(predicted) == ["PREDICTION"]
    assert predicted.children[0].counters == {"samples": many.facts["alone"]["predicted"]}
    ends = [title for title in titles(many.told("alone")) if "PHASES" in title or "PHASE: COMPLETE" in title]
    assert ends == ["PHASE: COMPLETE - Validation Only Mode", "ALL PHASES COMPLETE"]


@pytest.mark.trainers
def test_phases_hang_under_what_the_program_has_opened(many: Done) -> None:
    run = many.run("inside")
    assert (run.name, run.status) == ("mine", "completed")
    steps = ["TRAINING STEP 1", "TRAINING STEP 2"]
    inside = ["PRE-TRAINING VALIDATION", "INITIALIZATION", "TRAINING", *steps, "POST-TRAINING VALIDATION"]
    assert outline(run.children[0]) == inside


@pytest.mark.trainers
def test_a_callback_that_comes_later_is_heard_until_it_is_taken_away(many: Done) -> None:
    assert outline(many.run("later")) == ["INITIALIZATION", "TRAINING", "TRAINING STEP 1", "TRAINING STEP 2"]
    assert many.facts["later"]["other"] == [], "a trainer without the callback is left alone"


@pytest.mark.trainers
def test_an_early_run_has_the_loading_in_its_initialization(many: Done) -> None:
    run = many.run("early")
    assert outline(run) == ["INITIALIZATION", "TRAINING", "TRAINING STEP 1"]
    assert [child.name for child in run.children[0].children] == ["LOADING"]


@pytest.mark.trainers
def test_the_bars_are_taken_away_where_that_is_asked_for(many: Done) -> None:
    ours = ["DefaultFlowCallback", "PhasewatchCallback"]
    assert many.facts["progress"] == {
        "with False": [[*ours, "ProgressCallback"], True],
        "with True": [[*ours, "PrinterCallback"], False],
        "without False": [ours, False],
        "without True": [ours, False],
    }


@pytest.mark.trainers
def test_a_seam_that_has_moved_costs_one_warning_and_no_step(many: Done) -> None:
    facts = many.facts["moved"]
    first, second = facts["messages"]
    assert "Moved has no _save_checkpoint" in first
    assert "otherwise than by callbacks= or add_callback()" in second
    assert (facts["steps"], facts["direct"]) == (4, 4)
    assert not (many.folder / "moved.jsonl").exists()


@pytest.mark.trainers
def test_a_training_that_begins_again_with_a_smaller_batch_tells_so(many: Done) -> None:
    trainings = all_of(many.run("again"), "TRAINING")
    assert [node.status for node in trainings] == ["failed", "failed", "completed"]
    assert trainings[-1].done == many.facts["again"]["steps"] == 2


@pytest.mark.trainers
def test_a_copy_of_a_trainer_trains_for_itself(many: Done) -> None:
    assert many.facts["copies"] == {"log": True, "steps": [1, 3]}
    assert many.run("copies_twin").children == [], "its callback watches nobody yet"
    assert len(all_of(many.run("copies"), "TRAINING STEP")) == 1


@pytest.mark.trainers
def test_two_trainers_may_have_one_callback(many: Done) -> None:
    one = ["INITIALIZATION", "TRAINING", "TRAINING STEP 1", "CHECKPOINT SAVING 1", "POST-TRAINING VALIDATION"]
    two = [*one[:3], "TRAINING STEP 2", "CHECKPOINT SAVING 2", one[-1]]
    assert outline(many.run("shared")) == [*one, *two, *one]
    saved = [Path(node.phase.attributes["path"]) for node in all_of(many.run("shared"), "CHECKPOINT SAVING")]
    assert [path.parent.name for path in saved] == ["shared_1", "shared_2", "shared_1"]


@pytest.mark.trainers
def test_in_a_thread_the_run_ends_with_the_training(many: Done) -> None:
    assert many.facts["thread"]["after"]
    assert many.run("thread").status == "completed"
    assert "left in another thread" not in many.errors


@pytest.mark.trainers
def test_at_a_prompt_and_in_an_event_loop_the_run_ends_with_the_training(many: Done) -> None:
    assert many.facts["prompt"] == [False, False]
    assert [many.run(name).status for name in ("prompt", "loop")] == ["completed", "completed"]


@pytest.mark.trainers
def test_an_evaluation_that_fails_and_is_caught_leaves_the_training_in_order(many: Done) -> None:
    run = many.run("caught")
    steps = ["TRAINING STEP 1", "PERIODIC VALIDATION 1", "TRAINING STEP 2"]
    assert outline(run) == ["INITIALIZATION", "TRAINING", *steps]
    assert [node.status for node in all_of(run, "TRAINING")[0].children] == ["completed", "failed", "completed"]


@pytest.mark.trainers
def test_a_failure_of_ours_is_logged_and_the_trainer_goes_on(many: Done) -> None:
    assert many.facts["broken"]["steps"] == 2
    assert "PhasewatchCallback.on_epoch_begin failed; the trainer goes on" in many.errors
    assert many.run("broken").status == "completed"


# Under torchrun.


@pytest.mark.trainers
def test_only_the_main_process_speaks_and_all_record(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PHASEWATCH_", "COV"))}
    done = subprocess.run(
        [*torchrun, str(PROGRAMS / "transformers_ranks.py"), str(tmp_path)],
        env=environment | {"PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"},
        capture_output=True, encoding="utf-8", timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = [json.loads((tmp_path / f"facts{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    steps = facts[0]["steps"]
    assert titles(done.stdout).count("PHASE: TRAINING STEP") == steps == 3
    assert titles(done.stdout).count("PHASE: VALIDATION") == len(evaluations(facts[0]["history"])) == 2
    assert titles(done.stdout)[-1].startswith("ALL PHASES COMPLETE")
    runs = phasewatch.Timeline.from_events(phasewatch.read(tmp_path / "logs")).roots
    known = {run.place.rank: run for run in runs if run.place is not None}
    places = {(run.place.rank, run.place.process) for run in runs if run.place is not None}
    assert places == {(one["rank"], one["process"]) for one in facts}
    for one in facts:
        run = known[one["rank"]]
        assert [node.step for node in all_of(run, "TRAINING STEP")] == list(range(1, steps + 1))
        # All batches of all processes are one validation.
        assert [node.counters for node in all_of(run, "VALIDATION")] == [{"samples": 10}] * 2
    # What the trainer logs, it logs in the main process.
    assert {node.step: node.metrics["loss"] for node in all_of(known[0], "TRAINING STEP")} == losses(facts[0]["history"])


# TRL.


@pytest.mark.trainers
@pytest.mark.parametrize(
    ("name", "metric"), [("sft", "mean_token_accuracy"), ("dpo", "rewards/margins"), ("reward", "accuracy")]
)
def test_fine_tuning_of_other_kinds_is_a_training_as_any(trl: Done, name: str, metric: str) -> None:
    run, history = trl.run(name), trl.facts[name]["history"]
    assert {node.step: node.metrics["loss"] for node in all_of(run, "TRAINING STEP")} == losses(history)
    validated = [(node.step or 0, node.metrics["eval_loss"]) for node in all_of(run, *VALIDATIONS)]
    assert validated == evaluations(history)
    assert metric in all_of(run, "TRAINING STEP")[0].metrics
    assert not [node.name for node in all_of(run, "TRAINING STEP") if node.children]
    assert [node.step for node in all_of(run, "CHECKPOINT SAVING")] == [3, 4]


@pytest.mark.trainers
def test_the_parts_of_a_grpo_step_are_its_children(trl: Done) -> None:
    run = trl.run("grpo")
    steps = all_of(run, "TRAINING STEP")
    assert [node.step for node in steps] == list(range(1, trl.facts["grpo"]["steps"] + 1))
    for node in steps:  # two batches each, for which text is generated once
        assert [child.name for child in node.children] == ["GRPO INPUTS", "GRPO LOSS"] * 2
        assert len(all_of(node, "GRPO GENERATION")) == 1
        assert [child.name for child in all_of(node, "GRPO REWARDS")[0].children] == [
            "GRPO DISTINCT WORDS",
            "GRPO FEW WORDS",
        ]
        assert [part.parent.name for part in all_of(node, "GRPO LOG PROBS")] == ["GRPO LOSS"] * 2
        assert sum(child.duration for child in node.children) <= node.duration
    assert {node.parent.name for node in all_of(run, "GRPO INPUTS")} == {"TRAINING STEP", "VALIDATION"}


@pytest.mark.trainers
def test_a_grpo_validation_has_the_running_reward_that_trl_logs(trl: Done) -> None:
    run = trl.run("grpo")
    rewards = [reward for _, reward in evaluations(trl.facts["grpo"]["history"], "eval_reward")]
    validations = all_of(run, "VALIDATION")
    assert len(rewards) == len(validations) == 4
    assert [node.means["reward"] for node in validations] == pytest.approx(rewards, abs=1e-6)
    assert all(node.done == node.total for node in validations)
    assert {node.step: node.metrics["reward"] for node in all_of(run, "TRAINING STEP")} == {
        entry["step"]: entry["reward"] for entry in trl.facts["grpo"]["history"] if "reward" in entry
    }
    assert "| Avg Reward: " in trl.text


@pytest.mark.trainers
def test_the_parts_are_silent_unless_they_are_asked_for(trl: Done) -> None:
    _, silent, _, shown, _ = re.split(r"^--- .*\n", trl.text, flags=re.MULTILINE)
    assert "[META] PHASE: TRAINING STEP" in silent
    assert "GRPO" not in silent.partition("Where the time went")[0]
    assert "🔹 [META] PHASE: GRPO GENERATION\n" in shown


@pytest.mark.trainers
def test_trl_trains_the_same_without(trl: Done, tmp_path: Path) -> None:
    bare = Done(tmp_path / "without", "trl_whole.py", "without")
    assert bare.status == 0, bare.errors
    for name in ("sft", "dpo", "reward", "grpo", "shown"):
        assert without_times(trl.facts[name]["history"]) == without_times(bare.facts[name]["history"])
        files = saved_files(trl.folder / name)
        assert len(files) > 10
        assert files == saved_files(bare.folder / name)
