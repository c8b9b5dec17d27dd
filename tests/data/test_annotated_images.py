# SPDX-License-Identifier: Apache-2.0
"""What all readers share: names and kinds of labels, and messages about files that do not fit."""

from pathlib import Path

import numpy as np
import pytest

from unisegment.data.annotated_images import (
    AnnotatedImages,
    categories_from_table,
    category_of_entry,
    check_size,
    distinct_ids,
    long_split_name,
    read_listed_image,
)
from unisegment.structures import Category

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
    ],
)
def test_entries_become_categories(entry, is_thing, expected):
    assert category_of_entry({"id": 5, "name": "x", **entry}, is_thing) == Category(5, "x", *expected)


def test_the_kind_of_a_category_may_be_required():
    with pytest.raises(KeyError, match="isthing"):
        category_of_entry({"id": 5, "name": "x"})


def test_distinct_ids_are_all_that_occur():
    id_map = np.random.default_rng(3).integers(0, 2**24, size=(7, 11)).repeat(3, axis=1).astype(np.int32)
    assert distinct_ids(id_map) == set(np.unique(id_map).tolist())


def test_files_that_do_not_fit_are_named(tmp_path):
    check_size(Path("a.png"), (3, 5), (3, 5), Path("b.json"))
    with pytest.raises(ValueError, match=r"a\.png is 5x3 \(height x width, upright\), but b\.json says 3x5"):
        check_size(Path("a.png"), (5, 3), (3, 5), Path("b.json"))
    with pytest.raises(FileNotFoundError, match=r"x\.jpg: there is no such file, but the annotations name it"):
        read_listed_image(tmp_path / "x.jpg")


def test_long_names_of_splits():
    assert [long_split_name(name) for name in ("train", "val", "testing")] == ["training", "validation", "testing"]
