"""When will it be done: pure arithmetic over durations, without a clock and without I/O."""

from .forecast import Forecast, Running

__all__ = ["Forecast", "Running"]
