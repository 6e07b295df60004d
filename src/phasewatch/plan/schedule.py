"""What any plan can tell, and the plan of work that is no training."""

from __future__ import annotations

from .._annotations import TYPE_CHECKING
from .values import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class PlanWarning:
    """Something in a plan that looks like a mistake, told before anything runs."""

    __slots__ = ("advice", "code", "message")

    def __init__(self, code: str, message: str, advice: str = "") -> None:
        self.code = code  # for programs: "no-validation"
        self.message = message  # what is the matter
        self.advice = advice  # what to do about it, or nothing

    def __str__(self) -> str:
        return f"{self.message}; {self.advice}" if self.advice else self.message

    def __repr__(self) -> str:
        return f"PlanWarning({self.code!r}, {self.message!r}, {self.advice!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PlanWarning):
            return NotImplemented
        return self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((self.code, self.message))

    def as_dict(self) -> dict[str, str]:
        """Return it as JSON can hold it."""
        return {"code": self.code, "message": self.message, "advice": self.advice}


class Stretch:
    """Phases of one name that follow one another without any other between them."""

    __slots__ = ("count", "first", "last", "name")

    def __init__(self, name: str, count: int = 1, first: int | None = None, last: int | None = None) -> None:
        self.name = name
        self.count = count
        self.first = first  # the step of the first of them
        self.last = last  # and of the last

    def __repr__(self) -> str:
        return f"Stretch({self.name!r}, {self.count}, {self.first}, {self.last})"


class Schedule:
    """What any plan can tell. A kind of plan has `stretches`, and more where it knows more."""

    kinds: tuple[str, ...] = ()  # names that a plan of this kind may have, whether or not this one has them
    validates_only = False  # whether the run ends after its first validation

    def stretches(self) -> Iterator[Stretch]:
        """Yield what will run in order, phases of one name that follow one another as one."""
        raise NotImplementedError

    def phases(self) -> Iterator[tuple[str, int | None]]:
        """Yield the name and step of every phase, in the order in which they will run."""
        for stretch in self.stretches():
            for number in range(stretch.count):
                yield stretch.name, None if stretch.first is None else stretch.first + number

    def counts(self) -> dict[str, int]:
        """Return how often each phase will run, in the order in which they come first."""
        counts: dict[str, int] = {}
        for stretch in self.stretches():
            counts[stretch.name] = counts.get(stretch.name, 0) + stretch.count
        return counts

    def warnings(self) -> list[PlanWarning]:
        """Return what looks like a mistake."""
        return []

    def epoch_of(self, step: int) -> int | None:
        """Return the epoch of a step, both counted from 1; None if that is not known."""
        return None


class Plan(Schedule):
    """The plan of work that is no training: each phase and how often it will run, or how many units it will do.

    Args:
        counts: name to number, in the order in which they will run.

    Raises:
        TypeError: no mapping of names.
        ValueError: a number that is not whole, or is negative.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        try:
            given = dict(counts)
        except (TypeError, ValueError):
            raise TypeError(f"Plan: {shown(counts)} must be a mapping of names to how often each will run") from None
        self._counts: dict[str, int] = {}
        for name, count in given.items():
            if not isinstance(name, str):
                raise TypeError(f"Plan: the name {shown(name)} must be a text")
            self._counts[name] = whole("Plan", name, count) or 0

    def __repr__(self) -> str:
        return f"Plan({self._counts!r})"

    def stretches(self) -> Iterator[Stretch]:
        """Yield what will run in order, a stretch for each name."""
        for name, count in self._counts.items():
            if count:
                yield Stretch(name, count)

    def warnings(self) -> list[PlanWarning]:
        """Return what looks like a mistake: phases that are planned and never run."""
        if not self._counts:
            return [PlanWarning("nothing-to-do", "the plan is empty", "name what will run, and how often")]
        return [
            PlanWarning("nothing-to-do", f"{name} is planned 0 times: it never runs")
            for name, count in self._counts.items()
            if not count
        ]


def whole(where: str, option: str, value: object, *, least: int | None = 0) -> int | None:
    """Return an argument as a whole number, None as it is. Raises ValueError."""
    if value is None:
        return None
    try:
        number = int(value)  # type: ignore[call-overload]  # anything that is a whole number
        if number != float(value):  # type: ignore[arg-type]  # as above
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: {option}={shown(value)} must be a whole number") from None
    if least is not None and number < least:
        raise ValueError(f"{where}: {option}={shown(value)} must be at least {least}")
    return int(number)
