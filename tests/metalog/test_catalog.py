"""What each phase opens and completes with, and how users add their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch import PhaseEnded, PhaseInfo, PhaseStarted, phase, register
from phasewatch.events import Event
from phasewatch.metalog.banners import blocks
from phasewatch.metalog.catalog import kind_of, registered

if TYPE_CHECKING:
    from phasewatch.testing import PhaseLog


def titles(event: Event) -> list[str]:
    return [text for block in blocks(event) for role, text in block.lines if role == "title"]


def details(event: Event) -> list[str]:
    return [text for block in blocks(event) for role, text in block.lines if role == "detail"]


def opening(name: str, **options: Any) -> PhaseStarted:
    return PhaseStarted(PhaseInfo(name, id="1", path=(name,), **options), 0.0)


def completion(name: str, *, done: int = 0, elapsed: float = 6.0, counters: Any = None, **options: Any) -> PhaseEnded:
    phase = PhaseInfo(name, id="1", path=(name,), **options)
    return PhaseEnded(phase, 0.0, status="completed", done=done, total=phase.total, elapsed=elapsed, counters=counters)


# The table of the rulings, row by row.


@pytest.mark.parametrize(
    ("name", "options", "title", "detail"),
    [
        (
            "INITIALIZATION",
            {"message": "Creating Resource Pools and Workers"},
            "🔧 [META] PHASE: INITIALIZATION - Creating Resource Pools and Workers",
            [],
        ),
        ("PRE-TRAINING VALIDATION", {}, "🧪 [META] PHASE: PRE-TRAINING VALIDATION", []),
        (
            "VALIDATION",
            {"total": 28, "unit": "batch", "counters": {"questions": 7405}, "details": {"Batch size": 256}},
            "🔍 [META] PHASE: VALIDATION",
            ["Total batches: 28 | Total questions: 7405 | Batch size: 256"],
        ),
        (
            "TRAINING",
            {"total": 35, "unit": "step", "attributes": {"epochs": 3}},
            "🚀 [META] PHASE: TRAINING START",
            ["Total epochs: 3 | Total steps: 35"],
        ),
        ("PERIODIC VALIDATION", {"step": 50}, "🧪 [META] PHASE: PERIODIC VALIDATION (Step 50)", []),
        ("CHECKPOINT SAVING", {"step": 100}, "💾 [META] PHASE: CHECKPOINT SAVING (Step 100)", []),
        ("POST-TRAINING VALIDATION", {}, "🧪 [META] PHASE: POST-TRAINING VALIDATION", []),
        ("DOWNLOAD", {}, "🔹 [META] PHASE: DOWNLOAD", []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_phase_opens_as_the_specification_has_it(
    name: str, options: dict[str, Any], title: str, detail: list[str]
) -> None:
    assert titles(opening(name, **options)) == [title]
    assert details(opening(name, **options)) == detail


@pytest.mark.parametrize(
    "name", ["INITIALIZATION", "PRE-TRAINING VALIDATION", "TRAINING STEP", "PERIODIC VALIDATION", "POST-TRAINING VALIDATION"]
)
def test_a_silent_completion_says_nothing(name: str) -> None:
    assert blocks(completion(name)) == []


@pytest.mark.parametrize(
    ("event", "title", "detail"),
    [
        (
            completion("VALIDATION", total=28, unit="batch", done=28, elapsed=1150.8, counters={"questions": 7405}),
            "✅ [META] PHASE COMPLETE: VALIDATION",
            ["Total questions processed: 7405 | Total time: 19.2m | Avg time per batch: 41.1s"],
        ),
        (
            completion("TRAINING", total=35, unit="step", done=35, elapsed=1536),
            "🎉 [META] PHASE: TRAINING COMPLETE",
            ["Total steps completed: 35 | Total time: 25.6m"],
        ),
        (completion("CHECKPOINT SAVING", step=100), "✅ [META] CHECKPOINT SAVED SUCCESSFULLY", []),
        (completion("DOWNLOAD"), "✅ [META] PHASE COMPLETE: DOWNLOAD", ["Total time: 6.0s"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_other_phase_completes_as_the_specification_has_it(event: PhaseEnded, title: str, detail: list[str]) -> None:
    assert titles(event) == [title]
    assert details(event) == detail


@pytest.mark.parametrize("name", ["validation", "VALIDATION ", "VALIDATION 2", ""])
def test_a_name_that_only_resembles_one_of_the_catalogue_is_not_known(name: str) -> None:
    assert kind_of(PhaseInfo(name, id="1")).emoji == "🔹"


# Kinds of one's own. The fixture in conftest.py puts the catalogue back after each test.


def test_a_registered_phase_has_its_own_banners() -> None:
    register(
        "DISTILL",
        emoji="🧪",
        opens="DISTILLING",
        completes="ALL DISTILLED",
        completes_emoji="🎊",
        totals=("completed", "average"),
    )
    assert titles(opening("DISTILL", message="now", step=2)) == ["🧪 [META] DISTILLING - now (Step 2)"]
    end = completion("DISTILL", total=3, unit="batch", done=3)
    assert titles(end) == ["🎊 [META] ALL DISTILLED"]
    assert details(end) == ["Total batches completed: 3 | Avg time per batch: 2.0s"]


def test_what_is_not_said_is_as_for_any_phase() -> None:
    register("DISTILL")
    for event in (opening("DISTILL", total=3), completion("DISTILL", total=3, done=3)):
        theirs = [block.lines for block in blocks(event)]
        plain = opening("OTHERS", total=3) if isinstance(event, PhaseStarted) else completion("OTHERS", total=3, done=3)
        assert theirs == [tuple((role, text.replace("OTHERS", "DISTILL")) for role, text in b.lines) for b in blocks(plain)]


def test_an_opening_and_a_completion_can_be_silent() -> None:
    register("DISTILL", opens=False, completes=False)
    assert blocks(opening("DISTILL")) == []
    assert blocks(completion("DISTILL")) == []


def test_a_failure_is_announced_though_the_completion_is_silent() -> None:
    register("DISTILL", opens=False, completes=False)
    phase = PhaseInfo("DISTILL", id="1")
    end = PhaseEnded(phase, 0.0, status="failed", done=0, total=None, elapsed=1.0, error=("E", "m"), innermost=True)
    assert titles(end) == ["❌ [META] PHASE FAILED: DISTILL"]


def test_true_is_the_usual_title() -> None:
    register("DISTILL", opens=True, completes=True)
    assert titles(opening("DISTILL")) == ["🔹 [META] PHASE: DISTILL"]
    assert titles(completion("DISTILL")) == ["✅ [META] PHASE COMPLETE: DISTILL"]


def test_the_step_layout_puts_the_position_between_one_pair_of_rules() -> None:
    from phasewatch.events import Position

    register("DISTILL", layout="step")
    (block,) = blocks(opening("DISTILL", position=Position(1, 4, "batch")))
    assert [role for role, _ in block.lines] == ["rule", "title", "detail", "rule"]


@pytest.mark.parametrize(
    ("totals", "detail"),
    [
        (("time", "processed"), ["Total time: 6.0s | Total questions processed: 9"]),
        (("processed",), ["Total questions processed: 9"]),
        ("time", ["Total time: 6.0s"]),  # one may be given as it is
        (iter(["completed"]), ["Total batches completed: 3"]),
        ((), []),
    ],
    ids=str,
)
def test_the_totals_come_in_the_order_given(totals: Any, detail: list[str]) -> None:
    register("DISTILL", totals=totals)
    end = completion("DISTILL", total=3, unit="batch", done=3, counters={"questions": 9})
    assert details(end) == details(end) == detail


def test_a_phase_of_the_specification_can_be_told_anew() -> None:
    register("VALIDATION", emoji="🔬")
    assert titles(opening("VALIDATION")) == ["🔬 [META] PHASE: VALIDATION"]
    register("VALIDATION")
    assert titles(opening("VALIDATION")) == ["🔹 [META] PHASE: VALIDATION"]


def test_the_emoji_of_a_single_phase_goes_before_that_of_its_kind() -> None:
    register("DISTILL", emoji="🧪")
    assert titles(opening("DISTILL", emoji="🎈")) == ["🎈 [META] PHASE: DISTILL"]


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        (
            {"icon": "x", "colour": "red"},
            TypeError,
            r"unknown option colour, icon; the options are emoji, opens, completes, completes_emoji, layout, totals",
        ),
        ({"layout": "wide"}, ValueError, "layout='wide' must be one of title, step"),
        ({"layout": None}, ValueError, "layout=None must be one of title, step"),
        ({"totals": ("time", "size")}, ValueError, "totals has 'size'; it may hold processed, completed, time, average"),
        ({"totals": "size"}, ValueError, "totals has 'size'; it may hold processed, completed, time, average"),
        ({"opens": 5}, TypeError, "opens=5 must be a title, True for the usual one or False for none"),
        ({"completes": None}, TypeError, "completes=None must be a title, True for the usual one or False for none"),
        ({"emoji": None}, TypeError, "emoji=None must be a text"),
        ({"completes_emoji": 5}, TypeError, "completes_emoji=5 must be a text"),
    ],
    ids=str,
)
def test_a_mistake_is_refused_with_the_phase_and_what_to_give_and_nothing_changes(
    options: dict[str, Any], error: type[Exception], complaint: str
) -> None:
    validation = PhaseInfo("VALIDATION", id="1")
    before = kind_of(validation)
    with pytest.raises(error, match=rf"^register\('VALIDATION'\): {complaint}$"):
        register("VALIDATION", **options)
    assert kind_of(validation) is before
    assert registered("VALIDATION") is None


def test_a_phase_without_a_name_cannot_be_registered() -> None:
    with pytest.raises(TypeError, match=r"^register\(''\): the name must be a text that is not empty$"):
        register("")
    with pytest.raises(TypeError, match=r"^register\(5\): the name must be a text"):
        register(5)  # type: ignore[arg-type]  # the mistake under test


def test_totals_that_are_no_list_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^register\('A'\): totals=5 must be a list of processed, "):
        register("A", totals=5)  # type: ignore[arg-type]  # the mistake under test


# What a phase takes along of how it is announced.


def test_a_phase_takes_along_how_its_name_was_registered(phaselog: PhaseLog) -> None:
    register("DOWNLOAD", emoji="📥", completes=False, totals="average")
    with phase("DOWNLOAD"), phase("OTHER"):
        pass
    started = [event.phase.announced for event in phaselog.events if isinstance(event, PhaseStarted)]
    assert started == [{"emoji": "📥", "completes": False, "totals": ["average"]}, None]


def test_a_phase_of_another_process_is_announced_as_there(phaselog: PhaseLog) -> None:
    register("DOWNLOAD", emoji="📤", opens=False)  # what is known here is another thing
    info = PhaseInfo("DOWNLOAD", id="1", announced={"emoji": "📥", "opens": "DOWNLOADING", "layout": "title"})
    assert titles(PhaseStarted(info, 0.0)) == ["📥 [META] DOWNLOADING"]


def test_as_usual_is_a_way_to_be_announced_too() -> None:
    register("VALIDATION")
    info = PhaseInfo("VALIDATION", id="1", announced=registered("VALIDATION"))
    assert info.announced == {}
    assert kind_of(info).emoji == "🔹"


@given(
    st.dictionaries(
        st.sampled_from(["emoji", "opens", "completes", "completes_emoji", "layout", "totals", "name", "x"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.one_of(st.text(), st.integers()))),
    )
)
def test_whatever_a_log_says_of_how_a_phase_is_announced_it_is_announced(said: dict[str, Any]) -> None:
    info = PhaseInfo("DOWNLOAD", id="1", announced=said)
    blocks(PhaseStarted(info, 0.0))
    blocks(PhaseEnded(info, 1.0, status="completed", done=3, total=3, elapsed=1.0))
