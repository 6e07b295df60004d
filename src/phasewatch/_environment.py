"""Environment variables, read as a person means them."""

from __future__ import annotations

import os


def flag(name: str) -> bool:
    """Whether a boolean variable is on: ``0``, ``false``, ``no``, ``off`` and empty are off, in any case."""
    return os.environ.get(name, "").strip().lower() not in ("", "0", "false", "no", "off")


def rank() -> int | None:
    """Return the rank of this process as torchrun (and what builds on it), Slurm, Open MPI, MPICH or PMIx tell it.

    None outside of a distributed job.
    """
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"):
        value = os.environ.get(name, "").strip()
        if value.isdecimal():
            return int(value)
    return None
