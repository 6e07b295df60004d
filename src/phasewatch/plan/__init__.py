"""What a run will do, in which order, and what of it looks like a mistake: pure arithmetic over its configuration."""

from __future__ import annotations

from .schedule import Plan, PlanWarning, Schedule, Stretch
from .training import TrainingPlan

__all__ = ["Plan", "PlanWarning", "Schedule", "Stretch", "TrainingPlan"]
