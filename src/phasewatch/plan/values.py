"""Numbers and truth values, as configurations write them."""

from __future__ import annotations

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_NOTHING = ("", "null", "none", "~")  # as configurations write that a value is not given
_MISSING = "???"  # as OmegaConf writes that it is still to be given
_LONGEST = 200  # characters of a value in a message


def is_nothing(value: object) -> bool:
    """Whether a configured value stands for one that is not given."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def is_missing(value: object) -> bool:
    """Whether a configured value is one that somebody still has to give."""
    return isinstance(value, str) and value.strip() == _MISSING


def read_int(key: str, value: object) -> int:
    """Return a configured whole number, which may be text: ``35``, ``35.0`` and ``1e3`` are some. Raises ValueError."""
    number = read_number(key, value, "a whole number")
    if number != int(number):
        raise ValueError(f"{key}={shown(value)} must be a whole number")
    return int(number)


def read_number(key: str, value: object, kind: str = "a number") -> float:
    """Return a configured number that is finite, which may be text. Raises ValueError."""
    try:
        if isinstance(value, (str, bytes)):
            try:
                return int(value)
            except ValueError:
                number = float(value)
        else:
            # Whatever says that it is a whole number: those of numpy too.
            number = int(value) if int(value) == value else float(value)  # type: ignore[call-overload, arg-type]  # asked here
        if number - number == 0:
            return number
    except Exception:  # what is asked may be of any kind, and so may what it raises
        pass
    raise ValueError(f"{key}={shown(value)} must be {kind}")


def read_bool(key: str, value: object) -> bool:
    """Return a configured truth value, which may be text. Raises ValueError."""
    text = "" if _is_nested(value) else str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise ValueError(f"{key}={shown(value)} must be true or false")
    return text in _TRUE


def shown(value: object) -> str:
    """Return a value as a message shows it."""
    if _is_nested(value):
        return f"a {type(value).__name__}"  # a few lines of YAML make one of a billion items, whose repr fills the memory
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _is_nested(value: object) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes))
