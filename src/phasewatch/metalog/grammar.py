"""What the titles and details of banners say, and what progress lines say: one line of text each, to names and figures."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from ..durations import parse_duration
from .banners import plural
from .catalog import kinds
from .plain import MARK

if TYPE_CHECKING:
    from collections import Counter
    from typing import Any

    from ..events import PhaseInfo, Status
    from .catalog import Kind

_MOST_PARTS = 200  # of a line
_LONGEST = 24  # characters of a figure

# What a duration or a count looks like.
_D = r"(?:[0-9]{1,12}(?:\.[0-9]{1,6})?(?:ms|[smhd])|--)"
_N = r"[0-9]{1,18}"
_F = r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,9})?(?:e[+-]?[0-9]{1,3})?|nan|inf)"

_STEP = re.compile(rf" \(Step ({_N})\)$")
POSITION = re.compile(
    rf"(?:\[Epoch ({_N})(?:/({_N}))?\] )?([^|:\[\]]{{1,200}}?) ({_N})(?:/({_N}))?(?: \([^|]{{0,20}}\))?"
    rf"(?: \| Elapsed: ({_D}))?(?: \| ETA: ({_D}))?(?: \| (.*))?$"
)
PROGRESS = re.compile(rf" \[({_N})(?:/({_N}))?\](?: \([^|]{{0,20}}\))? \| ")
ALIVE = re.compile(rf"(.*?)(?: \[({_N})(?:/({_N}))?\](?: \([^|]{{0,20}}\))?)? \| Elapsed: ({_D})(?: \| ETA: ({_D}))?$")
_AT = rf"(?: \| ([^|]{{1,200}}) ({_N})(?:/({_N}))?)?$"
ACCIDENT = re.compile(rf"(?:(.*) \| )?Elapsed: ({_D}){_AT}")
RESUMED = re.compile(rf"(.*) \| Quiet: ({_D}) \| Elapsed: ({_D}){_AT}")
STALLED = re.compile(rf"Quiet: ({_D}) \| Expected: ({_D}) \| Elapsed: ({_D}){_AT}")
TOTAL = re.compile(rf"Total ([^:|]{{1,1000}}): ({_F}|{_D})$")
AVERAGE = re.compile(rf"Avg time per ([^|]{{1,1000}}): ({_D})$")
_COUNT = re.compile(rf"({_F})(?:/({_F}))?$")
WHOLE = re.compile(rf"The whole run +[0-9]+ +({_D}) ")
TABLE = "Where the time went"


_ENDS: dict[str, Status] = {"FAILED": "failed", "INTERRUPTED": "interrupted"}
_RAN = re.compile(r"PLAN: ([0-9]{1,18}) of ([0-9]{1,18}) (.{1,1000}) ran$")
_OTHERS = {
    "PHASE STALLED: ": "stalled", "PHASE RESUMED: ": "resumed", "ALIVE: ": "alive", "PLAN WARNING: ": "plan_warning",
}  # fmt: skip
LINES = frozenset({"resumed", "alive", "plan_warning", "deviation"})  # that are no banners: nothing belongs to them


class Title:
    """What the title of a banner says."""

    __slots__ = ("known", "message", "name", "ran", "status", "what")

    def __init__(
        self,
        what: str,
        name: str = "",
        *,
        message: str | None = None,
        step: int | None = None,
        emoji: str | None = None,
        status: Status = "completed",
        ran: tuple[int, int] = (0, 0),
    ) -> None:
        self.what = what  # open, end, stalled, run, or one of LINES
        # Of the phase; the path of a run that failed; the rest of the line of what is alive or resumed, and of a warning.
        self.name = name
        self.message = message
        self.status: Status = status
        self.ran = ran  # how often, and how often it was planned
        known = {"message": message, "step": step, "emoji": emoji}
        self.known: dict[str, Any] = {name: value for name, value in known.items() if value is not None}  # of the phase


class Titles:
    """Understands titles: those of the catalogue as it is now, and the plain ones.

    Args:
        skipped: where lines that hold ``[META]`` and are none of ours are counted.
    """

    def __init__(self, skipped: Counter[str]) -> None:
        self.skipped = skipped
        self.opens: dict[str, Kind] = {}
        self._completes: dict[str, Kind] = {}
        for kind in kinds():
            if kind.opens is not None:
                self.opens[kind.opens] = kind
            if kind.completes is not None:
                self._completes[kind.completes] = kind

    def of(self, text: str) -> Title | None:
        """Return what a line with ``[META]`` says; None if it is no banner."""
        at = text.find(MARK + " ")
        if at < 0:
            return None
        emoji = _emoji_before(text[:at])
        if emoji is None:
            self.skipped["quoted"] += 1
            return None
        said = text[at + len(MARK) + 1 :]
        title = self._title(said, emoji)
        if title is None:
            self.skipped["unknown"] += 1
        return title

    def _title(self, said: str, emoji: str) -> Title | None:
        said = said.rstrip(" =")
        if kind := self._completes.get(said):
            return Title("end", kind.name)
        for word, status in _ENDS.items():
            if said.startswith(f"PHASE {word}: "):
                return Title("end", said[len(word) + 8 :], status=status)
            if said.startswith(f"RUN {word} - in "):
                return Title("run", said[len(word) + 10 :], status=status)
        if said.startswith("ALL PHASES COMPLETE"):
            return Title("run", message=said[22:] if said[19:22] == " - " else None)
        if said.startswith("PHASE: COMPLETE - Validation Only"):
            return Title("run", "val_only")
        for beginning, what in _OTHERS.items():
            if said.startswith(beginning):
                return Title(what, said[len(beginning) :])
        if ran := _RAN.match(said):
            return Title("deviation", ran[3], ran=(int(ran[1]), int(ran[2])))
        if said.startswith("PHASE COMPLETE: "):
            return Title("end", said[16:])
        return self._opening(said, emoji)

    def _opening(self, said: str, emoji: str) -> Title | None:
        step = None
        if found := _STEP.search(said):
            step = int(found[1])
            said = said[: found.start()]
        best = None
        for opens, kind in self.opens.items():
            fits = said.startswith(opens) and said[len(opens) : len(opens) + 3] in ("", " - ")
            if fits and (best is None or len(opens) > len(best.opens or "")):
                best = kind
        if best is not None:
            name, message, usual = best.name, said[len(best.opens or "") + 3 :], best.emoji
        elif said.startswith("PHASE: ") and len(said) > 7:
            name, _, message = said[7:].partition(" - ")
            usual = "🔹"
        else:
            return None
        own = emoji if emoji not in ("", usual) and "�" not in emoji and "?" not in emoji else None
        return Title("open", name, message=message or None, step=step, emoji=own)


class Figures:
    """What a line of progress says after the count."""

    __slots__ = ("counters", "elapsed", "eta", "means", "totals")

    def __init__(self, said: str) -> None:
        self.counters: dict[str, float] = {}
        self.totals: dict[str, float | None] = {}  # of the counters
        self.means: dict[str, float] = {}
        self.elapsed: float | None = None
        self.eta: float | None = None
        for part in parts_of(said):
            name, _, figure = part.partition(": ")
            if name == "Elapsed":
                self.elapsed = seconds_of(figure[:_LONGEST])
            elif name == "ETA":
                self.eta = seconds_of(figure[:_LONGEST])
            elif name.startswith("Avg "):
                if (number := number_of(figure)) is not None:
                    self.means[identifier(name[4:])] = number
            elif (count := _COUNT.match(figure)) and (number := number_of(count[1])) is not None:
                self.counters[name] = number
                self.totals[name] = number_of(count[2]) if count[2] else None


def _emoji_before(before: str) -> str | None:
    """Return the emoji that stands before the mark, ``""`` if there is none; None if this is not where a title begins."""
    before = before.rstrip(" ")
    if not before:
        return ""
    at = len(before)
    while at and _is_sign(before[at - 1]):
        at -= 1
    emoji, rest = before[at:], before[:at].rstrip(" ")
    if any(unicodedata.category(char) in ("So", "Cn", "Co") for char in emoji):
        return emoji
    if not rest or rest.endswith(("]", "=", ">", ":", " -")) or "%|" in rest:
        return emoji
    if len(before) <= 12 and not any(char.isspace() or (char.isascii() and char.isalnum()) for char in before):
        return before  # of somebody's own, or damaged
    return None


def _is_sign(char: str) -> bool:
    return char == "?" or (not char.isascii() and not char.isspace() and not char.isalpha()) or char in "\u200d\ufe0f"


def parts_of(detail: str) -> list[str]:
    """Return what bars divide; no more than anyone writes."""
    return detail.split(" | ", _MOST_PARTS) if detail else []


def whole(text: str | None) -> int | None:
    """Return a number that may be missing."""
    return None if text is None else int(text)


def number_of(text: str) -> float | None:
    """Return the number that a text is, or None."""
    try:
        return int(text) if text.isdecimal() and len(text) < 19 else float(text[:50])
    except ValueError:
        return None


@lru_cache(4096)  # a log says the same few over and over
def seconds_of(text: str | None) -> float | None:
    """Return the seconds of a printed duration; None for none, or one that is unknown."""
    if not text:
        return None
    try:
        return parse_duration(text)
    except ValueError:
        return None


def uncapital(word: str) -> str:
    """Undo `_capital`: ``Step`` is ``step``; a word of capitals stays."""
    return word if word[1:2].isupper() else word[:1].lower() + word[1:]


@lru_cache(256)
def identifier(shown: str) -> str:
    """Return the name that is shown so: ``Finish Ratio`` is ``finish_ratio``."""
    return "_".join(uncapital(word) for word in shown.split(" "))


def named(figures: dict[str, float], phase: PhaseInfo) -> dict[str, float]:
    """Give the counters that are shown the names that their phase has for them."""
    if not figures:
        return figures
    names = {shown: name for name in phase.counters for shown in _shown(name)}
    return {names.get(shown) or identifier(shown): figure for shown, figure in figures.items()}


@lru_cache(256)
def _shown(counter: str) -> tuple[str, str]:
    """Return how the name of a counter is shown: on its own, and after "Total"."""
    words = counter.replace("_", " ")
    return words[:1].upper() + words[1:], words


def _singular(units: str) -> str:
    for ending, replaced in (("ies", "y"), ("es", ""), ("s", "")):
        unit = units.removesuffix(ending) + replaced
        if units.endswith(ending) and plural(unit) == units:
            return unit
    return units


def expected(detail: str) -> dict[str, Any]:
    """Return what an opening banner tells of its phase beside its name."""
    known: dict[str, Any] = {}
    counters: dict[str, float | None] = {}
    details: dict[str, object] = {}
    for part in parts_of(detail):
        total = TOTAL.match(part)
        number = number_of(total[2]) if total else None
        if total is None or number is None:
            name, _, value = part.partition(": ")
            details[name] = value
        elif total[1] == "epochs" and "attributes" not in known:
            known["attributes"] = {"epochs": number}
        elif isinstance(number, int) and "total" not in known and not counters:
            known["total"], known["unit"] = number, _singular(total[1])
        else:
            counters[total[1].replace(" ", "_")] = number
    return {**known, "counters": counters, "details": details}


def accident(detail: str) -> tuple[tuple[str, str] | None, float | None, str | None, int | None, int | None]:
    """Return of ``Error: message | Elapsed: 42s | Batch 12/28`` the error, seconds, unit, number and total."""
    match = ACCIDENT.match(detail)
    if match is None:
        return None, None, None, None, None
    said, elapsed, unit, number, total = match.groups()
    error = None
    if said is not None:
        kind, _, message = said.partition(": ")
        error = (kind, message)
    return error, seconds_of(elapsed), unit, whole(number), whole(total)
