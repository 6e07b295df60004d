"""The Lightning Trainer: what is told, held against what the trainer itself reports."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import phasewatch
from phasewatch import MetricsLogged, PhaseEnded, PhasewatchWarning
from phasewatch.integrations import _entry

if TYPE_CHECKING:
    from pytest_mock import MockerFixture

    from phasewatch.testing import PhaseLog

PROGRAM = Path(__file__).parent / "programs" / "lightning_many.py"
trainers = pytest.mark.trainers
BATCHES = 8  # of an epoch


class Done:
    """What the program did."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PHASEWATCH_", "COV"))}
        environment |= {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
        if arguments:
            environment["PHASEWATCH_LIGHTNING"] = "1"
        done = subprocess.run(
            [sys.executable, PROGRAM, folder, *arguments],
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
    return Done(tmp_path_factory.mktemp("lightning"))


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


def after_steps(done: Done, name: str) -> list[float]:
    """What a witness in the trainer saw: the loss of the batch that ended each step."""
    facts = done.facts[name]
    ends = [now != before for before, now in zip([0, *facts["steps"]], facts["steps"], strict=False)]
    return [loss for loss, ended in zip(facts["losses"], ends, strict=True) if ended]


def planned(text: str) -> list[str]:
    return [line for line in text.splitlines() if "[META] PLAN" in line]


@trainers
def test_weights_losses_random_numbers_and_files_are_the_same_bit_for_bit(done: Done) -> None:
    bare, watched = done.facts["bare"], done.facts["whole"]
    assert [name for name in watched["files"] if name.endswith(".ckpt")]
    for what in ("weights", "losses", "random", "csv", "files", "validations", "global_step"):
        assert bare[what] == watched[what], what


@trainers
def test_a_checkpoint_holds_nothing_of_ours(done: Done) -> None:
    assert all("ModelCheckpoint" in key for key in done.facts["whole"]["checkpoint"])


@trainers
def test_the_phases_of_a_training_come_in_order(done: Done) -> None:
    run = done.run("whole")
    validation = ["PERIODIC VALIDATION"]
    assert names(run) == [
        "INITIALIZATION", "TRAINING", *validation, "CHECKPOINT SAVING", *validation, *validation, "CHECKPOINT SAVING",
        "POST-TRAINING VALIDATION",
    ]  # fmt: skip
    assert {node.status for node in all_of(run, "TRAINING STEP", "VALIDATION", "INITIALIZATION")} == {"completed"}
    assert run.name == "fit"


@trainers
def test_a_step_is_one_of_the_optimizer_with_what_the_module_logs(done: Done) -> None:
    (training,) = all_of(done.run("whole"), "TRAINING")
    steps = all_of(training, "TRAINING STEP")
    assert training.done == training.total == len(steps) == done.facts["whole"]["global_step"] == 8
    losses = [node.metrics["loss"] for node in steps]
    assert losses == after_steps(done, "whole")
    logged = [float(row["loss"]) for row in done.facts["whole"]["csv"] if row["loss"]]
    assert losses == pytest.approx(logged)
    assert all(set(node.metrics) == {"loss", "twice"} for node in steps)
    assert training.metrics["twice"] == pytest.approx(
        float(next(r["twice_epoch"] for r in done.facts["whole"]["csv"] if r["twice_epoch"]))
    )


@trainers
def test_a_validation_counts_the_batches_of_all_loaders_and_has_its_metrics(done: Done) -> None:
    run, seen = done.run("whole"), done.facts["whole"]["validations"]
    assert [node.step for node in all_of(run, "PERIODIC VALIDATION")] == [one["step"] for one in seen[:-1]]
    validations = all_of(run, "VALIDATION")
    assert [(node.done, node.total) for node in validations] == [(one["batches"], 5) for one in seen]
    for node, one in zip(validations, seen, strict=True):
        assert dict(node.metrics) == {name: value for name, value in one.items() if name.startswith("val_loss/")}


@trainers
def test_the_sanity_check_is_no_validation(done: Done) -> None:
    (check,) = all_of(done.run("whole"), "SANITY CHECK")
    assert check.parent.name == "INITIALIZATION"
    assert check.done == check.total == done.facts["whole"]["sanity"] == 4
    assert not check.metrics
    assert not all_of(done.run("by-epochs"), "SANITY CHECK")


@trainers
def test_a_save_has_a_duration_the_step_and_the_path(done: Done) -> None:
    saves = all_of(done.run("whole"), "CHECKPOINT SAVING")
    files = sorted(Path(name).name for name in done.facts["whole"]["files"] if name.endswith(".ckpt"))
    assert sorted(Path(node.phase.attributes["path"]).name for node in saves) == files
    assert [node.step for node in saves] == [4, 8]
    assert all(node.duration > 0 for node in saves)
    assert not any(facts.get("left") for facts in done.facts.values())


@trainers
def test_the_text_tells_what_the_log_does(done: Done, tmp_path: Path) -> None:
    for name in ("whole", "failing", "uneven", "interrupted", "test"):
        text = tmp_path / f"{name}.log"
        text.write_text(done.facts[name]["text"], encoding="utf-8")
        (read,) = phasewatch.Timeline.from_events(phasewatch.read(text)).roots
        logged = done.run(name)
        for kind in ("TRAINING", "TRAINING STEP", "VALIDATION", "PERIODIC VALIDATION", "CHECKPOINT SAVING", "SANITY CHECK"):
            assert [(node.status, node.step) for node in all_of(read, kind)] == [
                (node.status, node.step) for node in all_of(logged, kind)
            ], (name, kind)
    assert "[Epoch 2/2] Step 5/8 (62.5%)" in done.facts["whole"]["text"]
    assert "🏁 [META] ALL PHASES COMPLETE - Training Finished Successfully!" in done.facts["whole"]["text"]
    assert "Total batches: 5 | Dataloaders: 2" in done.facts["whole"]["text"]


@trainers
def test_a_resumed_training_starts_at_its_step(done: Done) -> None:
    (training,) = all_of(done.run("resumed"), "TRAINING")
    assert (training.phase.start, training.done, training.total) == (4, 8, 8)
    assert [node.step for node in all_of(training, "TRAINING STEP")] == [5, 6, 7, 8]
    assert [node.step for node in all_of(training, "PERIODIC VALIDATION")] == [
        one["step"] for one in done.facts["resumed"]["validations"][:-1]
    ]


@trainers
def test_where_nothing_is_left_to_train_nothing_is_told_of_it(done: Done) -> None:
    run = done.run("nothing-left")
    assert (names(run), run.status) == (["INITIALIZATION"], "completed")


@trainers
@pytest.mark.parametrize(
    ("name", "total", "epochs"),
    [
        ("by-steps", 11, None), ("endless", None, None), ("by-epochs", 24, 3), ("uneven", 6, 2), ("scheduled", 6, 2),
        ("by-hand", 16, 2), ("skipping", 16, 2),
    ],
)  # fmt: skip
def test_the_total_is_that_of_the_trainer(done: Done, name: str, total: int | None, epochs: int | None) -> None:
    (training,) = all_of(done.run(name), "TRAINING")
    assert training.total == total
    assert training.phase.attributes.get("epochs") == epochs
    facts = done.facts[name]
    # Where the module optimizes by hand, Lightning counts each of two optimizers.
    assert training.done == (len(facts["steps"]) if name == "by-hand" else facts["global_step"])
    assert training.status == "completed"


@trainers
def test_validations_come_where_the_trainer_has_them(done: Done) -> None:
    for name in ("by-steps", "by-epochs", "uneven"):
        seen = [one["step"] for one in done.facts[name]["validations"]]
        assert [node.step for node in all_of(done.run(name), "PERIODIC VALIDATION")] == seen, name
        assert not all_of(done.run(name), "POST-TRAINING VALIDATION"), name


@trainers
def test_only_what_is_known_is_held_against_the_plan(done: Done) -> None:
    told = {name: planned(facts["text"]) for name, facts in done.facts.items()}
    assert {name for name, lines in told.items() if lines} == {"skipping"}
    assert "4 of 16 TRAINING STEP" in told["skipping"][0]


@trainers
def test_a_step_that_is_cut_short_does_not_count(done: Done) -> None:
    steps = all_of(done.run("endless"), "TRAINING STEP")
    assert [node.status for node in steps] == ["completed", "interrupted"]
    assert done.run("endless").status == "completed"


@trainers
@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("failing", ["TRAINING", "TRAINING STEP"], "failed"),
        ("failing-validation", ["TRAINING", "PERIODIC VALIDATION", "VALIDATION"], "failed"),
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


@trainers
def test_an_error_is_passed_on_as_it_was(done: Done) -> None:
    assert done.facts["failing"]["error"] == done.facts["failing-bare"]["error"] == "RuntimeError: no luck"
    assert done.facts["failing"]["frames"] == done.facts["failing-bare"]["frames"]
    assert done.facts["interrupted"]["error"] == "SystemExit: 1"  # what Lightning makes of Ctrl-C


@trainers
@pytest.mark.parametrize(("name", "phase"), [("validate", "VALIDATION"), ("test", "TEST"), ("predict", "PREDICTION")])
def test_the_other_methods_are_runs_of_their_own(done: Done, name: str, phase: str) -> None:
    run = done.run(name)
    assert (run.name, names(run), run.status) == (name, ["INITIALIZATION", phase], "completed")
    (node,) = all_of(run, phase)
    assert (node.done, node.total) == (3, 3)
    if name != "predict":
        (reported,) = done.facts[name]["result"]
        assert dict(node.metrics) == reported


@trainers
def test_inside_of_a_phase_there_is_no_run(done: Done) -> None:
    text = done.facts["inside"]["text"]
    assert text.count("PHASE: TRAINING STEP") == BATCHES
    assert "ALL PHASES COMPLETE" not in text
    assert "PHASE COMPLETE: OUTER" in text


@trainers
def test_of_two_callbacks_one_speaks(done: Done) -> None:
    assert done.facts["twice"]["text"].count("PHASE: TRAINING STEP") == BATCHES
    assert done.facts["twice"]["text"].count("ALL PHASES COMPLETE") == 1


@trainers
def test_nothing_fails_and_nothing_stays_open(done: Done) -> None:
    for name, facts in done.facts.items():
        assert "phasewatch" not in facts["errors"], name
        assert "the trainer goes on" not in facts["errors"], name
        assert facts["current"] == "None", name


@trainers
def test_the_other_package_of_lightning_works_as_well_and_the_entry_point_wakes_up(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    other = Done(tmp_path_factory.mktemp("other"), "pytorch_lightning")
    facts = other.facts["other"]
    assert facts["class"].startswith("pytorch_lightning.")
    assert other.run("other").status == "completed"
    assert len(all_of(other.run("other"), "TRAINING STEP")) == facts["global_step"] == BATCHES
    for woken in ("asked", "asleep"):
        text = other.facts[woken]["text"]
        assert text.count("ALL PHASES COMPLETE") == (woken == "asked")


@trainers
@pytest.mark.parametrize("strategy", ["ddp", "ddp_fork"])
def test_of_ranks_that_lightning_starts_itself_the_first_one_speaks_and_all_record(strategy: str, tmp_path: Path) -> None:
    program = PROGRAM.with_name("lightning_ranks.py")
    around = {k: v for k, v in os.environ.items() if not k.startswith(("PHASEWATCH_", "COV")) and not k.endswith("RANK")}
    done = subprocess.run(
        [sys.executable, program, tmp_path, strategy],
        env=around | {"PYTHONIOENCODING": "utf-8"}, capture_output=True, encoding="utf-8", timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = [json.loads((tmp_path / f"facts{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    assert done.stdout.count("[META] PHASE: TRAINING STEP") == facts[0]["steps"] == 3
    assert done.stdout.count("[META] ALL PHASES COMPLETE") == 1
    assert sorted(path.name.split("-")[1] for path in (tmp_path / "logs").iterdir()) == ["rank0", "rank1"]
    timeline = phasewatch.Timeline.from_events(phasewatch.read(tmp_path / "logs"))
    places = [(node.place.rank, node.place.process) for node in timeline.nodes() if node.place is not None]
    assert set(places) == {(one["rank"], one["process"]) for one in facts}
    summary = phasewatch.summarize(phasewatch.read(tmp_path / "logs"))
    steps: Any = summary.kind("TRAINING", "TRAINING STEP")
    assert (summary.ranks, steps.count) == ([0, 1], 2 * 3)


def test_the_entry_points_sleep_unless_they_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", "0", "false"):
        monkeypatch.delenv("PHASEWATCH_LIGHTNING", raising=False)
        if value is not None:
            monkeypatch.setenv("PHASEWATCH_LIGHTNING", value)
        assert _entry.lightning_callbacks() == []
    assert "phasewatch.integrations.lightning" not in sys.modules


@pytest.mark.parametrize("group", ["lightning.pytorch.callbacks_factory", "pytorch_lightning.callbacks_factory"])
def test_the_entry_points_lead_there(group: str) -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    (value,) = re.findall(rf'^\[project\.entry-points\."{re.escape(group)}"\]\nphasewatch = "(.*)"$', project, re.MULTILINE)
    assert EntryPoint("phasewatch", value, group).load() is _entry.lightning_callbacks


def test_an_entry_point_that_fails_is_logged_and_not_seen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PHASEWATCH_LIGHTNING", "1")
    monkeypatch.setitem(sys.modules, "phasewatch.integrations.lightning", None)
    assert _entry.lightning_callbacks() == []
    assert "the trainer goes on without it" in caplog.text


def without_lightning(mocker: MockerFixture) -> Any:
    """The integration, over a framework of which there is nothing but the names."""
    framework: Any = ModuleType("lightning.pytorch")
    parts: Any = ModuleType("lightning.pytorch.callbacks")
    framework.Callback, parts.ModelCheckpoint, parts.GradientAccumulationScheduler = (type("One", (), {}) for _ in range(3))
    named = {"lightning": ModuleType("lightning"), "lightning.pytorch": framework, "lightning.pytorch.callbacks": parts}
    mocker.patch.dict(sys.modules, named)
    sys.modules.pop("phasewatch.integrations.lightning", None)
    return importlib.import_module("phasewatch.integrations.lightning")


class OnDevice:
    """A metric on a device that this machine does not have: what asks for its number waits for the device."""

    device = SimpleNamespace(type="cuda")

    def __init__(self, place: int) -> None:
        self.place, self.waits = place, 0

    def data_ptr(self) -> int:
        return self.place

    def numel(self) -> int:
        return 1

    def item(self) -> float:
        self.waits += 1
        return 0.5


def a_trainer(callback: Any, **options: Any) -> Any:
    defaults: dict[str, Any] = {
        "callbacks": [callback], "loggers": [], "log_every_n_steps": 2, "global_step": 0, "current_epoch": 0,
        "max_epochs": 1, "max_steps": -1, "num_training_batches": 4, "accumulate_grad_batches": 1,
        "enable_validation": False, "val_check_batch": 4, "check_val_every_n_epoch": 1, "checkpoint_callbacks": [],
        "fast_dev_run": False, "progress_bar_metrics": {}, "callback_metrics": {}, "save_checkpoint": None,
    }  # fmt: skip
    return SimpleNamespace(**(defaults | options))


def logged(phaselog: PhaseLog) -> list[Any]:
    return [dict(event.values) for event in phaselog.events if isinstance(event, MetricsLogged)]


@pytest.mark.parametrize(
    ("options", "planned"),
    [
        ({"enable_validation": True, "max_epochs": 3}, {"PERIODIC VALIDATION": 2, "POST-TRAINING VALIDATION": 1}),
        ({"enable_validation": True, "max_epochs": 5, "check_val_every_n_epoch": 2}, {"PERIODIC VALIDATION": 2}),
        ({"enable_validation": True, "val_check_batch": 2}, {"PERIODIC VALIDATION": 1, "POST-TRAINING VALIDATION": 1}),
        ({"enable_validation": True, "val_check_batch": 3}, {}),  # at no steady pace
        ({"enable_validation": True, "val_check_batch": 2, "check_val_every_n_epoch": 2, "max_epochs": 2}, {}),
        ({"enable_validation": True, "val_check_batch": 3, "check_val_every_n_epoch": None, "max_epochs": 2},
         {"PERIODIC VALIDATION": 2}),  # on from one epoch into the next
        ({"enable_validation": True, "val_check_batch": math.inf, "max_epochs": 2},  # the first batches of a stream
         {"PERIODIC VALIDATION": 1, "POST-TRAINING VALIDATION": 1}),
        ({"enable_validation": True, "num_val_batches": [0]}, {}),
        ({"global_step": 8, "max_epochs": 1}, {}),  # all of it was done before
    ],
)  # fmt: skip
def test_the_plan_has_the_validations_of_the_trainer(
    mocker: MockerFixture, options: dict[str, Any], planned: dict[str, int]
) -> None:
    trainer = a_trainer(None, callbacks=[], **{"num_val_batches": [2], **options})
    outlook = without_lightning(mocker)._Outlook(trainer, SimpleNamespace(automatic_optimization=True))
    counts = outlook.plan().counts()
    steps = counts.pop("TRAINING STEP", 0)
    assert counts == planned
    assert (outlook.total, steps) == ((None, 0) if "global_step" in options else (4 * trainer.max_epochs,) * 2)


@pytest.mark.parametrize(
    ("options", "saver", "saved"),
    [
        ({"max_epochs": 2}, {"_every_n_epochs": 1}, [4, 8]),
        ({"max_epochs": 2, "max_steps": 6}, {"_every_n_epochs": 1}, [4, 6]),  # an epoch that is cut short has an end too
        ({"max_epochs": 5}, {"_every_n_epochs": 2}, [8, 16]),
        ({"max_epochs": 2, "enable_validation": True}, {"_every_n_epochs": 1}, [4, 8]),
        # It saves after validations, and these are others.
        ({"max_epochs": 2, "enable_validation": True, "val_check_batch": 2}, {"_every_n_epochs": 1}, []),
        ({"max_epochs": 2, "enable_validation": True, "val_check_batch": 3}, {"_every_n_epochs": 1}, []),
        ({"max_epochs": 2}, {"_every_n_train_steps": 3}, [3, 6]),
        ({"max_epochs": 2, "max_steps": 6}, {"_every_n_train_steps": 4}, [4]),  # as often as an epoch ends, but not there
        ({"max_epochs": 2, "fast_dev_run": True}, {"_every_n_epochs": 1}, []),
        ({"max_epochs": 2}, {"_every_n_epochs": 1, "monitor": "loss"}, []),
        ({"max_epochs": 2}, {"_every_n_epochs": 1, "save_last": True}, []),
        ({"max_epochs": 2}, {"_every_n_epochs": 1, "save_top_k": 0}, []),
    ],
)
def test_the_plan_has_the_saves_that_the_trainer_is_sure_of(
    mocker: MockerFixture, options: dict[str, Any], saver: dict[str, Any], saved: list[int]
) -> None:
    integration = without_lightning(mocker)
    one = integration.ModelCheckpoint()
    vars(one).update({"monitor": None, "save_last": None, "save_top_k": 1} | saver)
    module = SimpleNamespace(automatic_optimization=True)
    defaults = {"callbacks": [], "num_val_batches": [2], "checkpoint_callbacks": [one]}
    plan = integration._Outlook(a_trainer(None, **defaults | options), module).plan()
    assert [step for step in range(1, plan.total_steps + 1) if plan.saves_after(step)] == saved
    for others in ([one, one], [object()]):
        trainer = a_trainer(None, **defaults | options | {"checkpoint_callbacks": others})
        assert integration._Outlook(trainer, module).plan().save_freq == -1, "who saves besides, and when, is not known"


def test_steps_of_more_batches_each_are_planned_as_the_trainer_makes_them(mocker: MockerFixture) -> None:
    integration, automatic = without_lightning(mocker), SimpleNamespace(automatic_optimization=True)

    def scheduler(scheduling: dict[int, int]) -> Any:
        one = integration.GradientAccumulationScheduler()
        one.scheduling, one.get_accumulate_grad_batches = scheduling, lambda epoch: scheduling.get(epoch, scheduling[0])
        return one

    saver = integration.ModelCheckpoint()
    saver.monitor = saver.save_last = None
    saver.save_top_k = saver._every_n_epochs = 1

    def outlook(*callbacks: Any, **options: Any) -> Any:
        options = {"enable_validation": True, "num_val_batches": [2], "max_epochs": 2} | options
        return integration._Outlook(a_trainer(None, **{"callbacks": callbacks, **options}), automatic)

    uneven = outlook(accumulate_grad_batches=2, num_training_batches=6, val_check_batch=3)
    assert (uneven.total, uneven.plan().test_freq) == (6, -1), "it validates in the middle of a step"
    on = outlook(accumulate_grad_batches=2, num_training_batches=5, val_check_batch=4, check_val_every_n_epoch=None)
    assert (on.total, on.plan().test_freq) == (6, -1), "the rest of an epoch is a step of fewer batches"
    steady = outlook(scheduler({0: 4}), scheduler({0: 2}))
    assert (steady.total, steady.plan().test_freq) == (4, 2), "the last of them is the one that counts"
    changing = outlook(scheduler({0: 2, 1: 1}), enable_validation=False, checkpoint_callbacks=[saver])
    assert (changing.total, changing.plan().save_freq) == (6, -1), "an epoch has other steps than the one before"
    assert outlook(scheduler({0: 2, 1: 1})).plan().test_freq == -1


def test_of_two_limits_the_nearer_one_is_the_total_and_batches_by_hand_have_only_that_of_epochs(
    mocker: MockerFixture,
) -> None:
    integration = without_lightning(mocker)

    def total(is_automatic: bool, **limits: int) -> int | None:
        trainer = a_trainer(None, callbacks=[], fit_loop=SimpleNamespace(total_batch_idx=-1), **limits)
        found: int | None = integration._Outlook(trainer, SimpleNamespace(automatic_optimization=is_automatic)).total
        return found

    assert [total(True, max_epochs=2, max_steps=steps) for steps in (-1, 3, 20)] == [8, 3, 8]
    # How many steps of the optimizer a batch makes, only the module knows.
    assert [total(False, max_epochs=2, max_steps=steps) for steps in (-1, 3)] == [8, None]


@pytest.mark.parametrize(("size", "told"), [(2, [1]), (1, [])])
def test_a_trainer_of_several_processes_tells_which_of_them_this_is(
    mocker: MockerFixture, phaselog: PhaseLog, size: int, told: list[int]
) -> None:
    integration, ranks = without_lightning(mocker), list[dict[str, int]]()
    mocker.patch.object(integration, "configure", lambda **said: ranks.append(said))
    callback = integration.PhasewatchCallback()
    callback.setup(a_trainer(callback, world_size=size, global_rank=1), None, stage="fit")
    callback.teardown(None, None, stage="fit")
    assert ranks == [{"rank": rank} for rank in told]


def test_a_metric_of_a_step_is_new_in_the_memory_that_it_had_two_batches_ago(
    mocker: MockerFixture, phaselog: PhaseLog
) -> None:
    callback = without_lightning(mocker).PhasewatchCallback()
    module, trainer = SimpleNamespace(automatic_optimization=True), a_trainer(callback, accumulate_grad_batches=2)
    callback.setup(trainer, module, stage="fit")
    callback.on_train_start(trainer, module)
    for number in range(4):
        trainer.callback_metrics = {"loss": OnDevice(number % 2), "old": OnDevice(7)}
        trainer.progress_bar_metrics = {"loss": float(number), "old": 7.0}
        callback.on_train_batch_start(trainer, module, None, 0)
        trainer.global_step += number % 2
        callback.on_train_batch_end(trainer, module, None, None, 0)
    callback.teardown(trainer, module, stage="fit")
    assert logged(phaselog) == [{"loss": 1.0}, {"loss": 3.0}]


def test_no_step_waits_for_a_device_but_where_lightning_does(mocker: MockerFixture, phaselog: PhaseLog) -> None:
    callback = without_lightning(mocker).PhasewatchCallback()
    module, trainer = SimpleNamespace(automatic_optimization=True), a_trainer(callback, loggers=["one"])
    callback.setup(trainer, module, stage="fit")
    callback.on_train_start(trainer, module)
    for number in range(1, 5):
        loss, shown = OnDevice(number), OnDevice(-number)
        trainer.callback_metrics = {"loss": loss, "shown": shown}
        trainer.progress_bar_metrics = {"shown_step": float(number)}
        callback.on_train_batch_start(trainer, module, None, 0)
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, None, None, 0)
        is_logged = number % 2 == 0
        assert (loss.waits, shown.waits) == (is_logged, is_logged)
        assert logged(phaselog)[-1] == ({"loss": 0.5, "shown": 0.5} if is_logged else {"shown": number})
    callback.teardown(trainer, module, stage="fit")


def test_a_trainer_whose_saves_have_moved_is_told_once_and_all_else_works(mocker: MockerFixture, phaselog: PhaseLog) -> None:
    callback = without_lightning(mocker).PhasewatchCallback()
    trainer = SimpleNamespace(callbacks=[callback])
    with pytest.warns(PhasewatchWarning, match="has no save_checkpoint.*Try another version") as said:
        for _ in range(2):
            callback.setup(trainer, None, stage="fit")
            callback.teardown(trainer, None, stage="fit")
    assert len(said) == 1
    statuses = [(event.phase.name, event.status) for event in phaselog.events if isinstance(event, PhaseEnded)]
    assert statuses == [("INITIALIZATION", "completed"), ("fit", "completed")] * 2


def test_without_lightning_the_error_says_what_to_install(mocker: MockerFixture) -> None:
    mocker.patch.dict(sys.modules, {"lightning": None, "lightning.pytorch": None, "pytorch_lightning": None})
    sys.modules.pop("phasewatch.integrations.lightning", None)
    with pytest.raises(ImportError, match=r"needs Lightning, pip install phasewatch\[lightning\]"):
        importlib.import_module("phasewatch.integrations.lightning")
