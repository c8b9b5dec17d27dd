# SPDX-License-Identifier: Apache-2.0
"""A recipe is found by its file or by its name."""

import pytest

from unisegment.training import recipe_files
from unisegment.training.recipe_files import find_recipe, recipe_folder, recipe_names
from unisegment.training.settings import RecipeError


def test_names_are_those_of_the_folder_without_parts():
    names = recipe_names()
    assert {"quickstart", "coco_panoptic_r50", "own_data_semantic"} <= set(names)
    assert not [name for name in names if name.startswith("_")]
    assert (recipe_folder() / "_coco.yaml").is_file()


def test_a_name_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = recipe_folder() / "coco_panoptic_r50.yaml"
    assert find_recipe("coco_panoptic_r50") == find_recipe("coco_panoptic_r50.yaml") == expected
    assert find_recipe("_coco.yaml", extended_by=tmp_path / "mine.yaml") == recipe_folder() / "_coco.yaml"


def test_an_installed_package_has_its_own(tmp_path, monkeypatch):
    (tmp_path / "unisegment" / "_recipes").mkdir(parents=True)
    (tmp_path / "unisegment" / "_recipes" / "mine.yaml").write_text("")
    monkeypatch.setattr(recipe_files, "__file__", str(tmp_path / "unisegment" / "training" / "recipe_files.py"))
    assert recipe_names() == ["mine"]
    assert find_recipe("mine").resolve().parent == tmp_path / "unisegment" / "_recipes"


def test_files_go_before_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart.yaml").write_text("")
    (tmp_path / "quickstart").mkdir()
    assert find_recipe("quickstart.yaml").resolve() == tmp_path / "quickstart.yaml"
    assert find_recipe("quickstart") == recipe_folder() / "quickstart.yaml"
    assert find_recipe("quickstart.yaml", extended_by=tmp_path / "mine.yaml") == tmp_path / "quickstart.yaml"


def test_what_is_missing_is_named_with_the_nearest(tmp_path):
    with pytest.raises(RecipeError, match=r"no recipe coco_panoptik_r5, .* Did you mean 'coco_panoptic_r50'\?"):
        find_recipe("coco_panoptik_r5")
    with pytest.raises(RecipeError, match=r"no recipe .*/runs/coco_panoptic_r50"):
        find_recipe(str(tmp_path / "runs" / "coco_panoptic_r50"))
    with pytest.raises(RecipeError, match=r"no recipe mine\.yaml, [^?]*`ls recipes`[^?]*$"):  # none is like it
        find_recipe("mine.yaml")
    with pytest.raises(RecipeError, match=r"x\.yaml to extend in .*mine\.yaml, neither"):
        find_recipe("x.yaml", extended_by=tmp_path / "mine.yaml")
