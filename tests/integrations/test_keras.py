"""A Keras model: what is told of its training, held against what Keras itself reports."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import phasewatch
from phasewatch import MetricsLogged, PhaseEnded, PhasewatchWarning

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from phasewatch.testing import PhaseLog

PROGRAM = Path(__file__).parent / "programs" / "keras_many.py"
trainers = pytest.mark.trainers
BATCHES = 6  # of an epoch


class Done:
    """What the program did."""

    def __init__(self, folder: Path) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PHASEWATCH_", "COV"))}
        environment |= {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, PROGRAM, folder],
            cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.folder = folder
        self.facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))

    def run(self, name: str) -> Any:
        """The run of an event log, the root of a tree."""
        (root,) = phasewatch.Timeline.from_events(phasewatch.read(self.folder / f"{name}.jsonl")).roots
        return root


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return Done(tmp_path_factory.mktemp("keras"))


def all_of(root: Any, *names: str) -> list[Any]:
    found = [root] if root.name in names else []
    return found + [node for child in root.children for node in all_of(child, *names)]


def names(root: Any) -> list[str]:
    """The phases right below a run, with those of the training that are no steps."""
    return [
        node.name
        for child in root.children
        for node in (child, *(inner for inner in child.children if inner.phase.role != "step" and child.name == "TRAINING"))
    ]


@trainers
def test_weights_losses_random_numbers_and_files_are_the_same_bit_for_bit(done: Done) -> None:
    bare, watched = done.facts["bare"], done.facts["whole"]
    assert list(watched["files"]) == ["1.weights.h5", "2.weights.h5"]
    for what in ("weights", "losses", "random", "files", "validations", "result", "iterations"):
        assert bare[what] == watched[what], what


@trainers
@pytest.mark.parametrize("name", ["whole", "last"])
def test_the_phases_of_a_training_come_in_order(done: Done, name: str) -> None:
    run = done.run(name)
    assert names(run) == [
        "INITIALIZATION", "TRAINING", "PERIODIC VALIDATION", "CHECKPOINT SAVING", "POST-TRAINING VALIDATION",
        "CHECKPOINT SAVING",
    ]  # fmt: skip
    assert {node.status for node in all_of(run, "TRAINING STEP", "VALIDATION", "CHECKPOINT SAVING")} == {"completed"}
    assert (run.name, run.status) == ("fit", "completed")


@trainers
def test_a_step_is_a_batch_with_the_numbers_of_keras(done: Done) -> None:
    (training,) = all_of(done.run("whole"), "TRAINING")
    steps = all_of(training, "TRAINING STEP")
    assert training.done == training.total == len(steps) == done.facts["whole"]["iterations"] == 2 * BATCHES
    assert training.phase.attributes["epochs"] == 2
    assert [node.metrics["loss"] for node in steps] == done.facts["whole"]["losses"]
    assert "[Epoch 2/2] Step 7/12 (58.3%)" in done.facts["whole"]["text"]


@trainers
def test_a_validation_counts_its_batches_and_has_its_metrics(done: Done) -> None:
    for name in ("whole", "late", "unseen"):
        validations = all_of(done.run(name), "VALIDATION")
        assert [dict(node.metrics) for node in validations] == done.facts[name]["validations"], name
    assert [(node.done, node.total) for node in all_of(done.run("whole"), "VALIDATION")] == [(3, 3)] * 2
    assert [node.step for node in all_of(done.run("whole"), "PERIODIC VALIDATION")] == [BATCHES]


@trainers
def test_the_run_ends_with_the_metrics_of_the_last_epoch(done: Done) -> None:
    history = done.facts["whole"]["result"]
    assert dict(done.run("whole").metrics) == {name: values[-1] for name, values in history.items()}
    assert {"loss", "mae", "val_loss", "val_mae"} == set(history)


@trainers
def test_where_keras_need_not_wait_for_the_device_it_does_not_and_metrics_are_never_those_of_another_step(
    done: Done,
) -> None:
    facts = done.facts["late"]
    steps = all_of(done.run("late"), "TRAINING STEP")
    assert len(steps) == facts["iterations"] == 9
    # The witness is called in another thread too, in any order: of an epoch of three batches, each is one of the three.
    for number, node in enumerate(steps):
        seen = facts["losses"][number // 3 * 3 : number // 3 * 3 + 3]
        assert not node.metrics or node.metrics["loss"] in seen
    assert [node.step for node in all_of(done.run("late"), "PERIODIC VALIDATION")] == [6]
    assert not all_of(done.run("late"), "POST-TRAINING VALIDATION")
    assert facts["called"] == ["elsewhere"]
    assert done.facts["whole"]["called"] == ["here"]


@trainers
def test_several_batches_in_one_go_count_as_many(done: Done) -> None:
    run = done.run("together")
    (training,) = all_of(run, "TRAINING")
    assert (training.done, training.total) == (10, 10)
    assert [node.step for node in all_of(run, "TRAINING STEP")] == [1, 5, 9]
    (validation,) = all_of(run, "VALIDATION")
    assert validation.done == 8


@trainers
def test_a_later_first_epoch_starts_at_its_step(done: Done) -> None:
    run = done.run("batches")
    (training,) = all_of(run, "TRAINING")
    assert (training.phase.start, training.done, training.total) == (6, 12, 12)
    assert done.facts["batches"]["iterations"] == 6


@trainers
def test_a_save_has_a_duration_the_step_and_the_path(done: Done) -> None:
    for name in ("whole", "last", "batches"):
        saves = all_of(done.run(name), "CHECKPOINT SAVING")
        assert [Path(node.phase.attributes["path"]).name for node in saves] == list(done.facts[name]["files"]), name
        assert all(node.duration > 0 for node in saves)
    assert [node.step for node in all_of(done.run("whole"), "CHECKPOINT SAVING")] == [6, 12]
    (save,) = all_of(done.run("batches"), "CHECKPOINT SAVING")
    assert (save.step, save.parent.name) == (10, "TRAINING")


@trainers
def test_the_text_tells_what_the_log_does(done: Done, tmp_path: Path) -> None:
    for name in ("whole", "failing", "late", "interrupted", "evaluate"):
        text = tmp_path / f"{name}.log"
        text.write_text(done.facts[name]["text"], encoding="utf-8")
        (read,) = phasewatch.Timeline.from_events(phasewatch.read(text)).roots
        logged = done.run(name)
        for kind in ("TRAINING", "TRAINING STEP", "VALIDATION", "PERIODIC VALIDATION", "CHECKPOINT SAVING"):
            assert [(node.status, node.step) for node in all_of(read, kind)] == [
                (node.status, node.step) for node in all_of(logged, kind)
            ], (name, kind)


@trainers
def test_only_what_is_known_is_held_against_the_plan(done: Done) -> None:
    told = {
        name: [line for line in facts["text"].splitlines() if "[META] PLAN" in line] for name, facts in done.facts.items()
    }
    assert {name for name, lines in told.items() if lines} == {"stopping"}
    assert f"{done.facts['stopping']['iterations']} of 30 TRAINING STEP" in told["stopping"][0]


@trainers
@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("failing", ["TRAINING", "TRAINING STEP"], "failed"),
        ("failing-validation", ["POST-TRAINING VALIDATION", "VALIDATION"], "failed"),
        ("failing-data", ["INITIALIZATION"], "failed"),
        ("failing-early", ["INITIALIZATION"], "failed"),
        ("failing-evaluate", ["VALIDATION"], "failed"),
        ("interrupted", ["TRAINING", "TRAINING STEP"], "interrupted"),
    ],
)
def test_an_error_is_told_in_the_phase_that_it_came_from(done: Done, name: str, path: list[str], status: str) -> None:
    node = done.run(name)
    assert node.status == status
    for inner in path:
        node = node.children[-1]
        assert (node.name, node.status) == (inner, status)
    kind = "FAILED" if status == "failed" else "INTERRUPTED"
    assert f"[META] RUN {kind} - in {' > '.join(path)}" in done.facts[name]["text"]
    assert done.facts[name]["error"].split(":")[0] in done.facts[name]["text"]


@trainers
def test_an_error_is_passed_on_as_it_was(done: Done) -> None:
    assert done.facts["failing"]["error"] == done.facts["failing-bare"]["error"] == "RuntimeError: no luck"
    assert done.facts["failing"]["frames"] == done.facts["failing-bare"]["frames"]
    assert done.facts["interrupted"]["error"] == "KeyboardInterrupt: no luck"


@trainers
@pytest.mark.parametrize(("name", "phase"), [("evaluate", "VALIDATION"), ("predict", "PREDICTION")])
def test_the_other_methods_are_runs_of_their_own(done: Done, name: str, phase: str) -> None:
    run = done.run(name)
    assert (run.name, names(run), run.status) == (name, ["INITIALIZATION", phase], "completed")
    (node,) = all_of(run, phase)
    assert (node.done, node.total) == (BATCHES, BATCHES)
    if name == "evaluate":
        assert dict(node.metrics) == done.facts[name]["result"]


@trainers
def test_inside_of_a_phase_there_is_no_run(done: Done) -> None:
    text = done.facts["inside"]["text"]
    assert text.count("PHASE: TRAINING STEP") == BATCHES
    assert "ALL PHASES COMPLETE" not in text
    assert "PHASE COMPLETE: OUTER" in text


@trainers
def test_of_a_fit_of_ones_own_all_is_told_but_how_it_fails(done: Done) -> None:
    run = done.run("unseen")
    assert names(run) == ["INITIALIZATION", "TRAINING", "PERIODIC VALIDATION", "POST-TRAINING VALIDATION"]
    assert run.status == "completed"
    assert "RUN" not in done.facts["unseen-failing"]["text"]
    after = done.facts["unseen-after"]["text"]
    assert "RUN INTERRUPTED - in TRAINING > TRAINING STEP" in after
    assert "ALL PHASES COMPLETE" in after


@trainers
def test_a_callback_can_be_sent_elsewhere(done: Done) -> None:
    assert done.facts["pickled"]["text"].count("PHASE: TRAINING STEP") == BATCHES


@trainers
def test_nothing_fails_and_nothing_stays_open(done: Done) -> None:
    for name, facts in done.facts.items():
        assert "the trainer goes on" not in facts["errors"], name
        assert facts["current"] == "None" or name == "unseen-failing", name


def test_numbers_that_come_late_are_never_those_of_another_step(mocker: MockerFixture, phaselog: PhaseLog) -> None:
    keras: Any = ModuleType("keras")
    methods = ("fit", "evaluate", "predict", "save", "save_weights")
    keras.Model = type("Model", (), {name: lambda self, callbacks=None: None for name in methods})
    keras.callbacks = SimpleNamespace(
        Callback=type("Callback", (), {"params": {"steps": 3, "epochs": 1}}), ModelCheckpoint=int, BackupAndRestore=int
    )
    mocker.patch.dict(sys.modules, {"keras": keras})
    sys.modules.pop("phasewatch.integrations.keras", None)
    callback = importlib.import_module("phasewatch.integrations.keras").PhasewatchCallback()

    def elsewhere(batch: int, loss: float) -> None:
        thread = threading.Thread(target=callback.on_train_batch_end, args=(batch, {"loss": loss}))
        thread.start()
        thread.join()

    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_batch_begin(0)
    elsewhere(0, 1.0)
    callback.on_train_batch_begin(1)  # whose numbers are not there when the next one begins
    callback.on_train_batch_begin(2)
    elsewhere(1, 2.0)
    elsewhere(2, 3.0)
    callback.on_epoch_end(0, {})
    callback.on_train_end()
    told = [dict(event.values) for event in phaselog.events if isinstance(event, MetricsLogged)]
    assert told == [{"loss": 1.0}, {"loss": 3.0}]  # of the first and of the last


class Saver:
    """What saves a model, as Keras has it."""

    def __init__(self, save_freq: object, save_best_only: bool = False) -> None:
        self.save_freq, self.save_best_only = save_freq, save_best_only


@pytest.mark.parametrize(
    ("options", "savers", "planned"),
    [
        ({}, [], {}),
        ({"validation_data": ("x", "y")}, [], {"PERIODIC VALIDATION": 3, "POST-TRAINING VALIDATION": 1}),
        ({"validation_split": 0.2, "validation_freq": 2}, [], {"PERIODIC VALIDATION": 1, "POST-TRAINING VALIDATION": 1}),
        ({"validation_data": "x", "validation_freq": 3}, [], {"PERIODIC VALIDATION": 1}),
        ({"validation_data": "x", "validation_freq": [1, 4]}, [], {}),  # at no steady pace
        ({}, [Saver("epoch")], {"CHECKPOINT SAVING": 4}),
        ({}, [Saver(5)], {"CHECKPOINT SAVING": 2}),
        ({}, [Saver("epoch", save_best_only=True)], {}),  # nobody knows when
        ({}, [Saver("epoch"), Saver("epoch")], {}),
    ],
)
def test_the_plan_has_what_fit_was_asked_for(
    mocker: MockerFixture, phaselog: PhaseLog, options: dict[str, Any], savers: list[Any], planned: dict[str, int]
) -> None:
    class Model:
        steps_per_execution = 1

        def fit(self, x: Any, validation_data: Any = None, validation_split: float = 0.0, validation_freq: Any = 1,
                callbacks: Any = ()) -> Any:  # fmt: skip
            callbacks[0].on_train_begin()
            callbacks[0].on_epoch_begin(0)
            return list(callbacks[0]._plan.known.phases())

        evaluate = predict = save = save_weights = lambda self: None

    keras: Any = ModuleType("keras")
    params = {"steps": 3, "epochs": 4}
    keras.Model, keras.callbacks = (
        Model,
        SimpleNamespace(Callback=type("Callback", (), {"params": params}), ModelCheckpoint=Saver, BackupAndRestore=Saver),
    )
    mocker.patch.dict(sys.modules, {"keras": keras})
    sys.modules.pop("phasewatch.integrations.keras", None)
    callback = importlib.import_module("phasewatch.integrations.keras").PhasewatchCallback()
    found = [name for name, _ in Model().fit("x", callbacks=[callback, *savers], **options)]
    assert {name: found.count(name) for name in found if name != "TRAINING STEP"} == planned
    assert found.count("TRAINING STEP") == 12


def test_a_save_inside_of_one_that_the_program_tells_is_not_told_again(mocker: MockerFixture, phaselog: PhaseLog) -> None:
    class Model:
        def fit(self, callbacks: Any = ()) -> None:
            callbacks[0].set_model(self)
            with phasewatch.phase("CHECKPOINT SAVING"):
                self.save("a.keras")
            self.save("b.keras")

        evaluate = predict = save_weights = lambda self: None

        def save(self, filepath: str) -> None: ...

    keras: Any = ModuleType("keras")
    base = type("Callback", (), {"params": None, "set_model": lambda self, model: None})
    keras.Model, keras.callbacks = Model, SimpleNamespace(Callback=base, ModelCheckpoint=Saver, BackupAndRestore=Saver)
    mocker.patch.dict(sys.modules, {"keras": keras})
    sys.modules.pop("phasewatch.integrations.keras", None)
    integration = importlib.import_module("phasewatch.integrations.keras")
    Model().fit(callbacks=[integration.PhasewatchCallback()])  # where `fit` is looked up before there is a callback
    saved = [event.phase for event in phaselog.events if isinstance(event, PhaseEnded)]
    paths = [phase.attributes.get("path") for phase in saved if phase.name == "CHECKPOINT SAVING"]
    assert paths == [None, "b.keras"]


def test_methods_that_have_moved_are_told_once_and_the_others_are_surrounded(
    mocker: MockerFixture, phaselog: PhaseLog
) -> None:
    class Model:
        def fit(self, x: object, callbacks: object = None) -> str:
            return f"fitted {x}"

        def predict(self, x: object, callbacks: object = None) -> str:
            raise ValueError(f"no {x}")

        def save(self, filepath: str) -> None: ...

    keras: Any = ModuleType("keras")
    keras.Model, keras.callbacks = Model, SimpleNamespace(Callback=type("Callback", (), {"params": None}))
    mocker.patch.dict(sys.modules, {"keras": keras})
    sys.modules.pop("phasewatch.integrations.keras", None)
    integration = importlib.import_module("phasewatch.integrations.keras")
    with pytest.warns(PhasewatchWarning, match="keras.Model has no evaluate, save_weights.*Try another version") as said:
        callback = integration.PhasewatchCallback()
        integration.PhasewatchCallback()
    assert (len(said), said[0].filename) == (1, __file__)
    assert Model().fit("this", callbacks=[callback]) == "fitted this"
    assert Model().fit("that") == "fitted that"
    with pytest.raises(ValueError, match="no those"):
        Model().predict("those", [callback])
    statuses = [(event.phase.name, event.status) for event in phaselog.events if isinstance(event, PhaseEnded)]
    assert statuses == [
        ("INITIALIZATION", "completed"), ("fit", "completed"), ("INITIALIZATION", "failed"), ("predict", "failed"),
    ]  # fmt: skip


def test_without_keras_the_error_says_what_to_install(mocker: MockerFixture) -> None:
    mocker.patch.dict(sys.modules, {"keras": None})
    sys.modules.pop("phasewatch.integrations.keras", None)
    with pytest.raises(ImportError, match=r"needs Keras 3, pip install phasewatch\[keras\]"):
        importlib.import_module("phasewatch.integrations.keras")
