"""The phases that META LOG knows: what each opens and completes with. Users add their own with `register`."""

from __future__ import annotations

from .._annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final, Literal

    from ..events import PhaseInfo

    Layout = Literal["title", "step"]

UNKNOWN_EMOJI = "🔹"
DONE_EMOJI = "✅"
TOTALS = ("processed", "completed", "time", "average")
_LAYOUTS = ("title", "step")


class Kind:
    """How the phases of one name are announced."""

    __slots__ = ("completes", "completes_emoji", "emoji", "layout", "name", "opens", "totals")

    def __init__(
        self,
        name: str,
        *,
        emoji: str = UNKNOWN_EMOJI,
        opens: bool | str = True,
        completes: bool | str = True,
        completes_emoji: str = DONE_EMOJI,
        layout: Layout = "title",
        totals: Iterable[str] = ("time",),
    ) -> None:
        self.name = name
        self.emoji = emoji
        self.opens = _title(opens, f"PHASE: {name}")
        self.completes = _title(completes, f"PHASE COMPLETE: {name}")
        self.completes_emoji = completes_emoji
        self.layout = layout
        self.totals = tuple(totals)

    def as_dict(self) -> dict[str, object]:
        """Return how it is announced, as options of `register`, without what goes without saying."""
        plain = Kind(self.name)
        options: dict[str, object] = {
            "emoji": self.emoji, "completes_emoji": self.completes_emoji, "layout": self.layout, "totals": list(self.totals),
            "opens": False if self.opens is None else self.opens,
            "completes": False if self.completes is None else self.completes,
        }  # fmt: skip
        usual = {
            "emoji": plain.emoji, "completes_emoji": plain.completes_emoji, "layout": plain.layout,
            "totals": list(plain.totals), "opens": plain.opens, "completes": plain.completes,
        }  # fmt: skip
        return {option: value for option, value in options.items() if value != usual[option]}


def _title(given: bool | str, default: str) -> str | None:
    return given if isinstance(given, str) else default if given else None


_META_LOG: Final = (
    Kind("INITIALIZATION", emoji="🔧", completes=False),
    Kind("PRE-TRAINING VALIDATION", emoji="🧪", completes=False),
    Kind("VALIDATION", emoji="🔍", totals=("processed", "time", "average")),
    Kind(
        "TRAINING", emoji="🚀", opens="PHASE: TRAINING START", completes="PHASE: TRAINING COMPLETE", completes_emoji="🎉",
        totals=("completed", "time"),
    ),
    Kind("TRAINING STEP", emoji="🔄", layout="step", completes=False),
    Kind("PERIODIC VALIDATION", emoji="🧪", completes=False),
    Kind("CHECKPOINT SAVING", emoji="💾", completes="CHECKPOINT SAVED SUCCESSFULLY", totals=()),
    Kind("POST-TRAINING VALIDATION", emoji="🧪", completes=False),
)  # fmt: skip
_kinds = {kind.name: kind for kind in _META_LOG}


_registered: dict[str, dict[str, object]] = {}  # as options, by users: what a phase takes along


def kind_of(phase: PhaseInfo) -> Kind:
    """Return how a phase is announced: as its own program said, else as it is known here; else it has the plain banners."""
    announced = phase.announced
    if announced is not None and announced is not _registered.get(phase.name):
        return _kind_from(phase.name, announced)
    return _kinds.get(phase.name) or Kind(phase.name)


def registered(name: str) -> Mapping[str, object] | None:
    """Return how phases of this name are announced, as options of `register`; None if nobody has said."""
    return _registered.get(name)


def _kind_from(name: str, options: Mapping[str, object]) -> Kind:
    """Return a kind of what a log says of it, which may be anything."""
    taken: dict[str, object] = {}
    for option, value in options.items():
        if option in ("opens", "completes"):
            is_known = isinstance(value, (bool, str))
        elif option == "layout":
            is_known = value in _LAYOUTS
        elif option == "totals":
            is_known = isinstance(value, (list, tuple)) and all(isinstance(total, str) for total in value)
        else:
            is_known = option in ("emoji", "completes_emoji") and isinstance(value, str)
        if is_known:
            taken[option] = value
    return Kind(name, **taken)  # type: ignore[arg-type]  # each was looked at


def is_silent(name: str) -> bool:
    """Return whether the text does not tell when a phase of this name completes."""
    kind = _kinds.get(name)
    return kind is not None and kind.completes is None


def kinds() -> tuple[Kind, ...]:
    """Return the phases of which it is known how they are announced."""
    return tuple(_kinds.values())


def register(
    name: str,
    *,
    emoji: str = UNKNOWN_EMOJI,
    opens: bool | str = True,
    completes: bool | str = True,
    completes_emoji: str = DONE_EMOJI,
    layout: Layout = "title",
    totals: Iterable[str] = ("time",),
    **unknown: object,
) -> None:
    """Tell how phases of one name are announced from now on. The event log takes it along, to whoever reads it.

    Args:
        name: the name as it is given to `phasewatch.phase`.
        emoji: what the opening banner begins with.
        opens: the opening title after ``[META] ``; True for ``PHASE: {name}``, False for no opening banner.
        completes: the title of the completion; True for ``PHASE COMPLETE: {name}``, False for none. A failure is always
            announced.
        completes_emoji: what the completion begins with.
        layout: ``"title"``, or ``"step"`` for title and position between one pair of rules, as TRAINING STEP.
        totals: what the completion tells, in this order, of ``"processed"`` (counters, else units), ``"completed"``
            (units), ``"time"`` and ``"average"`` (time per unit).
        **unknown: none; any is an error.

    Raises:
        TypeError: an option that does not exist, or of the wrong type.
        ValueError: a layout or a total that does not exist.
    """
    where = f"register({name!r})"
    if not isinstance(name, str) or not name:  # type: ignore[redundant-expr]  # whoever does not check types
        raise TypeError(f"{where}: the name must be a text that is not empty")
    if unknown:
        known = "emoji, opens, completes, completes_emoji, layout, totals"
        raise TypeError(f"{where}: unknown option {', '.join(sorted(unknown))}; the options are {known}")
    for option, value in {"opens": opens, "completes": completes}.items():
        if not isinstance(value, (bool, str)):
            raise TypeError(f"{where}: {option}={value!r} must be a title, True for the usual one or False for none")
    for option, value in {"emoji": emoji, "completes_emoji": completes_emoji}.items():
        if not isinstance(value, str):
            raise TypeError(f"{where}: {option}={value!r} must be a text")
    if layout not in _LAYOUTS:
        raise ValueError(f"{where}: layout={layout!r} must be one of {', '.join(_LAYOUTS)}")
    try:
        totals = (totals,) if isinstance(totals, str) else tuple(totals)
    except TypeError:
        raise TypeError(f"{where}: totals={totals!r} must be a list of {', '.join(TOTALS)}") from None
    for total in totals:
        if total not in TOTALS:
            raise ValueError(f"{where}: totals has {total!r}; it may hold {', '.join(TOTALS)}")
    kind = _kinds[name] = Kind(
        name, emoji=emoji, opens=opens, completes=completes, completes_emoji=completes_emoji, layout=layout, totals=totals
    )
    _registered[name] = kind.as_dict()
