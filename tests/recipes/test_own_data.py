# SPDX-License-Identifier: Apache-2.0
"""The recipes for own data run with the edits that they ask for, from a small checkpoint in place of theirs."""

import json
import math

import pytest

from tests.models.unisegment.original_files import stock_model
from tests.recipes import small_trees
from unisegment.training import fit, load_recipe

FORMATS = {"panoptic": "coco_panoptic", "instance": "coco_instance", "semantic": "png_semantic"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock")
    stock_model("swin").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("task", FORMATS)
def test_a_small_data_set_is_learned_from(task, checkpoint, tmp_path):
    recipe = load_recipe(f"own_data_{task}")
    assert (recipe.data.format, recipe.model.gradient_checkpointing, recipe.run.precision) == (
        FORMATS[task], True, "bf16",
    )  # fmt: skip
    assert recipe.model.pretrained.startswith("facebook/mask2former-swin-tiny-")
    getattr(small_trees, FORMATS[task])(tmp_path / "data")
    size = {"jitter_size": [64, 64]} if recipe.data.transform.jitter_size else {"crop_size": [64, 64]}
    metrics = fit(
        recipe,
        **{"data.root": str(tmp_path / "data"), "schedule.max_steps": 2, "run.output_dir": str(tmp_path / "run")},
        **{"model.pretrained": str(checkpoint), "data.workers": 0, "evaluation.pictures": 0, "run.threads": 1},
        **{"run.checkpoint_every": 0, "run.eval_every": 0, "data.shortest_edge": 64, "data.longest_edge": 128},
        **{f"data.transform.{key}": value for key, value in size.items()},
        **{"data.transform.shortest_edge": None if "jitter_size" in size else [48, 80]},
    )
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [math.isfinite(line["loss"]) for line in log] == [True, True]
    assert metrics[recipe.run.best_metric] is not None
