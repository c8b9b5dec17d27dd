# SPDX-License-Identifier: Apache-2.0
"""Columns and categories are found where there is no doubt, and asked for where there is."""

import json

import numpy as np
import pytest
from datasets import Array2D, Array3D, ClassLabel, Dataset, Features, Image, List, Sequence, Value

from tests.data.rows import file_of
from unisegment.data.reading.hugging_face_columns import (
    choose_columns,
    entries_in,
    find_categories,
    path_in,
    picture_in,
)

OBJECT = {"category": ClassLabel(names=["cow", "pig"]), "segmentation": List(List(Value("float32")))}


@pytest.mark.parametrize(
    ("features", "given", "wanted"),
    [
        ({"image": Image(), "label": Image()}, {}, {"image": "image", "semantic": "label"}),
        (
            {"pixel_values": Image(), "annotation": Array2D((2, 3), "int32"), "id": Value("int64")},
            {},
            {"image": "pixel_values", "semantic": "annotation", "image_id": "id"},
        ),
        (
            {"image": Image(), "label": Image(), "segments_info": List({"id": Value("int64")}), "id": Image()},
            {},
            {"image": "image", "panoptic": "label", "segments_info": "segments_info"},
        ),
        (
            {"image": Image(), "annotation": Image(), "semantic_class_to_id": {"cow": Value("int64")}},
            {},
            {"image": "image", "class_and_instance": "annotation"},
        ),
        (
            {"image": Image(), "label": ClassLabel(names=["a"]), "objects": List(OBJECT), "image_id": Value("string")},
            {},
            {"image": "image", "objects": "objects", "image_id": "image_id"},
        ),
        (
            {"image": Image(), "photo": Image(), "label": Image(), "mask": Image(), "image_id": Value("string")},
            {"image": "photo", "instance": "mask", "image_id": "photo"},
            {"image": "photo", "instance": "mask", "image_id": "photo"},
        ),
    ],
)
def test_roles_of_columns(features, given, wanted):
    assert choose_columns(Features(features), given) == wanted


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (["image", "label", "mask"], {}, r"which column holds the annotation\? There are image, label, mask\."),
        (["image"], {}, r"which column holds the annotation\? .* data\.columns=\{semantic: COLUMN\}"),
        (["photo", "label"], {}, r"which column is data\.columns\.image\? There are photo, label\."),
        (["image", "label"], {"panoptic": "label"}, r"which column is data\.columns\.segments_info\?"),
        (["image", "label"], {"sematic": "label"}, r"no 'sematic', only .*Did you mean 'semantic'\?"),
        (
            ["image", "label"],
            {"semantic": "lable"},
            r"columns\.semantic: there is no column 'lable', only image, label\. Did you mean 'label'\?",
        ),
        (["image", "label"], {"semantic": "label", "objects": "label"}, r"names semantic and objects, .*: leave one"),
    ],
)
def test_columns_that_are_missing_or_in_doubt(names, given, message):
    with pytest.raises(ValueError, match=message):
        choose_columns(Features(dict.fromkeys(names, Image())), given)


def no_file(name):
    return None


def rows_with(feature, value, column="objects"):
    return Dataset.from_dict({column: [value]}, features=Features({column: feature})).with_format("arrow")


@pytest.mark.parametrize(
    ("feature", "role"),
    [
        (List(OBJECT), "objects"),
        ({key: List(value) for key, value in OBJECT.items()}, "objects"),
        (Sequence(OBJECT), "objects"),
        (List({"id": Value("int64"), "category_id": ClassLabel(names=["cow", "pig"])}), "objects"),
        (List(List(ClassLabel(names=["cow", "pig"]))), "instance"),
    ],
)
def test_class_names_in_the_features(feature, role):
    rows = rows_with(feature, None)
    categories = find_categories(rows, {role: "objects"}, no_file, None)
    assert [(category.id, category.name, category.is_thing) for category in categories] == [
        (0, "cow", True),
        (1, "pig", True),
    ]


def test_categories_beside_the_rows(tmp_path):
    rows = rows_with(Image(), None)
    for name, categories in {"id2label.json": {"3": "tree"}, "categories.json": [{"id": 7, "name": "cow"}]}.items():
        (tmp_path / name).write_text(json.dumps(categories))
        (category,) = find_categories(rows, {"semantic": "objects"}, {name: tmp_path / name}.get, None)
        assert (category.id, category.is_thing) == ({"id2label.json": 3, "categories.json": 7}[name], False)
    file = tmp_path / "id2label.json"
    (category,) = find_categories(rows_with(List(OBJECT), None), {"objects": "objects"}, no_file, str(file))
    assert (category.name, category.is_thing) == ("tree", True)


def test_categories_in_each_row():
    rows = Dataset.from_dict(
        {"annotation": [None, None], "semantic_class_to_id": [{"background": 0, "cow": 2}, {"pig": 3}]}
    ).with_format("arrow")
    categories = find_categories(rows, {"class_and_instance": "annotation"}, no_file, None)
    assert [(category.id, category.name) for category in categories] == [(2, "cow")]


def test_kinds_of_panoptic_categories(tmp_path):
    rows, columns, file = rows_with(Image(), None), {"panoptic": "objects"}, tmp_path / "categories.json"

    def kinds(content):
        file.write_text(json.dumps(content))
        return [category.is_thing for category in find_categories(rows, columns, no_file, str(file))]

    assert kinds([{"id": 1, "name": "tree"}, {"id": 2, "name": "cow", "isthing": 1}]) == [False, True]
    assert kinds(["person", "sky", "car"]) == [True, False, True]
    with pytest.raises(ValueError, match=r"categories\.json must say which categories are things: .*isthing"):
        kinds(["cow", "no known name"])


def test_no_categories():
    with pytest.raises(ValueError, match=r"nothing says what the categories are called\. .*data\.categories=FILE"):
        find_categories(rows_with(Image(), None), {"semantic": "objects"}, no_file, None)


COLORS = [[[number, 5, 7] for number in range(3)], [[9, 11, 13]] * 3]


@pytest.mark.parametrize(
    ("feature", "value", "wanted"),
    [
        (Image(), {"bytes": file_of(COLORS), "path": "a.png"}, COLORS),
        (Value("binary"), file_of(COLORS), COLORS),
        (Value("large_binary"), file_of(COLORS), COLORS),
        (Array2D((2, 3), "uint16"), [[1, 2, 3], [4, 5, 65535]], [[1, 2, 3], [4, 5, 65535]]),
        (Array3D((2, 3, 3), "uint8"), COLORS, COLORS),
        (List(List(Value("int64"))), [[1, 2], [3, 2**24]], [[1, 2], [3, 2**24]]),
        (List(List(Value("int64"), length=2), length=2), [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
    ],
)
def test_pictures_in_every_form(feature, value, wanted):
    rows = Dataset.from_dict({"other": [1, 2], "a": [None, value]}, Features({"other": Value("int8"), "a": feature}))
    row = rows.with_format("arrow")[1]
    assert np.asarray(picture_in(row, "a")).tolist() == wanted
    assert path_in(row, "a") == ("a.png" if isinstance(feature, Image) else None)


def test_pictures_in_files(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(file_of(COLORS))
    for feature in (Image(), Value("string")):
        row = rows_with(feature, str(file), "a")[0]
        assert np.asarray(picture_in(row, "a")).tolist() == COLORS
        assert path_in(row, "a") == str(file)
    with pytest.raises(FileNotFoundError, match=r"column 'a' names b\.png, but there is no such file"):
        picture_in(rows_with(Value("string"), "b.png", "a")[0], "a")


@pytest.mark.parametrize(
    ("feature", "value", "message"),
    [
        (Image(), None, "column 'a' is empty, but must hold an image"),
        (Image(), {"bytes": b"no image", "path": "a.png"}, "column 'a' cannot be read as an image"),
        (List(List(Value("int64"))), [[1, 2], [3]], r"lists of equal length, got lengths \[1, 2\]"),
        (List(List(Value("int64"))), None, r"column 'a' must hold lists of equal length, got lengths \[None\]"),
    ],
)
def test_no_pictures(feature, value, message):
    with pytest.raises(ValueError, match=message):
        picture_in(rows_with(feature, value, "a")[0], "a")


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        (List({"id": Value("int64"), "n": Value("string")}), [{"id": 1, "n": "x"}, {"id": 2, "n": "y"}]),
        (Sequence({"id": Value("int64"), "n": Value("string")}), {"id": [1, 2], "n": ["x", "y"]}),
        (Value("string"), '[{"id": 1, "n": "x"}, {"id": 2, "n": "y"}]'),
    ],
)
def test_dicts_in_every_form(feature, value):
    assert entries_in(rows_with(feature, value)[0], "objects") == [{"id": 1, "n": "x"}, {"id": 2, "n": "y"}]


@pytest.mark.parametrize(
    ("feature", "value"),
    [(Value("int64"), 3), ({"a": Value("int64")}, {"a": 3}), (List(Value("int64")), [3]), (List(OBJECT), None)],
)
def test_no_dicts(feature, value):
    with pytest.raises(ValueError, match=r"column 'objects' must hold a list of dicts, got "):
        entries_in(rows_with(feature, value)[0], "objects")
