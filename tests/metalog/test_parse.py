"""Lines to events: what is written reads back, and logs as they are in the wild are understood."""

from __future__ import annotations

import io
import re
import time
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from flows import FLOWS, golden_file
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

import phasewatch
from phasewatch import (
    PhaseAlive,
    PhaseEnded,
    PhaseInfo,
    PhaseProgressed,
    PhaseResumed,
    PhaseStalled,
    PhaseStarted,
    Sink,
    phase,
    register,
)
from phasewatch.durations import format_duration
from phasewatch.events import Event, Measured
from phasewatch.metalog import lines as log_lines
from phasewatch.metalog import parse
from phasewatch.metalog.banners import blocks, short_names
from phasewatch.metalog.catalog import is_silent, kind_of
from phasewatch.metalog.parse import Parser
from phasewatch.metalog.plain import one_line
from phasewatch.metalog.stack import Stack
from phasewatch.sinks import ConsoleSink
from phasewatch.testing import FakeClock, MemorySink

RULE = "=" * 80


def parsed(text: str) -> list[Event]:
    parser = Parser()
    return parser.feed(text.encode("utf-8", "surrogateescape")) + parser.close()


def told(events: list[Event]) -> list[tuple[str, ...]]:
    """Type and path of each event, the run's left out."""
    return [(event.type, *event.path) for event in events if event.path]


def banner(title: str, *details: str) -> str:
    lines = [RULE, title, RULE]
    for detail in details:
        lines += [detail, RULE]
    return "\n" + "\n".join(lines) + "\n\n"


def of_type(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if type(event) is kind]


# The round trip.


def as_text_carries(event: Event) -> tuple[Any, ...] | None:
    """Return what the text of an event tells, as exactly as it tells it; None for an event that has no text at all.

    The end of a phase that completes silently, or that an exception passes through, is told by what follows: no figures.
    """
    info = event.phase
    if info.role == "run":
        if isinstance(event, PhaseStarted):
            warnings = _warnings_told(info)
            return ("start of run", warnings) if warnings else None
        if not isinstance(event, PhaseEnded):
            return None
        deviations = {one_line(name): counts for name, counts in event.deviations.items()}
        return ("end of run", event.status, info.message if event.status == "completed" else None, event.origin, deviations)
    path = tuple(one_line(name) for name in event.path)
    if isinstance(event, PhaseStarted):
        place = info.position
        position = place and (
            place.number, place.total, place.unit, place.epoch, place.epochs if place.epoch else None,
            format_duration(place.elapsed), format_duration(place.eta) if place.total is not None else None,
        )  # fmt: skip
        counters = {name: n for name, n in info.counters.items() if n is not None}
        details = {name: one_line(value) for name, value in info.details.items()}
        step = info.step if place is None else None
        unit = info.unit if info.total is not None else "item"
        return ("start", path, info.message, step, position, info.total, unit, counters, details)
    if isinstance(event, PhaseProgressed):
        means = {short: f"{event.means[name]:.3f}" for name, short in short_names(event.means).items()}
        eta = format_duration(event.eta) if event.total is not None else None
        return ("progress", path, event.done, event.total, event.counters, means, format_duration(event.elapsed), eta)
    if isinstance(event, PhaseEnded):
        shown = short_names(event.metrics)
        metrics = {shown[name]: f"{value:.3f}" for name, value in event.metrics.items()}
        if event.status != "completed" and not event.innermost:
            metrics = {}  # of several phases that an exception leaves, the text does not say which had them
        return ("end", path, event.status, metrics, _figures_told(event), event.error and _as_printed(event.error))
    return None


def _warnings_told(run: PhaseInfo) -> list[str]:
    warnings: Any = run.attributes.get("plan_warnings", [])
    return ["; ".join(filter(None, (one["message"], one.get("advice")))) for one in warnings]


def _figures_told(event: PhaseEnded) -> tuple[Any, ...]:
    kind = kind_of(event.phase)
    if event.status != "completed":
        counts = event.phase.position is None and (event.total is not None or event.done)
        done = event.done if counts else None
        return (format_duration(event.elapsed), done) if event.innermost else ()
    if is_silent(event.name):
        return ()
    done = event.done if "completed" in kind.totals and (event.done or event.total is not None) else None
    counters = dict(event.counters) if "processed" in kind.totals else {}
    return (format_duration(event.elapsed) if "time" in kind.totals else None, done, counters)


def _as_printed(error: tuple[str, str]) -> tuple[str, str]:
    return error[0], one_line(error[1]).strip()


NAMES = st.text(alphabet="abcXYZé漢0_/.()", min_size=1, max_size=8)
METRICS = st.dictionaries(
    st.sampled_from(["actor/loss", "critic/loss", "kl", "lr"]), st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), max_size=3
)


@st.composite
def programs(draw: st.DrawFn) -> Any:
    """A training or other work, as nested lists: what runs in which order."""
    if draw(st.booleans()):
        return [draw(works(depth=2)) for _ in range(draw(st.integers(0, 3)))]
    steps = draw(st.integers(0, 4))
    loop: list[Any] = []
    for number in range(1, steps + 1):
        inside = [draw(works()) for _ in range(draw(st.integers(0, 1)))]
        loop.append(("step", draw(METRICS), inside, draw(st.none() | st.integers(1, 2))))
        if draw(st.booleans()):
            loop.append(("phase", "PERIODIC VALIDATION", number, draw(validations())))
        if draw(st.booleans()):
            loop.append(("phase", "CHECKPOINT SAVING", number, []))
    top: list[Any] = []
    if draw(st.booleans()):
        top.append(("phase", "INITIALIZATION", None, [draw(works()) for _ in range(draw(st.integers(0, 1)))]))
    if draw(st.booleans()):
        top.append(("phase", "PRE-TRAINING VALIDATION", None, draw(validations())))
    top.append(("training", steps, loop))
    if draw(st.booleans()):
        top.append(("phase", "POST-TRAINING VALIDATION", None, draw(validations())))
    return top


def validations() -> st.SearchStrategy[Any]:
    return st.tuples(st.just("validation"), st.integers(1, 4), st.booleans()).map(lambda made: [made])


def works(depth: int = 1) -> st.SearchStrategy[Any]:
    inside = st.lists(works(depth - 1), max_size=2) if depth else st.just([])
    return st.tuples(st.just("work"), NAMES, st.one_of(st.none(), st.integers(1, 3)), METRICS, inside)


frequencies = st.sampled_from([-1, 0, 2, 50])
plans = st.one_of(
    st.none(),
    st.builds(
        phasewatch.TrainingPlan,
        st.integers(1, 4),
        test_freq=frequencies,
        save_freq=frequencies,
        val_after_train=st.booleans(),
    ),
    st.dictionaries(NAMES, st.integers(1, 3), min_size=1, max_size=2).map(phasewatch.Plan),
)


class Broken(Exception):
    pass


class Player:
    """Plays a program on a fake clock, and breaks off at one of its moments."""

    def __init__(self, breaks_at: int | None, seconds: list[float], plan: Any = None) -> None:
        self.clock, self.plan = FakeClock(), plan
        self.memory, self.out = MemorySink(), io.StringIO()
        self.breaks_at, self.seconds, self.moments = breaks_at, seconds, 0

    def play(self, program: Any) -> None:
        sinks: list[Sink] = [self.memory, ConsoleSink(Console(file=self.out), mode="plain")]
        try:
            with phasewatch.run("run", sinks=sinks, clock=self.clock, plan=self.plan):
                for part in program:
                    self.part(part, None)
        except Broken:
            pass

    def pass_time(self) -> None:
        self.clock.advance(self.seconds[self.moments % len(self.seconds)])
        self.moments += 1
        if self.moments == self.breaks_at:
            raise Broken("for | good\nreasons: 2")

    def part(self, part: Any, around: Any) -> None:
        what = part[0]
        if what == "training":
            with phase("TRAINING", total=part[1], unit="step", epochs=2) as training:
                for inner in part[2]:
                    self.part(inner, training)
        elif what == "step":
            with around.step(epoch=part[3]) as step:
                step.log(part[1])
                for inner in part[2]:
                    self.part(inner, step)
                self.pass_time()
        elif what == "validation":
            counters = {"questions": 100 * part[1]} if part[2] else None
            with phase(
                "VALIDATION", total=part[1], unit="batch", counters=counters, details={"Batch size": 100}
            ) as validation:
                for _ in range(part[1]):
                    self.pass_time()
                    validation.advance(reward=0.5, **({"questions": 100} if part[2] else {}))
        elif what == "work":
            with phase(part[1], total=part[2], unit="query") as work:
                for inner in part[4]:
                    self.part(inner, work)
                for _ in range(part[2] or 0):
                    self.pass_time()
                    work.advance()
                work.log(part[3])
        else:
            with phase(part[1], step=part[2]) as self_:
                for inner in part[3]:
                    self.part(inner, self_)
                self.pass_time()


@settings(max_examples=150)
@given(programs(), st.none() | st.integers(1, 30), st.lists(st.floats(0.001, 5000), min_size=1, max_size=5), plans)
def test_what_the_console_writes_reads_back(program: Any, breaks_at: int | None, seconds: list[float], plan: Any) -> None:
    player = Player(breaks_at, seconds, plan)
    player.play(program)
    written = [made for event in player.memory.events if (made := as_text_carries(event))]
    back = [made for event in parsed(player.out.getvalue()) if (made := as_text_carries(event))]
    assert back == written


@pytest.mark.parametrize("flow", FLOWS)
def test_a_golden_log_that_was_read_is_written_again_as_it_was(flow: str) -> None:
    text = golden_file(flow).read_text(encoding="utf-8")
    own = [line for line in text.splitlines() if line.startswith(("=", "📊")) or "[META]" in line or " | " in line]
    written = [line for event in parsed(text) for block in blocks(event) for _, line in block.lines]
    of_others = {line for line in written if line not in own}
    assert not of_others - {"Total batches: 28", "KeyboardInterrupt"}
    assert [line for line in written if line in own] == own


def test_times_come_from_the_durations_that_are_printed() -> None:
    events = parsed(golden_file("whole_run").read_text(encoding="utf-8"))
    (training,) = [event for event in of_type(events, PhaseEnded) if event.name == "TRAINING"]
    (began,) = [event for event in of_type(events, PhaseStarted) if event.name == "TRAINING"]
    assert training.elapsed == pytest.approx(1.49 * 3600)
    assert training.time - began.time == pytest.approx(training.elapsed)
    (run,) = [event for event in of_type(events, PhaseEnded) if event.phase.role == "run"]
    assert run.elapsed == pytest.approx(2.16 * 3600)  # of the table


def test_ids_and_parents_make_a_tree() -> None:
    events = parsed(golden_file("whole_run").read_text(encoding="utf-8"))
    begun: dict[str, PhaseInfo] = {}
    for event in events:
        if isinstance(event, PhaseStarted):
            assert event.id not in begun
            begun[event.id] = event.phase
            if event.path:
                assert event.parent is not None
                assert (*begun[event.parent].path, event.name) == event.path
        assert event.id in begun
    assert len(begun) == len(of_type(events, PhaseEnded))
    assert events == parsed(golden_file("whole_run").read_text(encoding="utf-8"))


# What is inferred.


def test_a_step_ends_when_the_next_thing_of_its_level_begins() -> None:
    step = "🔄 [META] PHASE: TRAINING STEP\n[Epoch 1/3] Step {}/35 (2.9%) | Elapsed: {} | ETA: 23.8m\n"
    text = "🚀 [META] PHASE: TRAINING START\n" + step.format(1, "0s") + step.format(2, "42s")
    text += "💾 [META] PHASE: CHECKPOINT SAVING (Step 2)\n✅ [META] CHECKPOINT SAVED SUCCESSFULLY\n"
    events = parsed(text)
    assert told(events) == [
        ("start", "TRAINING"),
        ("start", "TRAINING", "TRAINING STEP"),
        ("end", "TRAINING", "TRAINING STEP"),
        ("start", "TRAINING", "TRAINING STEP"),
        ("end", "TRAINING", "TRAINING STEP"),
        ("start", "TRAINING", "CHECKPOINT SAVING"),
        ("end", "TRAINING", "CHECKPOINT SAVING"),
    ]
    assert events[3].elapsed == 42.0  # type: ignore[attr-defined]  # an end


def test_a_name_seen_beside_a_silent_phase_ends_it_the_next_time() -> None:
    register("EPOCH", completes=False)
    text = "".join(banner(f"🔹 [META] PHASE: {name}") for name in ("WORK", "EPOCH", "BATCH"))
    text += banner("✅ [META] PHASE COMPLETE: BATCH", "Total time: 3.0s") + banner("🔹 [META] PHASE: EPOCH")
    text += banner("✅ [META] PHASE COMPLETE: WORK", "Total time: 9.0s")
    assert told(parsed(text))[-3:] == [
        ("start", "WORK", "EPOCH"), ("end", "WORK", "EPOCH"), ("end", "WORK"),
    ]  # fmt: skip
    assert ("end", "WORK", "EPOCH") in told(parsed(text))[:-3]


def test_a_validation_that_was_never_closed_holds_nothing_else() -> None:
    text = banner("🔍 [META] PHASE: VALIDATION", "Total batches: 28") + banner("🚀 [META] PHASE: TRAINING START")
    assert told(parsed(text)) == [("start", "VALIDATION"), ("start", "TRAINING")]


def test_a_log_that_goes_on_with_another_run_has_two() -> None:
    text = banner("🔧 [META] PHASE: INITIALIZATION") + banner("🚀 [META] PHASE: TRAINING START")
    events = parsed(text + text)
    assert len([event for event in events if event.phase.role == "run"]) == 2
    assert not [event for event in of_type(events, PhaseEnded) if event.name == "TRAINING"]


def test_a_log_whose_beginning_is_lost_has_the_phases_that_end_in_it() -> None:
    text = "📊 Validation [2/28] (7.1%) | Questions: 512/7405 | Avg Reward: 0.489 | Elapsed: 82s | ETA: 18.2m\n"
    text += banner("✅ [META] PHASE COMPLETE: VALIDATION", "Total questions processed: 7405 | Total time: 19.2m")
    start, progress, end = parsed(text)[1:]
    assert (start.name, start.phase.total, dict(start.phase.counters)) == ("VALIDATION", 28, {"questions": 7405})
    assert isinstance(progress, PhaseProgressed)
    assert (progress.done, progress.counters, progress.means) == (2, {"questions": 512}, {"reward": 0.489})
    assert isinstance(end, PhaseEnded)
    assert (end.elapsed, end.counters) == (19.2 * 60, {"questions": 7405})


def test_an_exception_that_was_caught_fails_what_it_passed_through_and_no_more() -> None:
    text = banner("🚀 [META] PHASE: TRAINING START") + banner("🧪 [META] PHASE: PERIODIC VALIDATION (Step 2)")
    text += banner("🔍 [META] PHASE: VALIDATION") + banner("❌ [META] PHASE FAILED: VALIDATION", "OSError | Elapsed: 3.0s")
    text += banner("💾 [META] PHASE: CHECKPOINT SAVING (Step 2)")
    ends = of_type(parsed(text), PhaseEnded)
    assert [(end.name, end.status, end.innermost) for end in ends] == [
        ("VALIDATION", "failed", True), ("PERIODIC VALIDATION", "failed", False),
    ]  # fmt: skip
    assert ends[1].error == ("OSError", "")
    assert ends[1].origin == ("TRAINING", "PERIODIC VALIDATION", "VALIDATION")


# Events of phases that are quiet.


def quiet(kind: type, **more: Any) -> list[Event]:
    info = PhaseInfo("VALIDATION", id="2", parent="1", run="1", path=("VALIDATION",), total=28, unit="batch")
    measures: dict[str, Any] = {"quiet": 738.0, "done": 12, "total": 28, "elapsed": 1206.0, "eta": 660.0, **more}
    return [PhaseStarted(info, 0.0), kind(info, 0.0, **measures)]


@pytest.mark.parametrize(
    "events",
    [
        quiet(PhaseAlive),
        quiet(PhaseAlive, total=None),
        quiet(PhaseResumed),
        quiet(PhaseStalled, expected=60.0),
        quiet(PhaseStalled, expected=None, stack='  File "a.py", line 1, in f\n    sleep(9)'),
    ],
    ids=lambda events: events[1].type,
)
def test_signs_of_life_read_back(events: list[Event]) -> None:
    text = "".join(line + "\n" for event in events for block in blocks(event) for _, line in block.lines)
    back = parsed(text + "\nsomething else\n")
    assert [line for event in back for block in blocks(event) for _, line in block.lines] == text.splitlines()
    last = back[-1]
    assert isinstance(last, Measured)
    assert (last.type, last.done, last.elapsed) == (events[1].type, 12, 1206.0)


def test_the_time_inside_a_generator_reads_back() -> None:
    text = banner("🔹 [META] PHASE: A") + banner("✅ [META] PHASE COMPLETE: A", "Total time: 42s | Active time: 4.2s")
    assert of_type(parsed(text), PhaseEnded)[0].active == 4.2


# Logs as they are in the wild.

TITLE = "🔍 [META] PHASE: VALIDATION"
DETAIL = "Total batches: 28 | Total questions: 7405 | Batch size: 256"


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "(main_task pid=163292) ",
        "\x1b[36m(main_task pid=163292)\x1b[0m ",
        "[36m(main_task pid=163292)[0m ",
        "(TaskRunner pid=1, ip=10.0.0.1) ",
        "\x1b[36m(TaskRunner pid=1, ip=10.0.0.1)\x1b[0m ",
        "[rank0]: ",
        "0: ",
        "2026-01-01 12:00:00,123 INFO ",
        "[2026-01-01 12:00:00,123][root][INFO] - ",
        "2026-01-01T12:00:00Z ",
        "INFO 2026-01-01 12:00:00 [worker.py:12] ",
        "INFO:root:",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_a_banner_is_understood_behind_a_prefix(prefix: str, end: str) -> None:
    for lines in ([RULE, TITLE, RULE, DETAIL, RULE], [TITLE, DETAIL]):
        text = "".join(prefix + line + end for line in lines)
        (start,) = [event for event in parsed(text) if event.path]
        assert (start.type, start.phase.total, start.phase.unit) == ("start", 28, "batch")
        assert start.phase.counters == {"questions": 7405}
        assert start.phase.details == {"Batch size": "256"}


def _misread(text: str, encoding: str) -> str:
    data = text.encode()
    if encoding == "cp1252":  # as browsers read it: five bytes are controls
        return "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in data)
    return data.decode(encoding)


@pytest.mark.parametrize("encoding", ["cp1252", "mac_roman", "latin-1"])
@pytest.mark.parametrize("title", [TITLE, "🏁 [META] PHASE: Prüfung – 検証", "▶️ [META] PHASE: A", "✅ [META] PHASE: A"])
def test_text_that_was_read_in_another_encoding_is_repaired(encoding: str, title: str) -> None:
    (event,) = [event for event in parsed(_misread(title, encoding) + "\n") if event.path]
    assert event.name == title.partition("PHASE: ")[2]


def test_an_apple_that_was_lost_is_no_loss() -> None:
    (_, event) = parsed("üîß [META] PHASE: INITIALIZATION - Pr√ºfung\n")
    assert (event.name, event.phase.message, event.phase.emoji) == ("INITIALIZATION", "Prüfung", None)


@pytest.mark.parametrize(
    "line", ["[META] PHASE: VALIDATION", "? [META] PHASE: VALIDATION", "\ufffd\ufffd [META] PHASE: VALIDATION"]
)
def test_an_emoji_may_be_lost(line: str) -> None:
    text = (
        line
        + "\nValidation [1/28] (3.6%) | Elapsed: 41s | ETA: 18.5m\n? Validation [2/28] (7.1%) | Elapsed: 82s | ETA: 2.0s\n"
    )
    assert told(parsed(text)) == [("start", "VALIDATION"), ("progress", "VALIDATION"), ("progress", "VALIDATION")]


@pytest.mark.parametrize(
    "bar",
    [
        " 3%|▎         | 1/35 [00:42<23:48, 42.0s/it]",
        "\r 3%|▎         | 1/35 [00:42<23:48, 42.0s/it]\r",
        "Generating:   3%|▎  | 1/35 [00:42<?, ?s/it]\r\x1b[A",
        RULE,
    ],
)
def test_a_banner_may_be_glued_to_what_stood_in_the_line(bar: str) -> None:
    assert told(parsed(f"{bar}{TITLE}\n{DETAIL}\n")) == [("start", "VALIDATION")]


def test_what_ray_folded_is_still_a_banner() -> None:
    prefix = "\x1b[36m(main_task pid=7)\x1b[0m "
    folded = "\x1b[32m [repeated 2x across cluster] (Ray deduplicates logs by default.)\x1b[0m"
    assert told(parsed(f"{prefix}{TITLE}{folded}\n{prefix}{DETAIL}\n")) == [("start", "VALIDATION")]


def test_processes_that_write_at_once_are_kept_apart() -> None:
    def line(pid: int, text: str) -> str:
        return f"(Worker pid={pid}, ip=10.0.0.{pid}) {text}\n"

    text = (
        line(1, TITLE)
        + line(2, TITLE)
        + "a line of the driver\n"
        + line(2, "Total batches: 2")
        + line(1, "Total batches: 1")
    )
    text += line(2, "✅ [META] PHASE COMPLETE: VALIDATION") + line(
        1, "📊 Validation [1/1] (100.0%) | Elapsed: 3.0s | ETA: 0s"
    )
    events = [event for event in parsed(text) if event.path]
    assert {(e.phase.place.process, e.phase.place.host, e.phase.total) for e in events if e.phase.place} == {
        (1, "10.0.0.1", 1), (2, "10.0.0.2", 2),
    }  # fmt: skip
    assert sorted((event.phase.total, event.type) for event in events) == [
        (1, "progress"),
        (1, "start"),
        (2, "end"),
        (2, "start"),
    ]


def test_the_times_of_lines_are_the_times_of_events() -> None:
    text = "2026-01-01T12:00:00+00:00 INFO 🔧 [META] PHASE: INITIALIZATION\n"
    text += "2026-01-01 13:01:30.500+01:00 INFO 🚀 [META] PHASE: TRAINING START\n"
    events = parsed(text)
    noon = datetime.fromisoformat("2026-01-01T12:00:00+00:00").timestamp()
    assert events[1].time == noon
    assert isinstance(events[2], PhaseEnded)
    assert events[2].elapsed == 90.5
    assert events[3].time == noon + 90.5


# What is no banner.


@pytest.mark.parametrize(
    "line",
    [
        "🔹 [meta] PHASE COMPLETE: VALIDATION",
        "the model said: I am in [META] PHASE COMPLETE: VALIDATION",
        "🔹 [META] SOMETHING ELSE",
        "[META]",
        "🔹 [META] PHASE: ",
        "📊 Validation [1/28] of nothing",
        "foo [1/28] (3.6%) | Elapsed: 3.0s",
        "ValidationX [1/28] (3.6%) | Elapsed: 3.0s",
    ],
)
def test_other_text_is_no_event(line: str) -> None:
    assert told(parsed(f"{TITLE}\n{line}\n")) == [("start", "VALIDATION")]


def test_a_line_of_others_is_not_taken_for_a_detail() -> None:
    (start,) = [e for e in parsed(f"{RULE}\n{TITLE}\n{RULE}\nLoading: weights\nmore\n") if e.path]
    assert not start.phase.details
    (start,) = [e for e in parsed(f"{RULE}\n{TITLE}\n{RULE}\nModel: 7B\n{RULE}\n") if e.path]
    assert start.phase.details == {"Model": "7B"}


@pytest.mark.parametrize(("lines", "total"), [(0, 28), (40, 28), (41, None)])
def test_a_banner_waits_for_its_detail_while_others_write(lines: int, total: int | None) -> None:
    (start,) = [
        event for event in parsed(f"(a pid=1) {TITLE}\n" + "words\n" * lines + "(a pid=1) Total batches: 28\n") if event.path
    ]
    assert start.phase.total == total


def test_a_banner_waits_no_less_for_one_of_its_writer_that_was_completed() -> None:
    text = f"(b pid=2) {TITLE}\n(a pid=1) {TITLE}\n(a pid=1) Total batches: 7\n" + "words\n" * 30
    text += "(a pid=1) 🔹 [META] PHASE: A\n" + "words\n" * 20 + "(a pid=1) Total files: 28\n"
    assert [(event.name, event.phase.total) for event in of_type(parsed(text), PhaseStarted) if event.path] == [
        ("VALIDATION", 7), ("VALIDATION", None), ("A", 28),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("blanks", "rows", "told"), [(0, 0, True), (3, 0, True), (4, 0, False), (1, 70, True), (1, 90, False)]
)
def test_the_table_at_the_end_of_a_run_tells_how_long_it_was_if_it_comes_soon(blanks: int, rows: int, told: bool) -> None:
    table = "Where the time went\n" + "A   1   2.0s   4.0%\n" * rows + "The whole run   1   50s   100.0%\n"
    (end,) = of_type(parsed("🏁 [META] ALL PHASES COMPLETE\n" + "\n" * blanks + table), PhaseEnded)
    assert end.elapsed == (50 if told else 0)


def test_a_hostile_name_forges_nothing() -> None:
    forged = "X\n✅ [META] PHASE COMPLETE: VALIDATION\r📊 Validation [9/9] | Elapsed: 1s"
    player = Player(None, [1.0])
    player.play([("phase", "VALIDATION", None, [("work", forged, None, {}, [])])])
    events = parsed(player.out.getvalue())
    assert [event.type for event in events if event.name == "VALIDATION"] == ["start", "end"]
    assert not of_type(events, PhaseProgressed)


def test_what_is_told_of_a_plan_is_the_runs() -> None:
    memory, out, clock = MemorySink(), io.StringIO(), FakeClock()
    plan = phasewatch.TrainingPlan(3, test_freq=50, save_freq=2, val_after_train=False)
    with phasewatch.run(plan=plan, clock=clock, sinks=[memory, ConsoleSink(Console(file=out, width=200), mode="plain")]):
        with phase("TRAINING", total=3, unit="step") as training, training.step():
            clock.advance(1)
    before, after = memory.events, parsed(out.getvalue())
    (end,) = [event for event in after if isinstance(event, PhaseEnded) and event.phase.role == "run"]
    (told,) = [event for event in before if isinstance(event, PhaseEnded) and event.phase.role == "run"]
    assert end.deviations == told.deviations
    assert end.deviations["TRAINING STEP"] == (1, 3)
    expected = ["; ".join((one["message"], one["advice"])) for one in told.phase.attributes["plan_warnings"]]  # type: ignore[attr-defined]
    assert [one["message"] for one in end.phase.attributes["plan_warnings"]] == expected  # type: ignore[attr-defined]
    assert expected
    warnings = phasewatch.summarize(before).warnings
    assert phasewatch.summarize(after).warnings == warnings
    assert "of the plan: 1 of 3 TRAINING STEP ran" in warnings


def test_warnings_of_a_plan_begin_another_run() -> None:
    text = "🔹 [META] PHASE: A\n" + "=" * 80 + "\n⚠️ [META] PLAN WARNING: no PHASE: A\n🔹 [META] PHASE: B\n"
    events = parsed(text)
    assert [event.name for event in events] == ["run", "A", "run", "B"]
    assert events[2].phase.attributes["plan_warnings"] == [{"message": "no PHASE: A"}]
    assert "plan_warnings" not in events[0].phase.attributes


def test_a_log_that_warns_without_end_fills_no_memory() -> None:
    text = "⚠️ [META] PLAN WARNING: more\n" * 1000 + "".join(f"⚠️ [META] PLAN: 1 of 2 P{n} ran\n" for n in range(1000))
    events = parsed(text + "🏁 [META] ALL PHASES COMPLETE\n" + "=" * 80 + "\n")
    assert len(events[0].phase.attributes["plan_warnings"]) == 100  # type: ignore[arg-type]
    assert isinstance(events[-1], PhaseEnded)
    assert len(events[-1].deviations) == 100


def test_what_was_passed_over_is_counted() -> None:
    parser = Parser()
    parser.feed("🔹 [META] UNHEARD OF\nas in [META] PHASE: A\n💓 [META] ALIVE: A\n".encode())
    assert parser.skipped == {"unknown": 2, "quoted": 1}


# Whatever a log holds.

GOLDEN = golden_file("whole_run").read_bytes()[:20_000] + golden_file("failing_run").read_bytes()


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_log_is_never_an_error(data: st.DataObject) -> None:
    log = bytearray(GOLDEN)
    for _ in range(data.draw(st.integers(1, 20))):
        at = data.draw(st.integers(0, len(log)))
        log[at : at + data.draw(st.integers(0, 300))] = data.draw(
            st.binary(max_size=20)
            | st.sampled_from([b"\r", b"[META] ", b"| Elapsed: ", b"\x1b[", b"(a pid=1) ", b"9" * 5000])
        )
    parser = Parser()
    events = parser.feed(bytes(log)) + parser.close()
    ends = [event.id for event in events if isinstance(event, PhaseEnded)]
    assert len(ends) == len(set(ends))
    assert all(isinstance(line, str) for event in events for block in blocks(event) for _, line in block.lines)


# What trainers print themselves, one line with a bar, one that is a place of its own, and words.
OWN = (
    b"""step:1 - actor/loss:0.5 - timing_s/step:9.0
 20%|##    | 2/10 [00:10<00:40,  5.0s/it]
words % {
{'loss': 0.5, 'epoch': 0.1}
Saving model checkpoint to out/checkpoint-2
step:3 - actor/loss:0.5 - timing_s/step:9.0 - timing_s/testing:4.0
"""
    * 20
)


@pytest.mark.parametrize("log", [GOLDEN, OWN], ids=["banners", "trainers"])
@settings(max_examples=30)
@given(data=st.data())
def test_where_a_log_is_divided_does_not_matter(log: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=20))
    ends = sorted({log.rfind(b"\n", 0, cut) + 1 for cut in cuts} | {0, len(log)})
    whole = Parser()
    expected = whole.feed(log) + whole.close()
    assert len(expected) > 50
    for in_place in (False, True):
        parser, events = Parser(), []
        for since, until in pairwise(ends):
            events += parser.feed(log, since, until) if in_place else parser.feed(log[since:until])
        assert events + parser.close() == expected


@pytest.mark.parametrize("cut", range(0, len(GOLDEN), 997))
def test_a_log_may_be_cut_off_anywhere(cut: int) -> None:
    parser, whole = Parser(), Parser()
    events = parser.feed(GOLDEN[: GOLDEN.rfind(b"\n", 0, cut) + 1])
    assert events == whole.feed(GOLDEN)[: len(events)]
    Parser().feed(GOLDEN[:cut])


LONG = 60_000


@pytest.mark.parametrize(
    "line",
    [
        "💓 [META] ALIVE: " + "a [1/2] | Elapsed: 1s" * (LONG // 21),
        "▶️ [META] PHASE RESUMED: " + "a | Quiet: 1s | Elapsed: 1s" * (LONG // 27),
        "x | Elapsed: 1s" * (LONG // 15),
        "[Epoch 1/3] " + "1 " * (LONG // 2),
        "📊 " + "Validation [1/2] " * (LONG // 17) + " | Elapsed: 1s",
        "(pid=1 " * (LONG // 7) + " | Elapsed: ",
        "[36m" * (LONG // 4) + "(x | Elapsed: ",
        "2026-01-01 12:00:00 " + "INFO - " * (LONG // 7) + " | Elapsed: ",
        "step:1 - a:" + "(" * LONG,
        "{'" * (LONG // 2) + "'epoch': ",
        " " * LONG + "1%|x| 1/2 [",
        "The whole run" + " " * LONG,
        "\r" * LONG + "| Elapsed: ",
    ],
    ids=lambda line: line[:12],
)
def test_no_line_takes_long(line: str) -> None:
    began = time.process_time()
    for before in ("", f"{TITLE}\n", "❌ [META] PHASE FAILED: A\n", "🏁 [META] ALL PHASES COMPLETE\nWhere the time went\n"):
        parsed(f"{before}{line}\n")
    assert time.process_time() - began < 2  # a tenth of it; what grows with the square of the length takes half a minute


def test_a_log_of_nothing_but_beginnings_is_read_in_little_memory() -> None:
    events = parsed("".join(f"🔹 [META] PHASE: A{number}\n" for number in range(3000)))
    assert len(events) == 3001
    assert max(len(event.path) for event in events) <= 200


# Small rules, each of which once could be broken unseen.

STEP = "🔄 [META] PHASE: TRAINING STEP\n"


def test_a_place_without_prefix_is_not_that_of_a_step_with_one() -> None:
    titled = "(a pid=1) " + STEP
    text = titled + "(a pid=1) [Epoch 1/3] Step 1/9 (1.0%) | Elapsed: 0s | ETA: --\n"
    text += titled + "[Epoch 1/3] Step 7/9 (1.0%) | Elapsed: 0s | ETA: --\n"
    text += "(a pid=1) [Epoch 1/3] Step 2/9 (1.0%) | Elapsed: 3.0s | ETA: --\n"
    steps = [event.phase for event in of_type(parsed(text), PhaseStarted) if event.path]
    assert [(step.position.number, step.place.process) for step in steps] == [(1, 1), (2, 1)]


def test_a_line_of_others_before_a_rule_is_no_detail_if_none_came_before() -> None:
    (start,) = [event for event in parsed(f"{TITLE}\nLoading: weights\n{RULE}\n") if event.path]
    assert not start.phase.details


def test_characters_that_are_not_rare_hide_nothing() -> None:
    text = golden_file("whole_run").read_text(encoding="utf-8")
    assert parsed("M | " * 20_000 + "\n" + text) == parsed(text)


def test_the_metrics_tell_when_a_step_ended() -> None:
    text = "2026-01-01T12:00:00Z " + STEP + "2026-01-01T12:00:40-00:00 📊 Metrics: loss=0.5\n"
    text += "2026-01-01T07:01:00-05:00 🧪 [META] PHASE: PERIODIC VALIDATION (Step 1)\n"
    start, end, after = parsed(text)[1:]
    assert (end.time - start.time, end.elapsed, after.time - start.time) == (40, 40, 60)  # type: ignore[attr-defined]  # an end


def test_what_follows_the_metrics_of_a_step_is_not_inside_it() -> None:
    text = "🚀 [META] PHASE: TRAINING START\n" + STEP + "📊 Metrics: loss=0.5\n🔹 [META] PHASE: SAMPLES\n"
    assert told(parsed(text))[-1] == ("start", "TRAINING", "SAMPLES")


def test_a_periodic_validation_ends_with_the_validation_inside_it() -> None:
    text = "🚀 [META] PHASE: TRAINING START\n🧪 [META] PHASE: PERIODIC VALIDATION (Step 1)\n" + TITLE + "\n"
    text += banner("✅ [META] PHASE COMPLETE: VALIDATION", "Total time: 10s")
    text += STEP + "[Epoch 1/3] Step 2/9 (1.0%) | Elapsed: 30s | ETA: --\n"
    ends = {end.name: end.elapsed for end in of_type(parsed(text), PhaseEnded)}
    assert ends == {"VALIDATION": 10.0, "PERIODIC VALIDATION": 10.0}


def test_the_time_of_a_line_goes_before_the_durations_that_it_tells() -> None:
    text = f"2026-01-01T12:00:00Z {TITLE}\n2026-01-01T12:00:41Z 📊 Validation [1/28] (3.6%) | Elapsed: 50s | ETA: 9.0s\n"
    start, progress = parsed(text)[1:]
    assert progress.time - start.time == 41


def test_two_steps_at_once_stand_side_by_side() -> None:
    step = banner("🔹 [META] PHASE: DOWNLOAD FILE", "File {}/2 (50.0%) | Elapsed: 0s | ETA: --")
    text = banner("🔹 [META] PHASE: DOWNLOAD", "Total files: 2") + step.format(1) + step.format(2)
    assert told(parsed(text))[1:] == [("start", "DOWNLOAD", "DOWNLOAD FILE")] * 2


def test_a_training_that_broke_off_has_done_the_steps_that_completed() -> None:
    ends = of_type(parsed(golden_file("failing_run").read_text(encoding="utf-8")), PhaseEnded)
    assert [end.done for end in ends if end.name == "TRAINING"] == [2]


def test_a_rule_may_be_glued_to_a_title() -> None:
    assert told(parsed(f"{TITLE}{RULE}\n")) == [("start", "VALIDATION")]


def test_a_prefix_may_stand_behind_a_bar() -> None:
    (start,) = [event for event in parsed(f" 3%|# | 1/35 [00:42<?]\r(a pid=7) {TITLE}\n") if event.path]
    assert start.phase.place is not None
    assert start.phase.place.process == 7


# What is quick gives what the long way does.

TRAINING = f"🚀 [META] PHASE: TRAINING START\n{RULE}\nTotal epochs: 3 | Total steps: 35\n"
PIECES = [
    STEP + "[Epoch 1/3] Step {n}/35 (2.9%) | Elapsed: {n}.5m | ETA: 23.8m\n",
    STEP + "[Epoch 1/3] Step {n}/35 (2.9%) | Elapsed: 42s | ETA: --\n",
    STEP + "[Epoch 1/3] Step {n}/35 (2.9%) | Elapsed: 1.2.3s | ETA: --\n",
    STEP + "[Epoch 1/3] Step {n}/35 (2.9%) | Elapsed: 42s | ETA: 1m | Total batches: 3\n",
    STEP + "[Epoch 1/3] Step {n} | Elapsed: 42s\r\n",
    STEP + "words\n",
    STEP[:-1] + " (Step {n})\n[Epoch 1/3] Step {n}/35 (2.9%) | Elapsed: 42s | ETA: --\n",
    STEP[:-1] + " - a message\n[Epoch 1/3] Step {n}/35 (2.9%) | Elapsed: 42s | ETA: --\n",
    "2026-01-01T12:0{n}:00Z " + STEP + "[Epoch 1/3] Step {n}/35 (2.9%) | Elapsed: 42s | ETA: --\n",
    "2026-01-01T12:0{n}:00Z 📊 Metrics: loss=0.{n}\n",
    "(a pid=1) " + STEP + "[Epoch 1/3] Step {n}/35 (2.9%) | Elapsed: 42s | ETA: --\n",
    "(a pid=1) " + STEP + "(a pid=1) [Epoch 1/3] Step {n}/35 (2.9%) | Elapsed: 42s | ETA: --\n",
    STEP.replace("🔄", "🔹") + "[Epoch 1/3] Step {n}/35 (2.9%) | Elapsed: 42s | ETA: --\n",
    "📊 Metrics: loss=0.{n} | kl=nan\n",
    "📊 Training [{n}/35] (2.9%) | Samples Seen: 2/9 | Avg Reward: 0.5 | Elapsed: 42s | ETA: --\n",
    "📊 Training [{n}/35] (2.9%) | Elapsed: 42s | ETA: -- [repeated 2x across cluster]\n",
    TRAINING,
    "(a pid=1) 🚀 [META] PHASE: TRAINING START\n",
    STEP + "Metrics: a=1 [Epoch 1/3] Step {n}/35 (2.9%) | Elapsed: 42s | ETA: --\n",
    "🔹 [META] PHASE: A\n",
    "✅ [META] PHASE COMPLETE: A\nTotal time: 3.0m\n",
    "❌ [META] PHASE FAILED: TRAINING STEP\nValueError: no | Elapsed: 3.0s\n",
    "🧪 [META] PHASE: PERIODIC VALIDATION (Step {n})\n",
    "🎉 [META] PHASE: TRAINING COMPLETE\nTotal steps completed: 35 | Total time: 25.6m\n",
    "❌ [META] RUN FAILED - in TRAINING > TRAINING STEP\n",
    RULE + "\n",
    "M | {'a': " * 30 + "\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12))
@example(["🔹 [META] PHASE: A\n", "❌ [META] PHASE FAILED: A\nValueError: no | Elapsed: 3.0s\n", PIECES[0], PIECES[0]])
@example([PIECES[11], PIECES[10], PIECES[0]])
@example(["(a pid=1) 🚀 [META] PHASE: TRAINING START\n", PIECES[11], PIECES[11], PIECES[10]])
@example([PIECES[12], PIECES[12], PIECES[0]])
@example([PIECES[-6], PIECES[0], PIECES[0], "❌ [META] RUN FAILED - in TRAINING > A\n"])
def test_a_step_after_a_step_is_what_it_is_the_long_way(pieces: list[str]) -> None:
    begun = (TRAINING + PIECES[0] + PIECES[0]).format(n=1)
    text = begun + "".join(piece.replace("{n}", str(number)) for number, piece in enumerate(pieces, 2))
    quick = repr(parsed(text))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Stack, "next_step", lambda *_: False)
        patched.setattr(log_lines, "_PLAIN", re.compile(b"(?!)"))
        assert repr(parsed(text)) == quick


@pytest.mark.parametrize(
    "prefix", ["", "(main_task pid=7) ", "\x1b[36m(a pid=7, ip=10.0.0.1)\x1b[0m ", "[rank3]: ", "INFO:b:"]
)
def test_steps_take_the_quick_way(prefix: str, mocker: Any) -> None:
    way = mocker.spy(Stack, "next_step")
    log = TRAINING + "".join(PIECES[0].format(n=number) for number in range(1, 9))
    events = parsed("".join(prefix + line for line in log.splitlines(True)))
    assert [call for call in way.spy_return_list[-7:] if call is not True] == []
    assert len(way.spy_return_list) >= 7
    assert sum(event.name == "TRAINING STEP" for event in events) == 15


def test_a_log_of_ever_new_prefixes_fills_no_memory() -> None:
    parser = Parser()
    for number in range(3 * parse._MOST_TITLES):
        parser.feed(
            f"(a pid={number}) {STEP}(a pid={number}) [Epoch 1/3] Step 1/9 (1.0%) | Elapsed: 1s | ETA: --\n".encode() * 3
        )
    assert len(parser._steps) <= parse._MOST_TITLES
    assert len(parser._deadlines) <= 2 * parse._MOST_TITLES


@given(st.text("📊 [META]repeated 2xcross:=|.~\x7f\tM", max_size=40))
@example("Metrics: a=1 [repeated 2x across cluster]")
def test_a_line_of_figures_is_cleaned_as_any_other(text: str) -> None:
    raw = ("📊 " + text).encode()
    quick = log_lines.clean(raw)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(log_lines, "_PLAIN", re.compile(b"(?!)"))
        assert log_lines.clean(raw) == quick


PLACE = b"[Epoch 1/3] Step 1/35 (2.9%) | Elapsed: 42s | ETA: --\n"
SIGNS = [
    b"M",
    b"META] ",
    b"Metrics: ",
    b"META] PHASE: TRAINING STEP\n",
    PLACE,
    b"|",
    b"| Elapsed: ",
    b" ",
    b"{'",
    b"{",
    b"%|",
    b"%",
]


@example([SIGNS[3], b"Metrics: ", PLACE], 0, 0)
@given(st.lists(st.sampled_from(SIGNS), max_size=60), st.integers(0, 20), st.integers(0, 20))
def test_every_sign_in_a_part_of_a_block_is_found(parts: list[bytes], before: int, after: int) -> None:
    block = b"".join(parts)
    end = max(before, len(block) - after)

    def starts(*signs: bytes) -> list[int]:
        return [at for at in range(before, end) if block.startswith(signs, at, end)]

    for sign in (parse._PROGRESS, parse._BARS, parse._DICTIONARIES):
        assert parse._Search(block, sign, end).all(before) == starts(sign[1])
    found, at = [], before
    while (hit := parse._BANNERS.search(block, at, end)) is not None:
        found.append(hit.start())
        at = hit.start() + 1
    assert found == starts(b"META] ", b"Metrics: ")
