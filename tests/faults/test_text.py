"""Hostile text: names, messages, metrics and errors that would break or forge what is written. Nothing of it may."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import phasewatch
from phasewatch import Event, PhaseEnded, PhaseStarted, Timeline, phase, read, summarize
from phasewatch.export import chrome, otlp_json, table
from phasewatch.sinks import ConsoleSink, JsonlSink, LoggingSink
from phasewatch.testing import MemorySink

RULE = "=" * 80
FORGED = "X\n✅ [META] PHASE COMPLETE: Y"
HOSTILE = {
    "a forged banner": FORGED,
    "a forged block": f"X\n{RULE}\n🏁 [META] ALL PHASES COMPLETE\n{RULE}\n",
    "a carriage return": "X\r✅ [META] PHASE COMPLETE: Y",
    "an escape": "X\x1b[2J\x1b[31mred",
    "an OSC": "X\x1b]0;owned\x07\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\",
    "a C1 control": "X\x9b31m\x85Y",
    "bidi": "X\u202eevil\u2066\u2069",
    "a line separator": "X\u2028✅ [META] PHASE COMPLETE: Y\u2029Z",
    "a surrogate": "X\ud800Y",
    "NUL": "X\x00Y",
    "length": "X" * 1_000_000,
    "markup": "[bold red]X[/] :tada: [link=http://evil]x[/link]",
    "formats": "%s %(name)s {0} {name} {} %",
    "a script": "</script><script>alert(1)</script>",
    "a formula": '=HYPERLINK("http://evil")',
    "a Ray prefix": "\x1b[36m(main_task pid=1)\x1b[0m ✅ [META] PHASE COMPLETE: Y",
    "nothing": "",
    "a progress line": "X\n📊 Validation [1/2] (50.0%) | Elapsed: 1s | ETA: 1s",
}
hostile = pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in HOSTILE.items()])


def work(text: str) -> None:
    """Phases in which the text stands in every place that there is."""
    with pytest.raises(ValueError), phasewatch.run(text or "run", message=text):  # noqa: PT011  # its message is the text
        options: dict[str, Any] = {
            "message": text, "unit": text, "total": 2, "emoji": text, "counters": {text: 2}, "details": {text: text},
            "epochs": text, "attribute": text,
        }  # fmt: skip
        with phase(text, **options) as handle:
            handle.advance(**{text or "x": 1.5})
            handle.log({text: 1.0, text + "/loss": 2.0})
            with handle.step():
                pass
        with phase("AFTER"):
            raise ValueError(text)


def recorded(text: str) -> list[Event]:
    sink = MemorySink()
    phasewatch.configure(sinks=[sink])
    work(text)
    return sink.events


@pytest.fixture(autouse=True)
def _as_before(phaselog: object) -> None:
    """Leave what is configured as it was."""


def is_harmless(text: str) -> bool:
    return all(char == "\n" or char.isprintable() or char in "\u200c\u200d" or ord(char) > 0xE000 for char in text)


@hostile
def test_no_text_forges_a_line_of_the_console_or_of_who_reads_it(text: str, tmp_path: Path) -> None:
    log = tmp_path / "training.log"
    with log.open("w", encoding="utf-8") as file:
        from rich.console import Console

        phasewatch.configure(sinks=[ConsoleSink(Console(file=file), mode="plain")])
        work(text)
    written = log.read_text(encoding="utf-8")
    assert is_harmless(written)
    assert max(map(len, written.splitlines())) < 10_000
    assert "[META] PHASE COMPLETE: Y" not in written
    assert "ALL PHASES COMPLETE" not in [line[7:26] for line in written.splitlines() if "[META]" in line]
    failed = [line for line in written.splitlines() if "[META] PHASE FAILED: AFTER" in line]
    assert len(failed) == 1
    events = list(read(log))
    assert not any(event.name == "Y" for event in events)
    ends = [event.status for event in events if isinstance(event, PhaseEnded) and event.phase.role == "run"]
    assert ends == ["failed"]


@hostile
def test_a_terminal_is_shown_no_control_but_those_of_the_console(text: str) -> None:
    from rich.console import Console

    file = io.StringIO()
    phasewatch.configure(sinks=[ConsoleSink(Console(file=file, force_terminal=True, width=80, color_system="truecolor"))])
    work(text)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert is_harmless(shown)


@hostile
def test_the_event_log_keeps_the_original(text: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    text = text[:50_000]  # it stands in ten places; who reads takes no line of megabytes
    sink = MemorySink()
    log = JsonlSink(path)
    phasewatch.configure(sinks=[sink, log])
    work(text)
    log.close()
    assert all(json.loads(line) for line in path.read_bytes().splitlines())
    events = list(read(path))
    assert [(event.type, event.name) for event in events] == [(event.type, event.name) for event in sink.events]
    (start,) = [
        event for event in events if isinstance(event, PhaseStarted) and event.phase.message == text and event.parent
    ]
    assert (start.name, start.phase.unit, dict(start.phase.details)) == (text, text or "item", {text: text})
    (failed,) = [event for event in events if isinstance(event, PhaseEnded) and event.name == "AFTER"]
    assert failed.error == ("ValueError", text)


@hostile
def test_a_log_record_is_one_line(text: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    phasewatch.configure(sinks=[LoggingSink("phases")])
    work(text)
    records = [record for record in caplog.records if record.name == "phases"]
    assert len(records) >= 6
    for record in records:
        assert "\n" not in record.getMessage()
        assert is_harmless(record.getMessage())


@hostile
def test_exports_and_figures_are_of_their_format_whatever_stands_in_them(text: str) -> None:
    events = recorded(text)
    for export in (chrome, otlp_json):
        json.loads("".join(export(events)))
    json.dumps(summarize(Timeline.from_events(events)).as_dict())
    rows = list(csv.reader(io.StringIO("".join(table(events)), newline="")))
    assert len({len(row) for row in rows}) == 1
    assert not any(cell.startswith("=") for row in rows for cell in row)


def test_the_command_shows_no_escape_that_a_log_holds(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for text in HOSTILE.values():
        log = JsonlSink(path)
        phasewatch.configure(sinks=[log])
        work(text[:2000])
        log.close()
    for command in (["summary", str(path)], ["summary", "--json", str(path)], ["diff", str(path), str(path)]):
        done = subprocess.run(
            [sys.executable, "-m", "phasewatch", *command],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"},
        )
        assert done.returncode in (0, 1), done.stderr
        assert is_harmless(done.stdout.decode())
        assert done.stderr == b""
