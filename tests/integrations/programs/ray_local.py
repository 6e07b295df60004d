"""One machine: records that go through the collector, which dies; main tasks that speak; and what the user has set up.

Arguments: the path of the event log, that of the log of a main task. Ends when its standard input does.
"""

# mypy: disable-error-code="untyped-decorator, attr-defined"
# Ray is not looked at where types are checked.

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import phasewatch
from phasewatch import phase
from phasewatch.integrations.ray import install

install(collect=True)  # before everything

import ray  # noqa: E402  # that is what this program is about

LOG, MAIN_LOG = sys.argv[1], sys.argv[2]
PATIENCE = 60.0  # seconds


def prepare() -> None:
    """The user's own hook."""
    os.environ["OWN_HOOK"] = "ran"


def here() -> str | None:
    """The id of the phase that is open here."""
    opened = phasewatch.current()
    return None if opened is None else opened.id


@ray.remote(num_cpus=0.5)
def task(around: str | None, depth: int) -> list[Any]:
    with phase("TASK"):
        told = [here(), around, os.getpid()]
        return [told, *(ray.get(task.remote(here(), depth - 1)) if depth else [])]


@ray.remote(num_cpus=0)
class Actor:
    def __init__(self) -> None:
        with phase("BUILD"):
            self.count = 0

    def add(self, around: str | None, **others: Any) -> list[Any]:
        with phase("ADD"):
            self.count += 1
            return [[here(), around, os.getpid(), others]]

    def many(self, times: int) -> float:
        """Return the seconds that so many phases take."""
        began = time.perf_counter()
        for _ in range(times):
            with phase("MANY"):
                pass
        return time.perf_counter() - began

    def environment(self) -> dict[str, str | None]:
        return {name: os.environ.get(name) for name in ("OWN_HOOK", "OWN_VARIABLE", "PHASEWATCH_PARENT")}


@ray.remote(num_cpus=0.5)
@phase("WHOLE", message=lambda around: f"under {around}")
def whole(around: str | None) -> list[Any]:
    return [[here(), around, os.getpid()]]


@ray.remote(num_cpus=0.5)
def caller(around: str | None, method: Any) -> list[Any]:
    """Call a method that it was given."""
    with phase("CALLER"):
        told = [here(), around, os.getpid()]
        ray.get(method.remote(None))
        return [told]


@ray.remote(num_cpus=0)
class Speaker:
    """A main task: it holds the run itself."""

    def ready(self) -> bool:
        return True

    def main(self, log: str | None) -> list[Any]:
        with phasewatch.run("main", log=log), phase("EXPORT", total=2, unit="file") as export:
            export.advance(2)
            told = ray.get(task.remote(here(), 1)) if log else []
        return [os.getpid(), told]


@ray.remote(num_cpus=0)
class Stubborn:
    """A class that nobody may inherit from by a class statement of theirs; Ray does not mind."""

    def __init_subclass__(cls, **_: Any) -> None:
        if "_phasewatch_carried" in vars(cls):
            raise TypeError("leave me")

    def work(self) -> int:
        with phase("STUBBORN"):
            return 1


def wait_for(count: int) -> None:
    """Wait until so many phases have ended in the log."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and Path(LOG).read_text().count('"event":"end"') < count:
        time.sleep(0.05)


def main() -> None:
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        logging_level="error",
        runtime_env={"worker_process_setup_hook": prepare, "env_vars": {"OWN_VARIABLE": "kept"}},
    )
    known: dict[str, Any] = {"work": []}
    speakers = [Speaker.remote() for _ in range(2)]
    ray.get([speaker.ready.remote() for speaker in speakers])
    known["speakers"] = ray.get([speakers[0].main.remote(None), speakers[1].main.remote(None)])
    known["main"] = ray.get(speakers[0].main.remote(MAIN_LOG))
    with phasewatch.run("driver", log=LOG, sinks=[]):
        with phase("FIRST"):
            for part in ray.get([task.remote(here(), 2) for _ in range(3)]):
                known["work"] += part
            actor = Actor.options(name="counter").remote()
            known["environment"] = ray.get(actor.environment.remote())
        with phase("SECOND"):
            calls = [actor.add.options(name="x").remote(here()), actor.add.remote(here(), further=1)]
            for part in ray.get(calls):
                known["work"] += part
            known["work"] += ray.get(whole.remote(here())) + ray.get(caller.remote(here(), actor.add))
            known["stubborn"] = ray.get(Stubborn.remote().work.remote())
        wait_for(len(known["work"]) + 4)  # and BUILD, FIRST, SECOND, and what CALLER called
        known["recorded"] = Path(LOG).read_text().count('"event":"end"')
        collectors = [name for name in ray.util.list_named_actors(all_namespaces=True) if name["namespace"] == "phasewatch"]
        known["collectors"] = len(collectors)
        for name in collectors:
            ray.kill(ray.get_actor(**name), no_restart=True)
            while True:  # until Ray knows
                with contextlib.suppress(ray.exceptions.GetTimeoutError):
                    try:
                        ray.get(ray.get_actor(**name).taken.remote(), timeout=1)
                    except (ray.exceptions.RayActorError, ValueError):
                        break
        with phase("AFTER"):
            known["after"] = len(ray.get(actor.add.remote(here())))
            known["seconds"] = min(ray.get(actor.many.remote(1000)) for _ in range(3))
    print("TOLD " + json.dumps(known), flush=True)
    sys.stdin.read()  # Ray brings the lines of its workers when it likes
    began = time.monotonic()
    ray.shutdown()
    print("SHUTDOWN", time.monotonic() - began, flush=True)


main()
