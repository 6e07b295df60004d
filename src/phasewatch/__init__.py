"""phasewatch: what a long run is doing, how far it is, when it will be done, and in which phase it died.

Writing: phase -> tracker -> dispatcher -> sinks. Imports go downward only:

    integrations/              trainers and engines that are not ours; they use what anybody may use
    testing                    for tests, ours and those of users
    _phase, _run               what a person touches: the with-block, the decorator, the run
    _config                    configure(), the environment, the one default tracker
    _tracker                   the stack of open phases; makes events of what happens
    _overseen, _counting       who looks after a phase, and what it is told
    _outlet                    a clock and the sinks
    _monitor, _vigil           a thread that looks at open phases: progress, heartbeats, stalls
    _process, _attach          forks, and phases of other processes
    _dispatcher                events to sinks; their failures stay here
    sinks/                     the console, the event log, and whoever else wants to hear
    metalog/, _records         the text: names, emoji, banners; the JSON of the event log
    events, eta, plan, ...     what happened, and pure arithmetic over it

Reading: reader -> timeline -> summary -> comparison; export and the command beside them. Imported when asked for.
"""

from __future__ import annotations

from . import sinks
from ._annotations import TYPE_CHECKING
from ._attach import attach, carrier
from ._config import configure
from ._phase import phase
from ._report import PhasewatchWarning
from ._run import run
from ._tracker import Phase, Tracker, current
from .events import (
    Event,
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
    Sink,
)
from .metalog.catalog import register
from .plan import Plan, PlanWarning, TrainingPlan

if TYPE_CHECKING:
    from .comparison import diff
    from .reader import read
    from .summary import summarize
    from .timeline import Timeline

__all__ = [
    "Event",
    "MetricsLogged",
    "Phase",
    "PhaseAlive",
    "PhaseEnded",
    "PhaseInfo",
    "PhaseProgressed",
    "PhaseResumed",
    "PhaseStalled",
    "PhaseStarted",
    "PhasewatchWarning",
    "Place",
    "Plan",
    "PlanWarning",
    "Position",
    "Sink",
    "Timeline",
    "Tracker",
    "TrainingPlan",
    "attach",
    "carrier",
    "configure",
    "current",
    "diff",
    "phase",
    "read",
    "register",
    "run",
    "sinks",
    "summarize",
]

# What reads logs is imported when it is first asked for: a program that only writes them need not pay for it.
_LAZY = {"Timeline": "timeline", "diff": "comparison", "read": "reader", "summarize": "summary"}


def __getattr__(name: str) -> object:
    home = _LAZY.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{home}", __name__), name)
