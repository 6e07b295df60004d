"""The lines of a META LOG to events: the way back of `banners`, from logs as they are in the wild.

What the text does not carry is not there: ids are new, nesting and silent completions are inferred (see `stack`), durations
are those that are printed, as exact as they are printed.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from ..durations import UNITS
from ..events import PhaseAlive, PhaseInfo, PhaseProgressed, PhaseResumed, PhaseStalled, Position
from .banners import PATH_SEPARATOR, plural, shown_name
from .catalog import is_silent
from .grammar import (
    ACCIDENT,
    ALIVE,
    AVERAGE,
    LINES,
    POSITION,
    PROGRESS,
    RESUMED,
    STALLED,
    TABLE,
    TOTAL,
    WHOLE,
    Figures,
    Title,
    Titles,
    accident,
    expected,
    identifier,
    named,
    number_of,
    parts_of,
    seconds_of,
    uncapital,
    whole,
)
from .lines import clean, place_of
from .plain import MARK
from .stack import Stack
from .trainers import Trainers

if TYPE_CHECKING:
    from typing import Any

    from ..events import Event
    from .stack import Open

    _Sign = tuple[bytes, bytes, re.Pattern[bytes]]

_MOST_WRITERS = 4096  # processes of one log
_MOST_TITLES = 1024  # whose meaning is remembered
_LONGEST_TITLE = 500  # bytes of one that is
_MOST_TRIES = 8  # in a block, to find a sign by its first character, which is ten times as quick where that is rare
_PATIENCE = {"stalled": 400, "run": 120}  # lines for which a banner waits for what belongs to it; others wait for 40
_MOST_FRAMES = 500  # lines of a stack

_MARK = MARK.encode() + b" "
_BAR = b"%|"

# What is looked for in whole blocks: its first character, all of it, and the same as a pattern of that character and a
# condition: to search for more characters takes the compiled pattern longer.
_PROGRESS: _Sign = (b"|", b"| Elapsed: ", re.compile(rb"\|(?= Elapsed: )"))
_BARS: _Sign = (b"%", b"%|", re.compile(rb"%(?=\|)"))
_DICTIONARIES: _Sign = (b"{", b"{'", re.compile(rb"\{(?=')"))
# Banners and metrics; of a step also its place, where that is complete and nothing but a prefix is beside it in its line. A
# log has more of these than of all else.
_BANNERS = re.compile(
    rb"M(?:etrics: |ETA\] (?:PHASE: TRAINING STEP\n([^\n]{0,200}?)"
    rb"\[Epoch ([0-9]{1,18})/([0-9]{1,18})\] Step ([0-9]{1,18})/([0-9]{1,18}) \([0-9.]{1,10}%\)"
    rb" \| Elapsed: ([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|[smhd])"
    rb" \| ETA: (?:([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|[smhd])|--)(?:\n|\Z))?)"
)

_STEP_TITLE = b"META] PHASE: TRAINING STEP"
_ANY_PLACE = "[Epoch 1/3] Step 1/35 (2.9%) | Elapsed: 42s | ETA: 23.8m"
_SECONDS = {unit.encode(): seconds for unit, seconds in UNITS.items()}


class _Waiting:
    """A banner whose lines have not all come."""

    __slots__ = ("candidate", "in_table", "rules", "stack", "stalled", "title", "until")

    def __init__(self, title: Title, passed: int) -> None:
        self.title = title
        self.until = passed + _PATIENCE.get(title.what, 40)  # lines that have passed when it waits no longer
        self.rules = 0
        self.candidate: str | None = None  # a line that is its detail if a rule follows
        self.stalled: str | None = None  # the detail of a phase that has stalled, whose stack may follow
        self.stack: list[str] = []
        self.in_table = False  # the one at the end of a run


class _Writer:
    """One of those who have written a log: a process."""

    __slots__ = ("stack", "trainers", "waiting")

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.waiting: _Waiting | None = None
        self.trainers: Trainers | None = None


class Parser:
    """Makes events of the lines of one text log, in their order.

    Args:
        source: what the ids begin with; another for each log of a run.
    """

    def __init__(self, source: str = "text") -> None:
        self.skipped: Counter[str] = Counter()  # lines with [META] that are none of ours
        self.found = False  # whether there was a banner
        self.runs_ended = 0
        self._source = source
        self._ids = 0
        self._events: list[Event] = []
        self._emit = self._events.append
        self._writers: dict[str, _Writer] = {}
        self._waiting = 0  # writers whose banner is not complete
        self._passed = 0  # lines of any writer that passed while one waited, and belong to no banner
        self._deadlines: list[tuple[int, int, _Writer, _Waiting]] = []  # a heap
        self._order = 0  # of deadlines that are the same
        self._titles: dict[bytes, tuple[str, Title]] = {}
        self._grammar = Titles(self.skipped)
        # By what stands before META in the title of a step and before its place: who wrote it, if they tell nothing else.
        self._steps: dict[tuple[bytes, bytes], str] = {}

    @property
    def is_idle(self) -> bool:
        """Whether a run has ended and no other goes on."""
        return self.runs_ended > 0 and not any(w.stack.run is not None for w in self._writers.values())

    def feed(self, block: bytes, at: int = 0, end: int | None = None) -> list[Event]:
        """Return the events of whole lines, the last with or without its newline.

        Args:
            block: what holds the lines.
            at: where they begin in it.
            end: where they end, by default with the block.
        """
        end = len(block) if end is None else end
        if self._waiting:
            at = self._follow(block, at, end)
        if not self.found and block.find(_MARK, at, end) < 0:
            self._feed_trainers(block, at, end)
            return self._taken()
        progress = _Search(block, _PROGRESS, end)
        told = progress.after(at)  # where the next line of progress is
        while True:
            hit = _BANNERS.search(block, at, end)
            banner = end if hit is None else hit.start()
            while told < banner:
                at = self._take(block, at, told, end)
                told = progress.after(at)
            if hit is None:
                return self._taken()
            if banner < at:
                continue
            if hit.lastindex is not None and self._step(block, at, hit):
                at = hit.end()  # the same as below, in half the time
            else:
                at = self._take(block, at, banner, end)
            if told < at:
                told = progress.after(at)

    def _take(self, block: bytes, at: int, hit: int, end: int) -> int:
        """Look at the line with a sign, and those that belong to it; return where the next one begins."""
        raw, at = _line_with(block, at, hit, end)
        self._line(raw)
        return self._follow(block, at, end) if self._waiting else at

    def _step(self, block: bytes, at: int, banner: re.Match[bytes]) -> bool:
        """Take the whole banner of a step that follows another one of its writer; whether it was one."""
        found = banner.start()
        prefix, epoch, epochs, number, total, elapsed, unit, eta, unit_of_eta = banner.groups()
        key = block[block.rfind(b"\n", at, found) + 1 or at : found], prefix
        try:
            who: str | None = self._steps[key]
        except KeyError:
            who = self._writer_of_step(*key)
        writer = self._writers.get(who) if who is not None else None
        if writer is None:
            return False
        return writer.stack.next_step(
            Position(
                int(number),
                int(total),
                "step",
                epoch=int(epoch),
                epochs=int(epochs),
                elapsed=float(elapsed) * _SECONDS[unit],
                eta=None if eta is None else float(eta) * _SECONDS[unit_of_eta],
            ),
        )

    def _writer_of_step(self, before_title: bytes, before_place: bytes) -> str | None:
        """Return who writes steps that begin so, if such a title was understood before; None where they tell more."""
        known = self._titles.get(before_title + _STEP_TITLE)
        if known is None:
            return None
        who, title = known
        is_plain = title.what == "open" and title.name == "TRAINING STEP" and not title.known
        if not is_plain or clean(before_place + _ANY_PLACE.encode()) != (who, None, _ANY_PLACE):
            return None
        if len(self._steps) >= _MOST_TITLES:
            self._steps.clear()
        self._steps[before_title, before_place] = who
        return who

    def flush(self) -> list[Event]:
        """Return the events of a banner that has waited for more lines in vain."""
        for writer in self._writers.values():
            if writer.waiting is not None:
                self._resolve(writer)
        return self._taken()

    def close(self) -> list[Event]:
        """Return the last events: no line follows."""
        events = self.flush()
        for writer in self._writers.values():
            if writer.trainers is not None:
                writer.trainers.close()
        return events + self._taken()

    def _taken(self) -> list[Event]:
        events = self._events.copy()
        self._events.clear()
        return events

    # Which lines are looked at. Most lines of a log are none of ours: finding a rare character is several times as quick
    # as finding a word, and both many times as quick as looking at each line.

    def _feed_trainers(self, block: bytes, at: int, end: int) -> None:
        hits = _Search(block, _BARS, end).all(at) + _Search(block, _DICTIONARIES, end).all(at)
        for sign in (b"step:", b" checkpoint to "):
            hits += _all(block, sign, at, end)
        hits.sort()
        for hit in hits:
            if hit < at:
                continue
            raw, at = _line_with(block, at, hit, end)
            who, time, text = clean(raw)
            if (trainers := self._trainers(who)) is None:
                continue
            if _BAR in raw and b"\r" in raw and "%|" not in text:  # a bar stood in the line before what is told in it
                since = raw.rfind(b"\r", 0, raw.rfind(_BAR)) + 1
                trainers.line(clean(raw[since : raw.find(b"\r", since)])[2], time)
            trainers.line(text, time)

    def _trainers(self, who: str) -> Trainers | None:
        writer = self._writer(who)
        if writer is not None and writer.trainers is None:
            writer.trainers = Trainers(writer.stack)
        return writer.trainers if writer is not None else None

    def _follow(self, block: bytes, at: int, end: int) -> int:
        """Look at each line as long as a banner waits for more; return where that ended."""
        while self._waiting and at < end:
            raw, at = _line_with(block, at, at, end)
            self._line(raw)
        return at

    # Lines.

    def _writer(self, who: str) -> _Writer | None:
        writer = self._writers.get(who)
        if writer is None:
            if len(self._writers) >= _MOST_WRITERS:
                self.skipped["writers"] += 1
                return None
            writer = self._writers[who] = _Writer(Stack(self._emit, self._new_id, place_of(who)))
        return writer

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._source}.{self._ids}"

    def _line(self, raw: bytes) -> None:
        known = self._titles.get(raw)
        time: float | None
        title: Title | None
        if known is not None:
            (who, title), time, text = known, None, ""
        else:
            who, time, text = clean(raw)
            title = None
            if MARK in text:
                title = self._grammar.of(text)
                self.found = self.found or title is not None
                if title is not None and title.what not in LINES and time is None and len(raw) < _LONGEST_TITLE:
                    self._remember(raw, who, title)
        writer = self._writers.get(who)
        if writer is None:
            if title is None and not self._tells(text):
                self._grow_impatient()
                return
            writer = self._writer(who)
            if writer is None:
                return
        if title is not None:
            self._banner(writer, title, time)
            return
        if writer.waiting is not None and self._continues(writer, writer.waiting, text):
            return
        if self._waiting:
            self._grow_impatient()
        if text:
            self._single(writer, text, time)

    def _remember(self, raw: bytes, who: str, title: Title) -> None:
        """Keep what a title means: a log has the same ones over and over."""
        if len(self._titles) >= _MOST_TITLES:
            self._titles.clear()
        self._titles[raw] = (who, title)

    @staticmethod
    def _tells(text: str) -> bool:
        return "📊 " in text

    def _grow_impatient(self) -> None:
        """Note that a line has passed which belongs to no banner: those that have waited long enough are complete."""
        self._passed += 1
        deadlines = self._deadlines
        while deadlines and deadlines[0][0] < self._passed:
            _, _, writer, waiting = heappop(deadlines)
            if writer.waiting is waiting:
                self._resolve(writer)

    # Banners.

    def _banner(self, writer: _Writer, title: Title, time: float | None) -> None:
        if writer.waiting is not None:
            self._resolve(writer)
        if self._waiting:
            self._grow_impatient()
        if writer.trainers is not None:
            writer.trainers.stop()
            writer.trainers = None
        stack = writer.stack
        stack.at(time)
        if title.what == "plan_warning":
            stack.warn_of_plan(title.name)
            return
        stack.begin_run()
        if title.what == "alive":
            self._alive(stack, title)
        elif title.what == "resumed":
            self._resumed(stack, title)
        elif title.what == "deviation":
            stack.deviate(title.name, *title.ran)
        else:
            if not self._waiting:
                self._deadlines.clear()  # of banners that were completed
            writer.waiting = _Waiting(title, self._passed)
            self._waiting += 1
            self._order += 1
            heappush(self._deadlines, (writer.waiting.until, self._order, writer, writer.waiting))

    def _continues(self, writer: _Writer, waiting: _Waiting, text: str) -> bool:
        """Take a line that belongs to the banner before it; whether it did."""
        title = waiting.title
        if waiting.in_table:
            return self._goes_on_table(writer, waiting, text)
        if text.startswith("===") and not text.strip("="):
            if waiting.candidate is not None:
                self._resolve(writer, waiting.candidate)
            waiting.rules += 1
            return True
        if waiting.stalled is not None:
            if text.startswith("    ") and len(waiting.stack) < _MOST_FRAMES:
                waiting.stack.append(text[4:])
                return True
            self._resolve(writer)
            return False
        if title.what == "run" and title.status == "completed":
            return self._begins_table(writer, waiting, text)
        if waiting.candidate is not None:  # no rule has followed: it was not ours
            candidate = waiting.candidate
            self._resolve(writer)
            self._single(writer, candidate, None)
            return False
        if text and self._is_detail(title, text):
            if title.what == "stalled":
                waiting.stalled = text
            else:
                self._resolve(writer, text)
            return True
        if title.what == "open" and waiting.rules == 1 and ": " in text:
            waiting.candidate = text
            return True
        self._resolve(writer)
        return False

    def _begins_table(self, writer: _Writer, waiting: _Waiting, text: str) -> bool:
        """Take a line between the last banner and the table that tells how long the run was."""
        waiting.in_table = text.startswith(TABLE)
        if not waiting.in_table:
            waiting.until -= 40
            if text or waiting.until < self._passed:
                self._resolve(writer)
        return waiting.in_table or not text

    def _goes_on_table(self, writer: _Writer, waiting: _Waiting, text: str) -> bool:
        waiting.until -= 1
        if whole := WHOLE.match(text):
            self._resolve(writer, whole[1])
        elif waiting.until < self._passed or not text:
            self._resolve(writer)
        return bool(text)

    @staticmethod
    def _is_detail(title: Title, text: str) -> bool:
        if title.what == "open":
            if text.startswith("Total "):
                return TOTAL.match(text.partition(" | ")[0]) is not None
            position = POSITION.match(text)
            return position is not None and (position[1] is not None or position[6] is not None)
        if title.what == "stalled":
            return STALLED.match(text) is not None
        if title.status != "completed":
            return ACCIDENT.match(text) is not None
        first = text.partition(" | ")[0]
        return TOTAL.match(first) is not None or AVERAGE.match(first) is not None

    def _resolve(self, writer: _Writer, detail: str = "") -> None:
        """Make the event of a banner, with the detail that has come."""
        waiting = writer.waiting
        assert waiting is not None
        writer.waiting = None
        self._waiting -= 1
        title, stack = waiting.title, writer.stack
        if title.what == "open":
            place = POSITION.match(detail) if detail else None
            self._open(stack, title, place if place is not None and (place[1] or place[6]) else detail)
        elif title.what == "end":
            if title.status == "completed":
                self._complete(stack, title, detail)
            else:
                self._break_off(stack, title, detail)
        elif title.what == "stalled":
            self._stalled(stack, title, waiting)
        else:
            self._end_run(stack, title, detail)

    def _open(self, stack: Stack, title: Title, said: str | re.Match[str]) -> None:
        """Begin a phase, of which the detail says more or the place of a step."""
        position = around = None
        detail: str | None
        if isinstance(said, str):
            detail = said
        else:
            epoch, epochs, unit, number, total, elapsed, eta, detail = said.groups()
            unit = uncapital(unit)
            seconds = seconds_of(elapsed)
            position = Position(
                int(number),
                None if total is None else int(total),
                unit,
                epoch=None if epoch is None else int(epoch),
                epochs=None if epochs is None else int(epochs),
                elapsed=seconds or 0.0,
                eta=seconds_of(eta),
            )
            around = stack.step_parent(title.name, unit)
            if around is not None:
                stack.reached(around.started, seconds)
                around.done = max(around.done, position.number - 1)
        known = {**title.known, **expected(detail)} if detail else title.known
        stack.begin(title.name, position, **known)

    def _complete(self, stack: Stack, title: Title, detail: str) -> None:
        elapsed = active = done = None
        counters: dict[str, float] = {}
        entry = stack.find(title.name)
        unit = entry.info.unit if entry is not None else None
        for part in parts_of(detail):
            if part.startswith("Active time: "):
                active = seconds_of(part[13:37])
            elif total := TOTAL.match(part):
                what, figure = total.groups()
                if what == "time":
                    elapsed = seconds_of(figure)
                elif what.endswith((" processed", " completed")):
                    what, _, how = what.rpartition(" ")
                    number = number_of(figure)
                    if number is None:
                        continue
                    if isinstance(number, int) and (how == "completed" or unit is None or what == plural(unit)):
                        done = number
                    else:
                        counters[what] = number
        if entry is None:
            stack.reached(stack.now, elapsed)
            entry = stack.met(title.name, elapsed)
        stack.end(entry, elapsed=elapsed, done=done, counters=named(counters, entry.info), active=active)

    def _break_off(self, stack: Stack, title: Title, detail: str) -> None:
        error, elapsed, _, done, total = accident(detail)
        entry = stack.find(title.name)
        if entry is None:
            stack.reached(stack.now, elapsed)
            entry = stack.met(title.name, elapsed)
        known: dict[str, Any] = {}
        if entry.info.position is None:
            known = {"done": done, "total": total}
        stack.end(entry, title.status, elapsed=elapsed, error=error, innermost=True, **known)

    def _end_run(self, stack: Stack, title: Title, detail: str) -> None:
        run = stack.begin_run()
        self.runs_ended += 1
        if title.status == "completed":
            attributes = {**run.info.attributes, "val_only": True} if title.name == "val_only" else run.info.attributes
            info = _copied(run.info, message=title.message, attributes=attributes)
            stack.end_run("completed", elapsed=seconds_of(detail), info=info)
            return
        error, elapsed, *_ = accident(detail)
        origin = tuple(title.name.split(PATH_SEPARATOR))
        cause = stack.pass_through(origin, title.status)
        known: dict[str, Any] = {"error": error, "innermost": bool(detail), "origin": origin}
        if cause is not None and not detail:
            known["error"] = cause.error
        if detail:
            known["origin"] = None
            known["info"] = _copied(run.info, name=title.name)
        stack.end_run(title.status, elapsed=elapsed, **known)

    # What goes on.

    def _alive(self, stack: Stack, title: Title) -> None:
        match = ALIVE.match(title.name)
        if match is None:
            self.skipped["unknown"] += 1
            return
        path, done, total, elapsed, eta = match.groups()
        names = tuple(path.split(PATH_SEPARATOR))
        seconds = seconds_of(elapsed) or 0.0
        entry = stack.find_path(names) or stack.met(names[-1], seconds)
        stack.reached(entry.started, seconds)
        stack_done = entry.done if done is None else int(done)
        entry.done = stack_done
        self._emit(
            PhaseAlive(
                entry.info,
                stack.now,
                quiet=0.0,
                done=stack_done,
                total=whole(total),
                elapsed=seconds,
                eta=seconds_of(eta),
                counters=entry.counters,
                means=entry.means,
            )
        )

    @staticmethod
    def _quiet(match: re.Match[str] | None) -> dict[str, Any]:
        if match is None:
            return {"quiet": 0.0, "expected": None, "elapsed": 0.0, "done": None, "total": None}
        quiet, expected, elapsed, _, done, total = match.groups()
        return {
            "quiet": seconds_of(quiet) or 0.0,
            "expected": seconds_of(expected),
            "elapsed": seconds_of(elapsed) or 0.0,
            "done": whole(done),
            "total": whole(total),
        }

    def _stalled(self, stack: Stack, title: Title, waiting: _Waiting) -> None:
        figures = self._quiet(STALLED.match(waiting.stalled or ""))
        entry = stack.met(title.name, figures["elapsed"])
        self._emit(
            PhaseStalled(entry.info, stack.now, stack="\n".join(waiting.stack) or None, **_measures(stack, entry, figures))
        )

    def _resumed(self, stack: Stack, title: Title) -> None:
        match = RESUMED.match(title.name)
        if match is None:
            self.skipped["unknown"] += 1
            return
        name, quiet, elapsed, _, done, total = match.groups()
        figures = {
            "quiet": seconds_of(quiet) or 0.0,
            "elapsed": seconds_of(elapsed) or 0.0,
            "done": whole(done),
            "total": whole(total),
        }
        entry = stack.met(name, figures["elapsed"])
        self._emit(PhaseResumed(entry.info, stack.now, **_measures(stack, entry, figures)))

    # Lines that stand for themselves.

    def _single(self, writer: _Writer, text: str, time: float | None) -> None:
        stack = writer.stack
        at = text.find("📊 ")
        if at >= 0:
            said = text[at + 2 :]
        elif stack.run is not None:
            said = text.lstrip("?� ")
        else:
            return
        if said.startswith("Metrics: "):
            stack.at(time)
            self._metrics(stack, said[9:])
        elif "Elapsed: " in said:
            self._progress(stack, said, time, sure=at >= 0)

    def _metrics(self, stack: Stack, said: str) -> None:
        if not stack.open:
            return
        values = {}
        for part in parts_of(said):
            name, is_one, figure = part.rpartition("=")
            number = number_of(figure)
            if is_one and number is not None:
                values[name] = number
        top = stack.open[-1]
        top.metrics = values
        if is_silent(top.info.name):
            top.ended = stack.now

    def _progress(self, stack: Stack, said: str, time: float | None, *, sure: bool) -> None:
        match = PROGRESS.search(said)
        if match is None:
            return
        shown = said[: match.start()]
        entry = _shown_as(stack, shown, whole=sure)
        if entry is None and not sure:
            return
        figures = Figures(said[match.end() :])
        if figures.elapsed is None:
            return
        stack.at(time)
        done, total = int(match[1]), whole(match[2])
        if entry is None:
            known = shown.upper() if f"PHASE: {shown.upper()}" in self._grammar.opens else shown
            counters = {identifier(name): number for name, number in figures.totals.items()}
            entry = stack.met(known, figures.elapsed, total=total, counters=counters)
        stack.reached(entry.started, figures.elapsed)
        entry.done, entry.means = done, figures.means
        entry.counters = named(figures.counters, entry.info)
        self._emit(
            PhaseProgressed(
                entry.info,
                stack.now,
                done=done,
                total=total,
                elapsed=figures.elapsed,
                eta=figures.eta,
                counters=entry.counters,
                means=entry.means,
            )
        )


def _line_with(block: bytes, at: int, hit: int, end: int) -> tuple[bytes, int]:
    """Return the line that holds a place in a block, and where the next one begins; none of it stands before `at`."""
    start = block.rfind(b"\n", at, hit) + 1 or at
    stop = block.find(b"\n", hit, end)
    if stop < 0:
        stop = end
    return block[start:stop], stop + 1


def _all(block: bytes, sign: bytes, at: int, end: int) -> list[int]:
    hits = []
    at = block.find(sign, at, end)
    while at >= 0:
        hits.append(at)
        at = block.find(sign, at + 1, end)
    return hits


class _Search:
    """Finds one kind of sign in a block, up to its end."""

    __slots__ = ("_begins", "_block", "_char", "_end", "_find", "_pattern", "_signs", "_tries")

    def __init__(self, block: bytes, sign: _Sign, end: int) -> None:
        self._block, self._end = block, end
        self._char, self._signs, self._pattern = sign
        self._find, self._begins = block.find, block.startswith
        self._tries = _MOST_TRIES

    def after(self, at: int) -> int:
        """Return where the next one is, from a place on; the end if there is none."""
        while self._tries:
            at = self._find(self._char, at, self._end)
            if at < 0:
                return self._end
            if self._begins(self._signs, at, self._end):
                return at
            self._tries -= 1
            at += 1
        found = self._pattern.search(self._block, at, self._end)  # the character is not rare here
        return found.start() if found is not None else self._end

    def all(self, at: int) -> list[int]:
        """Return where all are, from a place on."""
        hits = []
        at = self.after(at)
        while at < self._end:
            hits.append(at)
            at = self.after(at + 1)
        return hits


_shown_name = lru_cache(256)(shown_name)


def _shown_as(stack: Stack, shown: str, *, whole: bool) -> Open | None:
    """Return the open phase whose progress is told under this name; it may stand after something else if not ``whole``."""
    for entry in reversed(stack.open):
        name = _shown_name(entry.info.name)
        if name == shown or (not whole and shown.endswith(" " + name)):
            return entry
    return None


def _measures(stack: Stack, entry: Open, figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of an event about a phase of which little was heard."""
    stack.reached(entry.started, figures["elapsed"])
    figures = {**figures, "eta": None, "counters": entry.counters, "means": entry.means}
    if entry.info.position is not None or figures["done"] is None:
        figures["done"], figures["total"] = entry.done, entry.info.total
    entry.done = figures["done"]
    return figures


def _copied(info: PhaseInfo, **changes: Any) -> PhaseInfo:
    copy = PhaseInfo(info.name, id=info.id)
    for name in PhaseInfo.__slots__:
        setattr(copy, name, changes.get(name, getattr(info, name)))
    return copy
