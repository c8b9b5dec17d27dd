# SPDX-License-Identifier: Apache-2.0
"""Splits are found by what lies in a folder, and listed once."""

import pytest

from tests.data.rows import save, semantic_rows
from tests.data.writing.scenes import Scenes
from unisegment.runs.data_conversion import convert_data
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.data_splits import splits_of


def write(tmp_path, *names, to="png_semantic"):
    images = Scenes(tmp_path / "source")
    convert_data(dict.fromkeys(names, images), tmp_path / "data", to)
    return str(tmp_path / "data")


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["train"], ["train"]),
        (["train", "val"], ["train", "val"]),
        (["val", "test"], ["val", "test"]),
        (["training", "validation"], ["train", "val"]),
        # Nothing else is there to hold out, but it is the test split all the same.
        (["train", "test"], ["train", "test"]),
    ],
)
def test_splits_have_our_names(tmp_path, there, expected):
    assert splits_of(DataRecipe(root=write(tmp_path, *there), format="png_semantic")) == expected


def test_what_a_recipe_says_counts(tmp_path):
    root = write(tmp_path, "train", "test", to="coco_instance")
    values = {"root": root, "format": "coco_instance"}
    assert splits_of(DataRecipe(**values, val_share=0.5)) == ["train", "val", "test"]
    assert splits_of(DataRecipe(**values, splits={"train": "train[:1]", "val": "train[1:]"})) == [
        "train",
        "val",
        "test",
    ]
    assert splits_of(DataRecipe(**values, annotations="a.json")) == ["train"]
    assert splits_of(DataRecipe(**values, images={"val": "a", "train": "b"})) == ["train", "val"]


def test_splits_of_rows(tmp_path):
    save(tmp_path, semantic_rows())
    for name in ("saved", "parquet"):
        assert splits_of(DataRecipe(root=str(tmp_path / name), format="hugging_face")) == ["train", "val"]


def test_without_a_known_split_there_is_advice(tmp_path):
    root = write(tmp_path, "north")
    with pytest.raises(ValueError, match=r"data has none of the splits train, val, test: name those that it has"):
        splits_of(DataRecipe(root=root, format="png_semantic"))
