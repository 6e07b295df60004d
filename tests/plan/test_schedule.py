"""The plan of work that is no training, and what all plans have in common."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasewatch import Plan


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 20), max_size=5))
def test_a_plan_has_each_phase_as_often_as_it_says_and_in_that_order(counts: dict[str, int]) -> None:
    plan = Plan(counts)
    phases = list(plan.phases())
    assert phases == [(name, None) for name, count in counts.items() for _ in range(count)]
    assert plan.counts() == Counter(name for name, _ in phases)
    assert eval(repr(plan)).counts() == plan.counts()
    assert (plan.validates_only, plan.epoch_of(3)) == (False, None)


def test_a_plan_is_not_changed_by_what_it_was_made_of() -> None:
    counts = {"A": 1}
    plan = Plan(counts)
    counts["B"] = 2
    assert plan.counts() == {"A": 1}


@pytest.mark.parametrize(
    ("counts", "kind", "complaint"),
    [
        (5, TypeError, "Plan: 5 must be a mapping of names to how often each will run"),
        (["DOWNLOAD"], TypeError, "Plan: a list must be a mapping"),
        ({1: 2}, TypeError, "Plan: the name 1 must be a text"),
        ({"A": -1}, ValueError, "Plan: A=-1 must be at least 0"),
        ({"A": 1.5}, ValueError, "Plan: A=1.5 must be a whole number"),
        ({"A": "often"}, ValueError, "Plan: A='often' must be a whole number"),
    ],
    ids=repr,
)
def test_what_is_no_plan_is_refused(counts: Any, kind: type[Exception], complaint: str) -> None:
    with pytest.raises(kind, match=f"^{complaint}"):
        Plan(counts)


def test_numbers_of_any_kind_are_taken() -> None:
    assert Plan({"A": 3.0}).counts() == {"A": 3}  # type: ignore[dict-item]  # as configurations have them
    assert Plan({"A": None}).counts() == {}  # type: ignore[dict-item]  # as above
