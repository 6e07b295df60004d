"""Text from outside, made safe to stand in a line of a log.

Names, messages, metrics and errors come from anywhere: a file name, a model's output, a user. None may break a line,
move the cursor, recolour the terminal, reorder what is read, or pass for a banner that was never written.
"""

from __future__ import annotations

import unicodedata

MARK = "[META]"

_LONGEST = 1000  # characters; a megabyte of name helps nobody, and the event keeps it
_JOINERS = "\u200c\u200d"  # of composed emoji and of several scripts; harmless, though Unicode calls them controls
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats (bidirectional ones among them), surrogates, separators


def one_line(value: object) -> str:
    """Return any value as harmless text of one line: white space is a space, a control its Python escape."""
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception:
        text = f"<unprintable {type(value).__name__}>"
    if not text.isprintable():
        text = "".join(char if char.isprintable() else _harmless(char) for char in text[: _LONGEST + 1])
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return text.replace(MARK, MARK.lower()) if MARK in text else text


def _harmless(char: str) -> str:
    if char in _JOINERS:
        return char
    if char.isspace():
        return " "
    if unicodedata.category(char) in _UNSAFE:
        return char.encode("unicode_escape").decode("ascii")
    return char  # unassigned here, or for private use: an emoji newer than this Python's tables


def can_encode(text: str, encoding: str) -> bool:
    """Whether the encoding can hold the text; of one that Python does not know, the stream knows best."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    except LookupError:
        pass
    return True


def encodable(text: str, encoding: str) -> str:
    """Return text that the encoding can hold: an emoji at its start is left out, other characters become ``?``."""
    if can_encode(text, encoding):
        return text
    first, _, rest = text.partition(" ")
    if rest and first and unicodedata.category(first[0]) == "So" and not can_encode(first, encoding):
        text = rest
    return text.encode(encoding, "replace").decode(encoding)
