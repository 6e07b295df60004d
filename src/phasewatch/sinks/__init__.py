"""Where events go. One file a sink; each is imported when it is first asked for, with what it needs."""

from __future__ import annotations

from .._annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from .console import ConsoleSink
    from .jsonl import JsonlSink

__all__ = ["ConsoleSink", "JsonlSink"]

_HOMES = {"ConsoleSink": "console", "JsonlSink": "jsonl"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{home}", __name__), name)
