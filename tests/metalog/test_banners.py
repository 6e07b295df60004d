"""Events to lines: every banner and line of the META LOG, from events built by hand."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch import (
    MetricsLogged,
    PhaseAlive,
    PhaseEnded,
    PhaseInfo,
    PhaseProgressed,
    PhaseResumed,
    PhaseStalled,
    PhaseStarted,
    Position,
    register,
)
from phasewatch.events import Event
from phasewatch.metalog.banners import Block, blocks, percentage, plural, short_names, shown_name
from phasewatch.metalog.catalog import is_silent

RULE = "=" * 80
MARK = "[META]"


def info(name: str = "VALIDATION", **options: Any) -> PhaseInfo:
    return PhaseInfo(name, **{"id": "1", "path": (name,), **options})


def opened(name: str, **options: Any) -> PhaseStarted:
    return PhaseStarted(info(name, **options), 0.0)


def advanced(phase: PhaseInfo, **options: Any) -> PhaseProgressed:
    given_options: dict[str, Any] = {"done": 1, "total": phase.total, "elapsed": 42.0, "eta": 1092.0, **options}
    return PhaseProgressed(phase, 0.0, **given_options)


def ended(phase: PhaseInfo, status: str = "completed", **options: Any) -> PhaseEnded:
    given_options: dict[str, Any] = {"done": 0, "total": phase.total, "elapsed": 42.0, **options}
    return PhaseEnded(phase, 0.0, status=status, **given_options)  # type: ignore[arg-type]  # a text of the parameters


def the_run(status: str = "completed", message: str | None = None, **options: Any) -> PhaseEnded:
    attributes = options.pop("attributes", {})
    return ended(PhaseInfo("grpo", id="1", role="run", message=message, attributes=attributes), status, **options)


def lines(event: Event) -> list[str]:
    return [text for block in blocks(event) for _, text in block.lines]


def line(event: Event) -> str:
    """Return the only line of an event that is told in one."""
    (only,) = lines(event)
    return only


# Openings.


def test_a_title_stands_between_two_rules() -> None:
    assert lines(opened("PRE-TRAINING VALIDATION")) == [RULE, "🧪 [META] PHASE: PRE-TRAINING VALIDATION", RULE]


def test_a_title_with_a_detail_has_three_rules() -> None:
    event = opened("VALIDATION", total=28, unit="batch", counters={"questions": 7405}, details={"Batch size": 256})
    assert lines(event) == [
        RULE,
        "🔍 [META] PHASE: VALIDATION",
        RULE,
        "Total batches: 28 | Total questions: 7405 | Batch size: 256",
        RULE,
    ]


@pytest.mark.parametrize(
    ("position", "detail"),
    [
        (
            Position(1, 35, "step", epoch=1, epochs=3, elapsed=42.0, eta=1428.0),
            "[Epoch 1/3] Step 1/35 (2.9%) | Elapsed: 42s | ETA: 23.8m",
        ),
        (Position(1, 35, "step", epoch=1, epochs=3), "[Epoch 1/3] Step 1/35 (2.9%) | Elapsed: 0s | ETA: --"),
        (Position(35, 35, "step", elapsed=90.0, eta=5.0), "Step 35/35 (100.0%) | Elapsed: 1.5m | ETA: 5.0s"),
        (Position(2, 35, "step", epoch=1, elapsed=90.0, eta=5.0), "[Epoch 1] Step 2/35 (5.7%) | Elapsed: 1.5m | ETA: 5.0s"),
        (Position(2, None, "step", epoch=1, epochs=3, elapsed=90.0), "[Epoch 1/3] Step 2 | Elapsed: 1.5m"),
        (Position(36, 35, "step", elapsed=90.0, eta=0.0), "Step 36/35 (102.9%) | Elapsed: 1.5m | ETA: 0s"),
    ],
    ids=["specification", "nothing known yet", "no epoch", "epochs not known", "no total", "beyond the total"],
)
def test_a_training_step_has_its_place_between_title_and_rule(position: Position, detail: str) -> None:
    event = PhaseStarted(info("TRAINING STEP", role="step", position=position), 0.0)
    assert lines(event) == [RULE, "🔄 [META] PHASE: TRAINING STEP", detail, RULE]


def test_a_step_of_another_phase_has_its_place_as_a_detail() -> None:
    position = Position(2, 4, "file", elapsed=10.0, eta=30.0)
    assert lines(opened("DOWNLOAD FILE", role="step", position=position, total=9, unit="part")) == [
        RULE,
        "🔹 [META] PHASE: DOWNLOAD FILE",
        RULE,
        "File 2/4 (50.0%) | Elapsed: 10s | ETA: 30s | Total parts: 9",
        RULE,
    ]


def test_a_training_step_without_a_place_is_a_title() -> None:
    assert lines(opened("TRAINING STEP")) == [RULE, "🔄 [META] PHASE: TRAINING STEP", RULE]


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({}, "🔹 [META] PHASE: A"),
        ({"message": "from the mirror"}, "🔹 [META] PHASE: A - from the mirror"),
        ({"step": 50}, "🔹 [META] PHASE: A (Step 50)"),
        ({"step": 0}, "🔹 [META] PHASE: A (Step 0)"),
        ({"message": "m", "step": 50}, "🔹 [META] PHASE: A - m (Step 50)"),
        ({"message": ""}, "🔹 [META] PHASE: A"),
        ({"emoji": "🧮"}, "🧮 [META] PHASE: A"),
        ({"emoji": ""}, "🔹 [META] PHASE: A"),
    ],
    ids=str,
)
def test_a_title_has_its_message_and_its_step(options: dict[str, Any], title: str) -> None:
    assert lines(opened("A", **options))[1] == title


def test_a_step_has_its_number_in_its_place_and_not_in_its_title() -> None:
    event = opened("TRAINING STEP", step=7, position=Position(7, 35, "step"))
    assert lines(event)[1] == "🔄 [META] PHASE: TRAINING STEP"


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"total": 0}, "Total items: 0"),
        ({"total": 3, "unit": "query"}, "Total queries: 3"),
        ({"attributes": {"epochs": 3, "shard": "a"}}, "Total epochs: 3"),
        ({"counters": {"questions": 7405, "tokens": None}}, "Total questions: 7405"),
        ({"counters": {"prompt_tokens": 9}}, "Total prompt tokens: 9"),
        ({"details": {"Batch size": 256, "Model": "7B", "Seed": None}}, "Batch size: 256 | Model: 7B | Seed: None"),
    ],
    ids=str,
)
def test_what_is_expected_stands_in_the_detail(options: dict[str, Any], detail: str) -> None:
    assert lines(opened("A", **options))[3] == detail


def test_counters_without_totals_alone_make_no_detail() -> None:
    assert len(lines(opened("A", counters={"tokens": None}))) == 3


def test_a_run_opens_silently() -> None:
    assert blocks(PhaseStarted(PhaseInfo("grpo", id="1", role="run"), 0.0)) == []


def of_a_run(warnings: object) -> PhaseStarted:
    return PhaseStarted(PhaseInfo("grpo", id="1", role="run", attributes={"plan_warnings": warnings}), 0.0)


def test_what_looks_wrong_in_a_plan_has_a_line_each() -> None:
    told = [{"code": "a", "message": "never validates", "advice": "set test_freq"}, {"code": "b", "message": "never saves"}]
    assert lines(of_a_run(told)) == [
        "⚠️ [META] PLAN WARNING: never validates; set test_freq", "⚠️ [META] PLAN WARNING: never saves",
    ]  # fmt: skip
    assert not any(block.is_banner for block in blocks(of_a_run(told)))


@pytest.mark.parametrize("warnings", [None, 5, "text", {}, {"message": "x"}, []])
def test_a_log_that_holds_something_else_in_their_place_is_silent(warnings: object) -> None:
    assert lines(of_a_run(warnings)) == []


def test_a_warning_that_is_a_text_alone_is_shown() -> None:
    assert lines(of_a_run(["as it is"])) == ["⚠️ [META] PLAN WARNING: as it is"]


def test_what_ran_otherwise_than_planned_has_a_line_each_before_the_last_banner() -> None:
    found = lines(the_run(deviations={"TRAINING STEP": (34, 35), "A\n[META] B": (0, 1)}))
    assert found[:3] == [
        "⚠️ [META] PLAN: 34 of 35 TRAINING STEP ran", "⚠️ [META] PLAN: 0 of 1 A [meta] B ran", "=" * 80,
    ]  # fmt: skip


# Progress.


def test_the_validation_line_of_the_specification() -> None:
    phase = info(total=28, unit="batch", counters={"questions": 7405})
    event = advanced(phase, counters={"questions": 256}, means={"reward": 0.456})
    assert line(event) == (
        "📊 Validation [1/28] (3.6%) | Questions: 256/7405 | Avg Reward: 0.456 | Elapsed: 42s | ETA: 18.2m"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"done": 28, "eta": 0.0}, "📊 Validation [28/28] (100.0%) | Elapsed: 42s | ETA: 0s"),
        ({"done": 0, "eta": None}, "📊 Validation [0/28] (0.0%) | Elapsed: 42s | ETA: --"),
        ({"total": None, "eta": None}, "📊 Validation [1] | Elapsed: 42s"),
        ({"done": 0, "total": 0, "eta": 0.0}, "📊 Validation [0/0] (100.0%) | Elapsed: 42s | ETA: 0s"),
        ({"done": 30, "eta": 0.0}, "📊 Validation [30/28] (107.1%) | Elapsed: 42s | ETA: 0s"),
        # A total that was found out later is that of the event, not of the phase when it began.
        ({"total": 4, "eta": 126.0}, "📊 Validation [1/4] (25.0%) | Elapsed: 42s | ETA: 2.1m"),
    ],
    ids=["done", "begun", "no total", "nothing to do", "beyond the total", "total found out"],
)
def test_how_far_a_phase_is(options: dict[str, Any], expected: str) -> None:
    assert line(advanced(info(total=28), **options)) == expected


def test_counters_stand_with_and_without_totals_in_the_order_given() -> None:
    phase = info(counters={"questions": 7405, "prompt_tokens": None, "hours": 2.5})
    event = advanced(phase, counters={"questions": 256, "prompt_tokens": 9, "hours": 0.5})
    assert line(event) == "📊 Validation [1] | Questions: 256/7405 | Prompt tokens: 9 | Hours: 0.5/2.5 | Elapsed: 42s"


def test_several_means_stand_in_the_order_given_under_their_short_names() -> None:
    event = advanced(
        info(), means={"reward": 0.456, "val/response_length": 300, "kl": -0.0121, "x": math.nan, "y": math.inf}
    )
    assert line(event) == (
        "📊 Validation [1] | Avg Reward: 0.456 | Avg Response Length: 300.000 | Avg Kl: -0.012 | Avg X: nan | Avg Y: inf"
        " | Elapsed: 42s"
    )


def test_means_whose_short_names_collide_are_told_apart() -> None:
    event = advanced(info(), means={"actor/loss": 1.0, "critic/loss": 2.0})
    assert "Avg Actor/loss: 1.000 | Avg Critic/loss: 2.000" in line(event)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("VALIDATION", "Validation"),
        ("PRE-TRAINING VALIDATION", "Pre-training Validation"),
        ("Validation", "Validation"),
        ("load GPU weights", "load GPU weights"),
        ("STEP 2", "Step 2"),
        ("42", "42"),
        ("A  B", "A  B"),
    ],
)
def test_a_name_in_running_text_is_not_shouted(name: str, shown: str) -> None:
    assert shown_name(name) == shown


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [(1, 28, "(3.6%)"), (1, 35, "(2.9%)"), (35, 35, "(100.0%)"), (0, 5, "(0.0%)"), (0, 0, "(100.0%)")],
)
def test_a_percentage_has_one_decimal(done: int, total: int, shown: str) -> None:
    assert percentage(done, total) == shown


@given(st.integers(min_value=1, max_value=10**9), st.integers(min_value=0, max_value=10**9))
def test_a_percentage_is_true_to_half_of_its_last_digit(total: int, done: int) -> None:
    match = re.fullmatch(r"\((\d+\.\d)%\)", percentage(done, total))
    assert match
    assert float(match[1]) == pytest.approx(100 * done / total, abs=0.0500001)


@pytest.mark.parametrize(
    ("unit", "units"),
    [
        ("step", "steps"), ("item", "items"), ("batch", "batches"), ("wish", "wishes"), ("class", "classes"),
        ("box", "boxes"), ("query", "queries"), ("key", "keys"), ("day", "days"), ("toy", "toys"), ("guy", "guys"),
    ],
)  # fmt: skip
def test_units_have_their_plural(unit: str, units: str) -> None:
    assert plural(unit) == units


# Metrics.


def metrics_line(metrics: dict[str, float]) -> str:
    (block, *_) = blocks(ended(info("INITIALIZATION"), metrics=metrics))
    ((role, text),) = block.lines
    assert role == "line"
    return text


def test_the_metrics_line_of_the_specification() -> None:
    metrics = {"actor/loss": 0.2341, "actor/kl": 0.0119, "timing/gen": 11.234, "finish_ratio": 0.955}
    assert metrics_line(metrics) == "📊 Metrics: finish_ratio=0.955 | gen=11.234 | kl=0.012 | loss=0.234"


def test_a_metric_that_is_not_finite_is_shown_as_it_is() -> None:
    metrics = {"b": math.inf, "c": -math.inf, "a": math.nan}
    assert metrics_line(metrics) == "📊 Metrics: a=nan | b=inf | c=-inf"


def test_metrics_are_sorted_by_the_name_that_is_shown() -> None:
    assert metrics_line({"a/z": 1.0, "z/a": 2.0, "m": 3.0}) == "📊 Metrics: a=2.000 | m=3.000 | z=1.000"


def test_metrics_stand_before_what_ends_their_phase() -> None:
    event = ended(info(), "failed", metrics={"loss": 1.0}, error=("ValueError", "m"), innermost=True)
    assert [block.is_banner for block in blocks(event)] == [False, True]
    assert lines(event)[0] == "📊 Metrics: loss=1.000"
    # A failure that is told elsewhere does not cost the metrics.
    assert lines(ended(info(), "failed", metrics={"loss": 1.0}, error=("E", "m"))) == ["📊 Metrics: loss=1.000"]


def test_logging_metrics_says_nothing_before_their_phase_ends() -> None:
    assert blocks(MetricsLogged(info(), 0.0, values={"loss": 1.0})) == []


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["loss", "kl"], ["loss", "kl"]),
        (["actor/loss", "actor/kl"], ["loss", "kl"]),
        (["actor/loss", "critic/loss"], ["actor/loss", "critic/loss"]),
        (["loss", "actor/loss"], ["loss", "actor/loss"]),
        (["a/x/loss", "b/x/loss", "kl"], ["a/x/loss", "b/x/loss", "kl"]),
        (["a/x/loss", "a/y/loss"], ["x/loss", "y/loss"]),
        (["a/x/loss", "b/x/loss", "b/y/loss"], ["a/x/loss", "b/x/loss", "y/loss"]),
        (["x/loss", "a/x/loss", "b/a/x/loss"], ["x/loss", "a/x/loss", "b/a/x/loss"]),
        ([], []),
    ],
    ids=str,
)
def test_a_slashed_name_is_as_short_as_tells_it_from_the_others(names: list[str], shown: list[str]) -> None:
    assert list(short_names(names).values()) == shown


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "loss"]), min_size=1, max_size=4).map("/".join), unique=True, max_size=12)
)
def test_short_names_are_distinct_ends_of_their_names_and_no_longer_than_they_must_be(names: list[str]) -> None:
    shown = short_names(names)
    assert list(shown) == names
    assert len(set(shown.values())) == len(names)
    for name, short in shown.items():
        assert name == short or name.endswith("/" + short)
        if "/" in short:  # one part less, and it could be the end of another
            less = short.partition("/")[2]
            assert any(other == less or other.endswith("/" + less) for other in names if other != name)


# Completions.


@pytest.mark.parametrize(
    ("event", "detail"),
    [
        (
            ended(info(unit="batch", total=28), done=28, elapsed=1150.8, counters={"questions": 7405}),
            "Total questions processed: 7405 | Total time: 19.2m | Avg time per batch: 41.1s",
        ),
        (
            ended(info(unit="batch"), done=2, elapsed=3.0, counters={"prompt_tokens": 7, "hours": 0.5}),
            "Total prompt tokens processed: 7 | Total hours processed: 0.5 | Total time: 3.0s | Avg time per batch: 1.5s",
        ),
        # No counters: the units.
        (
            ended(info(unit="batch", total=3), done=3, elapsed=6.0),
            "Total batches processed: 3 | Total time: 6.0s | Avg time per batch: 2.0s",
        ),
        # Units that were done before count for the position, and not for the speed.
        (
            ended(info(unit="batch", total=28, start=24), done=28, elapsed=6.0),
            "Total batches processed: 28 | Total time: 6.0s | Avg time per batch: 1.5s",
        ),
        # Nothing was done, so nothing has a mean.
        (ended(info(unit="batch", total=3), elapsed=6.0), "Total batches processed: 0 | Total time: 6.0s"),
        (ended(info(), elapsed=6.0), "Total time: 6.0s"),
    ],
    ids=["specification", "several counters", "units", "resumed", "nothing done", "nothing counted"],
)
def test_a_validation_completes_with_its_totals(event: PhaseEnded, detail: str) -> None:
    assert lines(event) == [RULE, "✅ [META] PHASE COMPLETE: VALIDATION", RULE, detail, RULE]


def test_training_completes_with_its_steps() -> None:
    event = ended(info("TRAINING", unit="step", total=35), done=35, elapsed=1536)
    assert lines(event)[1:4] == ["🎉 [META] PHASE: TRAINING COMPLETE", RULE, "Total steps completed: 35 | Total time: 25.6m"]


def test_a_checkpoint_is_saved_without_a_detail() -> None:
    assert lines(ended(info("CHECKPOINT SAVING", step=100))) == [RULE, "✅ [META] CHECKPOINT SAVED SUCCESSFULLY", RULE]


# Ends that are not completions.


@pytest.mark.parametrize(
    ("event", "title", "detail"),
    [
        (
            ended(
                info(unit="batch", total=28),
                "failed",
                done=12,
                elapsed=492.0,
                error=("RuntimeError", "CUDA out of memory."),
            ),
            "❌ [META] PHASE FAILED: VALIDATION",
            "RuntimeError: CUDA out of memory. | Elapsed: 8.2m | Batch 12/28",
        ),
        (
            ended(info("TRAINING", unit="step", total=35), "interrupted", done=7, error=("KeyboardInterrupt", "")),
            "🛑 [META] PHASE INTERRUPTED: TRAINING",
            "KeyboardInterrupt | Elapsed: 42s | Step 7/35",
        ),
        (
            ended(info("INITIALIZATION"), "failed", error=("OSError", "line one\nline two\n")),
            "❌ [META] PHASE FAILED: INITIALIZATION",
            "OSError: line one line two | Elapsed: 42s",
        ),
        (
            ended(info("A", unit="file"), "failed", done=3, error=("E", " ")),
            "❌ [META] PHASE FAILED: A",
            "E | Elapsed: 42s | File 3",
        ),
        (
            ended(info("A", total=3), "failed", error=("E", "m")),
            "❌ [META] PHASE FAILED: A",
            "E: m | Elapsed: 42s | Item 0/3",
        ),
        (
            ended(info("TRAINING STEP", position=Position(7, 35, "step")), "failed", error=("E", "m")),
            "❌ [META] PHASE FAILED: TRAINING STEP",
            "E: m | Elapsed: 42s | Step 7/35",
        ),
        (ended(info("A"), "interrupted"), "🛑 [META] PHASE INTERRUPTED: A", "Elapsed: 42s"),
    ],
    ids=["failed", "interrupted", "message of two lines", "no total, no message", "at once", "step", "no error known"],
)
def test_an_end_that_is_no_completion_says_why_when_and_where(event: PhaseEnded, title: str, detail: str) -> None:
    event.innermost = True
    assert lines(event) == [RULE, title, RULE, detail, RULE]


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_only_the_innermost_phase_tells_of_an_exception(status: str) -> None:
    assert blocks(ended(info("TRAINING"), status, error=("E", "m"), origin=("TRAINING", "VALIDATION"))) == []


# The end of a run.


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            the_run(message="Training Finished Successfully!"),
            [RULE, "🏁 [META] ALL PHASES COMPLETE - Training Finished Successfully!", RULE],
        ),
        (the_run(), [RULE, "🏁 [META] ALL PHASES COMPLETE", RULE]),
        (
            the_run(message="m", attributes={"val_only": True}),
            [RULE, "🏁 [META] PHASE: COMPLETE - Validation Only Mode", RULE],
        ),
        (the_run(message="m", attributes={"val_only": False}), [RULE, "🏁 [META] ALL PHASES COMPLETE - m", RULE]),
        # Where a phase failed, its own banner has told the error.
        (
            the_run("failed", message="m", error=("E", "m"), origin=("TRAINING", "PERIODIC VALIDATION", "VALIDATION")),
            [RULE, "❌ [META] RUN FAILED - in TRAINING > PERIODIC VALIDATION > VALIDATION", RULE],
        ),
        (
            the_run("interrupted", attributes={"val_only": True}, error=("KeyboardInterrupt", ""), origin=("VALIDATION",)),
            [RULE, "🛑 [META] RUN INTERRUPTED - in VALIDATION", RULE],
        ),
        # In the run itself, outside any phase: nobody else tells it.
        (
            the_run("failed", error=("ValueError", "m"), innermost=True, origin=()),
            [RULE, "❌ [META] RUN FAILED - in grpo", RULE, "ValueError: m | Elapsed: 42s", RULE],
        ),
    ],
    ids=["completed", "no message", "validation only", "not validation only", "failed", "interrupted", "failed by itself"],
)
def test_a_run_ends_with_what_became_of_it(event: PhaseEnded, expected: list[str]) -> None:
    assert lines(event) == expected


# What a block is.


@pytest.mark.parametrize(
    ("event", "tone"),
    [
        (opened("A"), "opened"),
        (opened("TRAINING STEP", position=Position(1, 2, "step")), "opened"),
        (advanced(info()), "progress"),
        (ended(info()), "completed"),
        (ended(info(), "failed", innermost=True), "failed"),
        (ended(info(), "interrupted", innermost=True), "interrupted"),
        (the_run(), "completed"),
        (the_run(attributes={"val_only": True}), "completed"),
        (the_run("failed"), "failed"),
        (the_run("interrupted"), "interrupted"),
    ],
)
def test_a_block_has_the_tone_of_what_happened(event: Event, tone: str) -> None:
    (block,) = blocks(event)
    assert block.tone == tone
    assert block.is_banner == (tone != "progress")


def test_each_line_is_known_by_what_it_is() -> None:
    def roles(event: Event) -> list[str]:
        return [role for block in blocks(event) for role, _ in block.lines]

    assert roles(opened("A")) == ["rule", "title", "rule"]
    assert roles(opened("A", total=1)) == ["rule", "title", "rule", "detail", "rule"]
    assert roles(opened("TRAINING STEP", position=Position(1, 2, "step"))) == ["rule", "title", "detail", "rule"]
    assert roles(advanced(info())) == ["line"]


# Phases of which nothing is heard.

QUIET: dict[str, Any] = {"quiet": 738.0, "done": 12, "total": 28, "elapsed": 1206.0, "eta": 1608.0}


def test_a_heartbeat_is_one_line_with_the_path_and_how_far_it_is() -> None:
    inside = info(path=("PERIODIC VALIDATION", "VALIDATION"), total=28, unit="batch")
    assert line(PhaseAlive(inside, 0.0, **QUIET)) == (
        "💓 [META] ALIVE: PERIODIC VALIDATION > VALIDATION [12/28] (42.9%) | Elapsed: 20.1m | ETA: 26.8m"
    )
    unknown = {**QUIET, "total": None, "eta": None}
    assert line(PhaseAlive(info(), 0.0, **unknown)) == "💓 [META] ALIVE: VALIDATION [12] | Elapsed: 20.1m"
    assert line(PhaseAlive(info(), 0.0, **{**unknown, "done": 0})) == "💓 [META] ALIVE: VALIDATION | Elapsed: 20.1m"


def test_a_stall_is_a_banner_with_how_long_and_what_was_expected() -> None:
    stalled = PhaseStalled(info(total=28, unit="batch"), 0.0, expected=41.1, **QUIET)
    detail = "Quiet: 12.3m | Expected: 41s | Elapsed: 20.1m | Batch 12/28"
    assert lines(stalled) == [RULE, "⏳ [META] PHASE STALLED: VALIDATION", RULE, detail, RULE]


def test_the_stack_of_a_stall_stands_below_its_banner() -> None:
    stack = '  File "train.py", line 3, in fit\n    work()'
    stalled = PhaseStalled(info(), 0.0, expected=None, stack=stack, **QUIET)
    assert lines(stalled)[-3:] == [RULE, '      File "train.py", line 3, in fit', "        work()"]
    assert "Expected: --" in lines(stalled)[3]


def test_a_phase_that_moves_again_says_so_in_a_line() -> None:
    step = info("TRAINING STEP", position=Position(7, 35, "step"))
    assert line(PhaseResumed(step, 0.0, **QUIET)) == (
        "▶️ [META] PHASE RESUMED: TRAINING STEP | Quiet: 12.3m | Elapsed: 20.1m | Step 7/35"
    )


def test_the_time_inside_a_generator_stands_beside_its_time() -> None:
    assert lines(ended(info("SOURCE"), active=2.0))[3] == "Total time: 42s | Active time: 2.0s"


# Names, messages and figures that come from outside.

hostile = st.one_of(
    st.lists(
        st.sampled_from(
            [
                "[META]",
                "[ME",
                "TA]",
                "\n",
                "\r\n",
                "\x1b[2J",
                "\x9b",
                "\u202e",
                "\u2028",
                "\x85",
                "\ud800",
                "|",
                RULE,
                " ",
                "/",
                "_",
                "A",
            ]
        ),
        min_size=1,
        max_size=8,
    ).map("".join),
    st.text(alphabet=st.characters(), min_size=1, max_size=20),
    st.just("\n✅ [META] ALL PHASES COMPLETE\n" + RULE),
    st.just("x" * 3000),
)
Kind = Literal["title", "detail", "step", "line"]


def check(block: Block, kind: Kind) -> None:
    """Whatever was in the event, it is told in the lines that there are, and in no other."""
    texts = [text for _, text in block.lines]
    shape = {
        "title": ["rule", "title", "rule"],
        "detail": ["rule", "title", "rule", "detail", "rule"],
        "step": ["rule", "title", "detail", "rule"],
        "line": ["line"],
    }
    assert [role for role, _ in block.lines] == shape[kind]
    for role, text in block.lines:
        assert (text == RULE) == (role == "rule")
        assert text.count(MARK) == (role == "title"), "the mark stands where we wrote it"
        assert len(text.splitlines()) == 1
        assert all(
            char in "\u200c\u200d" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in text
        )
    "\n".join(texts).encode("utf-8")


class Printed:
    """An object, known by its text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


@given(name=hostile, message=hostile, emoji=hostile, unit=hostile, key=hostile, value=hostile)
def test_hostile_text_in_an_opening_stays_in_its_lines(
    name: str, message: str, emoji: str, unit: str, key: str, value: str
) -> None:
    options: dict[str, Any] = {
        "message": message, "emoji": emoji, "unit": unit, "total": 3, "counters": {key: 1}, "step": 1,
        "details": {key: Printed(value)}, "attributes": {"epochs": value, key: value},
    }  # fmt: skip
    (block,) = blocks(opened(name, **options))
    check(block, "detail")
    (block,) = blocks(opened(name, message=message, emoji=emoji))
    check(block, "title")
    (block,) = blocks(opened("TRAINING STEP", position=Position(1, 2, unit, epoch=1, epochs=2), **options))
    check(block, "step")


@given(name=hostile, counters=st.lists(hostile, max_size=3), means=st.lists(hostile, max_size=3), number=st.floats())
def test_hostile_text_in_progress_stays_in_its_line(name: str, counters: list[str], means: list[str], number: float) -> None:
    phase = info(name, counters=dict.fromkeys(counters, 5.0))
    event = advanced(phase, counters=dict.fromkeys(counters, number), means=dict.fromkeys(means, number))
    (block,) = blocks(event)
    check(block, "line")


@given(name=hostile, unit=hostile, counter=hostile, metrics=st.lists(hostile, min_size=1, max_size=3), number=st.floats())
def test_hostile_text_in_a_completion_stays_in_its_lines(
    name: str, unit: str, counter: str, metrics: list[str], number: float
) -> None:
    event = ended(info("VALIDATION", unit=unit), done=2, counters={counter: number}, metrics=dict.fromkeys(metrics, number))
    line_of_metrics, banner = blocks(event)
    check(line_of_metrics, "line")
    check(banner, "detail")
    if not is_silent(name):  # it may be one that is known
        (banner,) = blocks(ended(info(name, unit=unit), done=2, total=5))
        check(banner, "detail")
    (banner,) = blocks(ended(info("TRAINING", unit=unit), done=2, total=5))
    check(banner, "detail")


@given(name=hostile, unit=hostile, kind=hostile, message=hostile)
@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_hostile_text_in_an_accident_stays_in_its_lines(status: str, name: str, unit: str, kind: str, message: str) -> None:
    (banner,) = blocks(ended(info(name, unit=unit), status, done=2, error=(kind, message), innermost=True))
    check(banner, "detail")
    (banner,) = blocks(the_run(status, error=(kind, message), innermost=True, origin=(name, name)))
    check(banner, "detail")
    (banner,) = blocks(the_run(status, error=(kind, message), origin=(name, message)))
    check(banner, "title")


@given(texts=st.lists(hostile, max_size=3), number=st.integers())
def test_hostile_text_about_a_plan_stays_in_its_lines(texts: list[str], number: int) -> None:
    told = lines(of_a_run([{"code": text, "message": text, "advice": text} for text in texts]))
    told += lines(the_run(deviations=dict.fromkeys(texts, (number, number))))[: len(set(texts))]
    for one in told:
        assert one.startswith("⚠️ [META] PLAN")
        assert one.count(MARK) == 1
        assert len(one.splitlines()) == 1


@given(name=hostile, unit=hostile, stack=hostile)
def test_hostile_text_in_what_is_said_of_a_quiet_phase_stays_in_its_lines(name: str, unit: str, stack: str) -> None:
    phase = info(name, unit=unit, path=(name, unit))
    for event in (PhaseAlive(phase, 0.0, **QUIET), PhaseResumed(phase, 0.0, **QUIET)):
        (block,) = blocks(event)
        ((role, text),) = block.lines
        assert (role, text.count(MARK), len(text.splitlines())) == ("line", 1, 1)
    (block,) = blocks(PhaseStalled(phase, 0.0, expected=1.0, stack=stack, **QUIET))
    check(Block(block.tone, *block.lines[:5]), "detail")
    for _, text in block.lines[5:]:
        check(Block("progress", ("line", text)), "line")


@given(message=hostile)
def test_hostile_text_in_the_last_message_stays_in_its_lines(message: str) -> None:
    (banner,) = blocks(the_run(message=message))
    check(banner, "title")


@given(emoji=hostile, opens=hostile, completes=hostile)
def test_hostile_text_in_a_registered_phase_stays_in_its_lines(emoji: str, opens: str, completes: str) -> None:
    register("DISTILL", emoji=emoji, opens=opens, completes=completes, completes_emoji=emoji)
    (banner,) = blocks(opened("DISTILL"))
    check(banner, "title")
    (banner,) = blocks(ended(info("DISTILL")))
    check(banner, "detail")


@given(names=st.lists(hostile, unique=True, max_size=5))
def test_short_names_of_hostile_names_are_ends_of_them(names: list[str]) -> None:
    shown = short_names(names)
    assert len(set(shown.values())) == len(names)
    assert all(name.endswith(short) for name, short in shown.items())


def test_a_name_that_ends_in_a_slash_is_shown_whole() -> None:
    assert short_names(["loss/", "a/b"]) == {"loss/": "loss/", "a/b": "b"}


def test_a_counter_of_many_digits_is_shown_as_a_plain_number() -> None:
    info = PhaseInfo("A", id="1", counters={"hours": None})
    event = PhaseProgressed(info, 0.0, done=1, total=None, elapsed=1.0, eta=None, counters={"hours": 12345678901.5})
    assert "Hours: 12345678901.5 |" in blocks(event)[0].lines[0][1]
