"""Draws recorded output, as a terminal shows it: ``python docs/images/recorded.py lightning`` reads lightning.log."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from draw import FORMAT, console
from rich.terminal_theme import MONOKAI
from rich.text import Text

STYLES = {"✅": "bold green", "🎉": "bold green", "🏁": "bold green", "❌": "bold red", "🛑": "bold yellow"}


def styled(line: str) -> Text:
    """Return a line as a terminal shows it."""
    if set(line) == {"="}:
        return Text(line, "dim")
    is_heading = line.startswith(("Where the time went", "Ranks, by the time"))
    return Text(line, STYLES.get(line[:1], "bold cyan") if "[META]" in line else "bold" if is_heading else "")


def main(names: list[str]) -> None:
    """Draw each of them."""
    for name in names:
        log, screen = Path(__file__).with_name(f"{name}.log"), console()
        for line in log.read_text(encoding="utf-8").strip("\n").split("\n"):
            screen.print(styled(line), soft_wrap=True)
        svg = screen.export_svg(title=f"phasewatch: {name}", theme=MONOKAI, code_format=FORMAT, unique_id=name)
        log.with_suffix(".svg").write_text(re.sub(r"[ \t]+\n", "\n", svg), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
