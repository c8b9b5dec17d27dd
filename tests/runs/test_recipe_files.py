# SPDX-License-Identifier: Apache-2.0
"""A recipe is found by its file or by its name."""

import errno

import pytest

from unisegment.runs import recipe_files
from unisegment.runs.recipe import Recipe
from unisegment.runs.recipe_files import find_recipe, read_keys, recipe_folder, recipe_names
from unisegment.runs.settings import RecipeError


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
    with pytest.raises(RecipeError, match=r"no recipe mine\.yaml, [^?]*`unisegment recipes`[^?]*$"):  # none is like it
        find_recipe("mine.yaml")
    with pytest.raises(RecipeError, match=r"x\.yaml to extend in .*mine\.yaml, neither"):
        find_recipe("x.yaml", extended_by=tmp_path / "mine.yaml")


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody_of_this_name/x", "a\0b", "/dev/zero", "caf\udce9"])
def test_names_that_are_no_files_are_refused(name):
    with pytest.raises(RecipeError, match="There is no recipe"):
        find_recipe(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"M\xff", r"a\.yaml, line 1: the byte 0xff is not UTF-8"),
        (b"[1, 2]", r"a\.yaml must hold the keys of a recipe, such as `optim:`, but holds \[1, 2\]"),
        (b"", r"a\.yaml must hold the keys of a recipe"),
        (b"extends: [{}]", r"a\.yaml: extends must be the name of a recipe or a list of names, got \[\{\}\]"),
        (b"extends: [[", r"a\.yaml, line 1: this is not YAML"),
        (b"1: 2", r"a\.yaml: there is no key '1'"),
    ],
)
def test_files_that_are_no_recipes_are_refused_by_name(tmp_path, content, message):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        read_keys(Recipe, tmp_path / "a.yaml")


def test_a_removed_key_is_passed_over_where_it_says_null(tmp_path):
    (tmp_path / "a.yaml").write_text("model: {pretrained: x, peer: null}")
    assert read_keys(Recipe, tmp_path / "a.yaml") == {"model": {"pretrained": "x"}}
    (tmp_path / "a.yaml").write_text("model: {peer: transformers}")
    with pytest.raises(RecipeError, match=r"a\.yaml: model\.peer='transformers' is no key any more: .* Remove it\.$"):
        read_keys(Recipe, tmp_path / "a.yaml")


def test_files_that_are_extended_again_and_again_are_counted(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.yaml").write_text(f"extends: [{', '.join(9 * [f'{number + 1}.yaml'])}]")
    (tmp_path / "9.yaml").write_text("{}")
    with pytest.raises(RecipeError, match=r"0\.yaml extends more than 100 files, counting those that files share"):
        read_keys(Recipe, tmp_path / "0.yaml")


def test_a_recipe_that_may_not_be_read_is_not_said_to_be_missing(monkeypatch, tmp_path):
    def stat(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as context:
        context.setattr(recipe_files.os, "stat", stat)
        with pytest.raises(PermissionError, match="mine"):
            find_recipe(str(tmp_path / "mine.yaml"))
