"""What all tests share: nothing of one test is left for the next."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from phasewatch import _report, current
from phasewatch.metalog import catalog

pytest_plugins = ["pytester"]

# A slow machine is no failing test.
settings.register_profile("phasewatch", deadline=None)
settings.load_profile("phasewatch")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    kinds, registered = dict(catalog._kinds), dict(catalog._registered)
    yield
    for now, before in ((catalog._kinds, kinds), (catalog._registered, registered)):
        now.clear()
        now.update(before)  # type: ignore[arg-type]  # each with its own
    _report._logged.clear()
    _report._failed.clear()
    assert current() is None
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
