"""Lines of a log as they are in the wild, made clean: who wrote them, when, and what.

A line may have the prefix of Ray, of a launcher or of a logger, colours with or without their escape character, a progress
bar before a carriage return, and UTF-8 that somebody once read as another encoding.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from ..events import Place

LONGEST = 65_536  # characters of a line that are looked at

_COLOUR = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]{0,1000}(?:\x07|\x1b\\)|.)?")
_BARE = r"(?:\[[0-9]{1,3}(?:;[0-9]{1,3}){0,4}m)*"  # a colour whose escape character was lost
_RAY = re.compile(
    _BARE
    + r"\((?P<who>[^()]{0,200}?\bpid=(?P<pid>[0-9]{1,18})(?:, ip=(?P<ip>[^(),\s]{1,100}))?[^()]{0,200})\)"
    + _BARE
    + " ?"
)
_REPEATED = re.compile(_BARE + r" ?\[repeated [0-9]+x across (?:all )?cluster\].*$")
# torch and torchrun, Open MPI, srun --label
_RANK = re.compile(
    r"\[(?:rank|default|trainer|worker)([0-9]{1,9})\]:? ?|\[1,([0-9]{1,9})\]<std(?:out|err)>:? ?|([0-9]{1,9}): "
)
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9}))?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_TIME_WITHIN = 60  # characters: a time further on is part of what is said
_LEVEL = r"(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|NOTICE)"
_LOGGER = re.compile(
    rf"{_LEVEL}:[\w.]{{1,80}}:|(?:[\s\[(]*{_LEVEL}\]?[\s\[(:]*)?[\[(]?{_TIME.pattern}[\])]?"
    rf"(?:[\s|:-]*(?:\[[^\]]{{0,80}}\]|\(?\b{_LEVEL}\b\)?|[\w.]{{1,80}}(?= - )|[\w./]{{1,80}}\.py:[0-9]{{1,6}}\b))*"
    r"(?: ?[-:|]+)? ?"
)
# A line of figures without prefix: of these there may be as many as of all others.
_PLAIN = re.compile(b"%b[ -~]{1,1000}" % "📊 ".encode())


def clean(raw: bytes) -> tuple[str, float | None, str]:
    """Return who wrote a line (``""`` if it does not say), when (seconds since 1970, or None), and its text.

    A time without a zone is that of this machine.
    """
    if _PLAIN.fullmatch(raw) and b"[repeated " not in raw:  # as it was written; what follows would find nothing
        return "", None, raw.decode().rstrip()
    text = raw.decode("utf-8", "replace") if len(raw) <= LONGEST else _of_a_long_line(raw)
    if not text.isascii():
        text = repaired(text)
    if "\x1b" in text:
        text = _COLOUR.sub("", text)
    who, text = _writer(text)
    if "\r" in text:
        second, text = _writer(_told(text))
        who = who or second
    if text.endswith(("]", "m", ")")) and "[repeated " in text:
        text = _REPEATED.sub("", text)
    time = None
    if logger := _LOGGER.match(text):
        time = _seconds(_TIME.search(text, 0, _TIME_WITHIN))
        text = text[logger.end() :]
    return who, time, text.rstrip()


def place_of(who: str) -> Place | None:
    """Return what the prefix of a line tells of the process that wrote it."""
    if not who:
        return None
    if who.startswith("rank "):
        return Place(rank=int(who[5:]))
    pid, _, host = who.partition("@")
    return Place(host=host or None, process=int(pid))


def repaired(text: str) -> str:
    """Return text whose UTF-8 was once read as cp1252 or Mac Roman as it was written; any other as it is."""
    for encode in (_as_cp1252, _as_mac_roman):
        try:
            return encode(text).decode("utf-8")
        except UnicodeError:
            continue
    return text


def _as_cp1252(text: str) -> bytes:
    try:
        return text.encode("cp1252")
    except UnicodeEncodeError as error:
        if ord(text[error.start]) > 0x9F:
            raise
        # Five bytes have no character there; most programs make a control of them.
        return b"".join(bytes([ord(char)]) if 0x7F < ord(char) < 0xA0 else char.encode("cp1252") for char in text)


# The first byte of most emoji is an apple there, which many programs lose.
_LOST_APPLE = re.compile(rb"(?<!\xf0)\x9f(?=[\x80-\xbf]{2})")


def _as_mac_roman(text: str) -> bytes:
    return _LOST_APPLE.sub(b"\xf0\x9f", text.encode("mac_roman"))


def _of_a_long_line(raw: bytes) -> str:
    """Of a line that a progress bar has made long, its beginning and its last part; of any other its beginning."""
    last = raw.rstrip(b"\r").rfind(b"\r")
    if last < 0:
        return raw[:LONGEST].decode("utf-8", "replace")
    return raw[:200].decode("utf-8", "replace") + "\r" + raw[last + 1 : last + LONGEST].decode("utf-8", "replace")


def _told(text: str) -> str:
    """Of what was written over itself, the part that says something: a banner before a bar, else the last."""
    parts = [part for part in text.split("\r") if part.strip()]
    for part in reversed(parts):
        if "[META] " in part or "📊 " in part:
            return part
    return parts[-1] if parts else ""


def _writer(text: str) -> tuple[str, str]:
    if ray := _RAY.match(text):
        return f"{ray['pid']}@{ray['ip'] or ''}", text[ray.end() :]
    if (text.startswith("[") or text[:1].isdigit()) and (rank := _RANK.match(text)):
        return f"rank {int(rank[rank.lastindex or 0])}", text[rank.end() :]
    return "", text


def _seconds(match: re.Match[str] | None) -> float | None:
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour),
            int(minute),
            min(int(second), 59),
            int((fraction or "")[:6].ljust(6, "0")),
        )
        if zone is not None:
            sign = -1 if zone[0] == "-" else 1
            offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:])) if zone != "Z" else timedelta()
            moment = moment.replace(tzinfo=timezone(sign * offset))
        return moment.timestamp()
    except (ValueError, OverflowError, OSError):  # the 31st of February; a year that this system has not
        return None
