"""Ray: phases inside tasks and actors hang under the phase from which they were submitted, across processes and nodes."""

from __future__ import annotations

import atexit
import functools
import json
import logging
import os
import re
import sys
import threading
import weakref
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import attach, carrier, configure
from .._report import warn
from ._carried import KEYWORD, MARK, carried, carried_class, is_carried
from ._collected import NAMESPACE, CollectedSink, Collector, settle
from ._flow import contained

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["install"]

_ALLOW = "RAY_DEDUP_LOGS_ALLOW_REGEX"
_META = r"\[META\]"
_ALL_LINES = _META + r"|^={80}$|\bElapsed: |^Total \w+: "  # the lines below and above them too
_FIRST_LOOK, _LOOK_EVERY = 0.2, 5.0  # seconds after which one looks whether there are nodes on other machines
_OTHERS = ("ray", "phasewatch")  # packages whose own tasks are left as they are

_logger = logging.getLogger("phasewatch")


def install(*, console: bool = False, collect: bool = False) -> None:
    """Have phases inside tasks and actors hang under the phase from which they were submitted.

    One call is enough, before or after ``ray.init``, and whenever the tasks and actors were defined; processes that they
    run in need none. It concerns what is submitted from then on.

    Their phases are recorded in the event log of the process that submitted them: written there by themselves where that is
    on the same machine, else through an actor beside it, which is made when a second machine is in the cluster.

    Args:
        console: show phases inside tasks and actors too, where there is a phase around them that somebody shows. A task
            that was submitted outside of all phases (a main task that holds the run) shows its own in any case.
        collect: record all through the actor, also where the event log could be written.

    Raises:
        ImportError: Ray is not installed.

    Warns:
        PhasewatchWarning: Ray is not as it is known here, and is left alone; or Ray would fold the lines that are shown.
    """
    lifted = _lift_folding()
    try:
        import ray  # noqa: F401  # whether it is there
    except ImportError as error:
        raise ImportError(f"phasewatch.integrations.ray needs Ray: pip install 'phasewatch[ray]' ({error})") from error
    if console and not lifted:
        warn(
            f"Ray folds equal lines of several processes, those of [META] too; set {_ALLOW}='{_META}' in the environment "
            "before ray is imported, or call install() before that"
        )
    _here.console, _here.collect, _here.said = console, collect, ("", "")
    _hook()


def _lift_folding() -> bool:
    """Have Ray show every line of ours, if it reads its setting after this; return whether it shows them."""
    said = os.environ.get(_ALLOW)
    if said is not None:
        try:
            return re.search(said, "[META]") is not None
        except re.error:  # Ray will say so
            return False
    if "ray" in sys.modules:
        return os.environ.get("RAY_DEDUP_LOGS") == "0"
    os.environ[_ALLOW] = _ALL_LINES
    return True


class _Here:
    """What this process knows: how it was told to do, where its records go, and what it says of that."""

    def __init__(self) -> None:
        self.token = os.urandom(8).hex()
        self.console = self.collect = False
        self.hooked = False
        self.warned = False
        self.said = ("", "")  # the last carrier, and what was sent of it; forgotten when something else changes
        self.received: dict[str, Any] = {}  # by whom this process was sent something last
        self.received_text = ""
        self.sink: CollectedSink | None = None
        self.collector: Any = None
        self.watching = False


_here = _Here()
_lock = threading.Lock()


# What is sent along.


@contained
def _sent() -> str:
    """Return what goes along with a task: two lines, where records go to, and a carrier."""
    text = carrier()
    known, sent = _here.said
    if text == known and sent:
        return sent
    log = json.loads(text).get("log") if text else None
    received = _here.received
    if received.get("log") is not None and (log is None or log == received["log"]):
        head = received
    else:
        head = {"from": _here.token, "console": _here.console, "collect": _here.collect}
        if log is not None:
            head |= {"log": log, "host": _host_of(log)}
    sent = f"{json.dumps(head)}\n{text}"
    _here.said = (text, sent)
    if head.get("from") == _here.token and head.get("log") is not None:
        _watch_nodes()
    return sent


def _host_of(log: str) -> list[Any]:
    """Return what tells whether another process sees the same file at a path."""
    try:
        folder = os.stat(os.path.dirname(log))
    except OSError:
        return [os.uname().nodename, None, None]
    return [os.uname().nodename, folder.st_dev, folder.st_ino]


# What comes of it, where the task runs.


def arrive(sent: str, lasting: bool) -> _Arrival:
    """Return the block inside of which a task does its work; called by what `carried` has made.

    Args:
        sent: what came along with it.
        lasting: whether it holds for as long as the process lives.
    """
    return _Arrival(sent, lasting)


class _Arrival:
    """The time of one task, or of one call of an actor."""

    def __init__(self, sent: str, lasting: bool) -> None:
        self._sent, self._lasting = sent, lasting
        self._attachment: Any = None

    def __enter__(self) -> None:
        self._enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit()

    @contained
    def _enter(self) -> None:
        head, _, text = self._sent.partition("\n")
        if head != _here.received_text:
            _receive(head)
        if not text:
            return
        if not _here.console and _here.received.get("from") != _here.token:
            os.environ["PHASEWATCH_CONSOLE"] = "off"  # who has opened the phase around this speaks
        if _here.sink is not None:
            text = json.dumps({name: value for name, value in json.loads(text).items() if name != "log"})
        attachment = attach(text)
        if not self._lasting:
            self._attachment = attachment.__enter__()

    @contained
    def _exit(self) -> None:
        if self._attachment is not None:
            self._attachment.__exit__(None, None, None)
        if _here.sink is not None:
            _here.sink.flush()


def _receive(text: str) -> None:
    """Take what a process says of where records go."""
    head = json.loads(text)
    _here.received_text, _here.received, _here.said = text, head, ("", "")
    if head["from"] == _here.token:
        return
    _here.console, _here.collect = head["console"], head["collect"]
    _hook()
    log = head.get("log")
    before = _here.sink
    if log is None or os.environ.get("PHASEWATCH_LOG"):
        return
    if not head["collect"] and _host_of(log) == head["host"]:
        _here.sink = None
    elif before is None or (before.name, before.log) != (_name(head["from"]), log):
        _here.sink = CollectedSink(_name(head["from"]), log, _find_collector, _has_arrived)
    if before is not _here.sink:
        if before is not None:
            before.close()
        configure(sinks=[_here.sink] if _here.sink is not None else [])


# The collector.


def _name(token: str) -> str:
    return f"phasewatch-{token}"


def _find_collector(name: str) -> Callable[[str, list[Any]], Any]:
    import ray

    return ray.get_actor(name, namespace=NAMESPACE).take.remote


def _has_arrived(batch: Any, seconds: float) -> bool:
    import ray

    try:
        batch.future().result(seconds)  # `ray.get` warns in a process with an event loop
    except FutureTimeoutError:  # another one than TimeoutError before Python 3.11
        return False
    except ray.exceptions.ActorUnavailableError:  # it is being started again
        pass
    return True


def _watch_nodes() -> None:
    """Make the collector when it is needed, on a thread of its own, since that takes a second."""
    if not _here.watching:
        with _lock:
            if not _here.watching:
                _here.watching = True
                threading.Thread(target=_make_collector, name="phasewatch-ray-nodes", daemon=True).start()


@contained
def _make_collector() -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    pause, stop = _FIRST_LOOK, threading.Event()
    while not ray.is_initialized():
        stop.wait(pause)  # the task that is being submitted initializes it
    try:
        while not (_here.collect or len({node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}) > 1):
            stop.wait(pause)
            pause = _LOOK_EVERY
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        made = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Collector)
        _here.collector = made.options(name=_name(_here.token), namespace=NAMESPACE, get_if_exists=True).remote()
    except Exception:
        if ray.is_initialized():  # else the cluster was left meanwhile
            raise


@contained
def _settle() -> None:
    """Wait until what is on its way has been written: the cluster is about to be left."""
    import ray

    collector, _here.collector = _here.collector, None
    _here.watching, _here.said = False, ("", "")
    if collector is not None and ray.is_initialized():
        try:
            settle(lambda: ray.get(collector.taken.remote(), timeout=1.0))
        except (ray.exceptions.RayError, TimeoutError):  # it is dead
            pass


# The seams.


def _hook() -> None:
    """Have `_sent` go along with every call of ``remote``, whatever it is called of."""
    with _lock:
        if _here.hooked:
            return
        import ray

        try:
            seams = [*_seams_of_functions(ray), *_seams_of_classes(ray), *_seams_of_handles(ray), *_seams_of_the_end(ray)]
        except AttributeError as error:
            if not _here.warned:
                _here.warned = True
                warn(
                    f"Ray {getattr(ray, '__version__', '')} is not as phasewatch knows it ({error}); its tasks run "
                    "as ever, and their phases hang under none. Give them a carrier by hand: see phasewatch.attach"
                )
            return
        _here.hooked = True
        for owner, name, replacement in seams:
            setattr(owner, name, replacement)
        atexit.register(_settle)


# Each returns what is replaced by what, and raises AttributeError if something is not there.


def _seams_of_functions(ray: Any) -> list[tuple[Any, str, Any]]:
    owner = _module(ray, "remote_function").RemoteFunction
    plain_options, _ = owner.options, owner.bind
    twins = _Twins(lambda plain: _function_twin(ray, plain))
    calls = _Twins(lambda plain: _call_of(plain, twins.of(plain)))

    # Every remote function has a `remote` of its own; a property goes before that, also of those that are there already.
    def get_remote(self: Any) -> Any:
        try:
            own = vars(self)["remote"]
        except KeyError:
            raise AttributeError("remote") from None
        return calls.of(self) or own

    def set_remote(self: Any, value: Any) -> None:
        vars(self)["remote"] = value

    @functools.wraps(plain_options)
    def options(self: Any, **given: Any) -> Any:
        twin = twins.of(self)
        return plain_options(self, **given) if twin is None else _Calls(plain_options(twin, **given))

    return [(owner, "remote", property(get_remote, set_remote)), (owner, "options", options)]


def _seams_of_classes(ray: Any) -> list[tuple[Any, str, Any]]:
    owner = _module(ray, "actor").ActorClass
    plain_remote, plain_options, _ = owner.remote, owner.options, owner.bind
    twins = _Twins(lambda plain: _class_twin(ray, plain))

    @functools.wraps(plain_remote)
    def remote(self: Any, *args: Any, **kwargs: Any) -> Any:
        twin = twins.of(self)
        if twin is None:
            return plain_remote(self, *args, **kwargs)
        return plain_remote(twin, *args, **kwargs, **{KEYWORD: _sent()})

    @functools.wraps(plain_options)
    def options(self: Any, **given: Any) -> Any:
        twin = twins.of(self)
        return plain_options(self, **given) if twin is None else _Calls(plain_options(twin, **given))

    return [(owner, "remote", remote), (owner, "options", options)]


def _seams_of_handles(ray: Any) -> list[tuple[Any, str, Any]]:
    actor = _module(ray, "actor")
    owner, plain_method, get = actor.ActorHandle, actor.ActorMethod, actor.ActorHandle.__getattr__
    _ = plain_method.remote, plain_method.options

    class CarriedMethod(plain_method):  # type: ignore[misc, valid-type]  # a class of Ray
        """A method of an actor whose class is carried."""

        def remote(self, *args: Any, **kwargs: Any) -> Any:
            return super().remote(*args, **kwargs, **{KEYWORD: _sent()})

        def options(self, **given: Any) -> Any:
            return _Calls(super().options(**given))

        def __reduce_ex__(self, protocol: Any) -> Any:  # it is sent to others as what it was
            plain = plain_method.__new__(plain_method)
            vars(plain).update(vars(self))
            return plain.__reduce_ex__(0)  # by the other protocols pickle insists on the class of this one

    @functools.wraps(get)
    def method_of(self: Any, name: str) -> Any:
        method = get(self, name)
        if type(method) is plain_method and is_carried(name) and MARK in self.__dir__():
            method.__class__ = CarriedMethod
        return method

    return [(owner, "__getattr__", method_of)]


def _seams_of_the_end(ray: Any) -> list[tuple[Any, str, Any]]:
    plain_shutdown, _ = ray.shutdown, ray.exceptions.ActorUnavailableError

    @functools.wraps(plain_shutdown)
    def shutdown(*args: Any, **kwargs: Any) -> Any:
        _settle()
        return plain_shutdown(*args, **kwargs)

    return [(ray, "shutdown", shutdown)]


def _module(ray: Any, name: str) -> Any:
    try:
        return import_module(f"{ray.__name__}.{name}")
    except ImportError as error:
        raise AttributeError(str(error)) from error


class _Calls:
    """What ``options`` returned, with something that goes along."""

    __slots__ = ("_of",)

    def __init__(self, of: Any) -> None:
        self._of = of

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        return self._of.remote(*args, **kwargs, **{KEYWORD: _sent()})

    def __getattr__(self, name: str) -> Any:
        if name == "_of":  # of a copy that is not whole yet
            raise AttributeError(name)
        return getattr(self._of, name)


class _Twins:
    """What was made of each object, once; by identity, since a class of somebody may say what it likes of equality."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._made: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def of(self, plain: Any) -> Any:
        """Return what was made of an object, or None if it is to be left as it is."""
        key = id(plain)
        found = self._made.get(key)
        if found is not None and found[0]() is plain:
            return found[1]
        made = self._attempt(plain)
        self._made[key] = (weakref.ref(plain, lambda ref: self._forget(key, ref)), made)
        return made

    def _attempt(self, plain: Any) -> Any:
        try:
            return self._make(plain)
        except Exception as error:  # a class that cannot be inherited from, a function that is none
            _logger.info("%r is left as it is, its phases hang under none: %s", plain, error)
            return None

    def _forget(self, key: int, ref: weakref.ref[Any]) -> None:
        found = self._made.get(key)
        if found is not None and found[0] is ref:
            del self._made[key]


def _function_twin(ray: Any, plain: Any) -> Any:
    function = vars(plain)["remote"].__wrapped__
    if _is_of_others(function):
        return None
    options = plain.bind().get_options()
    twin = carried(function, __name__)
    return ray.remote(**options)(twin) if options else ray.remote(twin)


def _class_twin(ray: Any, plain: Any) -> Any:
    cls = plain.__ray_actor_class__
    if _is_of_others(cls):
        return None
    options = plain.bind().get_options()
    twin = carried_class(cls, __name__)
    return ray.remote(**options)(twin) if options else ray.remote(twin)


def _is_of_others(made: Any) -> bool:
    return hasattr(made, MARK) or str(made.__module__).partition(".")[0] in _OTHERS


def _call_of(plain: Any, twin: Any) -> Any:
    if twin is None:
        return None
    submit = vars(twin)["remote"]

    @functools.wraps(vars(plain)["remote"])
    def remote(*args: Any, **kwargs: Any) -> Any:
        return submit(*args, **kwargs, **{KEYWORD: _sent()})

    return remote
