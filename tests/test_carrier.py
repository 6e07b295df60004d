"""The text that goes from one process to another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch import PhasewatchWarning
from phasewatch._carrier import Carrier, read_carrier, write_carrier
from phasewatch.events import PhaseInfo

LIMIT = 100_000  # what fits an environment variable, with its name


def info(*path: str, id: str = "a.1", run: str | None = "a.0") -> PhaseInfo:
    return PhaseInfo(path[-1] if path else "run", id=id, run=run, path=path, role="phase")


def said(carrier: Carrier) -> tuple[Any, ...]:
    origin = carrier.origin
    return (origin and (origin.id, origin.run, origin.path), carrier.log)


TEXTS = st.text(min_size=1)


@given(TEXTS, st.none() | TEXTS, st.lists(st.text()), st.none() | TEXTS)
def test_what_was_written_is_read(id: str, run: str | None, path: list[str], log: str | None) -> None:
    text = write_carrier(info(*path, id=id, run=run), log)
    assert said(read_carrier(text, "test")) == ((id, run, tuple(path)), log)


def test_a_carrier_is_ascii_without_nul_so_that_an_environment_holds_it() -> None:
    text = write_carrier(info("\0", "\ud800", "🔄\n"), "/tmp/ü")
    assert text.isascii()
    assert text.isprintable()
    assert said(read_carrier(text, "test")) == (("a.1", "a.0", ("\0", "\ud800", "🔄\n")), "/tmp/ü")


def test_nothing_to_carry_is_an_empty_text_which_says_nothing() -> None:
    assert write_carrier(None, None) == ""
    assert said(read_carrier("", "test")) == (None, None)


def test_a_log_alone_is_carried() -> None:
    assert said(read_carrier(write_carrier(None, "/log"), "test")) == (None, "/log")


def test_of_names_without_measure_only_the_beginnings_of_the_last_are_carried() -> None:
    names = [f"{number}{'🔄' * 10**6}" for number in range(3)] + [f"P{number}" for number in range(9)]
    text = write_carrier(info(*names), "/log")
    assert len(text) <= LIMIT
    (id, run, path), log = said(read_carrier(text, "test"))
    assert (id, run, log) == ("a.1", "a.0", "/log")
    assert path == (names[2][:500], *names[3:])


def test_what_can_not_be_made_short_is_not_carried() -> None:
    assert write_carrier(info("A", id="a" * LIMIT), None) == ""
    assert write_carrier(None, "a" * LIMIT) == ""


@pytest.mark.parametrize(
    "text",
    [
        None,
        b"{}",
        5,
        "x",
        "{",
        "[]",
        '"a.1"',
        "5",
        "null",
        "[" * 50_000,
        " " * LIMIT + "{}",
        '{"id": 5}',
        '{"id": 0}',
        '{"id": ""}',
        '{"id": ["a"]}',
        '{"id": "a.1", "run": 0}',
        '{"id": "a.1", "run": false}',
        '{"id": "a.1", "path": "AB"}',
        '{"id": "a.1", "path": null}',
        '{"id": "a.1", "path": {"A": 1}}',
        '{"id": "a.1", "path": ["A", 1]}',
        '{"log": 0}',
        '{"log": ""}',
        '{"log": ["a"]}',
        '{"id": "a.1", "log": {}}',
    ],
    ids=lambda text: repr(text)[:30],
)
def test_what_is_no_carrier_is_warned_of_and_says_nothing(text: Any) -> None:
    with pytest.warns(PhasewatchWarning, match=r"^the queue: .* is no carrier") as caught:
        assert said(read_carrier(text, "the queue")) == (None, None)
    assert len(caught) == 1
    assert len(str(caught[0].message)) < 400


def test_what_is_not_known_is_passed_over() -> None:
    text = json.dumps({"id": "a.1", "version": 2, "baggage": {}})
    assert said(read_carrier(text, "test")) == (("a.1", None, ()), None)
