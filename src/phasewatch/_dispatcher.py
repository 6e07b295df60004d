"""Events to sinks. Whatever a sink does wrong stays here."""

from __future__ import annotations

import os
import sys
from _thread import get_ident

from ._annotations import TYPE_CHECKING
from ._report import failure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType

    from .events import Event, Sink

# By thread, since what a sink causes happens in the thread in which it takes an event. Of a ContextVar, whatever the sink
# starts would have a copy, for ever.
_taking: dict[int, Sink | None] = {}  # the sink that takes an event; None where a fork made a process of its own of that
_causes: dict[int, tuple[Sink, ...]] = {}  # the sinks that caused the event which is told
_waiting: dict[int, list[tuple[Dispatcher, Event, tuple[Sink, ...]]]] = {}  # what they caused, and nobody was told yet
_prepared = False
_MOST_OWED = 1000
_DEEPEST = 100  # frames that a sink needs; one that fills the stack by itself has failed


class Dispatcher:
    """Hands each event to each sink.

    A sink that raises is reported once, and is still offered what follows: a disk that was full has room again, and
    nothing that can be recorded should be lost.

    What a sink causes while it takes an event, by opening a phase or logging, is told to the other sinks, and to them when
    all have taken the event: so in the order of cause and effect, and while no sink is in the middle of its work.
    """

    __slots__ = ("_owed", "reported", "sinks")

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self.sinks = tuple(sinks)
        self.reported: set[int] = set()  # the ids of sinks whose failure was told
        self._owed: list[tuple[Sink, Event]] = []  # for which there was no room: the stack was too deep, or the memory full
        if self.sinks:
            _prepare()

    def emit(self, event: Event) -> None:
        """Offer an event to all sinks."""
        me = get_ident()
        if me in _taking:
            self._emit_inside(event, me)
            return
        try:
            if self._owed:
                self._pay(me)
            for sink in self.sinks:
                _taking[me] = sink
                try:
                    if self._owed and self._is_owed_to(sink):  # in order
                        self._owe(sink, event)
                    else:
                        sink.emit(event)
                except (RecursionError, MemoryError) as error:
                    self._owed.append((sink, event))  # which needs no room
                    try:
                        self._give_up(sink, event, error)
                    except RecursionError:
                        pass
                except Exception:
                    self._report(sink, "could not take an event")
        finally:
            if me in _taking:  # else nothing was taken
                del _taking[me]  # noqa: RUF051  # pop() would be a call, for which there may be no room
        if _waiting:
            _tell_waiting(me)

    def close(self, sinks: Iterable[Sink] | None = None) -> None:
        """Close these sinks, or all."""
        me = get_ident()
        _tell_waiting(me)
        if self._owed:
            self._pay(me)
            _taking.pop(me, None)
            for sink, _ in self._owed:
                self._report(sink, "could not take an event")
            self._owed.clear()
        for sink in self.sinks if sinks is None else sinks:
            try:
                sink.close()
            except Exception:
                self._report(sink, "could not be closed")

    def _is_owed_to(self, sink: Sink) -> bool:
        return any(owed is sink for owed, _ in self._owed)

    def _owe(self, sink: Sink, event: Event) -> None:
        """Keep an event for later; of too many, the oldest is given up."""
        self._owed.append((sink, event))
        if len(self._owed) > _MOST_OWED:
            sink, _ = self._owed.pop(0)
            self._report(sink, "could not take an event")

    def _pay(self, me: int) -> None:
        """Offer what is owed, in order, as far as there is room now."""
        while self._owed:
            try:
                sink, event = self._owed.pop(0)  # by one thread only
            except IndexError:
                return
            _taking[me] = sink
            try:
                sink.emit(event)
            except (RecursionError, MemoryError) as error:
                self._owed.insert(0, (sink, event))
                try:
                    if not self._give_up(sink, event, error):
                        return
                except RecursionError:
                    return
            except Exception:
                self._report(sink, "could not take an event")

    def _give_up(self, sink: Sink, event: Event, error: BaseException) -> bool:
        """Owe an event no longer if it was the sink itself that filled the stack; return whether it was."""
        frames, traceback = 0, error.__traceback__
        while traceback is not None:
            frames, traceback = frames + 1, traceback.tb_next
        if frames <= _DEEPEST:
            return False
        self._report(sink, "could not take an event")
        self._owed[:] = [(other, owed) for other, owed in self._owed if other is not sink or owed is not event]
        return True

    def _emit_inside(self, event: Event, me: int) -> None:
        """Take an event that happened in the thread in which a sink takes another one."""
        taking = _taking[me]
        if taking is None or _is_of_a_signal():
            _tell_waiting(me)
            self._tell(event, (), me)
        else:
            _waiting.setdefault(me, []).append((self, event, (*_causes.get(me, ()), taking)))

    def _tell(self, event: Event, causes: tuple[Sink, ...], me: int) -> None:
        """Offer an event to the sinks that did not cause it."""
        inside = me in _taking
        before = _taking.get(me), _causes.get(me, ())
        _causes[me] = causes
        try:
            for sink in self.sinks:
                if not any(sink is cause for cause in causes):
                    _taking[me] = sink
                    try:
                        sink.emit(event)
                    except Exception:
                        self._report(sink, "could not take an event")
        finally:
            if inside:
                _taking[me], _causes[me] = before
            else:
                _taking.pop(me, None)
                del _causes[me]

    def _report(self, sink: Sink, trouble: str) -> None:
        if id(sink) not in self.reported:
            self.reported.add(id(sink))
            failure(
                f"the sink {type(sink).__name__} {trouble}; the program goes on, further failures of it are not reported"
            )


def _tell_waiting(me: int) -> None:
    """Tell what the sinks of a thread caused, and what the telling causes: to fewer sinks each time, so that it ends."""
    waiting = _waiting.get(me)
    while waiting:
        dispatcher, event, causes = waiting.pop(0)
        dispatcher._tell(event, causes, me)
    if waiting is not None:
        _waiting.pop(me, None)


def _is_of_a_signal() -> bool:
    """Whether a signal has interrupted the sink of this thread: what its handler does is not caused by the sink."""
    signal = sys.modules.get("signal")
    if signal is None:
        return False
    codes = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    frame: FrameType | None = sys._getframe(3)  # whoever called emit
    while frame is not None and frame.f_code not in _TELLING:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False


def _code_of(handler: object) -> CodeType | None:
    code: CodeType | None = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return code


_TELLING = {Dispatcher.emit.__code__, Dispatcher._tell.__code__}


def _prepare() -> None:
    global _prepared
    if not _prepared and hasattr(os, "register_at_fork"):
        _prepared = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    """Forget the parent's other threads, whose numbers may come again, and that a sink was taking an event in this one."""
    me = get_ident()
    inside = me in _taking
    _taking.clear()
    _causes.clear()
    _waiting.clear()  # the parent's to tell
    if inside:
        _taking[me] = None
        _causes[me] = ()
