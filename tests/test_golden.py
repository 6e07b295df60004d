"""Whole flows, byte for byte. The golden files are written by ``python tests/golden/flows.py``, and read by people."""

from __future__ import annotations

import re

import pytest
from flows import FLOWS, golden_file

RULE = "=" * 80

# Taken from the specification by hand, so that a golden file written by broken code does not pass.
OF_THE_SPECIFICATION = {
    "whole_run": [
        f"\n{RULE}\n🔧 [META] PHASE: INITIALIZATION - Creating Resource Pools and Workers\n{RULE}\n\n",
        f"\n{RULE}\n🧪 [META] PHASE: PRE-TRAINING VALIDATION\n{RULE}\n\n",
        f"\n{RULE}\n🔍 [META] PHASE: VALIDATION\n{RULE}\n"
        f"Total batches: 28 | Total questions: 7405 | Batch size: 265\n{RULE}\n\n"
        "📊 Validation [1/28] (3.6%) | Questions: 265/7405 | Avg Reward: 0.456 | Elapsed: 41s | ETA: 18.5m\n",
        f"ETA: 0s\n\n{RULE}\n✅ [META] PHASE COMPLETE: VALIDATION\n{RULE}\n"
        f"Total questions processed: 7405 | Total time: 19.2m | Avg time per batch: 41.1s\n{RULE}\n\n",
        f"\n\n{RULE}\n🚀 [META] PHASE: TRAINING START\n{RULE}\nTotal epochs: 3 | Total steps: 100\n{RULE}\n\n{RULE}\n",
        f"\n{RULE}\n🔄 [META] PHASE: TRAINING STEP\n[Epoch 1/3] Step 1/100 (1.0%) | Elapsed: 0s | ETA: --\n{RULE}\n\n"
        "ACTIVE_TRAJ_NUM: [512, 287, 45, 23]\n"
        "📊 Metrics: finish_ratio=0.955 | gen=11.234 | kl=0.012 | loss=0.234\n"
        f"[Step 1] mean=0.782 kl=0.012 loss=0.234 finish_ratio=0.955\n\n{RULE}\n",
        "\n[Epoch 3/3] Step 100/100 (100.0%) | ",
        f"\n{RULE}\n🧪 [META] PHASE: PERIODIC VALIDATION (Step 50)\n{RULE}\n\n{RULE}\n🔍 [META] PHASE: VALIDATION\n",
        f"\n{RULE}\n💾 [META] PHASE: CHECKPOINT SAVING (Step 100)\n{RULE}\n\n"
        f"{RULE}\n✅ [META] CHECKPOINT SAVED SUCCESSFULLY\n{RULE}\n\n",
        f"\n{RULE}\n🎉 [META] PHASE: TRAINING COMPLETE\n{RULE}\nTotal steps completed: 100 | Total time: 1.49h\n{RULE}\n\n",
        f"\n{RULE}\n🧪 [META] PHASE: POST-TRAINING VALIDATION\n{RULE}\n\n",
        f"\n{RULE}\n🏁 [META] ALL PHASES COMPLETE - Training Finished Successfully!\n{RULE}\n\n",
    ],
    "validation_only": [f"\n{RULE}\n🏁 [META] PHASE: COMPLETE - Validation Only Mode\n{RULE}\n\n"],
    "failing_run": [
        f"\n{RULE}\n❌ [META] PHASE FAILED: VALIDATION\n{RULE}\n"
        f"RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB | Elapsed: 8.2m | Batch 13/28\n{RULE}\n\n",
        f"\n{RULE}\n❌ [META] RUN FAILED - in TRAINING > PERIODIC VALIDATION > VALIDATION\n{RULE}\n\n",
    ],
    "interrupted_run": [
        f"\n{RULE}\n🛑 [META] PHASE INTERRUPTED: VALIDATION\n{RULE}\n"
        f"KeyboardInterrupt | Elapsed: 8.2m | Batch 13/28\n{RULE}\n\n",
        f"\n{RULE}\n🛑 [META] RUN INTERRUPTED - in TRAINING > PERIODIC VALIDATION > VALIDATION\n{RULE}\n\n",
    ],
}


@pytest.mark.parametrize("flow", FLOWS)
def test_a_flow_is_written_byte_for_byte_as_its_golden_file(flow: str) -> None:
    assert FLOWS[flow]().encode() == golden_file(flow).read_bytes()


@pytest.mark.parametrize("flow", FLOWS)
def test_a_golden_file_holds_the_banners_of_the_specification(flow: str) -> None:
    text = golden_file(flow).read_text(encoding="utf-8")
    for banner in OF_THE_SPECIFICATION[flow]:
        assert banner in text


@pytest.mark.parametrize("flow", FLOWS)
def test_blank_lines_are_single_and_rules_come_in_the_three_layouts(flow: str) -> None:
    text = golden_file(flow).read_text(encoding="utf-8")
    assert "\n\n\n" not in text
    for banner in re.findall(rf"(?<=\n\n){RULE}\n(?:.+\n)+?{RULE}(?=\n\n)", text):
        lines = banner.split("\n")
        assert [line == RULE for line in lines] in (
            [True, False, True],
            [True, False, True, False, True],
            [True, False, False, True],
        )


@pytest.mark.parametrize("flow", ["failing_run", "interrupted_run"])
def test_a_run_that_broke_off_never_claims_to_be_complete(flow: str) -> None:
    text = golden_file(flow).read_text(encoding="utf-8")
    assert "COMPLETE" not in text
    assert len(re.findall("PHASE (FAILED|INTERRUPTED)", text)) == 1


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        # the five searches of the specification, on the whole run
        (r"\[META\]", 100 + 3 * 2 + 2 * 2 + 1 + 2 + 1 + 1),
        (r"\[META\] PHASE.*VALIDATION", 3 + 3 * 2),
        (r"\[META\] PHASE: TRAINING STEP", 100),
        (r"CHECKPOINT", 2),
        (r"COMPLETE", 3 + 1 + 1),
    ],
)
def test_each_search_of_the_specification_finds_what_it_says(pattern: str, count: int) -> None:
    lines = golden_file("whole_run").read_text(encoding="utf-8").splitlines()
    assert sum(bool(re.search(pattern, line)) for line in lines) == count
