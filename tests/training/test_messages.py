# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

import pytest

from unisegment.runs.recipe import RunRecipe, load_recipe
from unisegment.runs.run_folder import RunFolder
from unisegment.training.messages import already_finished, counted_epochs, number_formats, result

METRICS = {
    "pq": 0.81234,
    "pq_things": 0.7,
    "pq_stuff": None,
    "mask_ap": 0.5,
    "miou": 0.9,
    "images": 13,
    "unreadable_images": [],
    "task": "panoptic",
    "step": 700,
    "train_seconds": 93.0,
}


def test_the_result_names_scores_and_files():
    message = result(RunFolder(Path("runs/a")), METRICS)
    assert (
        "700 steps in 1.6 minutes; on 13 held-out images: PQ 0.812, things 0.700, mask AP 0.500, mIoU 0.900" in message
    )
    assert 'Segmenter.from_pretrained("runs/a")' in message
    assert "unisegment push runs/a USER/NAME" in message


def test_one_of_a_kind_is_no_plural():
    assert "\n1 step in 1.6 minutes" in result(RunFolder(Path("runs/a")), METRICS | {"step": 1})
    recipe = load_recipe("own_data_scratch", {"schedule.epochs": 1, "optim.batch_size": 2})
    assert counted_epochs(recipe, 1, 1) == "1 epoch of 1 image in batches of 2: 1 step."
    assert counted_epochs(recipe, 2000, 1000) == "1 epoch of 2,000 images in batches of 2: 1,000 steps."


@pytest.mark.parametrize(
    ("task", "scores"),
    [
        ("panoptic", "PQ 0.812, things 0.700, mask AP 0.500, mIoU 0.900."),
        ("instance", "mask AP 0.500, PQ 0.812, things 0.700, mIoU 0.900."),
        ("semantic", "mIoU 0.900, PQ 0.812, things 0.700, mask AP 0.500."),
    ],
)
def test_the_score_and_the_snippet_are_those_of_the_task(task, scores):
    message = result(RunFolder(Path("runs/a")), METRICS | {"task": task})
    assert f"on 13 held-out images: {scores}\n" in message
    assert re.findall(r"result\.draw\(\"(\w+)\"\)", message) == [task]
    assert f"({scores[:-1]})" in already_finished(RunFolder(Path("runs/a")), METRICS | {"task": task})


def test_what_is_expected_stands_below_what_was_reached():
    message = result(RunFolder(Path("runs/a")), METRICS, "PQ 0.8 to 0.9")
    assert "mIoU 0.900.\nExpected of the recipe as it stands: PQ 0.8 to 0.9.\n" in message
    assert "Expected" not in result(RunFolder(Path("runs/a")), METRICS)


def test_a_finished_run_says_how_to_go_on():
    message = already_finished(RunFolder(Path("runs/a")), METRICS)
    assert "runs/a holds a finished run of 700 steps (PQ 0.812" in message
    assert "model.pretrained=runs/a/checkpoint" in message
    assert "run.resume=never run.overwrite=true" in message


@pytest.mark.parametrize(
    ("settings", "has_tf32", "said"),
    [
        ({}, False, "steps in float32, evaluation in float32"),
        ({"precision": "bf16", "tf32": False}, True, "steps in bf16, evaluation in float32"),
        ({"precision": "bf16"}, True, "float32 is rounded to TF32 in matrix products and convolutions (run.tf32)"),
        ({}, None, "to TF32 in matrix products and convolutions where the GPU has it (run.tf32)"),
    ],
)
def test_number_formats_are_those_that_hold(settings, has_tf32, said):
    text = number_formats(RunRecipe(output_dir="out", **settings), has_tf32)
    assert text.endswith(said)
    assert text.startswith(f"steps in {'bf16' if settings.get('precision') else 'float32'}, evaluation in float32")
