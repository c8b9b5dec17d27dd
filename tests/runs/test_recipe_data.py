# SPDX-License-Identifier: Apache-2.0
"""One door to the data of a recipe; that every command takes it is tested with `judged_data`."""

from dataclasses import replace

import pytest

from tests.checking.data_sets import WRITERS
from unisegment.runs import recipe_data
from unisegment.runs.recipe import DataRecipe
from unisegment.runs.recipe_data import data_named, open_split, with_format
from unisegment.runs.settings import RecipeError


def test_every_option_of_the_reader_reaches_it(monkeypatch):
    seen = []
    monkeypatch.setattr(recipe_data, "open_data_set", lambda *words, **options: seen.append((*words, options)))
    options = {"columns": {"image": "photo"}, "categories": "names.json", "splits": {"train": "a", "val": "b"}}
    data = DataRecipe(root="hf://datasets/user/cows", format="hugging_face", streaming=True, **options)
    open_split(data, "val")
    assert seen[0][:3] == ("hugging_face", "hf://datasets/user/cows", "val")
    assert seen[0][3].items() >= {**options, "streaming": True}.items()
    open_split(DataRecipe(root="scenes", format="synthetic"), "val")
    assert seen[1][:2] == ("coco_panoptic", "scenes")


def test_errors_name_the_keys():
    data = DataRecipe(root="/nope", format="png_semantic")
    for skips in ("raise", "skip"):
        with pytest.raises(FileNotFoundError, match=r"^/nope does not exist\.$"):
            open_split(replace(data, on_error=skips), "train")
    said = r"^data\.root=/nope, data\.format=png_semantic: /nope does not exist\.$"
    with pytest.raises(RecipeError, match=said), data_named(data):
        open_split(data, "train")


def test_a_format_that_is_not_named_is_that_of_the_folder(tmp_path):
    data = DataRecipe(root=str(tmp_path), workers=3, categories=["sky"])
    with pytest.raises(RecipeError, match=r"^data\.root=\S+, data\.format=auto: \S+ has the layout of no known format"):
        with_format(data)
    WRITERS["png_semantic"](tmp_path)
    named = with_format(data, ("train",))
    assert named == replace(data, format="png_semantic")
    assert with_format(named) is named
    assert open_split(replace(data, categories=None), "val").categories[2].name == "grass"
    with pytest.raises(RecipeError, match=r"columns, splits and streaming are for format=hugging_face, but format=png"):
        with_format(replace(data, streaming=True))
