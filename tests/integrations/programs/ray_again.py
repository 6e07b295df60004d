"""Clusters one after the other, and two drivers of one of them; tells what the work itself knows, as JSON.

Arguments: a folder for the event logs. With an address after it, it is the second driver, which calls the first one's actor.
"""

# mypy: disable-error-code="untyped-decorator, attr-defined"
# Ray is not looked at where types are checked.

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import phasewatch
from phasewatch import phase
from phasewatch.integrations.ray import install

install()  # once, for all clusters

import ray  # noqa: E402  # that is what this program is about

FOLDER = Path(sys.argv[1])


def here() -> str | None:
    """The id of the phase that is open here."""
    opened = phasewatch.current()
    return None if opened is None else opened.id


@ray.remote
def task(around: str | None) -> list[Any]:
    with phase("TASK"):
        return [here(), around, os.getpid()]


@ray.remote(num_cpus=0)
class Shared:
    def work(self, around: str | None) -> list[Any]:
        with phase("WORK"):
            return [here(), around, os.getpid()]

    def stream(self, around: str | None, parts: int) -> Any:
        for _ in range(parts):
            with phase("PART"):
                told = [here(), around, os.getpid()]
            yield told


@ray.remote(num_cpus=0)
class Asynchronous:
    async def stream(self, around: str | None, parts: int) -> Any:
        for _ in range(parts):
            with phase("ASYNC PART"):
                await asyncio.sleep(0)
                told = [here(), around, os.getpid()]
            yield told


def driven(log: Path, shared: Any) -> list[Any]:
    with phasewatch.run(log.stem, log=log, sinks=[]), phase("OUTER"):
        work = [ray.get(task.remote(here())), ray.get(shared.work.remote(here()))]
        for actor in (shared, Asynchronous.remote()):
            parts = actor.stream.options(num_returns="streaming").remote(here(), 2)
            work += [ray.get(part) for part in parts]
    return work


def main() -> None:
    known = {}
    for number in (1, 2):
        said: Any = ray.init(num_cpus=2, include_dashboard=False, logging_level="error", namespace="mine")
        shared = Shared.options(name="shared").remote()
        known[f"first{number}"] = driven(FOLDER / f"first{number}.jsonl", shared)
        if number == 2:
            second = [sys.executable, __file__, str(FOLDER), said.address_info["gcs_address"]]
            done = subprocess.run(second, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            known["second"] = json.loads(done.stdout.splitlines()[-1])
            # The actor has worked for another driver meanwhile.
            known["afterwards"] = driven(FOLDER / "afterwards.jsonl", shared)
        ray.shutdown()
    print(json.dumps(known))


def second_driver(address: str) -> None:
    ray.init(address=address, logging_level="error", namespace="mine", log_to_driver=False)
    print(json.dumps(driven(FOLDER / "second.jsonl", ray.get_actor("shared"))))


if len(sys.argv) > 2:
    second_driver(sys.argv[2])
else:
    main()
