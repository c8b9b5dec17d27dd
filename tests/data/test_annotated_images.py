# SPDX-License-Identifier: Apache-2.0
"""What all readers share: names and kinds of labels, and messages about files that do not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from unisegment.data.annotated_images import (
    AnnotatedImages,
    categories_from_table,
    category_of_entry,
    check_size,
    distinct_ids,
    read_listed_image,
)
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.splitting import only_annotated
from unisegment.ops.json_values import read_flag
from unisegment.structures import Category, Sample, SegmentationTarget

GREY = (128, 128, 128)


def test_labels_are_places_in_the_list():
    images = AnnotatedImages(categories_from_table((7, 3), {"road": False, "car": True}))
    assert images.categories == [Category(7, "road", False, GREY), Category(3, "car", True, GREY)]
    assert images.label_of == {7: 0, 3: 1}
    assert images.id2label == {0: "road", 1: "car"}
    assert images.stuff_label_ids == [0]
    with pytest.raises(ValueError, match="zip"):
        categories_from_table((7,), {"road": False, "car": True})


@pytest.mark.parametrize(
    ("entry", "is_thing", "expected"),
    [
        ({"isthing": 0, "color": [1, 2, 3]}, None, (False, (1, 2, 3))),
        ({"isthing": 0}, True, (False, GREY)),
        ({"isthing": 1}, False, (True, GREY)),
        ({"color": None}, True, (True, GREY)),
        ({"color": "#ff0000"}, True, (True, GREY)),
        ({"color": [0.5, 0.25, 1.0]}, True, (True, GREY)),
        ({"color": [1, 2, 256]}, True, (True, GREY)),
        ({"color": [1, 2, 3, 4]}, True, (True, GREY)),
        ({"color": [1, 2, "3"]}, True, (True, GREY)),
    ],
)
def test_entries_become_categories(entry, is_thing, expected):
    assert category_of_entry({"id": 5, "name": "x", **entry}, is_thing) == Category(5, "x", *expected)


@pytest.mark.parametrize("value", ["0", "1", "false", 2, -1, 0.5, [], [1], float("nan")])
def test_flags_are_read_strictly(value):
    for key in ("iscrowd", "isthing"):
        with pytest.raises(ValueError, match=rf"{key} must be 0 or 1, or false or true, got "):
            read_flag({key: value}, key)
    with pytest.raises(ValueError, match="isthing must be 0 or 1"):
        category_of_entry({"id": 1, "name": "cow", "isthing": value}, is_thing=True)


def test_flags_may_be_numbers_or_truths_or_missing():
    for value, expected in ((0, False), (1, True), (False, False), (True, True), (1.0, True), (None, False)):
        assert read_flag({"iscrowd": value}, "iscrowd") is expected
    assert not read_flag({}, "iscrowd")
    assert read_flag({"isthing": None}, "isthing", default=True)
    with pytest.raises(ValueError, match="isthing is missing"):
        read_flag({}, "isthing", default=None)


def test_the_kind_of_a_category_may_be_required():
    with pytest.raises(ValueError, match="isthing is missing"):
        category_of_entry({"id": 5, "name": "x"})


def test_distinct_ids_are_all_that_occur():
    id_map = np.random.default_rng(3).integers(0, 2**24, size=(7, 11)).repeat(3, axis=1).astype(np.int32)
    assert distinct_ids(id_map) == set(np.unique(id_map).tolist())


def test_files_that_do_not_fit_are_named(tmp_path):
    check_size(Path("a.png"), (3, 5), (3, 5), Path("b.json"))
    with pytest.raises(
        ValueError, match=r"a\.png: it is 5x3 \(height x width\), but b\.json says 3x5.* data\.exif=stored"
    ):
        check_size(Path("a.png"), (5, 3), (3, 5), Path("b.json"))
    with pytest.raises(ValueError, match=r"correct the annotation\.$"):
        check_size(Path("a.png"), (5, 3), (3, 7), Path("b.json"))
    with pytest.raises(FileNotFoundError, match=r"x\.jpg: there is no such file, but the annotations name it"):
        read_listed_image(tmp_path / "x.jpg", ImageReading())


class _Crowds(AnnotatedImages):
    """Images whose segments are crowds or not, as they are told."""

    def __init__(self, *images):
        super().__init__([Category(7, "cow", True, GREY)])
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        is_crowd = list(self.images[index])
        ids = torch.arange(1, len(is_crowd) + 1)
        target = SegmentationTarget(labels=[0] * len(ids), id_map=torch.zeros(2, 3), segment_ids=ids, is_crowd=is_crowd)
        return Sample(np.zeros((2, 3, 3), np.uint8), index, "", target=target)


def test_images_with_nothing_but_crowds_are_left_out():
    images = _Crowds([False], [], [True, True], [True, False], [True])
    annotated = only_annotated(images)
    assert [sample.image_id for sample in annotated] == [0, 3]
    assert annotated[-1].image_id == 3
    assert [images.labels_in(index) for index in range(5)] == [{0}, set(), set(), {0}, set()]
    assert [annotated.labels_in(index) for index in (0, 1, -1)] == [{0}] * 3
    assert (annotated.categories, annotated.label_of) == (images.categories, {7: 0})
    assert len(only_annotated(_Crowds([], [True]))) == 0


def test_images_that_cannot_be_read_are_kept_for_training_to_deal_with():
    class Broken(_Crowds):
        def __getitem__(self, index):
            if index == 1:
                raise FileNotFoundError("b.jpg")
            return super().__getitem__(index)

    annotated = only_annotated(Broken([False], [], []))
    assert len(annotated) == 2
    with pytest.raises(FileNotFoundError, match=r"b\.jpg"):
        annotated[1]
