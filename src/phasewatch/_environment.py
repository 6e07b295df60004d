"""Environment variables, read as a person means them."""

from __future__ import annotations

import os


def flag(name: str) -> bool:
    """Whether a boolean variable is on: ``0``, ``false``, ``no``, ``off`` and empty are off, in any case."""
    return os.environ.get(name, "").strip().lower() not in ("", "0", "false", "no", "off")


_LAUNCHERS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK")
_told: int | None = None  # by a trainer that starts its processes itself


def rank() -> int | None:
    """Return the rank of this process as torchrun (and what builds on it), Slurm, Open MPI, MPICH, PMIx or MVAPICH tell it.

    Before these goes what a trainer has told, see `tell_rank`. None outside of a distributed job.
    """
    if _told is not None:
        return _told
    for name in _LAUNCHERS:
        known = _number(name)
        if known is not None:
            return known
    # Lightning starts the other processes of a machine by itself, and tells them no more than this; on the first machine it
    # is the rank.
    return None if _number("NODE_RANK") else _number("LOCAL_RANK")


def tell_rank(number: int) -> None:
    """Take the rank of this process from who knows it better than the environment."""
    global _told
    _told = number


def _number(name: str) -> int | None:
    value = os.environ.get(name, "").strip()
    return int(value) if value.isdecimal() else None
