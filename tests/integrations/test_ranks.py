"""Four ranks under torchrun, of which one is slow: who speaks, who records, and who is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import phasewatch

pytestmark = pytest.mark.trainers

PROGRAM = Path(__file__).with_name("programs") / "ranks_ddp.py"
RANKS, SLOW, STEPS = 4, 2, 6
COMPUTE, ALL_REDUCE = ("TRAINING", "TRAINING STEP", "COMPUTE"), ("TRAINING", "TRAINING STEP", "ALL REDUCE")


class Job(NamedTuple):
    printed: str
    folder: Path
    facts: list[Any]
    summary: Any


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("ranks")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
    done = subprocess.run(
        [*launcher, str(PROGRAM), str(folder), str(SLOW)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = [json.loads((folder / f"facts{rank}.json").read_text()) for rank in range(RANKS)]
    return Job(done.stdout, folder, facts, phasewatch.summarize(phasewatch.read(folder / "logs")))


def test_the_first_rank_speaks_and_all_record(job: Job) -> None:
    assert job.printed.count("[META] PHASE: TRAINING START") == 1
    assert job.printed.count("[META] ALL PHASES COMPLETE") == 1
    assert job.printed.count("[META] PHASE: TRAINING STEP") == STEPS
    names = [path.name for path in (job.folder / "logs").iterdir()]
    assert sorted(name.split("-")[1] for name in names) == [f"rank{rank}" for rank in range(RANKS)]
    assert job.summary.ranks == list(range(RANKS))
    assert job.summary.kind("TRAINING", "TRAINING STEP").count == RANKS * STEPS


def test_the_slow_rank_is_named_by_what_it_does_itself(job: Job) -> None:
    compute, all_reduce = job.summary.kind(*COMPUTE), job.summary.kind(*ALL_REDUCE)
    assert compute.spread.slowest == SLOW
    by_rank = {figures.rank: figures.total for figures in compute.ranks}
    for fact in job.facts:  # as the ranks have measured it themselves
        assert fact["computed"] * 0.8 < by_rank[fact["rank"]] <= fact["computed"]
    own = sorted(fact["computed"] for fact in job.facts)
    assert compute.spread.waited == pytest.approx(own[-1] - (own[1] + own[2]) / 2, rel=0.2)
    # Who comes last waits for nobody.
    waited = {figures.rank: figures.total for figures in all_reduce.ranks}
    assert min(waited, key=lambda rank: waited[rank]) == SLOW


def test_seconds_of_ranks_are_not_added_up(job: Job) -> None:
    training = job.summary.kind("TRAINING")
    assert training.total == max(figures.total for figures in training.ranks)
    assert job.summary.elapsed < 1.5 * training.total
    assert job.summary.kind(*COMPUTE).share <= 1


def test_the_command_names_it_too(job: Job) -> None:
    command = [sys.executable, "-m", "phasewatch", "summary", str(job.folder / "logs")]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "140"}
    said = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True).stdout
    table = said[said.index("Ranks, by the time that each spent") :].splitlines()
    (row,) = [line for line in table if "COMPUTE" in line]
    assert row.split()[-2] == str(SLOW)
    known = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)
    (kind,) = [kind for kind in known["kinds"] if tuple(kind["path"]) == COMPUTE]
    assert kind["spread"]["slowest"] == SLOW


def test_metrics_are_those_of_all_ranks(job: Job) -> None:
    assert {fact["mean"] for fact in job.facts} == {1.5}
    (value,) = {
        event.values["mean"] for event in phasewatch.read(job.folder / "logs") if isinstance(event, phasewatch.MetricsLogged)
    }
    assert value == 1.5
