# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from unisegment.training.checkpointing import RunFolder
from unisegment.training.messages import already_finished, result

METRICS = {
    "pq": 0.81234,
    "pq_things": 0.7,
    "pq_stuff": None,
    "mask_ap": 0.5,
    "miou": 0.9,
    "images": 13,
    "unreadable_images": [],
    "step": 700,
    "train_seconds": 93.0,
}


def test_the_result_names_scores_and_files():
    message = result(RunFolder(Path("runs/a")), METRICS)
    assert (
        "700 steps in 1.6 minutes; on 13 held-out images: PQ 0.812, things 0.700, mask AP 0.500, mIoU 0.900" in message
    )
    assert "UniSegmentForUniversalSegmentation.from_pretrained('runs/a/checkpoint')" in message


def test_a_finished_run_says_how_to_go_on():
    message = already_finished(RunFolder(Path("runs/a")), METRICS)
    assert "runs/a holds a finished run of 700 steps (PQ 0.812" in message
    assert "model.pretrained=runs/a/checkpoint" in message
    assert "run.resume=never run.overwrite=true" in message
