"""verl's PPO trainers: what is told of a training, held against what verl itself logs and saves."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import phasewatch
from phasewatch.integrations import verl

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(__file__).parent / "programs"
CORE = "val-core/toy/reward/mean@1"
PARTS = {"gen", "reward", "old_log_prob", "adv", "update_actor", "update_weights"}
VALIDATIONS = ("PRE-TRAINING VALIDATION", "PERIODIC VALIDATION", "POST-TRAINING VALIDATION")


# Without verl: what it would import, and its seams.


@pytest.fixture
def other_verl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of that name, whose trainers do nothing."""
    for folder in ("verl", "verl/utils", "verl/trainer", "verl/trainer/ppo", "verl/trainer/ppo/v1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "verl/utils/tracking.py").write_text("class Tracking:\n    def log(self, data, step): pass\n")
    methods = "".join(
        f"    def {name}(self): return '{name}'\n" for name in ("init_workers", "fit", "_validate", "_save_checkpoint")
    )
    trainer = (
        f"from contextlib import nullcontext as marked_timer\ndef extract_reward(): pass\nclass RayPPOTrainer:\n{methods}"
    )
    (tmp_path / "verl/trainer/ppo/ray_trainer.py").write_text(trainer)
    before, hooks = dict(sys.modules), list(sys.meta_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "verl"]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path / "verl"
    sys.meta_path[:] = hooks
    for name in set(sys.modules) - set(before):
        if name.partition(".")[0] == "verl":
            del sys.modules[name]


def test_without_verl_install_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "verl", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="verl is not installed"):
        verl.install()


def test_install_imports_nothing_of_verl(other_verl: Path) -> None:
    verl.install()
    importlib.import_module("verl")
    assert not [name for name in sys.modules if name.startswith("verl.")]


def test_the_trainer_is_held_when_it_is_imported_and_the_module_looks_as_it_would(other_verl: Path) -> None:
    verl.install()
    module = importlib.import_module("verl.trainer.ppo.ray_trainer")
    assert module.RayPPOTrainer.__new__ is not object.__new__
    assert module.__spec__ is not None
    assert type(module.__loader__).__name__ == type(module.__spec__.loader).__name__ == "SourceFileLoader"


def test_a_trainer_that_is_imported_already_is_held_at_once(other_verl: Path) -> None:
    module = importlib.import_module("verl.trainer.ppo.ray_trainer")
    assert module.RayPPOTrainer.__new__ is object.__new__
    verl.install()
    assert module.RayPPOTrainer.__new__ is not object.__new__


def test_to_install_again_puts_nothing_around_what_is_held(other_verl: Path) -> None:
    verl.install()
    module = importlib.import_module("verl.trainer.ppo.ray_trainer")
    held = module.RayPPOTrainer.__new__
    verl.install()
    assert module.RayPPOTrainer.__new__ is held
    assert [type(finder) for finder in sys.meta_path].count(verl._Finder) == 1


def test_finders_of_others_still_find_the_trainer(other_verl: Path) -> None:
    asked = []

    class Other:
        @staticmethod
        def find_spec(name: str, path: Any, target: Any = None) -> None:
            asked.append(name)

    verl.install()
    sys.meta_path.insert(0, Other)
    importlib.import_module("verl.trainer.ppo.ray_trainer")
    assert "verl.trainer.ppo.ray_trainer" in asked


@pytest.mark.parametrize(("old", "new"), [("_validate", "_check"), ("marked_timer", "timed"), ("RayPPOTrainer", "Trainer")])
def test_a_version_whose_seams_have_moved_is_told_of_once_and_left_alone(other_verl: Path, old: str, new: str) -> None:
    path = other_verl / "trainer/ppo/ray_trainer.py"
    path.write_text(path.read_text().replace(old, new))
    verl.install()
    with pytest.warns(phasewatch.PhasewatchWarning, match=rf"has no .*{old}.*runs without phases; look for") as told:
        module = importlib.import_module("verl.trainer.ppo.ray_trainer")
    assert len(told) == 1
    trainer = getattr(module, "RayPPOTrainer", None) or module.Trainer
    assert trainer.__new__ is object.__new__
    assert trainer().fit() == "fit"


def test_a_trainer_without_what_is_looked_for_is_trained_all_the_same(
    other_verl: Path, caplog: pytest.LogCaptureFixture
) -> None:
    verl.install()
    trainer = importlib.import_module("verl.trainer.ppo.ray_trainer").RayPPOTrainer()
    with caplog.at_level(logging.ERROR, "phasewatch"):
        assert [trainer.init_workers(), trainer.fit(), trainer._validate()] == ["init_workers", "fit", "_validate"]
    assert caplog.records
    assert phasewatch.current() is None


def test_a_trainer_whose_fit_is_a_coroutine_is_left_as_it_is(other_verl: Path) -> None:
    verl.install()
    base = importlib.import_module("verl.trainer.ppo.ray_trainer").RayPPOTrainer

    class Asynchronous(base):  # type: ignore[misc, valid-type]  # a class of verl
        async def fit(self) -> str:
            return "fit"

    plain = Asynchronous.fit
    with contextlib.closing(Asynchronous().fit()):
        pass
    assert Asynchronous.fit is plain
    assert not hasattr(base._validate, "phasewatch_held")


class Settings(dict[str, Any]):
    """As OmegaConf: a mapping, and by attribute."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def a_trainer(**settings: Any) -> Any:
    """A trainer of verl that has a configuration and nothing else."""
    return SimpleNamespace(config=Settings(trainer=Settings(total_epochs=1, **settings)))


@pytest.mark.parametrize(
    ("settings", "only"),
    [({}, False), ({"val_only": True}, True), ({"val_only": True, "val_before_train": False}, False)],  # then verl trains
)
def test_a_run_is_one_of_validation_only_where_verl_takes_it_for_one(settings: dict[str, Any], only: bool) -> None:
    assert verl._Plan(a_trainer(**settings)).validates_only is only


def test_what_looks_wrong_in_a_configuration_is_known_before_the_run_where_its_steps_are() -> None:
    trainer = a_trainer(val_only=True, val_before_train=False)
    assert verl._Plan(trainer).warnings() == []  # V1 knows them later
    trainer.total_training_steps = 7
    assert "val-only-trains" in [doubt.code for doubt in verl._Plan(trainer).warnings()]


def test_a_queue_counts_the_rewards_of_a_validation_and_is_itself_otherwise(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counted: list[Any] = []
    life = SimpleNamespace(validation=None, count_batch=lambda *batch: counted.append(batch))
    monkeypatch.setattr(verl._here, "life", life, raising=False)
    queue = verl._Queue(
        SimpleNamespace(kv_batch_get=lambda **asked: dict.fromkeys(asked["select_fields"] or (), 0.5), name="q")
    )
    keys = ["a_0_0", "a_1_0", "b_c_0_0"]
    rewards: dict[str, Any] = {"partition_id": "val", "select_fields": ["uid", "rm_scores"], "keys": keys}
    assert queue.kv_batch_get(**rewards) == {"uid": 0.5, "rm_scores": 0.5}
    assert not counted  # there is no validation
    life.validation = object()
    for other in ({"partition_id": "train"}, {"select_fields": ["uid"]}, {"select_fields": None}):
        queue.kv_batch_get(**(rewards | other))
    assert not counted
    queue.kv_batch_get(**rewards)
    assert counted == [(2, 0.5)]
    assert queue.name == "q"
    assert not caplog.records


def test_v1_says_itself_how_many_steps_an_epoch_has() -> None:
    assert verl._steps_per_epoch(SimpleNamespace(steps_per_epoch=7, train_dataloader=[1, 2])) == 7
    assert verl._steps_per_epoch(SimpleNamespace(train_dataloader=[1, 2])) == 2
    assert verl._steps_per_epoch(SimpleNamespace()) is None


def test_a_part_whose_timer_cannot_begin_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __enter__(self) -> None:
            raise ValueError("no clock")

    ended: list[Any] = []
    life = SimpleNamespace(begin_part=str.upper, end_part=lambda part, error: ended.append((part, error)))
    monkeypatch.setattr(verl._here, "life", life, raising=False)
    timer = verl._timer(lambda name, *_: Broken())
    with pytest.raises(ValueError, match="no clock") as raised:
        timer("gen", {}).__enter__()
    assert ended == [("GEN", raised.value)]


def test_what_a_trainer_warns_of_when_it_is_made_is_told_of_who_makes_it(other_verl: Path) -> None:
    path = other_verl / "trainer/ppo/ray_trainer.py"
    init = """
    def __init__(self, config, *, device=None):
        import warnings
        warnings.warn("deprecated", FutureWarning, stacklevel=2)
        self.given = config, device
"""
    path.write_text(path.read_text() + init)
    verl.install()
    trainer = importlib.import_module("verl.trainer.ppo.ray_trainer").RayPPOTrainer
    with pytest.warns(FutureWarning, match="deprecated") as told:
        assert trainer("mine", device="cpu").given == ("mine", "cpu")
    assert [one.filename for one in told] == [__file__]
    assert str(inspect.signature(trainer)) == "(config, *, device=None)"


@pytest.mark.parametrize(("value", "installed"), [("1", True), ("yes", True), ("0", False), ("off", False), ("", False)])
def test_the_plugin_does_nothing_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, mocker: Any, value: str, installed: bool
) -> None:
    monkeypatch.setenv("PHASEWATCH_VERL", value)
    install = mocker.patch.object(verl, "install")
    monkeypatch.delitem(sys.modules, "phasewatch.integrations._verl_plugin", raising=False)
    importlib.import_module("phasewatch.integrations._verl_plugin")
    assert install.called is installed


def test_the_plugin_logs_what_verl_would_swallow(monkeypatch: pytest.MonkeyPatch, mocker: Any, caplog: Any) -> None:
    monkeypatch.setenv("PHASEWATCH_VERL", "1")
    mocker.patch.object(verl, "install", side_effect=OSError("no"))
    monkeypatch.delitem(sys.modules, "phasewatch.integrations._verl_plugin", raising=False)
    importlib.import_module("phasewatch.integrations._verl_plugin")
    assert "PHASEWATCH_VERL" in caplog.text


# A trainer that has verl's loop, and nothing to compute.


@pytest.fixture
def plain_verl(other_verl: Path) -> Any:
    """The module of such a trainer, installed."""
    shutil.copy(PROGRAMS / "verl_plain.py", other_verl / "trainer/ppo/ray_trainer.py")
    verl.install()
    return importlib.import_module("verl.trainer.ppo.ray_trainer")


def plain_settings(name: str | None = "plain", **data: Any) -> Settings:
    answers = Settings(rollout=Settings(val_kwargs=Settings(n=1)))
    trainer = Settings(experiment_name=name, total_epochs=1, test_freq=2, save_freq=1, val_before_train=True)
    return Settings(trainer=trainer, data=Settings({"val_batch_size": None, **data}), actor_rollout_ref=answers)


def trained(trainer: Any) -> Any:
    trainer.init_workers()
    trainer.fit()
    return trainer


def roots(phaselog: Any) -> list[Any]:
    return list(phasewatch.Timeline.from_events(phaselog.events).roots)


def names(node: Any) -> Any:
    """The name of a phase, with those inside of it."""
    return (node.name, [names(child) for child in node.children]) if node.children else node.name


PLAIN_STEP = ("TRAINING STEP", ["gen"])
PLAIN_STEPS = [
    PLAIN_STEP, "CHECKPOINT SAVING", PLAIN_STEP, "CHECKPOINT SAVING", ("PERIODIC VALIDATION", ["VALIDATION"]),
    PLAIN_STEP, "CHECKPOINT SAVING",
]  # fmt: skip
PLAIN = [
    "INITIALIZATION", ("PRE-TRAINING VALIDATION", ["VALIDATION"]), ("TRAINING", PLAIN_STEPS),
    ("POST-TRAINING VALIDATION", ["VALIDATION"]),
]  # fmt: skip
LOSSES = [{"loss": 1.0}, {"loss": 1 / 2}, {"loss": 1 / 3}]


def test_a_plain_training_has_its_phases_and_nothing_is_told_after_it(plain_verl: Any, phaselog: Any) -> None:
    trainer = trained(plain_verl.RayPPOTrainer(plain_settings()))
    with plain_verl.marked_timer("gen", {}):
        trainer._validate()
        trainer._save_checkpoint()
    (run,) = roots(phaselog)
    assert (names(run), run.status) == (("plain", PLAIN), "completed")
    assert [step.metrics for step in all_of(run, "TRAINING STEP")] == LOSSES
    assert {node.metrics["accuracy"] for node in all_of(run, "VALIDATION")} == {0.5}


def test_the_settings_of_the_training_are_asked_once_and_not_at_each_step(
    plain_verl: Any, phaselog: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = plain_settings()
    trained(plain_verl.RayPPOTrainer(settings, gen=lambda: settings.pop("trainer", None)))
    (run,) = roots(phaselog)
    assert names(run) == ("plain", PLAIN)
    positions = [step.phase.position for step in all_of(run, "TRAINING STEP")]
    assert [(one.number, one.epoch, one.epochs) for one in positions] == [(1, 1, 1), (2, 1, 1), (3, 1, 1)]
    assert not caplog.records


def test_a_trainer_that_trains_inside_of_another_leaves_that_one_as_it_was(plain_verl: Any, phaselog: Any) -> None:
    inner: list[Any] = []

    def train_another() -> None:
        if not inner:
            inner.append(trained(plain_verl.RayPPOTrainer(plain_settings("inner"))))

    trained(plain_verl.RayPPOTrainer(plain_settings(), gen=train_another))
    (run,) = roots(phaselog)
    steps = [("TRAINING STEP", [("gen", PLAIN)]), *PLAIN_STEPS[1:]]
    assert (names(run), run.status) == (("plain", [*PLAIN[:2], ("TRAINING", steps), PLAIN[3]]), "completed")
    outer = next(child for child in run.children if child.name == "TRAINING")
    assert [child.metrics for child in outer.children if child.name == "TRAINING STEP"] == LOSSES


def test_a_trainer_that_another_thread_made_is_not_taken_for_one_that_never_trains(plain_verl: Any, phaselog: Any) -> None:
    first = plain_verl.RayPPOTrainer(plain_settings("first"))
    thread = threading.Thread(target=first.init_workers)
    thread.start()
    thread.join()
    second = plain_verl.RayPPOTrainer(plain_settings("second"))
    second.init_workers()
    first.fit()
    second.fit()
    assert all_of(roots(phaselog)[0], "first")[0].status == "completed"


def test_a_trainer_that_trains_again_has_a_run_again(plain_verl: Any, phaselog: Any) -> None:
    trained(plain_verl.RayPPOTrainer(plain_settings())).fit()
    assert [names(run) for run in roots(phaselog)] == [("plain", PLAIN), ("plain", PLAIN[1:])]


def test_a_trainer_that_is_initialized_twice_has_one_run(plain_verl: Any, phaselog: Any) -> None:
    trainer = plain_verl.RayPPOTrainer(plain_settings())
    trainer.init_workers()
    trained(trainer)
    assert [names(run) for run in roots(phaselog)] == [("plain", PLAIN)]


def test_a_run_whose_initialization_fails_has_failed_there(plain_verl: Any, phaselog: Any) -> None:
    trainer = plain_verl.RayPPOTrainer(plain_settings(), init=lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.init_workers()
    assert phasewatch.current() is None
    (run,) = roots(phaselog)
    assert [(node.name, node.status) for node in (run, *run.children)] == [("plain", "failed"), ("INITIALIZATION", "failed")]


def test_a_run_without_a_name_is_called_after_verl(plain_verl: Any, phaselog: Any) -> None:
    trained(plain_verl.RayPPOTrainer(plain_settings(None)))
    assert [run.name for run in roots(phaselog)] == ["verl"]


def test_what_a_derived_trainer_calls_of_its_base_is_one_phase(plain_verl: Any, phaselog: Any) -> None:
    class Derived(plain_verl.RayPPOTrainer):  # type: ignore[misc]  # a class of verl
        def init_workers(self) -> None:
            super().init_workers()

        def fit(self) -> None:
            super().fit()
            with phasewatch.phase("EXPORT"):
                pass

        def _validate(self) -> Any:
            return super()._validate()

        def _save_checkpoint(self) -> None:
            super()._save_checkpoint()

    trained(Derived(plain_settings()))
    assert [names(run) for run in roots(phaselog)] == [("plain", [*PLAIN, "EXPORT"])]


def test_to_validate_or_to_save_before_the_training_is_not_told(plain_verl: Any, phaselog: Any) -> None:
    trainer = plain_verl.RayPPOTrainer(plain_settings())
    trainer.init_workers()
    trainer.global_steps = 0
    trainer._validate()
    trainer._save_checkpoint()
    trainer.fit()
    assert [names(run) for run in roots(phaselog)] == [("plain", PLAIN)]


def test_a_timer_outside_of_steps_is_no_part_of_one(plain_verl: Any, phaselog: Any) -> None:
    def time_it(marked_timer: Any) -> None:
        with marked_timer("warm_up", {}):
            pass

    trained(plain_verl.RayPPOTrainer(plain_settings(), before_training=time_it, after_training=time_it))
    assert [names(run) for run in roots(phaselog)] == [("plain", PLAIN)]


def test_a_step_that_nobody_logs_is_over_where_the_next_one_begins(plain_verl: Any, phaselog: Any) -> None:
    trained(plain_verl.RayPPOTrainer(plain_settings(), saves=False, logs=False))
    assert names(all_of(roots(phaselog)[0], "TRAINING")[0]) == (
        "TRAINING", [PLAIN_STEP, PLAIN_STEP, ("PERIODIC VALIDATION", ["VALIDATION"]), PLAIN_STEP],
    )  # fmt: skip


def test_trainers_that_are_made_later_are_held_as_the_first_was(plain_verl: Any, phaselog: Any) -> None:
    trained(plain_verl.RayPPOTrainer(plain_settings()))
    held = [dict(vars(owner)) for owner in (plain_verl.RayPPOTrainer, plain_verl.Tracking)]
    verl.install()
    trained(plain_verl.RayPPOTrainer(plain_settings()))
    assert [dict(vars(owner)) for owner in (plain_verl.RayPPOTrainer, plain_verl.Tracking)] == held


class Rewards:
    """As a tensor of them, on a device."""

    def __init__(self, device: str, *each: float) -> None:
        self.device, self.each = SimpleNamespace(type=device), list(each)

    def sum(self, axis: int) -> Rewards:
        assert (axis, self.device.type) == (1, "cpu"), "a device would be waited for"
        return self

    def tolist(self) -> list[float]:
        return self.each


class Batch(list[int]):
    """Answers, and the rewards of their tokens."""

    def __init__(self, rewards: Rewards, **meta_info: Any) -> None:
        super().__init__([0])
        self.rewards, self.meta_info = rewards, meta_info


def test_rewards_on_a_device_are_not_waited_for_and_batches_without_one_count_too(
    plain_verl: Any, phaselog: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rewards = [Rewards("cuda", 1.0), Rewards("cpu"), Rewards("cpu", 1.0, 0.0)]
    batches = [*(Batch(each, validate=True) for each in rewards), Batch(Rewards("cpu", 9.0))]  # the last is of no validation
    trained(plain_verl.RayPPOTrainer(plain_settings(), batches=batches))
    for node in all_of(roots(phaselog)[0], "VALIDATION"):
        assert (node.done, node.counters["questions"], node.means["reward"]) == (3, 3, 0.5)
    assert not caplog.records


@pytest.mark.parametrize(("given", "told"), [(None, 3), (2, 2)])
def test_a_validation_whose_batches_are_not_limited_is_one_of_all_questions(
    plain_verl: Any, phaselog: Any, given: int | None, told: int
) -> None:
    trained(plain_verl.RayPPOTrainer(plain_settings(val_batch_size=given)))
    assert all_of(roots(phaselog)[0], "VALIDATION")[0].phase.details["Batch size"] == told


def test_a_validation_that_returns_no_metrics_ends_all_the_same(
    plain_verl: Any, phaselog: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trained(plain_verl.RayPPOTrainer(plain_settings(), validated=None))
    assert [names(run) for run in roots(phaselog)] == [("plain", PLAIN)]
    assert not caplog.records


def test_what_is_logged_of_another_step_is_no_metric_of_this_one(plain_verl: Any, phaselog: Any) -> None:
    trained(plain_verl.RayPPOTrainer(plain_settings(), log=lambda logger: logger.log({"of all": 1.0}, 100)))
    assert [step.metrics for step in all_of(roots(phaselog)[0], "TRAINING STEP")] == LOSSES


def test_a_step_that_cannot_be_logged_has_failed(plain_verl: Any, phaselog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_disk(tracking: Any, data: Any, step: int) -> None:
        if step:
            raise OSError("no space left")

    monkeypatch.setattr(plain_verl.Tracking, "log", out_of_disk)
    verl.install()  # holds it anew
    with pytest.raises(OSError, match="no space left"):
        trained(plain_verl.RayPPOTrainer(plain_settings(), saves=False))
    assert [step.status for step in all_of(roots(phaselog)[0], "TRAINING STEP")] == ["failed"]


# With verl.


class Done:
    """What a program did."""

    def __init__(self, folder: Path, program: str, **environment: str) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PHASEWATCH_", "COV"))}
        settings = {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self.folder = folder
        done = subprocess.run(
            [sys.executable, PROGRAMS / program, folder],
            cwd=folder, env=inherited | settings | environment, capture_output=True, text=True, encoding="utf-8",
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        self.text = done.stdout
        self.facts: Any = json.loads((folder / "facts.json").read_text(encoding="utf-8"))

    def runs(self, name: str) -> list[Any]:
        return list(phasewatch.Timeline.from_events(phasewatch.read(self.folder / f"{name}.jsonl")).roots)

    def run(self, name: str) -> Any:
        (run,) = self.runs(name)
        return run

    def told(self, name: str) -> str:
        return (self.folder / f"{name}.txt").read_text(encoding="utf-8")


def all_of(root: Any, *names: str) -> list[Any]:
    found = [root] if root.name in names else []
    return found + [node for child in root.children for node in all_of(child, *names)]


def outline(run: Any) -> list[Any]:
    """The phases of a run, and those of the training, without the parts of a step."""
    return [
        (node.name, node.step)
        for child in run.children
        for node in (child, *(child.children if child.name == "TRAINING" else ()))
        if node.name not in PARTS
    ]


def titles(text: str) -> list[str]:
    return re.findall(r"^\S+ \[META\] (.*)$", text, re.MULTILINE)


def by_step(facts: Any) -> dict[int, dict[str, float]]:
    return {int(step): metrics for step, metrics in facts["logged"]}


def without_times(facts: Any) -> Any:
    return [
        [step, {k: v for k, v in said.items() if not k.startswith(("timing", "perf/"))}] for step, said in facts["logged"]
    ]


WHOLE = [
    ("INITIALIZATION", None), ("PRE-TRAINING VALIDATION", None), ("TRAINING", None), ("TRAINING STEP", 1),
    ("TRAINING STEP", 2), ("PERIODIC VALIDATION", 2), ("TRAINING STEP", 3), ("CHECKPOINT SAVING", 3), ("TRAINING STEP", 4),
    ("CHECKPOINT SAVING", 4), ("POST-TRAINING VALIDATION", None),
]  # fmt: skip


def check_whole(run: Any, facts: Any) -> None:
    """A run of four steps says what verl says of it."""
    assert run.status == "completed"
    assert outline(run) == WHOLE
    logged = by_step(facts)
    steps = all_of(run, "TRAINING STEP")
    assert [step.step for step in steps] == [step for step in logged if step]
    for step in steps:
        assert step.metrics == pytest.approx(logged[step.step])
    assert [f"global_step_{node.step}" for node in all_of(run, "CHECKPOINT SAVING")] == list(facts["saved"])
    means = [all_of(node, "VALIDATION")[0].means["reward"] for node in all_of(run, *VALIDATIONS)]
    assert means == pytest.approx([metrics[CORE] for metrics in logged.values() if CORE in metrics])
    told = [all_of(node, "VALIDATION")[0].metrics[CORE] for node in all_of(run, *VALIDATIONS)]
    assert told == pytest.approx(means)  # verl's own figure, beside the running mean
    for validation in all_of(run, "VALIDATION"):
        assert (validation.done, validation.total, validation.counters["questions"]) == (3, 3, 10)
    (training,) = all_of(run, "TRAINING")
    assert (training.done, training.total) == (4, 4)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return Done(tmp_path_factory.mktemp("many"), "verl_many.py")


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("ray")
    return Done(folder, "verl_ray.py", PHASEWATCH_VERL="1", PHASEWATCH_LOG=str(folder / "log.jsonl"))


@pytest.mark.trainers
def test_verl_trains_the_same_with_and_without(many: Done) -> None:
    without, whole = many.facts["without"], many.facts["whole"]
    assert without_times(whole) == without_times(without)
    assert whole["saved"] == without["saved"]
    assert len(whole["saved"]) == 2
    assert whole["steps"] == without["steps"] == 5


@pytest.mark.trainers
def test_a_whole_run_is_what_verl_says_of_it(many: Done) -> None:
    check_whole(many.run("whole"), many.facts["whole"])


@pytest.mark.trainers
def test_the_fit_of_a_derived_trainer_is_over_when_all_of_it_is(many: Done) -> None:
    assert (many.facts["without"]["told"], many.facts["whole"]["told"]) == (False, True)


@pytest.mark.trainers
def test_the_parts_of_a_step_are_those_that_verl_times(many: Done) -> None:
    logged = by_step(many.facts["whole"])
    (training,) = all_of(many.run("whole"), "TRAINING")
    inside = {step.step: list(step.children) for step in all_of(training, "TRAINING STEP")}
    after_saving = [node for node in training.children if node.name == "update_weights"]
    for step, node in zip((3, 4), after_saving, strict=True):
        inside[step].append(node)
    for step, nodes in inside.items():
        assert {node.name for node in nodes} == PARTS
        for node in nodes:
            assert node.duration == pytest.approx(logged[step][f"timing_s/{node.name}"], abs=0.05)


@pytest.mark.trainers
def test_the_text_has_the_nine_phases_and_no_parts(many: Done) -> None:
    text = many.told("whole")
    validation = ["PHASE: VALIDATION", "PHASE COMPLETE: VALIDATION"]
    step = "PHASE: TRAINING STEP"
    saved = "CHECKPOINT SAVED SUCCESSFULLY"
    assert titles(text) == [
        "PHASE: INITIALIZATION - Creating Resource Pools and Workers", "PHASE: PRE-TRAINING VALIDATION", *validation,
        "PHASE: TRAINING START", step, step, "PHASE: PERIODIC VALIDATION (Step 2)", *validation, step,
        "PHASE: CHECKPOINT SAVING (Step 3)", saved, step, "PHASE: CHECKPOINT SAVING (Step 4)", saved,
        "PHASE: TRAINING COMPLETE", "PHASE: POST-TRAINING VALIDATION", *validation,
        "ALL PHASES COMPLETE - Training Finished Successfully!",
    ]  # fmt: skip
    last = by_step(many.facts["whole"])[4][CORE]
    assert f"📊 Validation [3/3] (100.0%) | Questions: 10/10 | Avg Reward: {last:.3f} |" in text
    assert "[Epoch 2/2] Step 3/4 (75.0%)" in text
    assert "PLAN" not in text


@pytest.mark.trainers
def test_the_parts_of_a_step_are_in_the_text_if_asked(many: Done) -> None:
    told = titles(many.told("parts"))
    first = told.index("PHASE: TRAINING STEP")
    assert told[first + 1 : first + 6] == [
        f"PHASE: {part}" for part in ("gen", "reward", "old_log_prob", "adv", "update_actor")
    ]


@pytest.mark.trainers
def test_a_question_with_several_answers_is_one_question(many: Done) -> None:
    run, logged = many.run("answers"), by_step(many.facts["answers"])
    before, periodic, after = all_of(run, "VALIDATION")
    for node, step in ((before, 0), (periodic, 2), (after, 4)):
        assert node.counters["questions"] == 10
        assert node.means["reward"] == pytest.approx(logged[step]["val-core/toy/reward/mean@3"])


@pytest.mark.trainers
def test_what_fails_is_told_where_it_failed(many: Done) -> None:
    assert many.facts["failed"]["error"] == "RuntimeError"
    run = many.run("failed")
    assert [node.status for node in all_of(run, "TRAINING STEP")] == ["completed", "completed", "failed"]
    told = titles(many.told("failed"))
    assert told[-2:] == ["PHASE FAILED: update_actor", "RUN FAILED - in TRAINING > TRAINING STEP > update_actor"]


@pytest.mark.trainers
def test_ctrl_c_in_a_validation_is_told_as_that(many: Done) -> None:
    assert many.facts["interrupted"]["error"] == "KeyboardInterrupt"
    assert titles(many.told("interrupted"))[-2:] == [
        "PHASE INTERRUPTED: VALIDATION", "RUN INTERRUPTED - in TRAINING > PERIODIC VALIDATION > VALIDATION",
    ]  # fmt: skip


@pytest.mark.trainers
def test_a_run_that_only_validates_says_so(many: Done) -> None:
    assert outline(many.run("val_only")) == WHOLE[:2]
    assert titles(many.told("val_only"))[-1] == "PHASE: COMPLETE - Validation Only Mode"


@pytest.mark.trainers
def test_a_resumed_run_starts_at_its_step(many: Done) -> None:
    run, facts = many.run("resumed"), many.facts["resumed"]
    (training,) = all_of(run, "TRAINING")
    assert (training.phase.start, training.done, training.total) == (3, 4, 4)
    assert [node.step for node in all_of(run, "TRAINING STEP")] == list(by_step(facts)) == [4]
    assert "[Epoch 2/2] Step 4/4 (100.0%)" in many.told("resumed")
    assert "PLAN" not in many.told("resumed")


@pytest.mark.trainers
def test_saves_that_verl_leaves_out_while_the_critic_warms_up_are_not_held_against_the_run(many: Done) -> None:
    assert [node.step for node in all_of(many.run("warmup"), "CHECKPOINT SAVING")] == [4]
    assert list(many.facts["warmup"]["saved"]) == ["global_step_4"]
    assert "PLAN" not in many.told("warmup")


@pytest.mark.trainers
def test_phases_hang_under_what_the_program_has_open(many: Done) -> None:
    run = many.run("inside")
    assert run.name == "mine"
    assert [child.name for child in run.children] == ["INITIALIZATION", "PRE-TRAINING VALIDATION", "TRAINING", "AFTER"]


@pytest.mark.trainers
def test_a_trainer_that_is_never_trained_has_no_other_inside_of_its_run(many: Done) -> None:
    first, second = many.runs("second")
    assert (first.status, outline(first)) == ("interrupted", WHOLE[:1])
    assert (second.status, outline(second)) == ("completed", WHOLE[:2])


@pytest.mark.trainers
def test_in_a_ray_actor_the_environment_alone_is_enough(ray: Done) -> None:
    legacy, v1, *_ = ray.runs("log")
    assert ray.facts["lazy"], "importing verl imported the trainer"
    check_whole(legacy, ray.facts["legacy"])
    assert "[META] PHASE: TRAINING START" in ray.text
    check_whole(v1, ray.facts["v1"])


@pytest.mark.trainers
def test_v1_trains_the_same_with_and_without(ray: Done) -> None:
    without = ray.facts["without"]
    assert (without["phases"], ray.facts["phases"]) == (False, True)
    assert without_times(ray.facts["v1"]) == without_times(without["v1"])
    assert ray.facts["v1"]["saved"] == without["v1"]["saved"]
    assert len(without["v1"]["saved"]) == 2


@pytest.mark.trainers
def test_the_parts_of_a_step_of_v1_are_those_that_verl_times(ray: Done) -> None:
    first = all_of(ray.runs("log")[1], "TRAINING STEP")[0]
    assert {node.name for node in first.children} == PARTS - {"reward"}
    for node in first.children:
        assert node.duration == pytest.approx(by_step(ray.facts["v1"])[1][f"timing_s/{node.name}"], abs=0.05)


@pytest.mark.trainers
def test_what_fails_in_v1_is_told_where_it_failed(ray: Done) -> None:
    assert ray.facts["v1_failed"]["error"] == "no memory"
    failed = ray.runs("log")[2]
    assert failed.status == "failed"
    assert all_of(failed, "update_actor")[-1].status == "failed"


@pytest.mark.trainers
def test_v1_that_only_validates_says_so_and_one_that_is_resumed_starts_at_its_step(ray: Done) -> None:
    _, _, _, only, resumed = ray.runs("log")
    assert (only.status, outline(only)) == ("completed", WHOLE[:2])
    assert titles(unfolded(ray.text)).count("PHASE: COMPLETE - Validation Only Mode") == 1
    facts = ray.facts["v1_resumed"]
    (training,) = all_of(resumed, "TRAINING")
    assert (training.phase.start, training.done, training.total) == (3, 4, 4)
    assert [node.step for node in all_of(resumed, "TRAINING STEP")] == list(by_step(facts)) == [4]
    assert outline(resumed) == [WHOLE[0], WHOLE[2], *WHOLE[-3:]]
    assert [f"global_step_{node.step}" for node in all_of(resumed, "CHECKPOINT SAVING")] == list(facts["saved"])


def unfolded(text: str) -> str:
    """What Ray prints of its workers, without what it puts before each line."""
    return re.sub(r"^(\x1b\[\d+m)?\(.*?pid=\d+\)(\x1b\[0m)? ", "", text, flags=re.MULTILINE)
