"""Where the time went: rows in the order of the work, each below what it is part of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phasewatch.events import PhaseEnded, PhaseInfo
from phasewatch.totals import Totals

MOST = 500

paths = st.lists(st.sampled_from("ABC"), min_size=1, max_size=4).map(tuple)


def ended(*path: str, elapsed: float = 1.0) -> PhaseEnded:
    phase = PhaseInfo(path[-1] if path else "run", id="1", path=path)
    return PhaseEnded(phase, 0.0, status="completed", done=0, total=None, elapsed=elapsed)


def rows(totals: Totals) -> list[tuple[int, str, int, float]]:
    return [(row.depth, row.name, row.count, row.seconds) for row in totals.rows()]


def test_nothing_has_no_rows() -> None:
    assert rows(Totals()) == []


def test_phases_of_one_path_are_added_up() -> None:
    totals = Totals()
    for elapsed in (1.0, 2.5):
        totals.open(("A",))
        totals.close(ended("A", elapsed=elapsed))
    assert rows(totals) == [(0, "A", 2, 3.5)]


def test_phases_that_are_open_at_once_share_their_time() -> None:
    totals = Totals()
    for end, elapsed in ((10.0, 10.0), (11.0, 10.0), (30.0, 5.0)):
        phase = PhaseInfo("A", id="1", path=("A",))
        totals.close(PhaseEnded(phase, end, status="completed", done=0, total=None, elapsed=elapsed))
    (row,) = totals.rows()
    assert (row.count, row.seconds, row.open.seconds) == (3, 25.0, 16.0)


def test_rows_come_in_the_order_in_which_phases_began_though_the_outer_end_last() -> None:
    totals = Totals()
    for path in (("A",), ("A", "B"), ("A", "B", "C"), ("D",)):
        totals.open(path)
    for path in (("A", "B", "C"), ("A", "B"), ("A",), ("D",)):
        totals.close(ended(*path))
    assert [row[:2] for row in rows(totals)] == [(0, "A"), (1, "B"), (2, "C"), (0, "D")]


def test_a_phase_that_comes_later_stands_below_what_it_is_part_of() -> None:
    totals = Totals()
    for path in (("A",), ("B",), ("B", "X"), ("A", "X")):
        totals.open(path)
    assert [row[:2] for row in rows(totals)] == [(0, "A"), (1, "X"), (0, "B"), (1, "X")]


def test_one_name_at_two_places_has_two_rows() -> None:
    totals = Totals()
    for path, elapsed in ((("A",), 9.0), (("A", "V"), 1.0), (("B",), 9.0), (("B", "V"), 2.0)):
        totals.open(path)
        totals.close(ended(*path, elapsed=elapsed))
    assert [row[3] for row in rows(totals) if row[1] == "V"] == [1.0, 2.0]


def test_a_phase_that_has_not_ended_has_a_row_with_nothing_in_it() -> None:
    totals = Totals()
    totals.open(("A",))
    assert rows(totals) == [(0, "A", 0, 0.0)]


def test_a_phase_whose_beginning_was_missed_counts_too() -> None:
    totals = Totals()
    totals.close(ended("A"))
    assert rows(totals) == [(0, "A", 1, 1.0)]


@given(st.lists(paths, max_size=40))
def test_every_phase_stands_once_below_its_parent_and_nothing_is_lost(begun: list[tuple[str, ...]]) -> None:
    totals = Totals()
    order: dict[tuple[str, ...], float] = {}
    for number, path in enumerate(begun):
        for depth in range(1, len(path) + 1):  # a parent begins before its child
            totals.open(path[:depth])
            order.setdefault(path[:depth], 0.0)
        totals.close(ended(*path, elapsed=float(number)))
        order[path] += number

    def walk(parent: tuple[str, ...]) -> list[tuple[int, str, float]]:
        found = []
        for path, seconds in order.items():
            if path[:-1] == parent:
                found += [(len(parent), path[-1], seconds), *walk(path)]
        return found

    assert [(depth, name, seconds) for depth, name, _, seconds in rows(totals)] == walk(())
    assert sum(count for _, _, count, _ in rows(totals)) == len(begun)
    assert totals.left_out == 0


def test_a_program_that_names_each_phase_anew_does_not_fill_the_memory() -> None:
    totals = Totals()
    for number in range(MOST + 50):
        totals.open((f"SHARD {number}",))
        totals.close(ended(f"SHARD {number}"))
    assert len(rows(totals)) == MOST
    assert totals.left_out == 50
    assert totals.open(("SHARD 9999",)) is None


def test_paths_that_have_a_row_are_added_up_when_there_is_room_for_no_other() -> None:
    totals = Totals()
    for number in range(MOST):
        totals.open((f"SHARD {number}",))
    totals.close(ended("SHARD 0"))
    totals.close(ended("SHARD 0", "PART"))
    assert rows(totals)[0] == (0, "SHARD 0", 1, 1.0)
    assert totals.left_out == 1


def test_the_run_itself_has_no_row() -> None:
    assert Totals().open(()) is None
