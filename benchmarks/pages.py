"""Figures in the pages of the docs."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, name: str, text: str) -> None:
    """Put text between the marks of a page; the rest stays.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, mark, rest = page.read_text(encoding="utf-8").partition(begin)
    _, last, after = rest.partition(end)
    if not mark or not last:
        raise ValueError(f"{page.name} has no place for what stands between {begin.strip()} and {end.strip()}")
    page.write_text(f"{before}{mark}{text}{last}{after}", encoding="utf-8")
