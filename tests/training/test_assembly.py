# SPDX-License-Identifier: Apache-2.0
import pytest

from unisegment.training.assembly import open_samples
from unisegment.training.recipe import DataRecipe
from unisegment.training.settings import RecipeError


def test_drawn_scenes_are_made_once(tmp_path):
    data = DataRecipe(root=str(tmp_path / "scenes"), format="synthetic", num_train=3, num_val=2)
    train, held_out = open_samples(data)
    assert (len(train), len(held_out)) == (3, 2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    open_samples(data)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_scenes_of_another_recipe_are_not_taken_for_ours(tmp_path):
    root = str(tmp_path / "scenes")
    open_samples(DataRecipe(root=root, format="synthetic", num_train=3, num_val=2))
    wanted = DataRecipe(root=root, format="synthetic", num_train=3, num_val=5)
    with pytest.raises(RecipeError, match=r"holds 3 scenes for training and 2 held out, .* data\.num_val=5"):
        open_samples(wanted)


def test_a_missing_data_set_is_an_error_that_says_what_was_looked_for(tmp_path):
    with pytest.raises(RecipeError, match=r"data\.root=.*gone: (.|\n)*panoptic_train2017\.json"):
        open_samples(DataRecipe(root=str(tmp_path / "gone")))
