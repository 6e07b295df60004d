"""When will it be done: pure arithmetic over durations, without a clock and without I/O."""

from __future__ import annotations


def time_left(units_left: int | None, units_done: int, busy: float, waiting: float) -> float | None:
    """Return the seconds until the remaining units are done, or None if nothing is known of their length.

    Args:
        units_left: units still to do; None if the total is unknown.
        units_done: units that were done and timed.
        busy: seconds that these took, without phases beside them (a validation between two training steps is no step).
        waiting: seconds since the last of them was done, spent on the next.
    """
    if units_left is None:
        return None
    if units_left <= 0:
        return 0.0
    if units_done <= 0:
        return None
    # Phases beside the units may have run at the same time as they did, and add up to more than there was.
    per_unit = max(0.0, busy) / units_done
    # The unit under way never counts for less than nothing, however late it is.
    return max(0.0, per_unit - waiting) + (units_left - 1) * per_unit
