"""From configurations, in every form that they come in, to a plan."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from phasewatch import TrainingPlan

TRAIN_GRPO = r"""#!/usr/bin/env bash
# trainer.test_freq=7 is what it once was
set -euo pipefail
export VLLM_USE_V1=1

SAVE_FREQ=100
STEPS=${STEPS:-35}
DATA=(data.train_batch_size=256 "data.val_batch_size=$((8 * 32))")

python3 prepare.py trainer.total_epochs=99 \
    && echo "prepared"

python3 -m verl.trainer.main_ppo --config-name=ppo_trainer \
    algorithm.adv_estimator=grpo \
    "${DATA[@]}" \
    'trainer.logger=["console","wandb"]' \
    trainer.val_before_train=true    \
    +trainer.val_only=false \
    ++trainer.test_freq='50' \
    trainer.save_freq=${SAVE_FREQ} \
    trainer.total_training_steps="$STEPS" \
    trainer.total_epochs=3 \
    trainer.default_local_dir="checkpoints/$(date +%F)" "$@" 2>&1 | tee training.log

python3 evaluate.py --checkpoint=last
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train_grpo.sh"
    path.write_text(TRAIN_GRPO)
    return path


@pytest.mark.parametrize("as_path", [str, Path])
def test_the_overrides_of_a_script_are_found_without_running_it(script: Path, as_path: Any) -> None:
    plan = TrainingPlan.from_config(as_path(script))
    assert (plan.total_steps, plan.epochs, plan.test_freq, plan.save_freq) == (35, 3, 50, 100)
    assert (plan.val_before_train, plan.val_only) == (True, False)
    assert (plan.train_batch_size, plan.val_batch_size) == (256, 256)
    assert [warning.code for warning in plan.warnings()] == ["no-validation", "no-saving"]
    assert list(script.parent.iterdir()) == [script]


def test_what_a_script_is_called_with_stands_where_it_passes_it_on(script: Path) -> None:
    overrides = ["trainer.total_training_steps=100", "~trainer.save_freq"]
    plan = TrainingPlan.from_config(script, overrides=overrides)
    assert (plan.total_steps, plan.test_freq, plan.save_freq) == (100, 50, -1)
    script.write_text(TRAIN_GRPO.replace('"$@"', "").replace("trainer.total_epochs=3", '"$@" trainer.total_epochs=3'))
    plan = TrainingPlan.from_config(script, overrides=["trainer.total_epochs=5"])
    assert plan.epochs == 3, "the last one holds"
    script.write_text(TRAIN_GRPO.replace('"$@"', ""))
    assert TrainingPlan.from_config(script, overrides=overrides).total_steps == 100, "a script may pass nothing on"


def test_what_a_script_does_not_say_is_warned_of(script: Path) -> None:
    script.write_text(TRAIN_GRPO.replace("${SAVE_FREQ}", "$SAVE_EVERY").replace("'50'", "$(cat freq)"))
    plan = TrainingPlan.from_config(script)
    assert (plan.test_freq, plan.save_freq) == (-1, -1)
    assert sorted(str(warning) for warning in plan.warnings()) == [
        "trainer.save_freq=… cannot be known before the run, and is taken as not given; give it as an override",
        "trainer.test_freq=… cannot be known before the run, and is taken as not given; give it as an override",
    ]
    assert TrainingPlan.from_config(script, overrides=["trainer.test_freq=5", "trainer.save_freq=5"]).warnings() == []


def test_of_several_commands_the_one_that_says_most_counts_and_of_equal_ones_the_last(tmp_path: Path) -> None:
    path = tmp_path / "train.sh"
    path.write_text("sft trainer.total_epochs=1 trainer.test_freq=2\nrl trainer.total_epochs=3 trainer.save_freq=4\n"
                    "evaluate trainer.total_epochs=9\n")  # fmt: skip
    plan = TrainingPlan.from_config(path, steps_per_epoch=12)
    assert (plan.epochs, plan.test_freq, plan.save_freq) == (3, -1, 4)


def test_a_script_for_transformers_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "train.sh"
    path.write_text("torchrun --nproc-per-node=8 train.py --max-steps 500 --eval_strategy steps --eval_steps=50 \\\n"
                    " --save_steps 200 --bf16 --eval-on-start --output_dir out\n")  # fmt: skip
    plan = TrainingPlan.from_config(path)
    assert (plan.total_steps, plan.test_freq, plan.save_freq) == (500, 50, 200)
    assert (plan.val_before_train, plan.val_after_train) == (True, False)


# Overrides.


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("trainer.total_training_steps=7", 7),
        ("+trainer.total_training_steps=7", 7),
        ("++trainer.total_training_steps=7", 7),
        ("trainer.total_training_steps='7'", 7),
        ('trainer.total_training_steps="7"', 7),
        ("trainer.total_training_steps= 7 ", 7),
        ("trainer.total_training_steps=7.0", 7),
        ("trainer.total_training_steps=1e3", 1000),
        ("trainer.total_training_steps=null", 36),
        ("trainer.total_training_steps=", 36),
        ("~trainer.total_training_steps", 36),
        ("~trainer.total_training_steps=35", 36),
        ("~trainer.seed", 35),
        ("trainer.total_training_steps", 35),
        ("total_training_steps=7", 35),
        ("=7", 35),
        ("", 35),
    ],
)
def test_an_override_is_taken_in_every_form_of_hydra(override: str, steps: int) -> None:
    before = ["trainer.total_training_steps=35", "trainer.total_epochs=3"]
    for plan in (
        TrainingPlan.from_config([*before, override], steps_per_epoch=12),
        TrainingPlan.from_config(before, overrides=[override], steps_per_epoch=12),
        TrainingPlan.from_config(dict(pair.split("=") for pair in before), overrides=[override], steps_per_epoch=12),
    ):
        assert plan.total_steps == steps


def test_several_values_for_a_sweep_are_no_number() -> None:
    with pytest.raises(ValueError, match=r"^trainer\.total_training_steps='5,10' must be a whole number$"):
        TrainingPlan.from_config(["trainer.total_training_steps=5,10"])


def test_arguments_alone_make_a_plan() -> None:
    assert vars(TrainingPlan.from_config(total_steps=3)) == vars(TrainingPlan(3))
    options: dict[str, Any] = {
        "total_steps": 30,
        "epochs": 2,
        "test_freq": 7,
        "save_freq": 5,
        "val_batches": 3,
        "start_step": 1,
    }
    options |= {"val_before_train": False, "at_last_step": True, "val_samples": 9, "train_batch_size": 2, "drop_last": True}
    assert vars(TrainingPlan.from_config(options)) == vars(TrainingPlan(**options))


# Mappings.


def test_the_sizes_of_the_data_give_the_steps() -> None:
    config: dict[str, Any] = {"trainer": {"total_epochs": 3}, "data": {"train_batch_size": 256, "val_batch_size": None}}
    plan = TrainingPlan.from_config(config, train_samples=3100, val_samples=7405, drop_last=True)
    assert (plan.steps_per_epoch, plan.total_steps, plan.val_batches) == (12, 36, None)
    limited = {**config, "data": {**config["data"], "train_max_samples": 1000, "val_max_samples": -1, "val_batch_size": 256}}
    plan = TrainingPlan.from_config(limited, train_samples=3100, val_samples=7405)
    assert (plan.train_samples, plan.total_steps, plan.val_samples, plan.val_batches) == (1000, 12, 7405, 29)
    generated = {**config, "data": {"train_batch_size": 256, "gen_batch_size": 768}}
    assert TrainingPlan.from_config(generated, train_samples=3100).steps_per_epoch == 5


@pytest.mark.parametrize(
    ("trainer", "start"),
    [
        ({"resume_from_path": "checkpoints/global_step_100"}, 100),
        ({"resume_from_path": "checkpoints/global_step_100.npz", "resume_mode": "resume_path"}, 100),
        ({"resume_from_path": "checkpoints/global_step_100", "resume_mode": "disable"}, 0),
        ({"resume_from_path": "checkpoints/global_step_100", "resume_mode": "auto"}, 0),
        ({"resume_from_path": "checkpoints/last"}, 0),
        ({"resume_from_path": None}, 0),
        ({"resume_from_path": False}, 0),
    ],
)
def test_a_resumed_run_is_known_by_the_path_that_it_resumes_from(trainer: dict[str, Any], start: int) -> None:
    config = {"trainer": {"total_training_steps": 200, **trainer}}
    assert TrainingPlan.from_config(config).start_step == start
    assert TrainingPlan.from_config(config, start_step=7).start_step == 7


TRANSFORMERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_steps": 500}, {"total_steps": 500, "epochs": None, "test_freq": -1, "save_freq": 500}),
    ({"max_steps": 500, "num_train_epochs": 3.0}, {"total_steps": 500, "epochs": None}),
    ({"max_steps": -1, "num_train_epochs": 3.0}, {"total_steps": 36, "epochs": 3}),
    ({"num_train_epochs": 2.5}, {"total_steps": 30, "epochs": 3}),
    ({"max_steps": 500, "eval_strategy": "steps", "eval_steps": 50}, {"test_freq": 50}),
    ({"max_steps": 500, "eval_strategy": "steps", "eval_steps": None, "logging_steps": 10}, {"test_freq": 10}),
    ({"max_steps": 500, "evaluation_strategy": "steps", "eval_steps": 0.1}, {"test_freq": 50}),
    ({"num_train_epochs": 3, "eval_strategy": "steps", "eval_steps": 0.25}, {"test_freq": 9}),
    ({"max_steps": 500, "eval_strategy": "epoch"}, {"test_freq": 12}),
    (
        {"max_steps": 500, "eval_strategy": "IntervalStrategy.EPOCH", "save_strategy": "no"},
        {"test_freq": 12, "save_freq": -1},
    ),
    ({"max_steps": 500, "save_steps": 200}, {"save_freq": 200, "saves_last": True}),
    ({"max_steps": 500, "eval_on_start": True}, {"val_before_train": True, "val_after_train": False}),
    ({"max_steps": 500, "resume_from_checkpoint": "out/checkpoint-200"}, {"start_step": 200}),
    ({"max_steps": 500, "resume_from_checkpoint": True}, {"start_step": 0}),
]


@pytest.mark.parametrize(("config", "expected"), TRANSFORMERS, ids=[str(config) for config, _ in TRANSFORMERS])
def test_the_arguments_of_transformers_are_understood(config: dict[str, Any], expected: dict[str, Any]) -> None:
    plan = TrainingPlan.from_config(config, steps_per_epoch=12)
    assert {name: getattr(plan, name) for name in expected} == expected
    assert [w.code for w in plan.warnings() if w.code in ("unknown-value", "no-validation")] == []


def test_the_last_step_of_transformers_saves_after_it_has_validated() -> None:
    plan = TrainingPlan.from_config({"max_steps": 5, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 4})
    assert [(name, step) for name, step in plan.phases() if name != "TRAINING STEP"] == [
        ("PERIODIC VALIDATION", 2), ("PERIODIC VALIDATION", 4), ("CHECKPOINT SAVING", 4), ("CHECKPOINT SAVING", 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "code", "text"),
    [
        ({"eval_steps": 50}, "no-validation", "eval_steps=50 has no effect, since eval_strategy is not set to steps"),
        ({"eval_strategy": "epoch"}, "unknown-value", "eval_strategy=epoch depends on the data"),
        ({"save_strategy": "best"}, "unknown-value", "save_strategy=best depends on the data"),
    ],
)
def test_what_transformers_would_pass_over_is_warned_of(config: dict[str, Any], code: str, text: str) -> None:
    (warning,) = TrainingPlan.from_config({"max_steps": 500, **config}).warnings()
    assert warning.code == code
    assert text in str(warning)


# OmegaConf, the real one where it is installed, and one that fails as it does.


class Missing(Exception):
    pass


class Failing:
    """A mapping whose missing values raise when they are read, and which says that they are not in it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def keys(self) -> Any:
        return self.values.keys()

    def __contains__(self, key: str) -> bool:
        return key in self.values and self.values[key] != "???"

    def __getitem__(self, key: str) -> Any:
        value = self.values[key]
        if isinstance(value, str) and ("${" in value or value == "???"):
            raise Missing(key)
        return Failing(value) if isinstance(value, dict) else value


HALF = {"trainer": {"total_training_steps": 35, "total_epochs": "???", "test_freq": "${nowhere.at.all}", "save_freq": 5}}
UNKNOWN = ["trainer.test_freq", "trainer.total_epochs"]


@pytest.mark.parametrize("of", [Failing, dict], ids=["raising", "plain"])
def test_missing_values_and_interpolations_that_lead_nowhere_do_not_crash(of: Any) -> None:
    plan = TrainingPlan.from_config(of(HALF))
    assert (plan.total_steps, plan.epochs, plan.test_freq, plan.save_freq) == (35, None, -1, 5)
    assert sorted(warning.message.split("=")[0] for warning in plan.warnings()) == UNKNOWN


def test_a_configuration_of_omegaconf_is_understood() -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(HALF)
    plan = TrainingPlan.from_config(config)
    assert (plan.total_steps, plan.epochs, plan.test_freq, plan.save_freq) == (35, None, -1, 5)
    assert sorted(warning.message.split("=")[0] for warning in plan.warnings()) == UNKNOWN
    whole = omegaconf.OmegaConf.create(
        {"n": 35, "trainer": {"total_training_steps": "${n}", "test_freq": 5, "val_only": None}}
    )
    omegaconf.OmegaConf.set_struct(whole, True)
    plan = TrainingPlan.from_config(whole)
    assert (plan.total_steps, plan.test_freq, plan.warnings()) == (35, 5, [])


def test_an_interpolation_of_a_plain_mapping_is_followed_but_not_for_ever() -> None:
    config = {
        "n": "${m.k}",
        "m": {"k": 35},
        "trainer": {"total_training_steps": "${n}", "test_freq": "${trainer.test_freq}"},
    }
    plan = TrainingPlan.from_config(config)
    assert plan.total_steps == 35
    assert [warning.code for warning in plan.warnings()] == ["unknown-value"]
    assert TrainingPlan.from_config({"total_steps": "${oc.env:HOME}"}, total_steps=3).total_steps == 3


# Files.


def test_a_json_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.JSON"
    path.write_text(json.dumps(HALF), encoding="utf-8-sig")
    assert TrainingPlan.from_config(path, overrides=["trainer.test_freq=7"]).test_freq == 7


@pytest.mark.parametrize("name", ["config.yaml", "config.YML"])
def test_a_yaml_file_is_read(tmp_path: Path, name: str) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / name
    path.write_text(
        "x: &steps 35\ntrainer:\n  total_training_steps: *steps\n  test_freq: ${x}\n  save_freq: 1e3\n  val_only: no\n"
    )
    plan = TrainingPlan.from_config(str(path))
    assert (plan.total_steps, plan.test_freq, plan.save_freq, plan.val_only) == (35, 35, 1000, False)


def test_yaml_is_data_and_never_code(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "config.yaml"
    path.write_text(f"trainer: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")
    with pytest.raises(
        ValueError, match=r"config\.yaml: this is no YAML that can be read: could not determine a constructor"
    ):
        TrainingPlan.from_config(path)
    assert not (tmp_path / "made").exists()


def test_a_few_lines_that_make_a_billion_items_are_refused_in_one(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "config.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path.write_text("\n".join([*lines, "trainer: {total_training_steps: *a11, val_only: *a11}"]))
    with pytest.raises(ValueError, match=r"^trainer\.(total_training_steps|val_only)=a list must be "):
        TrainingPlan.from_config(path)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.json", "{", "this is no JSON that can be read: "),
        ("a.json", "[" * 100_000, "this is no JSON that can be read: "),
        ("a.json", "[1]", "holds a list where a mapping is expected"),
        ("a.json", "null", "holds nothing where a mapping is expected"),
        ("a.txt", "{}", r"a configuration is a \.sh, \.yaml or \.json file"),
        ("a.yaml", "a: [", "this is no YAML that can be read: "),
        ("a.yaml", "[" * 5_000, "this is no YAML that can be read: "),
        ("a.yaml", "", "holds nothing where a mapping is expected"),
        ("a.yaml", "a: \x00", "this is no YAML that can be read: "),
        ("a.json", "\udcff", "this is no JSON that can be read: "),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=f"{name}: {complaint}") as caught:
        TrainingPlan.from_config(path)
    assert len(str(caught.value)) < 1000


def test_without_pyyaml_a_person_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "a.yaml").write_text("a: 1")
    with pytest.raises(ImportError, match=r"PyYAML must be installed: pip install phasewatch\[yaml\]"):
        TrainingPlan.from_config(tmp_path / "a.yaml")


def test_a_file_that_is_not_there_is_an_error_of_the_system() -> None:
    for name in ("nowhere.sh", "nowhere.json"):
        with pytest.raises(FileNotFoundError):
            TrainingPlan.from_config(name)


def test_a_script_that_says_nothing_has_no_total(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("")
    with pytest.raises(ValueError, match="give total_steps"):
        TrainingPlan.from_config(tmp_path / "a.sh")
    assert TrainingPlan.from_config(tmp_path / "a.sh", overrides=["trainer.total_training_steps=3"]).total_steps == 3


@pytest.mark.parametrize("source", [{"trainer.total_training_steps": 35}, ["trainer.total_training_steps=35"]])
def test_an_override_with_a_slip_of_the_finger_is_told_with_what_may_be_meant(source: Any) -> None:
    given = [
        "trainer.test_frequ=10",
        "+data.val_batchsize=8",
        "trainer.nnodes=2",
        "data.val_files=a",
        "seed=1",
        "--test_frec=1",
    ]
    plan = TrainingPlan.from_config(source, overrides=given)
    slips = [warning for warning in plan.warnings() if warning.code == "unknown-key"]
    assert [slip.advice for slip in slips] == ["did you mean trainer.test_freq?", "did you mean data.val_batch_size?"]
    assert slips[0].message == "'trainer.test_frequ=10' says nothing of the plan, which knows no trainer.test_frequ"
    if isinstance(source, list):
        plan = TrainingPlan.from_config([*source, "trainer.save_freqs=3"])
        assert "did you mean trainer.save_freq?" in [warning.advice for warning in plan.warnings()]


def test_the_keys_of_verl_are_no_slips() -> None:
    # Of its trainer and its data, those that the plan does not read.
    of_trainer = (
        "balance_batch project_name experiment_name logger log_val_generations rollout_data_dir validation_data_dir nnodes "
        "n_gpus_per_node esi_redundant_time critic_warmup default_hdfs_dir del_local_ckpt_after_load default_local_dir "
        "max_actor_ckpt_to_keep max_critic_ckpt_to_keep ray_wait_register_center_timeout device use_v1"
    )
    of_data = (
        "tokenizer use_shm train_files val_files prompt_key reward_fn_key max_prompt_length max_response_length shuffle "
        "seed return_raw_chat truncation filter_overlong_prompts dataloader_num_workers validation_shuffle image_key"
    )
    words = [f"trainer.{key}=1" for key in of_trainer.split()] + [f"data.{key}=1" for key in of_data.split()]
    plan = TrainingPlan.from_config({"trainer.total_training_steps": 35}, overrides=words)
    assert "unknown-key" not in [warning.code for warning in plan.warnings()]
