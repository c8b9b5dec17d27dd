# SPDX-License-Identifier: Apache-2.0
"""Every recipe describes a model that can be made, and the lists of recipes and keys are complete."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from tests.recipes.published_eomt_table import PUBLISHED_EOMT
from tests.recipes.published_table import PUBLISHED
from unisegment.models.base import FAMILIES
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.recipe import Recipe, RunRecipe, ScheduleRecipe, load_recipe
from unisegment.runs.recipe_files import recipe_names
from unisegment.runs.settings import dotted_keys, parse_yaml, plain

FOLDER = Path(__file__).parents[2] / "recipes"
DOCS = FOLDER.parent / "docs"
OF_PAPERS = PUBLISHED.keys() | PUBLISHED_EOMT.keys()


@pytest.mark.parametrize("name", sorted(set(recipe_names()) - OF_PAPERS))
def test_our_own_recipes_can_be_built(name):
    recipe = load_recipe(name)
    assert recipe.run.output_dir.startswith("runs/")
    family = FAMILIES[recipe.model.type or "unisegment"]
    with torch.device("meta"):
        family.model()(family.config(**recipe.model.config, num_labels=3))


def test_recipes_are_in_the_readme_one_by_one_or_by_their_kind():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    kinds = tuple(re.findall(r"`([a-z0-9_]+_)\*`", readme))
    ours = [name for name in recipe_names() if not name.startswith(kinds)]
    assert not [name for name in ours if f"[{name}]({name}.yaml)" not in readme]
    assert set(recipe_names()) - set(ours) == OF_PAPERS
    assert all(any(name.startswith(kind) for name in OF_PAPERS) for kind in kinds)


def test_the_page_of_keys_lists_every_key_with_its_default():
    page = (DOCS / "recipe_keys.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z0-9_.]+)` \| (.*?) \|", page, re.MULTILINE))
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
