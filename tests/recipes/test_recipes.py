# SPDX-License-Identifier: Apache-2.0
"""Every recipe describes a model that can be made, and the list of keys is complete."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.training.recipe import DataRecipe, Recipe, RunRecipe, ScheduleRecipe, load_recipe
from unisegment.training.settings import dotted_keys, parse_yaml, plain

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_can_be_built(path):
    recipe = load_recipe(path)
    assert recipe.run.output_dir.startswith("runs/")
    UniSegmentForUniversalSegmentation(UniSegmentConfig(**recipe.model.config, num_labels=3))


def test_recipes_are_there_and_in_the_table():
    assert {path.stem for path in RECIPES} >= {"quickstart", "coco_sample"}
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"[{path.name}]({path.name})" in readme for path in RECIPES)


def test_the_readme_lists_every_key_with_its_default():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*?) \|", readme.split("## All keys")[1], re.MULTILINE))
    rows.pop("extends")
    assert list(rows) == dotted_keys(Recipe)
    schedule = ScheduleRecipe(max_steps=1)
    recipe = Recipe(data=DataRecipe(root="required"), schedule=schedule, run=RunRecipe(output_dir=""))
    for key, written in rows.items():
        if written == "required" or key == "schedule.milestones":
            continue
        value = plain(asdict(recipe))
        for name in key.split("."):
            value = value[name]
        assert parse_yaml(written.strip("`"), key) == value, key
