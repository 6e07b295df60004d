"""What a phase was asked to be: its options, checked once, shared by every call of a decorated function."""

from __future__ import annotations

from ._annotations import TYPE_CHECKING
from ._report import shown, warn
from ._tally import as_count, as_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    # An option that may depend on the call of a decorated function: the value, or what makes it of the arguments.
    OfCall = Any


class PhaseSpec:
    """The options of a phase. What cannot be taken as it is costs a warning, never the caller's run."""

    __slots__ = (
        "attributes", "counters", "depends_on_call", "details", "emoji", "every", "expect", "message", "stall_after",
        "start", "step", "total", "unit",
    )  # fmt: skip

    def __init__(
        self,
        name: str | None = None,  # of the phase, for the warnings
        *,
        total: OfCall = None,
        unit: str | None = "item",
        counters: Mapping[str, float | None] | None = None,
        details: Mapping[str, object] | None = None,
        message: OfCall = None,
        step: OfCall = None,
        start: int = 0,
        emoji: str | None = None,
        every: int | None = None,
        expect: float | None = None,
        stall_after: float | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        self.total = total if callable(total) else count_or_warn(name, "total", total, least=0)
        self.unit = "item" if unit is None else as_text(unit) or "item"
        self.counters = _counters(name, counters)
        self.details = _mapping(name, "details", details)
        self.message = message if message is None or callable(message) else as_text(message)
        self.step = step if callable(step) else count_or_warn(name, "step", step)
        self.start = count_or_warn(name, "start", start, least=0) or 0
        self.emoji = emoji
        self.every = count_or_warn(name, "every", every, least=1)
        self.expect = _seconds_or_warn(name, "expect", expect)
        self.stall_after = _seconds_or_warn(name, "stall_after", stall_after)
        self.attributes: Mapping[str, object] = attributes or {}
        # Whether `resolve` has anything to do.
        self.depends_on_call = callable(self.total) or callable(self.message) or callable(self.step)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Those two are known by identity, in the process to which a decorated function was sent as well.
        return "PLAIN" if self is PLAIN else "APART" if self is APART else super().__reduce_ex__(protocol)

    def resolve(self, name: str, ask: Callable[[Callable[..., object]], object]) -> PhaseSpec:
        """Return the spec with each callable option replaced by what ``ask(option)`` returns."""

        def asked(option: str, value: OfCall) -> OfCall:
            if not callable(value):
                return value
            try:
                return ask(value)
            except Exception as error:
                warn(
                    f"phase {name!r}: {option}= raised {shown(error)} and is left out; it is called with the arguments of "
                    "the decorated function, by the names that it shares with them"
                )
                return None

        return PhaseSpec(
            name, total=asked("total", self.total), unit=self.unit, counters=self.counters, details=self.details,
            message=asked("message", self.message), step=asked("step", self.step), start=self.start, emoji=self.emoji,
            every=self.every, expect=self.expect, stall_after=self.stall_after, attributes=self.attributes,
        )  # fmt: skip


def count_or_warn(name: str | None, option: str, value: object, *, least: int | None = None) -> int | None:
    """Return a whole number, or None with a warning for what is none or is below ``least``."""
    if value is None:
        return None
    count = as_count(value)
    if count is None or (least is not None and count < least):
        bound = "" if least is None else f" of at least {least}"
        warn(f"phase {name!r}: {option}={shown(value)} is left out; it must be a whole number{bound}, or None")
        return None
    return count


def _seconds_or_warn(name: str | None, option: str, value: object) -> float | None:
    if value is None:
        return None
    seconds = as_number(value)
    if seconds is None or not 0 < seconds < float("inf"):
        warn(f"phase {name!r}: {option}={shown(value)} is left out; it must be a number of seconds above 0, or None")
        return None
    return seconds


def _mapping(name: str | None, option: str, value: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if value is None:
        return {}
    try:
        return dict(value)
    except Exception:
        warn(f"phase {name!r}: {option}={shown(value)} is left out; it must be a mapping of names to values")
        return {}


def _counters(name: str | None, value: Mapping[str, float | None] | None) -> Mapping[str, float | None]:
    counters = _mapping(name, "counters", value)
    return {as_text(key): count_or_warn(name, f"counters[{shown(key)}]", total, least=0) for key, total in counters.items()}


def as_text(value: object) -> str:
    """Return a value as text, whatever it is."""
    try:
        return value if isinstance(value, str) else str(value)
    except Exception:
        return f"<{type(value).__name__}>"


# Of phases that were given a name and nothing else: PLAIN of those of the default tracker, which most are, and which are
# entered on a path of their own; APART of all others.
PLAIN, APART = PhaseSpec(), PhaseSpec()


def make_spec(name: str | None, options: Mapping[str, Any]) -> PhaseSpec:
    """Return the spec of a phase; options that are not those of a phase are its attributes."""
    if not options:
        return APART
    known = {key: value for key, value in options.items() if key in _OPTIONS}
    attributes = {key: value for key, value in options.items() if key not in _OPTIONS}
    for key in attributes.keys() - _attributes_seen:
        _look_for_a_slip(name, key)
    return PhaseSpec(name, **known, attributes=attributes)


def _look_for_a_slip(name: str | None, key: str) -> None:
    """Warn of an attribute that is an option but for a slip of the finger; each is looked at once."""
    import difflib  # here: few programs have attributes

    if len(_attributes_seen) < _MOST_SEEN:
        _attributes_seen.add(key)
    near = difflib.get_close_matches(key, _OPTIONS, n=1, cutoff=0.8)
    if near:
        warn(f"phase {name!r}: {key}= is kept as an attribute, since no option has that name; did you mean {near[0]}=?")


_MOST_SEEN = 1000
_attributes_seen: set[str] = set()
_OPTIONS = frozenset(PhaseSpec.__slots__) - {"attributes", "depends_on_call"}
