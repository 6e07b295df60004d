"""Every snippet of the README and the docs runs, and prints what stands under it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
