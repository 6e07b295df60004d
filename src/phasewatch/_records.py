"""Events as JSON objects and back: the schema of the event log, which docs/event-log.md describes.

The objects follow the records of `events`, name by name. What is None, empty or a default is left out. What stays the same
of a phase stands in its start alone; its other lines have its id and name, and its end what places it in the tree.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as _quoted
from operator import attrgetter
from typing import TYPE_CHECKING

from .events import (
    NOTHING,
    SCHEMA_VERSION,
    MetricsLogged,
    PhaseAlive,
    PhaseEnded,
    PhaseInfo,
    PhaseProgressed,
    PhaseResumed,
    PhaseStalled,
    PhaseStarted,
    Place,
    Position,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Literal

    from .events import Event

    Reason = Literal["foreign", "unknown", "broken"]
    Reader = tuple[type | None, Callable[[Any], object]]

KINDS: dict[str, type[Event]] = {
    kind.type: kind
    for kind in (PhaseStarted, PhaseProgressed, PhaseAlive, PhaseStalled, PhaseResumed, MetricsLogged, PhaseEnded)
}
DROPPED = "dropped"  # a line about the log itself

_BEGINNING = '{"v":'  # of each line
_DEEPEST = 20  # levels of lists and mappings in a detail
_MOST_ENDED = 1000  # phases that are remembered after their end: a thread may have a last word
_MOST_OPEN = 100_000
_MOST_TRIES = 8
_MOST_TEXTS = 128  # of places and of registered names, that are remembered: few are in use at a time, and names may be long
_PLACE_NAMES = ("host", "process", "rank", "thread", "birth")
_MORE_OF_END = ("active", "counters", "means", "metrics", "error", "innermost", "origin", "deviations")


def _make_encode() -> Callable[[dict[str, Any]], str]:
    """Return json's encoder, where that works without what it prepares anew for each call: a sixth of its time."""
    encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)
    try:
        encode = json.encoder.c_make_encoder(  # type: ignore[attr-defined]  # undocumented, so it is tried
            None, encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False
        )
        chunks: Callable[[dict[str, Any]], str] = lambda record: "".join(encode(record, 0))  # noqa: E731  # one of two
        if chunks(_SAMPLE) == encoder.encode(_SAMPLE):
            return chunks
    except Exception:  # another Python
        pass
    return encoder.encode


_SAMPLE = {"v": 1, "text": "\n\u00e9", "numbers": {"eta": 0.5, "done": None}, "path": ["A", True]}
_encode = _make_encode()
_decode = json.JSONDecoder().raw_decode
_float = float.__repr__


class RecordError(ValueError):
    """What is no event: ``reason`` tells why.

    ``foreign``: nothing that phasewatch has written; ``unknown``: of a newer version; ``broken``: torn or damaged.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


# Writing.


def line_of(event: Event) -> bytes:
    """Return an event as one line of ASCII that ends with a newline."""
    try:
        return f"{_text_of(event)}}}\n".encode("ascii")
    except (KeyError, TypeError, ValueError, RecursionError):  # it holds something less usual
        return encoded(_raw(event))


def record_of(event: Event) -> dict[str, Any]:
    """Return an event as what JSON can hold: no number that is not finite, no object but lists and mappings."""
    return {name: _strict(value) for name, value in _raw(event).items()}


def dropped_record(counts: Mapping[str, int], since: float, until: float, process: int) -> dict[str, Any]:
    """Return what tells that events were dropped: how many of each type, the first and last of them in wall seconds."""
    return {"v": SCHEMA_VERSION, "event": DROPPED, "time": until, "since": since, "process": process, "counts": dict(counts)}


def encoded(record: dict[str, Any]) -> bytes:
    """Return a record as one line."""
    try:
        text = _encode(record)
    except (ValueError, TypeError, RecursionError):  # a number that is not finite, or too long; what JSON does not know
        text = _encode({name: _strict(value) for name, value in record.items()})
    return text.encode("ascii") + b"\n"


# An event to text. What is usual in an event is written at once, in half the time that a mapping of it would take; of all
# else a mapping is made, which `_encode` and `_strict` bring into order. Both write the same.


def _text_of(event: Event) -> str:
    """Return the line of an event but for its end, or raise what `line_of` knows."""
    phase, fields = event.phase, _FIELDS_OF[event.__class__]
    time = event.time
    if time - time:
        raise ValueError("not finite")
    text = f'{fields.head}{_float(time)},"name":{_quoted(phase.name)},"id":{_quoted(phase.id)}'
    kind = fields.kind
    if kind is PhaseStarted:
        return text + _text_of_kin(phase) + _text_of_phase(phase)
    if kind is PhaseEnded:
        return text + _text_of_end(event) + _text_of_kin(phase)  # type: ignore[arg-type]  # by its kind
    if kind is MetricsLogged:
        values = event.values  # type: ignore[attr-defined]  # likewise
        return f'{text},"values":{_text_of_numbers(values)}' if values else text
    return text + _told(fields.labels, fields.values_of(event))


def _text_of_end(event: PhaseEnded) -> str:
    """Return what an end tells beyond all events: of most, how it ended and after how long."""
    elapsed, done = event.elapsed, event.done
    if elapsed - elapsed or done.__class__ is not int:
        raise ValueError("less usual")
    text = f',"status":{_quoted(event.status)},"done":{done}'
    if event.total is not None:
        text += _told(_TOTAL_LABELS, (event.total,))
    text += f',"elapsed":{_float(elapsed)}'
    if (
        event.counters is NOTHING and event.means is NOTHING and event.error is None and event.active is None
        and event.origin is None and event.deviations is NOTHING and not event.innermost
    ):  # fmt: skip
        return text if event.metrics is NOTHING else f'{text},"metrics":{_text_of_numbers(event.metrics)}'
    return text + _told(_MORE_LABELS, _more_of_end(event))


def _told(labels: tuple[str, ...], values: tuple[Any, ...]) -> str:
    """Return fields of an object, each with a comma before it."""
    text = ""
    for label, value in zip(labels, values):  # noqa: B905  # a hot path; they are of one length
        if value is None or value is NOTHING or value is False:
            continue
        kind = value.__class__
        if kind is float:
            if value - value:
                raise ValueError("not finite")
            text += label + repr(value)
        elif kind is not dict:
            text += label + _TEXT_OF[kind](value)
        elif value:
            text += label + _encode(value)
    return text


def _text_of_numbers(values: Mapping[str, float]) -> str:
    """Return metrics. Those of most phases are told twice, when they are logged and when the phase ends."""
    global _last_numbers
    known, as_told, text = _last_numbers
    if known is values and as_told == values:  # whoever makes events by hand may have changed them since
        return text
    text = _encode(values)  # type: ignore[arg-type]  # what is no dict it refuses, as `line_of` knows
    _last_numbers = values, dict(values), text
    return text


def _text_of_kin(phase: PhaseInfo) -> str:
    text = "" if phase.role == "phase" else f',"role":{_quoted(phase.role)}'
    if phase.parent is not None:
        text += f',"parent":{_quoted(phase.parent)}'
    if phase.run is not None:
        text += f',"run":{_quoted(phase.run)}'
    return text


def _text_of_phase(phase: PhaseInfo) -> str:
    position, place, announced = phase.position, phase.place, phase.announced
    text = f',"path":[{",".join(map(_quoted, phase.path))}]' if phase.path else ""
    if (
        phase.total is not None or phase.unit != "item" or phase.start or phase.step is not None or phase.emoji is not None
        or phase.message is not None or phase.counters or phase.details or phase.attributes
    ):  # fmt: skip
        expected: dict[str, Any] = {}
        _add_expected(phase, expected)
        text += "," + _encode(expected)[1:-1]
    if announced is not None:
        known = _texts.get(id(announced))
        text += known[1] if known is not None else _keep(announced, ',"announced":' + _encode(_strict(announced)))
    if position is not None:
        text += ',"position":{' + _told(_POSITION_LABELS, _position_values(position))[1:] + "}"
    if place is not None:
        known = _texts.get(id(place))
        text += known[1] if known is not None else _keep(place, _text_of_place(place))
    return text


def _text_of_place(place: Place) -> str:
    return ',"place":{' + _told(_PLACE_LABELS, _place_values(place))[1:] + "}"


def _keep(part: object, text: str) -> str:
    """Remember the text of what many phases share and what does not change: where they run, how a name was registered."""
    if len(_texts) >= _MOST_TEXTS:
        _texts.clear()
    _texts[id(part)] = part, text
    return text


def _labels(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f',"{name}":' for name in names)


_texts: dict[int, tuple[object, str]] = {}  # the parts are kept, so that no other takes their identity
_last_numbers: tuple[object, Mapping[str, float], str] = (None, NOTHING, "")
_TEXT_OF: dict[type, Callable[[Any], str]] = {int: int.__repr__, str: _quoted, bool: lambda value: "true"}
_POSITION_LABELS, _PLACE_LABELS = _labels(Position.__slots__), _labels(_PLACE_NAMES)
_TOTAL_LABELS, _MORE_LABELS = _labels(("total",)), _labels(_MORE_OF_END)

# An event to a mapping.


def _raw(event: Event) -> dict[str, Any]:
    phase, kind = event.phase, event.__class__
    record: dict[str, Any] = {
        "v": SCHEMA_VERSION, "event": event.type, "time": event.time, "name": phase.name, "id": phase.id,
    }  # fmt: skip
    if kind is PhaseStarted:
        _add_kin(phase, record)
        _add_phase(phase, record)
        return record
    fields = _FIELDS_OF[kind]
    figures = zip(fields.names, fields.values_of(event), strict=True)
    record |= {name: value for name, value in figures if value is not None and value is not False and value != {}}
    if kind is PhaseEnded:
        if "error" in record:
            record["error"] = {"type": record["error"][0], "message": record["error"][1]}
        if "origin" in record:
            record["origin"] = list(record["origin"])
        _add_kin(phase, record)
    return record


def _add_kin(phase: PhaseInfo, record: dict[str, Any]) -> None:
    if phase.role != "phase":
        record["role"] = phase.role
    if phase.parent is not None:
        record["parent"] = phase.parent
    if phase.run is not None:
        record["run"] = phase.run


def _add_phase(phase: PhaseInfo, record: dict[str, Any]) -> None:
    """Add what the start of a phase tells."""
    if phase.path:
        record["path"] = list(phase.path)
    _add_expected(phase, record)
    if phase.announced is not None:
        record["announced"] = _strict(phase.announced)
    if phase.position is not None:
        record["position"] = _part(Position.__slots__, _position_values(phase.position))
    if phase.place is not None:
        record["place"] = _part(_PLACE_NAMES, _place_values(phase.place))


def _add_expected(phase: PhaseInfo, record: dict[str, Any]) -> None:
    """Add what was said of a phase beforehand."""
    if phase.unit != "item":
        record["unit"] = phase.unit
    if phase.start:
        record["start"] = phase.start
    if phase.total is not None:
        record["total"] = phase.total
    if phase.step is not None:
        record["step"] = phase.step
    if phase.message is not None:
        record["message"] = phase.message
    if phase.emoji is not None:
        record["emoji"] = _text(phase.emoji)
    if phase.counters:
        record["counters"] = phase.counters
    if phase.details:
        record["details"] = _strict(phase.details)
    if phase.attributes:
        record["attributes"] = _strict(phase.attributes)


def _part(names: tuple[str, ...], values: tuple[Any, ...]) -> dict[str, Any]:
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _strict(value: object, depth: int = 0) -> Any:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if _is_writable(value) else hex(value)
    if isinstance(value, float):
        return value if value - value == 0 else float.__repr__(value)
    if depth < _DEEPEST:
        try:
            if isinstance(value, Mapping):
                return {_text(key): _strict(part, depth + 1) for key, part in value.items()}
            if isinstance(value, (list, tuple)):
                return [_strict(part, depth + 1) for part in value]
        except Exception:  # a mapping that fails when it is asked
            pass
    return _text(value)


def _is_writable(value: int) -> bool:
    try:
        int.__repr__(value)
    except ValueError:  # more digits than Python turns into text
        return False
    return True


def _text(value: object) -> str:
    try:
        return value if isinstance(value, str) else str(value)
    except Exception:
        return f"<{type(value).__name__}>"


# Reading.


class Records:
    """Makes events of the objects of one log or of many, in the order in which they come.

    Lines of several processes may be mixed in any way. An event whose start was not seen has a phase of what its own line
    tells. Memory: the phases that are open, at most 100,000, and the last 1,000 that ended.
    """

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()  # events that the writers had to drop, by type
        self._phases: OrderedDict[str, PhaseInfo] = OrderedDict()
        self._ended: deque[str] = deque()

    def event(self, record: object) -> Event | None:
        """Return the event of an object; None for one that tells of the log itself.

        Raises:
            RecordError: the object is no event, with the reason.
        """
        if not isinstance(record, dict):
            raise RecordError("foreign", "no JSON object")
        version, name = record.get("v"), record.get("event")
        event: Event
        if type(version) is not int or not isinstance(name, str):
            raise RecordError("foreign", "no record of an event log")
        if version > SCHEMA_VERSION:
            raise RecordError("unknown", f"version {version} of the event log; this reads up to {SCHEMA_VERSION}")
        try:
            if name == DROPPED:
                self.dropped.update({_required_text(key): _count(n) for key, n in record["counts"].items()})
                return None
            kind = KINDS.get(name)
            if kind is None:
                raise RecordError("unknown", "a type of event that is not known here")
            fields = _FIELDS_OF[kind]
            id, time = _required_text(record["id"]), _number(record["time"])
            if kind is PhaseStarted:
                phase = PhaseInfo(**_read(record, _PHASE, {}))
                event = PhaseStarted(phase, time)
            else:
                phase = self._phases.get(id) or PhaseInfo(**_read(record, _KIN, {}))
                known = fields.left_out.copy()
                if kind is MetricsLogged:
                    known["values"] = {}
                event = kind(phase, time, **_read(record, fields.readers, known))
        except RecordError:
            raise
        except Exception as error:  # fields that are missing or of another kind
            raise RecordError("broken", f"a damaged record: {type(error).__name__}") from error
        if kind is PhaseStarted:
            self._open(phase)
        elif kind is PhaseEnded:
            self._end(id)
        return event

    def _open(self, phase: PhaseInfo) -> None:
        self._phases[phase.id] = phase
        if len(self._phases) > _MOST_OPEN + _MOST_ENDED:
            self._phases.popitem(last=False)

    def _end(self, id: str) -> None:
        if id in self._phases:
            self._ended.append(id)
            if len(self._ended) > _MOST_ENDED:
                self._phases.pop(self._ended.popleft(), None)


def parsed(line: str) -> object:
    """Return the JSON value of a line; where a torn line stands before a whole one, that of the whole one.

    A write that a full disk or a kill cut short leaves half a line, and what another process writes next follows it.

    Raises:
        RecordError: foreign, or broken if the line begins as those of an event log do.
    """
    value: object
    try:
        value, end = _decode(line)  # what `json.loads` does before and after it costs as much as the rest
        return value if end == len(line) else json.loads(line)
    except (ValueError, RecursionError):
        pass
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return _after_the_torn(line)
    return value


def _after_the_torn(line: str) -> object:
    value: object
    at = len(line)
    for _ in range(_MOST_TRIES):  # a mapping in a detail may begin in the same way
        at = line.rfind(_BEGINNING, 0, at)
        if at <= 0:
            break
        try:
            value = json.loads(line[at:])
        except (ValueError, RecursionError):
            continue
        return value
    raise RecordError("broken" if line.startswith(_BEGINNING) else "foreign", "no JSON")


def _read(record: Mapping[str, Any], readers: Mapping[str, Reader], known: dict[str, Any]) -> dict[str, Any]:
    """Add to what is known those fields that have a reader."""
    for name, (usual, read) in readers.items():
        if name in record:
            value = record[name]
            known[name] = value if type(value) is usual else read(value)
    return known


# What JSON gave, as what a field holds; each raises an Exception for anything else.


def _position(value: dict[str, Any] | None) -> Position | None:
    return None if value is None else Position(**_read(value, _POSITION, {"total": None}))


def _place(value: dict[str, Any] | None) -> Place | None:
    return None if value is None else Place(**_read(value, _PLACE, {}))


def _required_text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError("no text")


def _text_or_none(value: object) -> str | None:
    return None if value is None else _required_text(value)


def _number(value: Any) -> Any:  # an int or a float; Any spares the hot path a second question
    if value.__class__ is float or value.__class__ is int:
        return value
    if value in _SPECIAL:
        return _SPECIAL[value]
    if "0x" in _required_text(value):
        return int(value, 16)
    raise ValueError("no number")


def _number_or_none(value: object) -> Any:
    return None if value is None else _number(value)


def _count(value: object) -> int:
    number = _number(value)
    if isinstance(number, int):
        return number
    raise TypeError("no whole number")


def _count_or_none(value: object) -> int | None:
    return None if value is None else _count(value)


def _numbers(value: object) -> dict[str, float]:
    if value is None:
        return {}
    numbers = _mapping(value)
    if _ARE_NUMBERS(map(type, numbers.values())):
        return numbers
    return {name: _number(number) for name, number in numbers.items()}


def _expected_numbers(value: object) -> dict[str, float | None]:
    return {key: _number_or_none(number) for key, number in _mapping(value).items()}


def _mapping(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise TypeError("no mapping")


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(value) if _ARE_TEXTS(map(type, value)) else tuple(_required_text(name) for name in value)
    raise TypeError("no list")


def _names_or_none(value: object) -> tuple[str, ...] | None:
    return None if value is None else _names(value)


def _error(value: object) -> tuple[str, str] | None:
    return None if value is None else (_required_text(_mapping(value)["type"]), _required_text(_mapping(value)["message"]))


def _deviations(value: object) -> dict[str, tuple[int, int]]:
    pairs = {} if value is None else _mapping(value)
    return {_required_text(name): (_count(ran), _count(planned)) for name, (ran, planned) in pairs.items()}


def _flag(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise TypeError("no truth value")


def _role(value: object) -> str:
    if isinstance(value, str) and value in ("run", "phase", "step"):
        return value
    raise ValueError("no role")


def _status(value: object) -> str:
    if isinstance(value, str) and value in ("completed", "failed", "interrupted"):
        return value
    raise ValueError("no status of what has ended")


_ARE_NUMBERS, _ARE_TEXTS = frozenset((float, int)).issuperset, frozenset((str,)).issuperset
_SPECIAL = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
_more_of_end = attrgetter(*_MORE_OF_END)
_position_values = attrgetter(*Position.__slots__)
_place_values = attrgetter(*_PLACE_NAMES)

# For each field what reads it, and the class whose values need not be read: most have it.
_TEXT: Reader = (str, _required_text)
_TEXT_OR_NONE: Reader = (str, _text_or_none)
_COUNT: Reader = (int, _count)
_COUNT_OR_NONE: Reader = (int, _count_or_none)
_NUMBER: Reader = (float, _number)
_NUMBER_OR_NONE: Reader = (float, _number_or_none)
_NUMBERS: Reader = (None, _numbers)
_MAPPING: Reader = (dict, _mapping)

_KIN: dict[str, Reader] = {
    "name": _TEXT, "id": _TEXT, "parent": _TEXT_OR_NONE, "run": _TEXT_OR_NONE, "role": (None, _role),
}  # fmt: skip
_PHASE = _KIN | {
    "path": (None, _names),
    "total": _COUNT_OR_NONE,
    "unit": _TEXT,
    "start": _COUNT,
    "counters": (None, _expected_numbers),
    "details": _MAPPING,
    "message": _TEXT_OR_NONE,
    "step": _COUNT_OR_NONE,
    "emoji": _TEXT_OR_NONE,
    "attributes": _MAPPING,
    "announced": _MAPPING,
    "position": (None, _position),
    "place": (None, _place),
}
_POSITION: dict[str, Reader] = {
    "number": _COUNT, "total": _COUNT_OR_NONE, "unit": _TEXT, "epoch": _COUNT_OR_NONE, "epochs": _COUNT_OR_NONE,
    "elapsed": _NUMBER, "eta": _NUMBER_OR_NONE,
}  # fmt: skip
_PLACE: dict[str, Reader] = {
    "host": _TEXT_OR_NONE, "process": _COUNT_OR_NONE, "rank": _COUNT_OR_NONE, "thread": _TEXT_OR_NONE,
    "birth": _TEXT_OR_NONE,
}  # fmt: skip

# The figures of all events, in the order in which they are written.
_FIGURES: dict[str, Reader] = {
    "status": (None, _status),
    "done": _COUNT,
    "total": _COUNT_OR_NONE,
    "elapsed": _NUMBER,
    "eta": _NUMBER_OR_NONE,
    "quiet": _NUMBER,
    "expected": _NUMBER_OR_NONE,
    "active": _NUMBER_OR_NONE,
    "counters": _NUMBERS,
    "means": _NUMBERS,
    "values": _NUMBERS,
    "metrics": _NUMBERS,
    "error": (None, _error),
    "innermost": (bool, _flag),
    "origin": (None, _names_or_none),
    "stack": _TEXT_OR_NONE,
    "deviations": (None, _deviations),
}
_LEFT_OUT = {"total": None, "eta": None, "expected": None}  # what a line leaves out, and an event must be told


class _Fields:
    """The fields of one type of event, beside those that all have."""

    __slots__ = ("head", "kind", "labels", "left_out", "names", "readers", "values_of")

    def __init__(self, kind: type[Event]) -> None:
        slots = {slot for base in kind.__mro__ for slot in getattr(base, "__slots__", ())} - {"phase", "time"}
        assert slots <= _FIGURES.keys(), f"{kind.__name__} has a figure without a reader"
        self.kind = kind
        self.names = tuple(name for name in _FIGURES if name in slots)
        self.readers = {name: _FIGURES[name] for name in self.names}
        self.left_out: dict[str, Any] = {name: None for name in self.names if name in _LEFT_OUT}
        self.values_of: Callable[[Event], tuple[Any, ...]] = (
            attrgetter(*self.names) if len(self.names) > 1 else lambda event: (getattr(event, self.names[0]),)
        )
        self.labels = _labels(self.names)
        self.head = f'{{"v":{SCHEMA_VERSION},"event":{_quoted(kind.type)},"time":'


_FIELDS_OF = {kind: _Fields(kind) for kind in KINDS.values()}
