# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.recipes.small_trees import coco_instance, only_crowds
from unisegment.training.judged_data import open_judged_data, tasks_of_format
from unisegment.training.settings import RecipeError


def test_a_folder_and_its_format(scenes):
    samples, settings = open_judged_data(None, scenes, "coco_panoptic", "val")
    assert len(samples) == 3
    assert settings == {"tasks": ("panoptic", "instance", "semantic")}


def test_a_recipe_says_data_sizes_and_thresholds(recipe, scenes):
    samples, settings = open_judged_data(recipe, None, "nonsense", "train")
    assert len(samples) == 8
    assert settings["size"] == {"shortest_edge": 64, "longest_edge": 80}
    assert settings["panoptic_threshold"] == 0.8
    assert settings["batch_size"] == 4
    assert settings["top_k"] == 100
    assert len(open_judged_data(recipe, scenes, "coco_panoptic", "val")[0]) == 3


def test_without_anything_to_judge_by_it_says_so(tmp_path):
    coco_instance(tmp_path)
    only_crowds(tmp_path / "annotations" / "instances_val2017.json")
    assert len(open_judged_data(None, tmp_path, "coco_instance", "train")[0])
    with pytest.raises(RecipeError, match=r"nothing to judge by: none of the \d images of 'val' has a segment that"):
        open_judged_data(None, tmp_path, "coco_instance", "val")


def test_without_either_it_says_what_is_missing():
    with pytest.raises(RecipeError, match="--data FOLDER, or --recipe FILE"):
        open_judged_data(None, None, "coco_panoptic", "val")


def test_what_a_format_can_be_judged_on():
    assert tasks_of_format("cityscapes_semantic") == ("semantic",)
    assert tasks_of_format("coco_instance") == ("instance",)
    for panoptic in ("coco_panoptic", "synthetic"):
        assert tasks_of_format(panoptic) == ("panoptic", "instance", "semantic")
