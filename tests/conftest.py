"""What all tests share: nothing of one test is left for the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from phasewatch import current
from phasewatch.metalog import catalog

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    kinds = dict(catalog._kinds)
    yield
    catalog._kinds.clear()
    catalog._kinds.update(kinds)
    assert current() is None
