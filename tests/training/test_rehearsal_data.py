# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from pathlib import Path

from unisegment.runs.recipe import load_recipe
from unisegment.training.rehearsal_data import opened_for_a_while


def test_scenes_that_are_there_are_taken(recipe):
    with opened_for_a_while(load_recipe(recipe).data, 2) as (train, held_out, is_there):
        assert (len(train), len(held_out), is_there) == (8, 3, True)


def test_others_are_drawn_and_go_away(recipe, tmp_path):
    data = replace(load_recipe(recipe).data, root=str(tmp_path / "new"), num_train=7)
    for most, drawn in ((5, 5), (9, 7)):
        with opened_for_a_while(data, most) as (train, held_out, is_there):
            assert (len(train), len(held_out), is_there) == (drawn, 1, False)
            file = Path(train.annotation_file)
            assert file.is_file()
        assert not file.exists()
    assert not (tmp_path / "new").exists()
