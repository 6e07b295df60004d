"""What is open, as rows: what they tell, how they count on, and how they fit into any window."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import phasewatch
from phasewatch import MetricsLogged, PhaseEnded, PhaseInfo, PhaseProgressed, PhaseStarted, phase
from phasewatch.events import PhaseResumed, PhaseStalled, Place, Position
from phasewatch.sinks.live import SILENCE, LiveView
from phasewatch.testing import FakeClock, PhaseLog


class Log:
    """A view with a clock of its own, and the means to feed it."""

    def __init__(self, *, age: float | None = None) -> None:
        self.clock = FakeClock()
        self.view = LiveView(clock=self.clock, age=None if age is None else lambda event: age)

    def start(self, name: str, id: str, parent: str | None = None, **more: Any) -> PhaseInfo:
        info = PhaseInfo(name, id=id, parent=parent, path=(name,), **more)
        self.view.take(PhaseStarted(info, 0.0))
        return info

    def progress(self, info: PhaseInfo, done: int, *, elapsed: float = 0.0, eta: float | None = None, **more: Any) -> None:
        self.view.take(PhaseProgressed(info, 0.0, done=done, total=info.total, elapsed=elapsed, eta=eta, **more))

    def end(self, info: PhaseInfo, status: Any = "completed", **more: Any) -> None:
        self.view.take(PhaseEnded(info, 0.0, status=status, done=0, total=info.total, elapsed=0.0, **more))

    def rows(self, width: int = 100, height: int = 50) -> list[str]:
        return [row.plain for row in self.view.rows(width, height)]


def name_of(row: str) -> str:
    return re.split("  +", row.strip())[0]


def test_a_row_tells_how_far_a_phase_is_and_what_it_measured() -> None:
    log = Log()
    info = log.start("VALIDATION", "a", total=28, unit="batch", counters={"questions": 7405})
    log.progress(info, 7, elapsed=60, eta=180, counters={"questions": 1850}, means={"reward": 0.5})
    log.view.take(MetricsLogged(info, 0.0, values={"val/acc": 0.25}))
    (row,) = log.rows(120)
    assert row == f"Validation  {'━' * 5}{'─' * 15}  7/28  25.0%  1.0m  ETA 3.0m  questions 1850/7405  reward=0.5  acc=0.25"


def test_times_go_on_between_events() -> None:
    log = Log()
    info = log.start("A", "a", total=4)
    log.progress(info, 1, elapsed=10, eta=30)
    log.clock.advance(5)
    assert log.rows()[0].split() == ["A", "━━━━━" + "─" * 15, "1/4", "25.0%", "15s", "ETA", "25s"]
    log.clock.advance(600)
    assert log.rows()[0].endswith("ETA 0s"), "an ETA that was wrong is not negative"


def test_phases_stand_below_what_they_are_in_and_go_when_they_end() -> None:
    log = Log()
    run = log.start("grpo", "r", role="run")
    training = log.start("TRAINING", "t", "r", total=3, unit="step")
    log.start("OTHER", "o", "r")
    step = log.start("TRAINING STEP", "s", "t", role="step", position=Position(2, 3, "step", elapsed=7.0, eta=9.0))
    inner = log.start("ROLLOUT", "i", "s", step=2)
    names = [row[: len(row) - len(row.lstrip())] + name_of(row) for row in log.rows()]
    assert names == ["grpo", "  Training", "    Training Step 2", "      Rollout (Step 2)", "  Other"]
    assert "1/3" in log.rows()[1]
    assert "ETA 9.0s" in log.rows()[1], "a step says where the phase around it stands"
    log.end(inner)
    log.end(step, metrics={"loss": 0.5})
    assert "2/3" in log.rows()[1]
    assert "loss=0.5" in log.rows()[1], "the last step's metrics stay to be seen"
    log.end(training)
    assert [name_of(row) for row in log.rows()] == ["grpo", "Other"]
    log.end(run)
    assert not log.view.is_open, "what is inside a phase that ended has ended too"
    assert log.rows() == []


def test_a_step_that_failed_is_not_counted() -> None:
    log = Log()
    log.start("TRAINING", "t", total=3, unit="step")
    step = log.start("TRAINING STEP", "s", "t", role="step", position=Position(1, 3, "step"))
    log.end(step, "failed")
    assert " 0/3 " in log.rows()[0]


def test_ranks_processes_and_threads_are_told_apart() -> None:
    log = Log()
    log.start("grpo", "0", role="run", place=Place(rank=0, process=1, thread="MainThread"))
    log.start("grpo", "1", role="run", place=Place(rank=1, process=2, thread="MainThread"))
    log.start("A", "a", "1", place=Place(rank=1, process=2, thread="MainThread"))
    log.start("B", "b", "1", place=Place(rank=1, process=2, thread="loader"))
    log.start("C", "c", "1", place=Place(rank=1, process=9, thread="MainThread"))
    assert [name_of(row) for row in log.rows()] == [
        "grpo (rank 0)", "grpo (rank 1)", "A", "B (loader)", "C (process 9)",
    ]  # fmt: skip


def test_a_log_that_fell_silent_is_said_to_be_and_its_times_stand_still() -> None:
    log = Log(age=10.0)
    log.start("grpo", "r", role="run")
    info = log.start("A", "a", "r", total=2)
    log.progress(info, 1, elapsed=30, eta=40)
    assert log.rows()[1].split()[-3:] == ["40s", "ETA", "30s"], "ten seconds ago"
    log.clock.advance(SILENCE - 10.1)
    assert "nothing" not in log.rows()[0]
    log.clock.advance(100)
    assert log.rows()[0].endswith("  said nothing for 3.2m")
    assert log.rows()[1].split()[-3:] == ["30s", "ETA", "40s"], "as it was when it was last heard of"
    log.progress(info, 2, elapsed=31, eta=0)
    assert "nothing" not in log.rows()[0]


def test_one_silent_rank_is_told_among_others_that_speak() -> None:
    log = Log(age=0.0)
    infos = [log.start("grpo", str(rank), role="run", place=Place(rank=rank)) for rank in range(3)]
    log.clock.advance(200)
    for rank in (0, 2):
        log.progress(infos[rank], 1)
    assert [row for row in log.rows() if "said nothing for 3.3m" in row] == [log.rows()[1]]


def test_in_its_own_process_silence_is_no_news() -> None:
    log = Log()
    log.start("A", "a")
    log.clock.advance(10_000)
    assert log.rows() == ["A  2.78h"]


def test_a_stall_is_told_until_it_is_over() -> None:
    log = Log()
    info = log.start("A", "a")
    measures: dict[str, Any] = {"done": 0, "total": None, "elapsed": 60.0, "eta": None, "quiet": 60.0}
    log.view.take(PhaseStalled(info, 0.0, expected=1.0, **measures))
    log.clock.advance(60)
    assert log.rows() == ["A  2.0m  stalled, quiet for 2.0m"]
    log.view.take(PhaseResumed(info, 0.0, **measures))
    assert log.rows() == ["A  1.0m"]


def test_a_log_that_lost_its_beginning_shows_what_is_heard_of() -> None:
    log = Log()
    log.progress(PhaseInfo("A", id="a", parent="gone", total=2), 1)
    assert log.rows(40)[0].startswith("A ")


def test_names_from_outside_are_harmless() -> None:
    log = Log()
    info = log.start("\x1b[2J[red]x\n", "a", counters={"\x1b]0;y\x07": None}, place=Place(thread="\x1b[0m"))
    log.view.take(MetricsLogged(info, 0.0, values={"\x1b[31m": 1.0, "n" * 2000: float("nan"), "i": 10**400}))
    log.progress(info, 1, counters={"\x1b]0;y\x07": 1})
    (row,) = log.rows(5000)
    assert "\x1b" not in row
    assert "\n" not in row
    assert "[red]x" in row


@pytest.mark.parametrize("ranks", [1, 3, 64])
@pytest.mark.parametrize("height", range(1, 12))
def test_rows_are_folded_where_there_are_too_many(ranks: int, height: int) -> None:
    log = Log()
    for rank in range(ranks):
        log.start("grpo", f"{rank}", role="run", place=Place(rank=rank))
        for depth, name in enumerate("ABCDEFGH"):
            log.start(name, f"{rank}{name}", f"{rank}{'ABCDEFGH'[depth - 1] if depth else ''}", total=2)
    rows = log.rows(100, height)
    assert len(rows) == min(height, 9 * ranks)
    assert "grpo (rank 0)" in rows[0] or rows == [f"... and {ranks} more"]
    if ranks > height:
        assert rows[-1] == f"... and {ranks - height + 1} more"
    if ranks == 1 and height < 9:
        assert "H  " in rows[-1], "what was opened last is what a person wants to see"
    if ranks == 1 and height == 5:
        assert [row.split("  ━")[0].strip().split("  ")[0] for row in rows] == [
            "grpo (rank 0)",
            "... and 5 more",
            "F",
            "G",
            "H",
        ]


names = st.text(max_size=30) | st.sampled_from(["日本語", "🚀🚀", "x" * 400, "👩‍👩‍👧", "\u202eabc", "é" * 50])


@given(
    st.lists(st.tuples(names, st.integers(0, 50), st.none() | st.integers(0, 60), st.floats(0, 1e9)), max_size=12),
    st.integers(20, 300),
    st.integers(1, 15),
)
def test_no_row_is_wider_and_none_are_more_than_there_is_room_for(phases: Any, width: int, height: int) -> None:
    log = Log()
    for number, (name, done, total, elapsed) in enumerate(phases):
        info = log.start(name, str(number), str(number - 1) if number % 4 else None, total=total)
        log.progress(info, done, elapsed=elapsed, eta=elapsed, means={name: elapsed})
    rows = log.rows(width, height)
    assert len(rows) == min(height, len(phases))
    for row in rows:
        assert cell_len(row) <= width
        assert not re.search("[\x00-\x1f\x7f-\x9f]", row)


@pytest.mark.parametrize(("width", "shown"), [(20, ["A"]), (45, ["A", "ETA"]), (120, ["A", "ETA", "━", "loss=0.5"])])
def test_a_narrow_window_shows_fewer_figures(width: int, shown: list[str]) -> None:
    log = Log()
    info = log.start("a phase with a name", "a", total=10)
    log.progress(info, 5, elapsed=100, eta=100, means={"loss": 0.5})
    (row,) = log.rows(width)
    assert [mark in row for mark in ("ETA", "━", "loss=0.5")] == [mark in shown for mark in ("ETA", "━", "loss=0.5")]


def test_of_a_process_that_is_gone_the_times_stand_still_and_it_is_said_in_any_width() -> None:
    log = Log(age=0.0)
    run, other = log.start("grpo", "r", role="run"), log.start("other", "o", role="run")
    inner = log.start("A", "a", "r", total=10)
    log.progress(inner, 1, elapsed=30, eta=40)
    log.clock.advance(5)
    log.view.lose([run])
    for width in (80, 100):
        assert [row for row in log.rows(width) if "its process is gone" in row] == [log.rows(width)[0]]
    assert log.rows(60)[0].endswith("  its process …")
    assert log.rows()[1].split()[-3:] == ["30s", "ETA", "40s"]
    assert log.rows()[2].split()[-1] == "5.0s"
    log.view.lose([inner])
    assert log.rows()[1].split()[4:7] == ["30s", "ETA", "40s"]
    assert ["its process is gone" in row for row in log.rows()] == [False, True, False]
    log.view.lose([])
    log.end(other)
    assert not any("gone" in row for row in log.rows())


def test_what_is_around_a_phase_is_open_for_no_less_time() -> None:
    log = Log()
    log.start("grpo", "r", role="run")
    log.start("TRAINING", "t", "r", total=4, unit="step")
    log.clock.advance(3)
    log.start("TRAINING STEP", "s", "t", role="step", position=Position(2, 4, "step", elapsed=42.0, eta=90.0))
    assert [row.split()[-3 if "ETA" in row else -1] for row in log.rows()] == ["42s", "42s", "0s"]
    shard = log.start("SHARD", "h", "s")
    log.progress(shard, 1, elapsed=50, eta=None)
    log.clock.advance(5)
    assert [row.split()[-3 if "ETA" in row else -1] for row in log.rows()] == ["55s", "55s", "55s", "55s"]
    assert log.rows()[1].split()[-1] == "1.4m", "an ETA counts down as before"


def test_a_log_that_opens_and_never_ends_does_not_fill_the_memory(mocker: Any) -> None:
    mocker.patch("phasewatch.sinks.live._MOST_PHASES", 100)
    log = Log()
    for number in range(200):
        log.start("A", str(number))
    assert len(log.rows(100, 1000)) == 100


def test_what_a_run_does_is_seen_as_it_goes(phaselog: PhaseLog) -> None:
    view = LiveView(clock=phaselog.clock)
    seen = []

    class Feed:
        def emit(self, event: phasewatch.Event) -> None:
            view.take(event)
            seen.append([row.plain.split()[0] for row in view.rows(60, 9)])

        def close(self) -> None: ...

    with phasewatch.run("r", sinks=[Feed()]), phase("A", total=2) as a:
        with phase("B"):
            pass
        a.advance(2)
    assert seen[:4] == [["r"], ["r", "A"], ["r", "A", "B"], ["r", "A"]]
    assert seen[-1] == []


def test_what_is_around_a_phase_ends_no_sooner() -> None:
    log = Log()
    log.start("grpo", "r", role="run", total=3)
    log.progress(PhaseInfo("grpo", id="r", total=3), 1, elapsed=30, eta=60)
    log.start("TRAINING", "t", "r", total=4, unit="step")
    log.start("TRAINING STEP", "s", "t", role="step", position=Position(2, 4, "step", elapsed=2.0, eta=8.0))
    log.start("PERIODIC VALIDATION", "p", "t")
    validation = log.start("VALIDATION", "v", "p", total=28)
    log.clock.advance(20)
    assert [row.split()[-1] for row in log.rows() if "ETA" in row] == ["40s", "0s", "--"]
    log.progress(validation, 1, elapsed=20, eta=30)
    assert [row.split()[-1] for row in log.rows() if "ETA" in row] == ["40s", "30s", "30s"]
    log.clock.advance(5)
    log.progress(validation, 2, elapsed=25, eta=50)
    assert [row.split()[-1] for row in log.rows() if "ETA" in row] == ["50s", "50s", "50s"]
    log.end(validation)
    log.start("TRAINING STEP", "u", "t", role="step", position=Position(3, 4, "step", elapsed=30.0, eta=9.0))
    assert [row.split()[-1] for row in log.rows() if "ETA" in row][1] == "9.0s", "it is told anew"


def test_what_is_around_several_phases_ends_no_sooner_than_the_last_of_them() -> None:
    log = Log()
    run, training = log.start("grpo", "r", role="run", total=3), log.start("TRAINING", "t", "r", total=4)
    validation = log.start("VALIDATION", "v", "t", total=28)
    log.progress(training, 1, eta=50)
    log.progress(run, 1, eta=40)
    assert [row.split()[-1] for row in log.rows()] == ["40s", "50s", "--"]
    log.progress(validation, 1, eta=5)
    assert [row.split()[-1] for row in log.rows()] == ["50s", "50s", "5.0s"]
