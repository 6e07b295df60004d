"""Where events go. One file a sink; each is imported when it is first asked for, with what it needs."""

from __future__ import annotations

from .._annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from .console import ConsoleSink
    from .jsonl import JsonlSink
    from .otel import OtelSink
    from .queued import QueuedSink
    from .stdlib import LoggingSink

__all__ = ["ConsoleSink", "JsonlSink", "LoggingSink", "OtelSink", "QueuedSink"]

_HOMES = {
    "ConsoleSink": "console",
    "JsonlSink": "jsonl",
    "LoggingSink": "stdlib",
    "OtelSink": "otel",
    "QueuedSink": "queued",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if home == "console":
        from .._rich import prepare

        prepare()
    return getattr(import_module(f".{home}", __name__), name)
