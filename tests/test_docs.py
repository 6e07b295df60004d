"""Every snippet of the README and the docs runs, and prints what stands under it."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import phasewatch

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPET = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


def snippets() -> list[object]:
    found: list[object] = []
    for page in PAGES:
        for match in SNIPPET.finditer(page.read_text(encoding="utf-8")):
            line = page.read_text(encoding="utf-8")[: match.start()].count("\n") + 1
            found.append(pytest.param(*match.groups(), id=f"{page.relative_to(ROOT)}:{line}"))
    return found


# What needs a framework runs in the environment of the long tests that has it: ``python trainers``, and ``python verl``.
OF_TRAINERS = re.compile(r"^```python (trainers|verl)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]  # of which the processor is one


def snippets_of(trainers: str) -> list[Any]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in OF_TRAINERS.finditer(text):
            if match[1] == trainers:
                line = text[: match.start()].count("\n") + 1
                found.append(pytest.param(match[2], id=f"{page.name}:{line}"))
    return found


def ran(code: str, folder: Path, *launcher: str) -> str:
    (folder / "train.py").write_text(code, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PHASEWATCH_", "COV"))}
    environment |= {"PYTHONIOENCODING": "utf-8", "KERAS_BACKEND": "torch", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment["ACCELERATE_USE_CPU"] = "true"
    command = [sys.executable, *launcher, "train.py"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.trainers
@pytest.mark.parametrize("code", snippets_of("trainers"))
def test_a_snippet_with_a_framework_runs_to_its_last_banner(code: str, tmp_path: Path) -> None:
    assert "[META] ALL PHASES COMPLETE" in ran(code, tmp_path)


@pytest.mark.trainers
@pytest.mark.parametrize("code", snippets_of("verl"))
def test_a_snippet_of_verl_runs(code: str, tmp_path: Path) -> None:
    ran(code, tmp_path)


@pytest.mark.trainers
@pytest.mark.parametrize(
    ("page", "launcher"), [("accelerate.md", ACCELERATE), ("accelerate.md", TORCHRUN), ("pytorch.md", TORCHRUN)]
)
def test_the_same_program_is_a_job_of_two_ranks(page: str, launcher: list[str], tmp_path: Path) -> None:
    (code,) = [match[2] for match in OF_TRAINERS.finditer((ROOT / "docs" / page).read_text(encoding="utf-8"))]
    printed = ran(code, tmp_path, *launcher)
    assert printed.count("[META] PHASE: TRAINING START") == 1
    (log,) = [path for path in tmp_path.iterdir() if path.name in ("logs", "sums.jsonl")]
    summary = phasewatch.summarize(phasewatch.read(log))
    assert (summary.ranks, summary.status) == ([0, 1], "completed")


def without_durations(text: str) -> str:
    return re.sub(r"(?<=: )(\d+(\.\d+)?(ms|s|m|h|d)|--)(?= \||$)", "TIME", text, flags=re.MULTILINE)


@pytest.mark.parametrize(("code", "printed"), snippets())
def test_a_snippet_runs_and_prints_what_stands_under_it(code: str, printed: str | None, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PHASEWATCH_", "COV"))}
    environment |= {"PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "error", "NO_COLOR": "", "FORCE_COLOR": ""}
    if "def test_" in code:
        (tmp_path / "test_snippet.py").write_text(code, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "test_snippet.py"]
    else:
        command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    if printed is not None:
        assert without_durations(done.stdout) == without_durations(printed)


def test_the_five_lines_of_the_readme_are_five() -> None:
    code, printed = SNIPPET.findall(PAGES[0].read_text(encoding="utf-8"))[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 5
    assert printed


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("verl", ["PRE-TRAINING VALIDATION", "Validation [3/3] (100.0%) | Questions: 10/10 | Avg Reward: ", "update_actor"]),
        (
            "transformers",
            ["POST-TRAINING VALIDATION", "Validation [4/4] (100.0%) | Samples: 256/256", "ALL PHASES COMPLETE"],
        ),
        ("lightning", ["SANITY CHECK", "Validation [3/3] (100.0%)", "ALL PHASES COMPLETE"]),
        ("keras", ["Metrics: loss=", "CHECKPOINT SAVED SUCCESSFULLY", "ALL PHASES COMPLETE"]),
        ("accelerate", ["Step 4/4 (100.0%)", "CHECKPOINT SAVED SUCCESSFULLY", "ALL PHASES COMPLETE"]),
        ("pytorch", ["TRAINING COMPLETE", "POST-TRAINING VALIDATION", "ALL PHASES COMPLETE"]),
        ("ray", ["LOAD WEIGHTS", "TOKENIZE", "GENERATE"]),
        ("ranks", ["Ranks, by the time that each spent", "Others waited", "COMPUTE"]),
    ],
)
def test_the_page_of_each_framework_has_a_picture_of_what_it_tells(name: str, shown: list[str]) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert f"](images/{name}.svg)" in page
    picture = (ROOT / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8")
    text = html.unescape(re.sub(r"<[^>]+>", "", picture)).replace("\xa0", " ")
    assert [words for words in shown if words not in text] == []


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:`|\n|^)make ([a-z-]+)", page.read_text(encoding="utf-8"))}
    assert {"run", "test"} <= named <= targets
