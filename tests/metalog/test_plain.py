"""Text from outside, made harmless for a line of a log."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch.metalog.plain import encodable, one_line

LONGEST = 1000
JOINERS = "\u200c\u200d"
any_text = st.text(alphabet=st.characters())  # surrogates included
# What an attack is made of, more often than chance would have it.
hostile = st.lists(
    st.one_of(
        st.sampled_from(
            ["[META]", "[ME", "TA]", "[", "]", "\n", "\r", "\x1b[2J", "\u202e", "\u2028", "\x85", "\ud800", "\u200d", "="]
        ),
        any_text,
    ),
    max_size=12,
).map("".join)


def is_harmless(char: str) -> bool:
    return char in JOINERS or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


@given(hostile)
def test_whatever_comes_in_no_control_separator_or_half_character_comes_out(text: str) -> None:
    line = one_line(text)
    assert all(is_harmless(char) for char in line)
    assert len(line.splitlines()) <= 1
    assert "[META]" not in line
    line.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines", "two lines"),
        ("a\r\nb", "a  b"),
        ("tab\there", "tab here"),
        ("a\u2028b\u2029c\x85d\x0be\x0cf", "a b c d e f"),
        ("no\u00a0break", "no break"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("bell\x07", r"bell\x07"),
        ("nul\x00", r"nul\x00"),
        ("back\x08space", r"back\x08space"),
        ("c1\x9b", r"c1\x9b"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("\ufeffbom", r"\ufeffbom"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("half \udc80", r"half \udc80"),
    ],
    ids=ascii,
)
def test_white_space_is_a_space_and_a_control_its_escape(text: str, line: str) -> None:
    assert one_line(text) == line


@pytest.mark.parametrize("text", ["👩‍🔬", "می‌خواهم", "❤️", "\ue000", "\U0001faff", "naïve 验证 ✅"], ids=ascii)
def test_composed_emoji_scripts_and_signs_newer_than_this_python_are_kept(text: str) -> None:
    assert one_line(text) == text


@given(any_text.filter(lambda text: text.isprintable() and "[META]" not in text))
def test_printable_text_is_left_as_it_is(text: str) -> None:
    assert one_line(text) == text


@given(st.text(alphabet="abc é🔧[]MET", min_size=LONGEST - 5, max_size=LONGEST + 5))
def test_a_text_is_cut_at_a_thousand_characters(text: str) -> None:
    line = one_line(text)
    assert len(line) <= LONGEST
    assert line.endswith("…") == (len(text) > LONGEST)
    kept = line.removesuffix("…").lower()
    assert text.lower().startswith(kept)


def test_a_megabyte_of_name_is_cut_too() -> None:
    assert one_line("x" * 1_000_000) == "x" * (LONGEST - 1) + "…"


def test_nothing_can_pass_for_a_banner() -> None:
    assert one_line("✅ [META] ALL PHASES COMPLETE") == "✅ [meta] ALL PHASES COMPLETE"
    assert one_line("[META][META]") == "[meta][meta]"
    # "grep '[META]'" finds only what phasewatch wrote: what is cut or escaped cannot make the mark either
    assert one_line("[ME[META]TA]") == "[ME[meta]TA]"


@pytest.mark.parametrize(
    ("value", "line"), [(256, "256"), (0.5, "0.5"), (None, "None"), (["a\n"], r"['a\n']"), (b"x", "b'x'")]
)
def test_any_value_is_shown_as_its_text(value: object, line: str) -> None:
    assert one_line(value) == line


def test_a_value_whose_text_cannot_be_made_is_shown_by_its_type() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    assert one_line(Broken()) == "<unprintable Broken>"


# Encodings.

ENCODINGS = ["ascii", "latin-1", "cp1252", "utf-8", "cp437", "shift_jis", "gb18030", "mac_roman", "utf-16"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=any_text)
def test_what_comes_out_can_be_encoded(encoding: str, text: str) -> None:
    encodable(text, encoding).encode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(text=any_text)
def test_what_can_be_encoded_is_left_as_it_is(encoding: str, text: str) -> None:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return
    assert encodable(text, encoding) == text


@pytest.mark.parametrize(
    ("text", "encoding", "line"),
    [
        ("🔧 [META] PHASE: INITIALIZATION", "ascii", "[META] PHASE: INITIALIZATION"),
        ("🔧 [META] PHASE: INITIALIZATION", "cp1252", "[META] PHASE: INITIALIZATION"),
        ("📊 Größe [1/2]", "latin-1", "Größe [1/2]"),
        ("📊 Größe [1/2]", "ascii", "Gr??e [1/2]"),
        ("🔧 [META] PHASE: INITIALIZATION", "utf-8", "🔧 [META] PHASE: INITIALIZATION"),
        ("plain 🔧 text", "ascii", "plain ? text"),
        ("Größe: 3", "ascii", "Gr??e: 3"),
        ("🔧", "ascii", "?"),  # nothing would be left
        ("half \udc80", "utf-8", "half ?"),
    ],
)
def test_an_emoji_at_the_start_goes_with_its_space_and_others_become_a_question_mark(
    text: str, encoding: str, line: str
) -> None:
    assert encodable(text, encoding) == line


@given(any_text)
def test_with_an_encoding_that_nobody_knows_the_text_is_left_as_it_is(text: str) -> None:
    assert encodable(text, "klingon") == text
    # An encoding of bytes, and no text encoding, is no better.
    assert encodable(text, "base64") == text


def test_a_long_text_of_controls_is_no_longer_than_any_other() -> None:
    assert len(one_line("\x00" * 1000)) == 1000


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("  naïve", "ascii", "  na?ve"),
        ("é 🔧", "latin-1", "é ?"),
        ("验证 done", "ascii", "?? done"),
        ("🔧 done", "ascii", "done"),
    ],
)
def test_only_an_emoji_that_cannot_be_encoded_is_left_out(text: str, encoding: str, shown: str) -> None:
    assert encodable(text, encoding) == shown
