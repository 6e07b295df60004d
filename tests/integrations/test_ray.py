"""Ray: the real one, in programs of their own; and what needs none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from phasewatch import PhasewatchWarning, Timeline, phase, read, run
from phasewatch.integrations import ray as integration

if TYPE_CHECKING:
    from phasewatch.timeline import Node

PROGRAMS = Path(__file__).parent / "programs"
PATIENCE = 180.0  # seconds for a program


def started(name: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PHASEWATCH", "RAY_"))}
    environment["RAY_USAGE_STATS_ENABLED"] = "0"
    return subprocess.Popen(
        [sys.executable, str(PROGRAMS / name), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


class Recorded:
    """What a program told, and what the event log tells."""

    def __init__(self, told: dict[str, Any], log: Path, output: str = "") -> None:
        self.told, self.output = told, output
        self.timeline = Timeline.from_events(read(log))

    def node(self, id: str) -> Node:
        node = self.timeline.get(id)
        assert node is not None, f"{id} is not in the log"
        return node

    def parent(self, id: str) -> str | None:
        parent = self.node(id).parent
        return None if parent is None else parent.id


# A cluster of three nodes.


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("cluster")
    log = folder / "driver.jsonl"
    program = started("ray_cluster.py", log, folder)
    try:
        output, errors = program.communicate(timeout=PATIENCE)
    finally:
        end(program)
    assert program.returncode == 0, errors
    return Recorded(json.loads(output.splitlines()[-1]), log)


def end(program: subprocess.Popen[str]) -> None:
    try:
        os.killpg(program.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    program.wait()


@pytest.mark.trainers
def test_every_phase_of_200_tasks_and_8_actors_is_there_under_its_own_parent(cluster: Recorded) -> None:
    work = {one["id"]: one for one in cluster.told["work"]}
    for id, one in work.items():
        node = cluster.node(id)
        assert (node.name, node.status) == (one["name"], "completed")
        assert node.place is not None
        assert node.place.process == one["process"]
        if one["around"] is not None:
            assert cluster.parent(id) == one["around"], one
            parent = node.parent
            assert parent is not None
            assert node.path == (*parent.path, node.name)
        assert node.phase.run == cluster.timeline.roots[0].id
    rounds = [one for one in work.values() if cluster.node(one["id"]).path[0].startswith("ROUND")]
    assert len({one["task"] for one in rounds}) == 200  # as Ray counts them
    assert len({one["node"] for one in work.values()} & set(cluster.told["nodes"])) > 1
    assert {one["called"] for one in rounds} == {"leaf", "branch"}  # as ever
    names = [one["name"] for one in work.values()]
    assert (names.count("BUILD"), names.count("WORK"), names.count("PART")) == (4, 8 * 2 * 2 + 2, 3)


@pytest.mark.trainers
def test_nothing_but_what_the_work_knows_of_is_in_the_log(cluster: Recorded) -> None:
    told = cluster.told
    (driver,) = cluster.timeline.roots
    known = {one["id"] for one in told["work"]}
    known |= {told[name] for name in ("dies_once", "raises_once", "killed", "lost with its node")}
    own = {driver.id, *(child.id for child in driver.children)}
    assert {node.id for node in cluster.timeline.nodes()} == known | own
    assert [child.name for child in driver.children if child.place == driver.place] == [
        *(f"ROUND {n}" for n in range(5)), "ACTORS", "CALLS 0", "BETWEEN", "CALLS 1", "BETWEEN", "STREAM", "RETRIES",
        "KILLS", "NODES", "AFTER",
    ]  # fmt: skip


@pytest.mark.trainers
def test_a_task_that_is_tried_again_is_there_twice(cluster: Recorded) -> None:
    for name, status in (("dies_once", "lost"), ("raises_once", "failed")):
        first = cluster.node(cluster.told[name])
        (second,) = (one for one in cluster.told["work"] if one["name"] == first.name)
        assert (first.status, cluster.node(second["id"]).status) == (status, "completed")
        assert first.parent is cluster.node(second["id"]).parent
        assert first.id != second["id"]
    assert cluster.node(cluster.told["raises_once"]).error == ("ValueError", "the first time")


@pytest.mark.trainers
def test_what_was_killed_is_lost_with_the_phase_it_was_in(cluster: Recorded) -> None:
    told = cluster.told
    assert told["errors"] == ["ActorDiedError", "NodeDiedError"]
    for id, name, around in ((told["killed"], "HANG", "kills"), (told["lost with its node"], "DOOMED", "leaves")):
        node = cluster.node(id)
        assert (node.name, node.status, cluster.parent(id)) == (name, "lost", told[around])
    lost = [node.name for node in cluster.timeline.nodes() if node.status == "lost"]
    assert sorted(lost) == ["DIES ONCE", "DOOMED", "HANG"]


# One machine, through the collector.


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorded, Path]:
    folder = tmp_path_factory.mktemp("local")
    log, main_log = folder / "driver.jsonl", folder / "main.jsonl"
    program = started("ray_local.py", log, main_log)
    watchdog = threading.Timer(PATIENCE, end, [program])
    watchdog.start()
    try:
        assert program.stdout is not None
        lines: list[str] = []
        while not (any(line.startswith("TOLD ") for line in lines) and spoken(lines)):
            line = program.stdout.readline()
            assert line, program.communicate()[1]
            lines.append(line)
        output, _ = program.communicate()
        lines += output.splitlines(keepends=True)
    finally:
        watchdog.cancel()
        end(program)
    assert program.returncode == 0
    (told,) = (line.removeprefix("TOLD ") for line in lines if line.startswith("TOLD "))
    return Recorded(json.loads(told), log, "".join(lines)), main_log


SPOKEN = 3 * 3  # a beginning, an end and the last banner of three runs


def spoken(lines: list[str]) -> bool:
    return sum("[META]" in line and "Speaker" in line for line in lines) >= SPOKEN


@pytest.mark.trainers
def test_what_goes_through_the_collector_arrives(local: tuple[Recorded, Path]) -> None:
    recorded, _ = local
    work = recorded.told["work"]
    assert len(work) == 3 * 3 + 2 + 2
    for id, around, process, *_ in work:
        place = recorded.node(id).place
        assert place is not None
        assert (recorded.node(id).status, recorded.parent(id), place.process) == ("completed", around, process)
    assert recorded.told["recorded"] == len(work) + 4
    (whole,) = (node for node in recorded.timeline.nodes() if node.name == "WHOLE")
    assert whole.phase.message is not None  # it is decorated: a closure of ours, sent by value
    assert whole.path == ("SECOND", "WHOLE")
    (built,) = (node for node in recorded.timeline.nodes() if node.name == "BUILD")
    assert built.path == ("FIRST", "BUILD")


@pytest.mark.trainers
def test_a_collector_that_died_costs_nothing(local: tuple[Recorded, Path]) -> None:
    told = local[0].told
    assert (told["collectors"], told["after"]) == (2, 1)  # of the driver, and of the main task that holds a run
    assert told["seconds"] / 1000 < 500e-6  # a phase; a call of an actor that is waited for takes some ms
    (line,) = (line for line in local[0].output.splitlines() if line.startswith("SHUTDOWN"))
    assert float(line.split()[1]) < 20


@pytest.mark.trainers
def test_the_users_own_hook_and_environment_stay(local: tuple[Recorded, Path]) -> None:
    assert local[0].told["environment"] == {"OWN_HOOK": "ran", "OWN_VARIABLE": "kept", "PHASEWATCH_PARENT": None}
    assert local[0].told["work"][10][3] == {"further": 1}
    assert local[0].told["work"][9][3] == {}  # nothing of ours is among somebody's keywords


@pytest.mark.trainers
def test_a_class_that_cannot_be_carried_works_as_ever(local: tuple[Recorded, Path]) -> None:
    assert local[0].told["stubborn"] == 1


@pytest.mark.trainers
def test_main_tasks_speak_and_ray_folds_none_of_it(local: tuple[Recorded, Path]) -> None:
    recorded, _ = local
    said = [line for line in recorded.output.splitlines() if "Speaker" in line]
    for process, _ in recorded.told["speakers"]:
        lines = [line.partition("\x1b[0m ")[2] for line in said if f"pid={process})" in line]
        times = 2 if process == recorded.told["main"][0] else 1
        assert lines.count("🔹 [META] PHASE: EXPORT") == times
        assert lines.count("✅ [META] PHASE COMPLETE: EXPORT") == times
        assert lines.count("=" * 80) == times * 8
        assert lines.count("Total files: 2") == times
    # Who hangs under a phase that somebody shows is silent.
    assert not [
        line for line in recorded.output.splitlines() if "[META]" in line and ("task pid" in line or "(Actor" in line)
    ]


@pytest.mark.trainers
def test_what_a_main_task_submits_is_in_the_log_of_its_run(local: tuple[Recorded, Path]) -> None:
    recorded, main_log = local
    timeline = Timeline.from_events(read(main_log))
    (root,) = timeline.roots
    process, tasks = recorded.told["main"]
    assert root.place is not None
    assert (root.name, root.place.process) == ("main", process)
    paths = {node.id: node.path for node in timeline.nodes()}
    assert [paths.get(id) for id, *_ in tasks] == [("EXPORT", "TASK"), ("EXPORT", "TASK", "TASK")]


# Clusters one after the other, and two drivers of one.


@pytest.mark.trainers
def test_each_driver_of_each_cluster_has_its_own_record_and_a_shared_actor_works_for_whoever_calls(tmp_path: Path) -> None:
    program = started("ray_again.py", tmp_path)
    try:
        output, errors = program.communicate(timeout=PATIENCE)
    finally:
        end(program)
    assert program.returncode == 0, errors
    told = json.loads(output.splitlines()[-1])
    assert set(told) == {"first1", "first2", "second", "afterwards"}
    for name, work in told.items():
        recorded = Recorded({}, tmp_path / f"{name}.jsonl")
        (root,) = recorded.timeline.roots
        (outer,) = root.children
        assert [node.id for node in outer.children] == [id for id, *_ in work]
        assert [node.name for node in outer.children] == ["TASK", "WORK", "PART", "PART", "ASYNC PART", "ASYNC PART"]
        for id, around, process in work:
            place = recorded.node(id).place
            assert place is not None
            assert (around, place.process, recorded.node(id).status) == (outer.id, process, "completed")
    # It was one and the same actor, in between for the other driver.
    (first, second, again) = (told[name][1] for name in ("first2", "second", "afterwards"))
    assert first[2] == second[2] == again[2]


# What needs no Ray.


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A process that knows nothing yet, and hooks nothing."""
    fresh = integration._Here()
    monkeypatch.setattr(integration, "_here", fresh)
    monkeypatch.setattr(integration, "_hook", lambda: None)
    monkeypatch.setattr(integration, "_watch_nodes", lambda: None)
    for variable in ("PHASEWATCH_CONSOLE", "RAY_DEDUP_LOGS_ALLOW_REGEX", "RAY_DEDUP_LOGS"):
        monkeypatch.setenv(variable, "")  # so that it is put right afterwards, whatever the code under test makes of it
        monkeypatch.delenv(variable)
    return fresh


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'phasewatch\[ray\]'"):
        integration.install()


def a_ray(monkeypatch: pytest.MonkeyPatch, **actor: Any) -> ModuleType:
    """A Ray whose parts have moved."""
    ray, functions, actors = ModuleType("ray"), ModuleType("ray.remote_function"), ModuleType("ray.actor")
    vars(ray).update(__version__="9.9", actor=actors, remote_function=functions)
    vars(functions)["RemoteFunction"] = type("RemoteFunction", (), {"options": None, "bind": None})
    vars(actors).update(actor)
    for module in (ray, functions, actors):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return ray


def test_a_ray_that_is_another_is_warned_of_once_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integration, "_here", integration._Here())
    ray = a_ray(monkeypatch, ActorClass=type("ActorClass", (), {"remote": None}))
    before = dict(vars(ray.remote_function.RemoteFunction))
    with pytest.warns(PhasewatchWarning, match=r"Ray 9\.9 is not as phasewatch knows it .*'options'"):
        integration.install()
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        integration.install()
    assert not again
    assert dict(vars(ray.remote_function.RemoteFunction)) == before


def test_rays_folding_is_lifted_where_ray_has_not_read_its_setting(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    assert integration._lift_folding()
    assert integration._lift_folding()  # it stays so
    assert os.environ["RAY_DEDUP_LOGS_ALLOW_REGEX"].startswith(r"\[META\]")


@pytest.mark.parametrize(
    ("said", "warns"), [(None, True), ("mine", True), ("(", True), (r"\[META\]", False), ("META|mine", False)]
)
def test_where_it_cannot_be_lifted_that_is_told(
    here: Any, monkeypatch: pytest.MonkeyPatch, said: str | None, warns: bool
) -> None:
    a_ray(monkeypatch)
    if said is not None:
        os.environ["RAY_DEDUP_LOGS_ALLOW_REGEX"] = said
    integration.install()  # nothing is shown that could be folded
    if warns:
        with pytest.warns(PhasewatchWarning, match="RAY_DEDUP_LOGS_ALLOW_REGEX="):
            integration.install(console=True)
    else:
        integration.install(console=True)
    assert os.environ.get("RAY_DEDUP_LOGS_ALLOW_REGEX") == said


def test_what_is_sent_says_where_the_log_is(here: Any, tmp_path: Path) -> None:
    assert integration._sent().partition("\n")[2] == ""
    with run("driver", log=tmp_path / "log.jsonl", sinks=[]), phase("OUTER") as outer:
        head, _, text = integration._sent().partition("\n")
        assert json.loads(head) == {
            "from": here.token, "console": False, "collect": False, "log": str(tmp_path / "log.jsonl"),
            "host": [os.uname().nodename, tmp_path.stat().st_dev, tmp_path.stat().st_ino],
        }  # fmt: skip
        assert json.loads(text)["id"] == outer.id
        assert integration._sent() is integration._sent()


def test_what_is_sent_follows_what_is_said(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a_ray(monkeypatch)
    monkeypatch.setenv("RAY_DEDUP_LOGS", "0")
    assert '"console": false' in str(integration._sent())
    integration.install(console=True)
    assert '"console": true' in str(integration._sent())
    for log in ("/first", "/second"):
        with integration.arrive(sent_by("other", "", Path(log)), lasting=False):
            assert f'"log": "{log}"' in str(integration._sent())


def sent_by(other: str, text: str, log: Path | None = None, **head: Any) -> str:
    said = {"from": other, "console": False, "collect": False, **head}
    if log is not None:
        said |= {"log": str(log), "host": integration._host_of(str(log))}
    return f"{json.dumps(said)}\n{text}"


def test_where_a_task_runs_it_hangs_under_what_was_sent_and_is_silent(here: Any, phaselog: Any) -> None:
    text = '{"id": "other.1", "run": "other.0", "path": ["OUTER"]}'
    with integration.arrive(sent_by("other", text), lasting=False), phase("INNER") as inner:
        assert inner.path == ("OUTER", "INNER")
    with phase("ALONE") as alone:
        assert alone.path == ("ALONE",)
    assert os.environ.pop("PHASEWATCH_CONSOLE") == "off"
    with integration.arrive(sent_by("other", text, console=True), lasting=False):
        assert "PHASEWATCH_CONSOLE" not in os.environ
    assert here.console


def test_a_task_without_a_phase_around_it_speaks(here: Any) -> None:
    with integration.arrive(sent_by("other", ""), lasting=False):
        assert "PHASEWATCH_CONSOLE" not in os.environ


def test_what_is_no_message_of_ours_changes_nothing(here: Any, caplog: pytest.LogCaptureFixture, phaselog: Any) -> None:
    for broken in ("", "nothing", '{"from": "x"}\n', "[]\n[]"):
        with integration.arrive(broken, lasting=False), phase("INNER") as inner:
            assert inner.path == ("INNER",)
    assert "the trainer goes on" in caplog.text


def test_where_the_log_is_elsewhere_records_go_to_the_collector_and_the_message_is_passed_on(
    here: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configured: list[Any] = []
    monkeypatch.setattr(integration, "configure", lambda **options: configured.append(options["sinks"]))
    log = tmp_path / "log.jsonl"
    far = sent_by("other", json.dumps({"id": "other.1", "path": ["OUTER"], "log": str(log)}), log, collect=True)
    with integration.arrive(far, lasting=False), phase("INNER"):
        assert integration._sent().partition("\n")[0] == far.partition("\n")[0]
    (((sink,)),) = configured
    assert (sink.name, sink.log) == ("phasewatch-other", str(log))
    assert not log.exists()
    sink.close()
    near = sent_by("other", "", log)
    with integration.arrive(near, lasting=False):
        pass
    assert configured[1:] == [[]]
    assert here.sink is None


def test_a_worker_that_has_a_log_of_its_own_keeps_it(here: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHASEWATCH_LOG", str(tmp_path / "own.jsonl"))
    with integration.arrive(sent_by("other", "", tmp_path / "log.jsonl", collect=True), lasting=False):
        assert here.sink is None


def test_a_twin_is_made_once_and_forgotten_with_what_it_was_made_of() -> None:
    class Plain:
        __hash__ = None  # type: ignore[assignment]  # as a class of somebody may be

        def __eq__(self, other: object) -> bool:
            raise RuntimeError

    made: list[object] = []

    def make(_: object) -> object:
        made.append(object())
        return made[-1]

    twins = integration._Twins(make)
    plain = Plain()
    assert twins.of(plain) is twins.of(plain)
    assert len(made) == 1
    del plain
    assert not twins._made
    failing = integration._Twins(lambda plain: 1 / 0)
    assert failing.of(twins) is failing.of(twins) is None


def test_what_a_task_has_told_is_sent_when_it_is_over(here: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[str] = []
    sink = SimpleNamespace(flush=lambda: done.append("sent"), close=lambda: None, name="phasewatch-other", log="/elsewhere")
    here.sink = sink
    with integration.arrive(sent_by("other", "", Path("/elsewhere"), collect=True), lasting=False):
        assert not done
    assert done == ["sent"]


def test_to_leave_a_cluster_waits_for_what_is_on_its_way_before_it_does(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = a_ray(monkeypatch)
    done: list[object] = []
    vars(ray).update(shutdown=done.append, exceptions=SimpleNamespace(ActorUnavailableError=OSError))
    monkeypatch.setattr(integration, "_settle", lambda: done.append("settled"))
    ((owner, name, shutdown),) = integration._seams_of_the_end(ray)
    assert (owner, name) == (ray, "shutdown")
    shutdown("left")
    assert done == ["settled", "left"]


def test_the_end_waits_for_what_is_on_its_way_to_the_collector(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = a_ray(monkeypatch)
    dead = SimpleNamespace(RayError=ValueError)
    vars(ray).update(is_initialized=lambda: True, get=lambda count, timeout: count, exceptions=dead)
    asked: list[int] = []
    monkeypatch.setattr(integration, "settle", lambda ask: asked.append(ask()))
    collector = SimpleNamespace(taken=SimpleNamespace(remote=lambda: 7))
    here.collector, here.watching = collector, True
    integration._settle()
    integration._settle()
    assert asked == [7]
    assert not here.watching  # the next cluster has another one
    here.collector = collector
    monkeypatch.setattr(integration, "settle", lambda ask: int("dead"))
    integration._settle()


def test_phasewatch_imports_no_ray() -> None:
    code = "import sys, phasewatch.integrations.ray; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
