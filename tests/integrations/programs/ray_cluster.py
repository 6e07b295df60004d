"""Tasks and actors on several nodes of a real cluster; tells what Ray and the work itself know of each, as JSON.

Arguments: the path of the event log, a folder for files that say how far something is.
"""

# mypy: disable-error-code="untyped-decorator, attr-defined"
# Ray is not looked at where types are checked.

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

import phasewatch
from phasewatch import phase
from phasewatch.integrations.ray import install

LOG, FOLDER = sys.argv[1], Path(sys.argv[2])
PATIENCE = 60.0  # seconds
known: dict[str, Any] = {"work": []}


def witness(name: str, around: str | None) -> dict[str, Any]:
    """What is true of the phase that is open here, told by Ray, the system, and who submitted the task."""
    context = ray.get_runtime_context()
    opened = phasewatch.current()
    assert opened is not None
    return {
        "name": name,
        "id": opened.id,
        "around": around,
        "process": os.getpid(),
        "node": context.get_node_id(),
        "task": context.get_task_id(),
        "called": context.get_task_name(),
    }


def here() -> str | None:
    """The id of the phase that is open here."""
    opened = phasewatch.current()
    return None if opened is None else opened.id


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    until = time.monotonic() + PATIENCE
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)


# Defined before anything is installed, as in most programs.


@ray.remote(num_cpus=1)
def leaf(around: str | None) -> list[dict[str, Any]]:
    with phase("LEAF"):
        return [witness("LEAF", around)]


@ray.remote(num_cpus=1)
def branch(around: str | None, leaves: int) -> list[dict[str, Any]]:
    with phase("BRANCH"):
        told = [witness("BRANCH", around)]
        for part in ray.get([leaf.remote(here()) for _ in range(leaves)]):
            told += part
        return told


@ray.remote(num_cpus=1, max_retries=2)
def dies_once(around: str | None, mark: str) -> list[dict[str, Any]]:
    with phase("DIES ONCE"):
        if not Path(mark).exists():
            Path(mark).write_text(f"{here()}")
            os.kill(os.getpid(), signal.SIGKILL)
        return [witness("DIES ONCE", around)]


@ray.remote(num_cpus=1, max_retries=2, retry_exceptions=True)
def raises_once(around: str | None, mark: str) -> list[dict[str, Any]]:
    with phase("RAISES ONCE"):
        if not Path(mark).exists():
            Path(mark).write_text(f"{here()}")
            raise ValueError("the first time")
        return [witness("RAISES ONCE", around)]


@ray.remote(resources={"doomed": 1}, max_retries=0)
def doomed(mark: str) -> None:
    with phase("DOOMED"):
        Path(mark + ".part").write_text(f"{here()}")
        os.rename(mark + ".part", mark)
        time.sleep(PATIENCE)


@ray.remote(num_cpus=1)
def stream(around: str | None, parts: int) -> Any:
    for _ in range(parts):
        with phase("PART"):
            told = witness("PART", around)
        yield [told]


@ray.remote(num_cpus=0)
class Plain:
    def __init__(self, around: str | None) -> None:
        with phase("BUILD"):
            self.built = witness("BUILD", around)

    def work(self, around: str | None) -> list[dict[str, Any]]:
        with phase("WORK"):
            return [witness("WORK", around), *ray.get(leaf.remote(here())), self.built]

    def hang(self, mark: str) -> None:
        with phase("HANG"):
            Path(mark + ".part").write_text(f"{here()}")
            os.rename(mark + ".part", mark)
            time.sleep(PATIENCE)


@ray.remote(num_cpus=0)
class Asynchronous:
    async def work(self, around: str | None) -> list[dict[str, Any]]:
        with phase("WORK"):
            mine = witness("WORK", around)
            await asyncio.sleep(0.1)  # the other calls begin meanwhile
            return [mine, *await leaf.remote(here())]


@ray.remote(num_cpus=0, max_concurrency=4)
class Threaded:
    def work(self, around: str | None) -> list[dict[str, Any]]:
        with phase("WORK"):
            time.sleep(0.1)
            return [witness("WORK", around)]


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    leaving = cluster.add_node(num_cpus=1, resources={"doomed": 1})
    ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
    install()  # after everything
    try:
        with phasewatch.run("driver", log=LOG, sinks=[]):
            everything(cluster, leaving)
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(json.dumps(known))


def everything(cluster: Cluster, leaving: Any) -> None:
    work: list[dict[str, Any]] = known["work"]
    known["nodes"] = [node["NodeID"] for node in ray.nodes()]
    for number in range(5):
        with phase(f"ROUND {number}"):
            for part in ray.get([branch.remote(here(), 19) for _ in range(2)]):
                work += part
    with phase("ACTORS"):
        actors = [
            *(Plain.options(name=f"plain-{n}").remote(here()) for n in range(4)),
            *(Asynchronous.remote() for _ in range(2)),
            *(Threaded.remote() for _ in range(2)),
        ]
        assert len(actors) == 8
    for number in range(2):
        with phase(f"CALLS {number}"):
            calls = [actor.work.remote(here()) for actor in actors for _ in range(2)]
            calls.append(ray.get_actor("plain-0").work.options(name="by name").remote(here()))
        # They go on while another phase is open here.
        with phase("BETWEEN"):
            for part in ray.get(calls):
                work += part
    with phase("STREAM"):
        for part in stream.remote(here(), 3):
            work += ray.get(part)
    with phase("RETRIES"):
        for function in (dies_once, raises_once):
            mark = FOLDER / function.remote.__name__
            work += ray.get(function.remote(here(), str(mark)))
            known[mark.name] = mark.read_text()
    with phase("KILLS"):
        known["kills"] = here()
        mark = FOLDER / "hang"
        hanging = actors[0].hang.remote(str(mark))
        wait_for(mark)
        ray.kill(actors[0])
        known["killed"] = mark.read_text()
        known["errors"] = [failed(hanging)]
    with phase("NODES"):
        known["leaves"] = here()
        mark = FOLDER / "doomed"
        on_node = doomed.remote(str(mark))
        wait_for(mark)
        cluster.remove_node(leaving, allow_graceful=False)
        known["lost with its node"] = mark.read_text()
        known["errors"].append(failed(on_node))
    with phase("AFTER"):
        work += ray.get(leaf.options(name="after").remote(here()))


def failed(ref: Any) -> str:
    """The name of the error with which a task ended."""
    try:
        ray.get(ref, timeout=PATIENCE)
    except ray.exceptions.RayError as error:
        return type(error).__name__
    return "none"


main()
