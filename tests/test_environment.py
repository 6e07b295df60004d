"""Environment variables, read as a person means them."""

from __future__ import annotations

import pytest

from phasewatch import _environment
from phasewatch._environment import rank, tell_rank

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK")


@pytest.fixture(autouse=True)
def _no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_environment, "_told", None)
    for name in (*RANKS, "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_outside_of_a_job_there_is_no_rank() -> None:
    assert rank() is None


@pytest.mark.parametrize("name", RANKS)
def test_each_launcher_tells_the_rank_in_its_own_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, " 3 ")
    assert rank() == 3


@pytest.mark.parametrize("value", ["", "-1", "first", "1.5"])
def test_what_is_no_rank_is_passed_over(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", value)
    assert rank() is None
    monkeypatch.setenv("PMI_RANK", "2")
    assert rank() == 2


def test_torchrun_inside_a_slurm_job_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("RANK", "5")
    assert rank() == 5


def test_what_lightning_tells_the_processes_of_the_first_machine_is_their_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank() == 1
    monkeypatch.setenv("NODE_RANK", "0")
    assert rank() == 1
    monkeypatch.setenv("NODE_RANK", "2")  # how many there are on a machine is not known
    assert rank() is None
    monkeypatch.setenv("RANK", "5")
    assert rank() == 5


def test_what_a_trainer_tells_goes_before_what_the_launcher_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")  # of the shell from which the trainer started its processes
    tell_rank(2)
    assert rank() == 2
