"""What all tests share: nothing of one test is left for the next."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator

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


@pytest.fixture
def at_once() -> Callable[[Callable[[int], None], int], None]:
    """Call something in several threads, with the number of each, that take turns as often as they can."""

    def in_threads(work: Callable[[int], None], count: int) -> None:
        # What traces the coverage cannot be installed in two threads at once (CPython 3.11): all begin before they hurry.
        begun = threading.Barrier(count + 1)

        def begin(number: int) -> None:
            begun.wait(30)
            work(number)

        threads = [threading.Thread(target=begin, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        interval = sys.getswitchinterval()
        try:
            begun.wait(30)
            sys.setswitchinterval(1e-6)
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)

    return in_threads
