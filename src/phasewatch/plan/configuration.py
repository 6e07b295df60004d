"""From what trainers are configured with to the arguments of a plan. docs/plans.md lists the keys.

Nothing of a configuration is run: a script is read, and YAML as plain data.
"""

from __future__ import annotations

import difflib
import importlib
import json
import math
import os
import re
from typing import TYPE_CHECKING, Any

from .schedule import PlanWarning
from .shell import GAP, commands
from .values import is_missing, is_nothing, read_bool, read_int, read_number, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Reader = Callable[[str, object], Any]

_SCRIPTS, _JSON, _YAML = (".sh", ".bash", ".zsh", ".slurm", ".sbatch"), (".json",), (".yaml", ".yml")
_NEVER, _STEPS = -1, 500  # what transformers do where nothing is said
_MOST_HOPS = 10
_ALIKE = 0.85  # of two names, from which on one may be meant for the other
_INTERPOLATION = re.compile(r"\$\{([\w.]+)\}")
_OVERRIDE = re.compile(r"(\+{0,2}|~)([A-Za-z_][\w.@/-]*)(?:=(.*))?", re.DOTALL)
_DASHED = re.compile(r"--([A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)
_STEP_OF_VERL, _STEP_OF_TRANSFORMERS = re.compile(r"global_step_(\d{1,15})"), re.compile(r"checkpoint-(\d{1,15})(?!\d)")


def _size(key: str, value: object) -> int | None:
    """Return a number of samples or batches; one below 1 is how some configurations write that there is none."""
    size = read_int(key, value)
    return size if size > 0 else None


# What is taken as it stands: the key, the argument of the plan, and what reads it. A later key goes before an earlier one.
_KEYS: tuple[tuple[str, str, Reader], ...] = (
    ("total_steps", "total_steps", read_int),
    ("epochs", "epochs", read_int),
    ("steps_per_epoch", "steps_per_epoch", read_int),
    ("val_before_train", "val_before_train", read_bool),
    ("val_only", "val_only", read_bool),
    ("val_after_train", "val_after_train", read_bool),
    ("test_freq", "test_freq", read_int),
    ("save_freq", "save_freq", read_int),
    ("val_batches", "val_batches", read_int),
    ("start_step", "start_step", read_int),
    ("at_last_step", "at_last_step", read_bool),
    ("train_samples", "train_samples", read_int),
    ("train_batch_size", "train_batch_size", _size),
    ("val_samples", "val_samples", read_int),
    ("val_batch_size", "val_batch_size", _size),
    ("drop_last", "drop_last", read_bool),
    ("val_drop_last", "val_drop_last", read_bool),
    ("dataloader_drop_last", "drop_last", read_bool),
    ("data.train_batch_size", "train_batch_size", _size),
    ("data.gen_batch_size", "train_batch_size", _size),
    ("data.val_batch_size", "val_batch_size", _size),
    ("trainer.total_training_steps", "total_steps", read_int),
    ("trainer.total_epochs", "epochs", read_int),
    ("trainer.val_before_train", "val_before_train", read_bool),
    ("trainer.val_only", "val_only", read_bool),
    ("trainer.val_after_train", "val_after_train", read_bool),
    ("trainer.test_freq", "test_freq", read_int),
    ("trainer.save_freq", "save_freq", read_int),
)
_OF_VERL = ("data.train_max_samples", "data.val_max_samples", "trainer.resume_from_path", "trainer.resume_mode")
_OF_TRANSFORMERS = (
    "max_steps", "num_train_epochs", "eval_steps", "eval_strategy", "evaluation_strategy", "eval_on_start", "logging_steps",
    "save_steps", "save_strategy", "resume_from_checkpoint",
)  # fmt: skip
KNOWN = frozenset(key for key, _, _ in _KEYS) | {*_OF_VERL, *_OF_TRANSFORMERS}


class Arguments:
    """The arguments of a plan that a configuration gives, and what of it could not be read."""

    def __init__(self, values: dict[str, Any], warnings: tuple[PlanWarning, ...]) -> None:
        self.values = values
        self.warnings = warnings


def arguments_of(source: Any, overrides: Iterable[str], given: Mapping[str, Any]) -> Arguments:
    """Return what a configuration says of the schedule.

    Args:
        source: a mapping, a list of overrides, or a path; as `TrainingPlan.from_config` takes it.
        overrides: what goes before the source; the arguments that a script is called with.
        given: arguments of the plan that go before both.

    Raises:
        TypeError: the source is none of these.
        ValueError: a file that is not what its name says, or a value that is not of its option's type.
        OSError: a file that cannot be read.
        ImportError: YAML, without PyYAML.
    """
    words = _words(overrides, "overrides")
    found = _found(source, words)
    unknown = {key: value for key, value in found.items() if is_missing(value) or (isinstance(value, str) and GAP in value)}
    found = {key: value for key, value in found.items() if key not in unknown and not is_nothing(value)}
    warnings = [_of_unknown(key, value) for key, value in unknown.items()]
    warnings += _slips([*words, *(source if isinstance(source, (list, tuple)) else ())])
    values = _of_transformers(found, given, warnings)
    for key, option, read in _KEYS:
        if key in found:
            value = read(key, found[key])
            if value is not None:
                values[option] = value
    path = found.get("trainer.resume_from_path")
    if isinstance(path, (str, os.PathLike)) and found.get("trainer.resume_mode", "resume_path") == "resume_path":
        match = _STEP_OF_VERL.search(str(path))
        if match:
            values["start_step"] = int(match[1])
    values |= given
    for key, option in (("data.train_max_samples", "train_samples"), ("data.val_max_samples", "val_samples")):
        most = _size(key, found[key]) if key in found else None
        if most is not None and values.get(option) is not None:  # of a set of this size, so many are used
            values[option] = min(most, read_int(option, values[option]))
    return Arguments(values, tuple(warnings))


def _of_unknown(key: str, value: object) -> PlanWarning:
    text = "???" if is_missing(value) else str(value).replace(GAP, "…")
    return PlanWarning(
        "unknown-value", f"{key}={text} cannot be known before the run, and is taken as not given", "give it as an override"
    )


def _slips(words: Iterable[object]) -> Iterator[PlanWarning]:
    """Yield a warning for each override that is one of ours but for a slip of the finger; those of others are many."""
    for word in words:
        match = _OVERRIDE.fullmatch(str(word))
        if match is None or match[2] in KNOWN or "." not in match[2]:
            continue
        room, _, name = match[2].rpartition(".")
        names = [key.rpartition(".")[2] for key in KNOWN if key.rpartition(".")[0] == room]
        for near in difflib.get_close_matches(name, names, n=1, cutoff=_ALIKE):
            told = f"{shown(str(word))} says nothing of the plan, which knows no {match[2]}"
            yield PlanWarning("unknown-key", told, f"did you mean {room}.{near}?")


# Sources.


def _found(source: Any, overrides: list[str]) -> dict[str, object]:
    """Return what a source says, by the keys that are known."""
    if isinstance(source, str) and "=" in source and not os.path.exists(source):
        raise TypeError(
            f"TrainingPlan.from_config: {shown(source)} is no file; put overrides into a list: [{shown(source)}]"
        )
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if isinstance(path, str) and path.lower().endswith(_SCRIPTS):
            return _of_script(_text(path), overrides)
        source = _mapping_of_file(path)
    if hasattr(source, "keys"):
        return _overridden(_of_mapping(source), overrides)
    return _overridden(_overridden({}, _words(source, "source")), overrides)


def _words(source: object, what: str) -> list[str]:
    if isinstance(source, (str, bytes)) or not hasattr(source, "__iter__"):
        may_be = "" if what == "overrides" else ", nor a mapping, nor the path of a .sh, .yaml or .json file"
        raise TypeError(f"TrainingPlan.from_config: {what} {shown(source)} is no list of 'trainer.x=y' overrides{may_be}")
    return [str(word) for word in source]


def _text(path: str) -> str:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return file.read()


def _mapping_of_file(path: Any) -> Any:
    name = str(path)
    parse: Callable[[str], object]
    if name.lower().endswith(_JSON):
        kind, parse = "JSON", json.loads
    elif name.lower().endswith(_YAML):
        kind, parse = "YAML", _yaml()
    else:
        raise ValueError(f"{name}: a configuration is a .sh, .yaml or .json file, or a mapping, or a list of overrides")
    text = _text(name)
    try:
        found = parse(text)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name}: this is no {kind} that can be read: {reason}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{name}: holds {'nothing' if found is None else shown(found)} where a mapping is expected")
    return found


def _yaml() -> Callable[[str], object]:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise ImportError("to read YAML, PyYAML must be installed: pip install phasewatch[yaml]", name="yaml") from None

    def parse(text: str) -> object:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from None

    return parse


def _of_script(text: str, arguments: list[str]) -> dict[str, object]:
    """Return what the command says that has the most to say of the schedule; of several, the last."""
    best: list[str] = []
    most = -1
    for words in commands(text, arguments):
        known = len(_overridden({}, words))
        if known >= most:
            best, most = words, known
    passes_them_on = any(argument in best for argument in arguments)
    return _overridden({}, best if passes_them_on else [*best, *arguments])


def _overridden(found: dict[str, object], words: Sequence[str]) -> dict[str, object]:
    """Return what was found, changed by overrides: those of Hydra (``a=b``, ``+a=b``, ``~a``), ``--a=b`` and ``--a b``."""
    found = dict(found)
    for number, word in enumerate(words):
        dashed = _DASHED.fullmatch(word)
        match = dashed or _OVERRIDE.fullmatch(word)
        if match is None:
            continue
        sign, name, value = ("", *match.groups()) if dashed else match.groups()
        key = name.replace("-", "_") if dashed else name
        if key not in KNOWN:
            continue
        if sign == "~":
            found.pop(key, None)
        elif value is not None:
            found[key] = _unquoted(value)
        elif dashed:
            after = words[number + 1] if number + 1 < len(words) else "--"
            found[key] = "true" if after.startswith("--") else after
    return found


def _unquoted(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _of_mapping(config: Any) -> dict[str, object]:
    found = {}
    for key in KNOWN:
        there, value = _look_up(config, key)
        if there:
            found[key] = _resolved(config, value)
    return found


def _look_up(config: Any, key: str) -> tuple[bool, Any]:
    """Return whether a mapping has a key, flat or nested, and its value; what it cannot tell is a gap."""
    try:
        if key in config:
            return True, config[key]
        for part in key.split("."):
            if not hasattr(config, "keys"):
                return False, None
            if part not in config:
                # OmegaConf says so of what is missing, and of what depends on something that is.
                return (True, GAP) if part in list(config.keys()) else (False, None)
            config = config[part]
    except Exception:  # an interpolation that leads nowhere; the types of OmegaConf's errors need its import
        return True, GAP
    return True, config


def _resolved(config: Any, value: Any) -> Any:
    """Return what a value such as ``${trainer.epochs}`` leads to; a gap if that is nowhere."""
    for _ in range(_MOST_HOPS):
        if not isinstance(value, str) or "${" not in value:
            return value
        match = _INTERPOLATION.fullmatch(value.strip())
        there, value = _look_up(config, match[1]) if match else (False, None)
        if not there:
            break
    return GAP


# The custom of transformers.


def _of_transformers(found: dict[str, object], given: Mapping[str, Any], warnings: list[PlanWarning]) -> dict[str, Any]:
    """Return what the keys of transformers' TrainingArguments say, with the defaults that they have there."""
    if "max_steps" not in found and "num_train_epochs" not in found:
        return {}
    values: dict[str, Any] = {"val_before_train": False, "val_after_train": False}
    total = read_int("max_steps", found.get("max_steps", -1))
    if total > 0:  # goes before the epochs, and through the data as often as that takes
        values["total_steps"] = total
    elif "num_train_epochs" in found:
        epochs = read_number("num_train_epochs", found["num_train_epochs"])
        values["epochs"] = math.ceil(epochs)
        each = given.get("steps_per_epoch")
        if each is not None and epochs != values["epochs"]:
            values["total_steps"] = math.ceil(epochs * read_int("steps_per_epoch", each))
    if "eval_on_start" in found:
        values["val_before_train"] = read_bool("eval_on_start", found["eval_on_start"])
    path = found.get("resume_from_checkpoint")
    match = _STEP_OF_TRANSFORMERS.search(path) if isinstance(path, str) else None
    if match:
        values["start_step"] = int(match[1])

    values["test_freq"] = _frequency(found, given, values, warnings, "eval", "no")
    values["save_freq"] = _frequency(found, given, values, warnings, "save", "steps")
    values["saves_last"] = values["save_freq"] > 0
    return values


def _frequency(
    found: dict[str, object],
    given: Mapping[str, Any],
    values: dict[str, Any],
    warnings: list[PlanWarning],
    what: str,
    default: str,
) -> int:
    """Return every how many steps transformers evaluate or save."""
    steps, strategy = f"{what}_steps", f"{what}_strategy"
    if what == "eval" and strategy not in found:
        found = {**found, strategy: found.get("evaluation_strategy", default)}  # its name until version 4.45
    # Their own type of strategies is a text as well; its str() may have the name of the class.
    kind = str(found.get(strategy, default)).rpartition(".")[2].lower()
    each = given.get("steps_per_epoch")
    if kind == "steps":
        otherwise = found.get("logging_steps", _STEPS) if what == "eval" else _STEPS
        number = read_number(steps, found.get(steps, otherwise))
        if not 0 < number < 1:
            return read_int(steps, number)
        total = values.get("total_steps") or (values["epochs"] * int(each) if each is not None else 0)
        return math.ceil(number * total) or _NEVER  # a share of all steps
    if kind == "epoch" and each is not None:
        return read_int("steps_per_epoch", each)
    if kind != "no":
        told = f"{strategy}={kind} depends on the data, and is taken as never"
        warnings.append(PlanWarning("unknown-value", told, "give steps_per_epoch" if kind == "epoch" else ""))
    elif what == "eval" and steps in found:
        told = f"eval_steps={shown(found[steps])} has no effect, since eval_strategy is not set to steps"
        warnings.append(PlanWarning("no-validation", told, "set eval_strategy=steps"))
    return _NEVER
