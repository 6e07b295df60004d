"""Ray: the real one, in programs of their own; and what needs none."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from phasewatch import PhasewatchWarning, Timeline, attach, phase, read, run
from phasewatch.integrations import ray as integration
from phasewatch.integrations._carried import KEYWORD, MARK
from phasewatch.integrations._collected import CollectedSink

if TYPE_CHECKING:
    from phasewatch.timeline import Node

PROGRAMS = Path(__file__).parent / "programs"
PATIENCE = 180.0  # seconds for a program
watch_nodes = integration._watch_nodes  # which most tests do without


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


def test_what_an_actor_was_made_under_holds_as_long_as_its_process_lives(
    here: Any, monkeypatch: pytest.MonkeyPatch, phaselog: Any
) -> None:
    attached: list[Any] = []

    def keep(text: str) -> Any:
        attached.append(attach(text))
        return attached[-1]

    monkeypatch.setattr(integration, "attach", keep)
    text = '{"id": "other.1", "run": "other.0", "path": ["OUTER"]}'
    with integration.arrive(sent_by("other", text), lasting=True):
        pass
    with phase("LATER") as later:
        assert later.path == ("OUTER", "LATER")
    attached[0].__exit__(None, None, None)


def test_what_comes_back_to_the_process_that_sent_it_changes_nothing(here: Any, tmp_path: Path) -> None:
    here.collect = True
    with run("main", log=tmp_path / "log.jsonl", sinks=[]):
        sent = str(integration._sent())
        with integration.arrive(sent, lasting=False), phase("INNER"):
            assert "PHASEWATCH_CONSOLE" not in os.environ
            assert here.sink is None
            assert str(integration._sent()).partition("\n")[0] == sent.partition("\n")[0]


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


def test_records_go_to_the_collector_too_where_the_log_is_on_another_machine(
    here: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(integration, "configure", lambda **_: None)
    for log in (tmp_path / "log.jsonl", tmp_path / "no folder here" / "log.jsonl"):
        here.sink = None
        with integration.arrive(sent_by("other", "", log).replace(os.uname().nodename, "elsewhere"), lasting=False):
            pass
        assert here.sink.log == str(log)


def test_the_records_of_one_process_are_sent_before_those_of_another_one_are(
    here: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configured: list[Any] = []
    monkeypatch.setattr(integration, "configure", lambda **options: configured.extend(options["sinks"]))
    closed: list[str] = []
    monkeypatch.setattr(CollectedSink, "close", lambda sink: closed.append(sink.name))
    log = tmp_path / "log.jsonl"
    for other in ("first", "first", "second"):
        with integration.arrive(sent_by(other, "", log, collect=True), lasting=False):
            pass
    assert [sink.name for sink in configured] == ["phasewatch-first", "phasewatch-second"]
    with integration.arrive(sent_by("second", "", log), lasting=False):
        pass
    assert closed == ["phasewatch-first", "phasewatch-second"]


def test_a_task_passes_on_what_it_was_sent_unless_it_has_a_run_of_its_own(
    here: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watching: list[bool] = []
    monkeypatch.setattr(integration, "_watch_nodes", lambda: watching.append(True))
    monkeypatch.setattr(integration, "configure", lambda **_: None)
    log, own = tmp_path / "log.jsonl", tmp_path / "own.jsonl"
    with integration.arrive(sent_by("other", "", log, collect=True), lasting=False):
        with run("the same log", log=log, sinks=[]):
            assert json.loads(str(integration._sent()).partition("\n")[0])["from"] == "other"
        assert not watching  # the collector is where that process is
        with run("main", log=own, sinks=[]):
            head = json.loads(str(integration._sent()).partition("\n")[0])
    assert (head["from"], head["log"], head["collect"]) == (here.token, str(own), True)
    assert watching == [True]


def test_without_a_log_no_collector_is_made(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watching: list[bool] = []
    monkeypatch.setattr(integration, "_watch_nodes", lambda: watching.append(True))
    integration._sent()
    assert not watching


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


def test_a_cluster_that_was_left_is_asked_for_nothing(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = a_ray(monkeypatch)
    vars(ray).update(is_initialized=lambda: False, exceptions=SimpleNamespace(RayError=ValueError))
    monkeypatch.setattr(integration, "settle", lambda ask: pytest.fail("Ray would be started anew"))
    here.collector = SimpleNamespace()
    integration._settle()
    assert here.collector is None


def test_the_nodes_of_each_cluster_are_watched_once(here: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a_ray(monkeypatch)
    watched: list[Any] = []

    def thread(target: Any, **_: Any) -> Any:
        return SimpleNamespace(start=lambda: watched.append(target))

    monkeypatch.setattr(integration, "threading", SimpleNamespace(Thread=thread))
    monkeypatch.setattr(integration, "_watch_nodes", watch_nodes)
    with run("driver", log=tmp_path / "log.jsonl", sinks=[]):
        for _ in range(2):
            with phase("OUTER"):
                integration._sent()
        assert len(watched) == 1
        integration._sent()
        integration._settle()
        integration._sent()  # which is what it was
    assert watched == [integration._make_collector] * 2


class Nodes:
    """A cluster of whose nodes one is asked, and what is made in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *nodes: list[Any]) -> None:
        ray = a_ray(monkeypatch)
        self.made: dict[str, Any] = {}
        self.nodes, self.there = list(nodes), [False, True]
        vars(ray).update(
            is_initialized=self.is_there, nodes=self.alive, remote=self.remote,
            get_runtime_context=lambda: SimpleNamespace(get_node_id=lambda: "here"),
        )  # fmt: skip
        strategies = ModuleType("ray.util.scheduling_strategies")
        vars(strategies)["NodeAffinitySchedulingStrategy"] = lambda node, soft: (node, soft)
        for module in (ModuleType("ray.util"), strategies):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        for pause in ("_FIRST_LOOK", "_LOOK_EVERY"):
            monkeypatch.setattr(integration, pause, 0.0)

    def is_there(self) -> bool:
        return self.there.pop(0) if len(self.there) > 1 else self.there[0]

    def alive(self) -> list[dict[str, Any]]:
        assert self.there == [True], "there is no cluster yet"
        return [{"NodeManagerHostname": host, "Alive": alive} for host, alive in self.nodes.pop(0)]

    def remote(self, **options: Any) -> Any:
        self.made |= options
        return lambda cls: self

    def options(self, **options: Any) -> Any:
        self.made |= options
        return SimpleNamespace(remote=lambda: "the collector")


ONE, TWO = [("a", True), ("a", True), ("b", False)], [("a", True), ("b", True)]


def test_the_collector_is_made_beside_the_log_when_a_second_machine_is_there_and_takes_no_processor(
    here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Nodes(monkeypatch, ONE, ONE, TWO)
    integration._make_collector()
    assert not cluster.nodes
    assert here.collector == "the collector"
    assert cluster.made == {
        "num_cpus": 0, "max_restarts": -1, "scheduling_strategy": ("here", False),
        "name": f"phasewatch-{here.token}", "namespace": "phasewatch", "get_if_exists": True,
    }  # fmt: skip


def test_who_asked_for_the_collector_has_it_on_one_machine(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here.collect = True
    Nodes(monkeypatch)
    integration._make_collector()
    assert here.collector == "the collector"


@pytest.mark.parametrize("left", [True, False])
def test_that_nodes_cannot_be_asked_for_is_told_unless_the_cluster_was_left(
    here: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, left: bool
) -> None:
    cluster = Nodes(monkeypatch)

    def fails() -> None:
        cluster.there[:] = [not left]
        raise ConnectionError

    vars(sys.modules["ray"])["nodes"] = fails
    integration._make_collector()
    assert ("_make_collector failed" in caplog.text) is not left


def test_a_batch_has_arrived_when_ray_says_so_or_starts_the_collector_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unavailable(Exception):
        pass

    class Died(Exception):
        pass

    ray = a_ray(monkeypatch)
    vars(ray)["exceptions"] = SimpleNamespace(ActorUnavailableError=Unavailable)

    def arrived(error: BaseException | None) -> bool:
        future: Future[None] = Future()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(None)
        return integration._has_arrived(SimpleNamespace(future=lambda: future), 0.0)

    assert arrived(None)
    assert arrived(Unavailable())
    assert not integration._has_arrived(SimpleNamespace(future=Future), 0.0)
    with pytest.raises(Died):
        arrived(Died())


# Seams, in a Ray that does nothing.


def a_ray_that_fits(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    method_class = type("ActorMethod", (), {"remote": method, "options": method})

    def get(self: Any, name: str) -> Any:
        return method_class()

    def listed(self: Any) -> list[str]:
        return ["work", *([MARK] if self.carried else [])]

    ray = a_ray(
        monkeypatch,
        ActorClass=type("ActorClass", (), {"remote": method, "options": method, "bind": method}),
        ActorHandle=type("ActorHandle", (), {"__getattr__": get, "__dir__": listed, "carried": True}),
        ActorMethod=method_class,
    )
    vars(ray.remote_function)["RemoteFunction"] = type("RemoteFunction", (), {"options": method, "bind": method})
    vars(ray).update(shutdown=lambda: None, exceptions=SimpleNamespace(ActorUnavailableError=OSError))
    return ray


def test_a_process_is_hooked_once_and_settles_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integration, "_here", integration._Here())
    ray = a_ray_that_fits(monkeypatch)
    ends: list[Any] = []
    monkeypatch.setattr(integration, "atexit", SimpleNamespace(register=ends.append))
    plain = ray.actor.ActorClass.remote
    integration._hook()
    hooked = ray.actor.ActorClass.remote
    integration._hook()
    assert ray.actor.ActorClass.remote is hooked is not plain
    assert ends == [integration._settle]  # whoever ends without ray.shutdown


def test_methods_of_ray_and_of_actors_that_are_not_carried_are_called_as_ever(here: Any, monkeypatch: Any) -> None:
    ray = a_ray_that_fits(monkeypatch)
    ((owner, name, method_of),) = integration._seams_of_handles(ray)
    setattr(owner, name, method_of)
    handle = owner()
    (_, carried), (_, called) = handle.work.remote(1), handle.__ray_ready__.remote(1)
    assert (list(carried), called) == ([KEYWORD], {})
    owner.carried = False
    assert handle.work.remote(1) == ((1,), {})


def a_ray_that_shows_its_options(options: dict[str, Any]) -> tuple[Any, Any]:
    """A Ray, and what it makes of something: what that is, and the options with which it was made."""

    def remote(*made: Any, **given: Any) -> Any:
        return (made[0], given) if made else lambda cls: (cls, given)

    return SimpleNamespace(remote=remote), lambda: SimpleNamespace(get_options=lambda: options)


@pytest.mark.parametrize("options", [{}, {"num_cpus": 2, "max_concurrency": 4}])
def test_a_twin_is_made_with_the_options_of_what_it_is_made_of(options: dict[str, Any]) -> None:
    class Actor:
        pass

    def function() -> None:
        pass

    ray, bind = a_ray_that_shows_its_options(options)
    cls, given = integration._class_twin(ray, SimpleNamespace(__ray_actor_class__=Actor, bind=bind))
    assert (issubclass(cls, Actor), given) == (True, options)
    plain = SimpleNamespace(remote=SimpleNamespace(__wrapped__=function), bind=bind)
    twin, given = integration._function_twin(ray, plain)
    assert (twin.__name__, given) == ("function", options)


def test_tasks_and_actors_of_ray_and_of_phasewatch_are_left_as_they_are() -> None:
    ray, bind = a_ray_that_shows_its_options({})
    for module in ("ray", "ray.data.actors", "phasewatch.integrations"):
        cls = type("Theirs", (), {"__module__": module})
        assert integration._class_twin(ray, SimpleNamespace(__ray_actor_class__=cls, bind=bind)) is None
    cls = type("Mine", (), {"__module__": "rays.of_light"})
    assert integration._class_twin(ray, SimpleNamespace(__ray_actor_class__=cls, bind=bind)) is not None


def test_what_options_returned_can_be_copied(here: Any) -> None:
    calls = copy.copy(integration._Calls(SimpleNamespace(remote=lambda **sent: list(sent), other=1)))
    assert (calls.remote(), calls.other) == ([KEYWORD], 1)


def test_phasewatch_imports_no_ray() -> None:
    code = "import sys, phasewatch.integrations.ray; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
