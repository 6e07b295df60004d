"""What verl loads at each `import verl`, in every process: it does nothing unless PHASEWATCH_VERL is on.

verl imports its plugins, and calls none of them. It swallows what they raise, so that is logged here.
"""

from __future__ import annotations

from .._environment import flag


def _wake() -> None:
    if not flag("PHASEWATCH_VERL"):
        return
    from .verl import install  # here: nothing is imported where it is not asked for

    try:
        install(parts=flag("PHASEWATCH_VERL_PARTS"))
    except Exception:
        import logging

        logging.getLogger("phasewatch").exception("PHASEWATCH_VERL: the phases of verl could not be installed")


_wake()
