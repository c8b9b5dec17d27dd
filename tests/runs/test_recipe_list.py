# SPDX-License-Identifier: Apache-2.0
import pytest

from unisegment.runs import recipe_list
from unisegment.runs.recipe import Recipe
from unisegment.runs.recipe_files import find_recipe, read_keys, recipe_names


def test_every_recipe_has_a_line():
    lines = recipe_list.list_recipes()
    assert [line.split()[0] for line in lines] == recipe_names()
    assert "ade20k_semantic_r50 ade20k_semantic; resnet50; 160,000 steps" in [" ".join(line.split()) for line in lines]


def test_what_is_read_without_checks_is_what_a_run_takes():
    for name in recipe_names():
        file = find_recipe(name)
        quick, checked = recipe_list._merged(file), read_keys(Recipe, file)
        for section, key in (("data", "format"), ("data", "root"), ("schedule", "max_steps")):
            assert quick[section].get(key) == checked[section].get(key)
        assert quick.get("model", {}).get("pretrained") == checked.get("model", {}).get("pretrained")


def test_a_word_chooses_lines():
    assert {line.split("_")[0] for line in recipe_list.list_recipes("CitySCAPES")} == {"cityscapes"}
    with pytest.raises(ValueError, match="No recipe has 'imagenet' in its line"):
        recipe_list.list_recipes("imagenet")
