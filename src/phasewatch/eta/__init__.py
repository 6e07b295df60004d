"""When will it be done: pure arithmetic over durations, without a clock and without I/O."""

from .units import time_left

__all__ = ["time_left"]
