"""A rank of a job that computes, and then takes the mean with all others; one of them is slow.

usage: torchrun --nproc-per-node N ranks_ddp.py FOLDER SLOW
"""

from __future__ import annotations

import json
import os
import sys
import time

import torch
import torch.distributed as dist

import phasewatch
from phasewatch import phase

STEPS = 6


def main(folder: str, slow: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, computed = dist.get_rank(), 0.0
    with (
        phasewatch.run("ranks", log=os.path.join(folder, "logs/")),
        phase("TRAINING", total=STEPS, unit="step") as training,
    ):
        for _ in range(STEPS):
            with training.step() as step:
                started = time.perf_counter()
                with phase("COMPUTE"):
                    time.sleep(0.15 if rank == slow else 0.03)
                    gradient = torch.full((1000,), float(rank))
                computed += time.perf_counter() - started
                with phase("ALL REDUCE"):
                    dist.all_reduce(gradient)
                step.log(mean=gradient.mean() / dist.get_world_size())
    with open(os.path.join(folder, f"facts{rank}.json"), "w", encoding="utf-8") as file:
        json.dump({"rank": rank, "computed": computed, "mean": float(gradient.mean()) / dist.get_world_size()}, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
