# SPDX-License-Identifier: Apache-2.0
"""The section `data` hands every option to the reader, and refuses those that its format does not take."""

import pytest

from unisegment.runs.data_recipe import DataRecipe


def test_only_what_is_set_reaches_the_reader():
    plain = {"exif": "upright", "range": "dtype"}
    assert DataRecipe(root="x", format="coco_instance").reader_options == plain
    given = {"val_share": 0.25, "split_seed": 3, "annotations": "a.json", "images": {"train": "b"}, "void_ids": (7,)}
    assert DataRecipe(root="x", format="coco_instance", **given).reader_options == plain | given


def test_options_of_other_formats_are_refused():
    for options, message in (
        ({"streaming": True}, r"streaming is for format=hugging_face, but format=coco_instance\."),
        (
            {"categories": ("cow",)},
            r"categories is for format=png_semantic, .*, but format=coco_instance",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            DataRecipe(root="x", format="coco_instance", **options)
        DataRecipe(root="x", **options)  # what the format is, its layout will say
    with pytest.raises(ValueError, match=r"root=s3://x is an address, which format=hugging_face reads"):
        DataRecipe(root="s3://x", format="png_semantic")


def test_splits_are_said_one_way_and_whole():
    with pytest.raises(ValueError, match=r"splits must say what `train` and what `val` is"):
        DataRecipe(root="x", format="coco_instance", splits={"val": "train[:3]"})
    with pytest.raises(ValueError, match=r"val_share must be above 0 and below 1, and alone"):
        DataRecipe(root="x", val_share=0.5, splits={"train": "train[3:]", "val": "train[:3]"})
