"""The house: imports go downward only, and siblings do not know each other."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import phasewatch

ROOT = Path(phasewatch.__file__).parent

# Modules of one floor may not import each other; those of one room (a folder) have floors of their own inside it.
FLOORS = [
    {"_annotations"},
    {"_samples", "_series", "_spans"},
    {
        "_report",
        "_environment",
        "_fault",
        "_forks",
        "_rich",
        "_loops",
        "_wrap",
        "events",
        "durations",
        "eta",
        "plan",
        "stalls",
    },
    {"_tally", "_vigil", "_carrier", "_lives", "_records", "metalog", "timeline", "totals"},
    {"_process", "_monitor", "_spec", "sinks", "reader", "summary"},
    {"comparison", "export", "_history"},
    {"_tables"},
    {"outlook", "_watch"},
    {"_dispatcher", "_extra"},
    {"_outlet"},
    {"_counting"},
    {"_overseen"},
    {"_tracker"},
    {"_config"},
    {"_termination", "_attach"},
    {"_phase", "_run"},
    {"cli", "testing"},
    {"__main__"},
    {"__init__"},
    {"integrations"},  # use what anybody may use
]
ROOMS = {
    "metalog": [
        {"catalog", "lines", "plain"},
        {"banners", "stack"},
        {"grammar", "trainers"},
        {"parse"},
        {"__init__"},
    ],
    "sinks": [{"jsonl", "live", "otel", "queued", "region", "stdlib"}, {"console"}, {"__init__"}],
    "eta": [{"lengths"}, {"forecast"}, {"__init__"}],
    # One file a framework, between what they share and what frameworks find without asking for it.
    "integrations": [
        {"_carried", "_collected", "_flow", "_later"},
        {"keras", "lightning", "ray", "transformers", "verl"},
        {"_entry", "_verl_plugin"},
        {"__init__"},
    ],
    "plan": [{"shell", "values"}, {"schedule"}, {"configuration"}, {"training"}, {"__init__"}],
}


def floor_of(module: str, floors: list[set[str]]) -> int:
    (floor,) = [number for number, modules in enumerate(floors) if module in modules]
    return floor


def modules() -> list[tuple[str, ...]]:
    return [path.relative_to(ROOT).with_suffix("").parts for path in sorted(ROOT.rglob("*.py"))]


def imported_by(module: tuple[str, ...]) -> set[tuple[str, ...]]:
    """The modules of the package that a module imports, those for the type checker included."""
    tree = ast.parse(ROOT.joinpath(*module).with_suffix(".py").read_text(encoding="utf-8"))
    known = set(modules())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = module[: len(module) - node.level] + tuple((node.module or "").split(".") if node.module else ())
            found |= {(*base, alias.name) for alias in node.names if (*base, alias.name) in known}
            if base in known:
                found.add(base)
            elif not node.module or (*base, "__init__") in known:
                found |= {
                    (*base, alias.name, "__init__") for alias in node.names if (*base, alias.name, "__init__") in known
                }
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "phasewatch" for name in names), "imports inside the package are relative"
    return found - {module}


@pytest.mark.parametrize("module", modules(), ids="/".join)
def test_imports_go_downward_only(module: tuple[str, ...]) -> None:
    for target in imported_by(module):
        if module[0] == target[0]:
            floors = ROOMS[module[0]]
            assert floor_of(target[1], floors) < floor_of(module[1], floors), f"{module} imports {target}"
        else:
            assert floor_of(target[0], FLOORS) < floor_of(module[0], FLOORS), f"{module} imports {target}"


def test_the_check_sees_imports_of_every_form() -> None:
    assert ("events",) in imported_by(("_tracker",))
    assert ("_wrap",) in imported_by(("_tracker",))  # from . import _wrap
    assert ("metalog", "catalog") in imported_by(("metalog", "banners"))
    assert ("events",) in imported_by(("sinks", "console"))  # from ..events import
    assert ("sinks", "console") in imported_by(("testing",))  # inside a function
    assert ("sinks", "__init__") in imported_by(("__init__",))  # from . import sinks


def test_no_module_is_without_a_floor() -> None:
    assert {module[0] for module in modules()} == set().union(*FLOORS)
    for room, floors in ROOMS.items():
        assert {module[1] for module in modules() if module[0] == room} == set().union(*floors)


def test_no_file_shadows_a_name_of_the_standard_library() -> None:
    assert not {module[-1] for module in modules()} & set(sys.stdlib_module_names)
