# SPDX-License-Identifier: Apache-2.0
"""Exports of tools that hold masks: training, evaluation and check-data open them without being told what they are."""

import math

import pytest

from tests.data import mask_trees
from tests.training.tiny_run import RECIPE, log_of
from unisegment.checking import check_data
from unisegment.checking.sources import find_parts
from unisegment.data.formats import FORMATS
from unisegment.runs.data_opening import open_evaluation_data
from unisegment.training import fit, load_recipe

TREES = {
    "pascal_voc": mask_trees.pascal_voc,
    "pascal_voc_semantic": lambda root: mask_trees.pascal_voc(root, objects=False),
    "supervisely": mask_trees.supervisely,
    "png_per_object": mask_trees.data_science_bowl,
    "cvat": mask_trees.cvat_masks,
}
WITHOUT_SPLITS = ("png_per_object", "cvat")


@pytest.mark.parametrize("tree", TREES)
def test_exports_are_learned_evaluated_and_checked(tmp_path, tree):
    root = tmp_path / "data"
    TREES[tree](root)
    share = {"data.val_share": 0.5} if tree in WITHOUT_SPLITS else {}
    data_format = "pascal_voc" if tree == "cvat" else tree
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(root=root, output=tmp_path / "run"))
    settings = {"data.format": "auto", "schedule.max_steps": 1, "optim.batch_size": 2, **share}
    settings["data.transform.jitter_size"] = [64, 64]
    metrics = fit(load_recipe(tmp_path / "recipe.yaml", settings))
    (line,) = log_of(tmp_path / "run")
    assert math.isfinite(line["loss"])
    assert metrics["images"] == len(open_evaluation_data(tmp_path / "run/recipe.yaml", None, None, "val")[0])

    samples, evaluation = open_evaluation_data(None, str(root), None, "train")
    assert (len(samples), evaluation.tasks) == (2, FORMATS[data_format].tasks)

    (part,) = check_data(find_parts([str(root)], None, ["train"]), tmp_path / "out", workers=1, pictures=1).parts
    assert (part["format"], part["images"], part["errors"]) == (data_format, 2, 0)
    # Two images are alike, and of VOC's classes most are not there; nothing else is said of sound data.
    assert {found["kind"] for found in part["findings"]} <= {"duplicate-image", "unused-category"}
    assert sum(item["pixels"] for item in part["categories"] if item["name"] != "background") == 2 * (24 + 15)
