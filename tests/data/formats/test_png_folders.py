# SPDX-License-Identifier: Apache-2.0
"""A user's own PNG files: whatever form the list of categories has, pixels become the labels worked out by hand."""

import json

import numpy as np
import pytest

from tests.data.map_files import segments, write_image, write_map
from unisegment.data.formats import open_data_set

DICTS = [{"id": 3, "name": "tree", "color": [1, 2, 3]}, {"id": 1, "name": "cow", "isthing": True}]


def _write(root, kind, rows, categories, dtype=np.uint8):
    write_image(root / "images/train/farm/a.jpeg", (2, 3))
    write_map(root / kind / "train/farm/a.png", rows, dtype)
    if categories is not None:
        (root / "categories.json").write_text(json.dumps(categories))
    return root


@pytest.mark.parametrize(
    ("categories", "names", "labels", "stuff"),
    [
        (DICTS, ["cow", "tree"], [0, 1], [1]),
        ({"categories": DICTS}, ["cow", "tree"], [0, 1], [1]),
        ({"3": "tree", "1": "cow"}, ["cow", "tree"], [0, 1], [0, 1]),
        ({"id2label": {"1": "cow", "3": "tree"}}, ["cow", "tree"], [0, 1], [0, 1]),
        (["soil", "cow", "sky", "tree"], ["soil", "cow", "sky", "tree"], [0, 1, 3], [0, 1, 2, 3]),
        ({"1": 1.5, "3": 3}, ["1.5", "3"], [0, 1], [0, 1]),
    ],
)
def test_semantic_maps(tmp_path, categories, names, labels, stuff):
    dataset = open_data_set(_write(tmp_path, "labels", [[1, 3, 0], [255, 1, 1]], categories), "png_semantic", "train")
    assert list(dataset.id2label.values()) == names
    assert dataset.stuff_label_ids == stuff
    (sample,) = dataset
    assert sample.target.labels.tolist() == labels
    assert (sample.image_id, sample.image.shape) == ("a", (2, 3, 3))


def test_semantic_maps_of_16_bits(tmp_path):
    categories = [{"id": 40000, "name": "tree"}, {"id": 255, "name": "cow"}]
    root = _write(tmp_path, "labels", [[40000, 255, 0], [65535, 0, 0]], categories, np.uint16)
    (sample,) = open_data_set(root, "png_semantic", "train")
    assert segments(sample.target) == [(0, False, [[0, 1, 0], [0, 0, 0]]), (1, False, [[1, 0, 0], [0, 0, 0]])]


def test_instance_maps(tmp_path):
    categories = [{"id": 3, "name": "tree", "isthing": 0}, {"id": 64, "name": "cow"}]
    root = _write(tmp_path, "instances", [[64001, 64, 3], [64535, 0, 255]], categories, np.uint16)
    dataset = open_data_set(root, "png_instance", "train")
    assert (dataset.id2label, dataset.stuff_label_ids) == ({0: "tree", 1: "cow"}, [0])
    assert segments(dataset[0].target) == [
        (0, False, [[0, 0, 1], [0, 0, 0]]),
        (1, True, [[0, 1, 0], [0, 0, 0]]),
        (1, False, [[1, 0, 0], [0, 0, 0]]),
        (1, False, [[0, 0, 0], [1, 0, 0]]),
    ]


def test_ids_that_are_too_high_for_objects_are_refused(tmp_path):
    root = _write(tmp_path, "instances", [[1] * 3] * 2, [{"id": 1000, "name": "cow"}])
    with pytest.raises(ValueError, match=r"ids \[1000\], .*below 1000"):
        open_data_set(root, "png_instance", "train")


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1}], r"must be a list of .*name is missing"),
        ({"cow": "1"}, r"must be a list of .*the key 'cow' is no whole number"),
        ([3], r"must be a list of .*an entry must be a name or a dict, got 3"),
        ([{"id": 1, "name": None}], r"must be a list of .*the name of a category must be a text of .*, got None"),
        ({"1": True}, r"must be a list of .*the name of a category must be a text of .*, got True"),
        (3, r"must be a list of "),
        ([], r"must list categories with different ids"),
        (
            [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}],
            r"must .* different ids of 0 or more, got \[1, 1\]",
        ),
        ({"-1": "cow"}, r"must .* different ids of 0 or more, got \[-1\]"),
    ],
)
def test_other_lists_of_categories_are_refused(tmp_path, categories, message):
    root = _write(tmp_path, "labels", [[1] * 3] * 2, categories)
    with pytest.raises(ValueError, match=rf"categories\.json {message}"):
        open_data_set(root, "png_semantic", "train")


def test_void_ids_and_names_from_elsewhere(tmp_path):
    """As CamVid has it: ids from 0, void 11, and no file that names them."""
    root = _write(tmp_path, "labels", [[0, 1, 11], [1, 1, 255]], None)
    names = ["sky", "road"]
    (tmp_path / "names.json").write_text(json.dumps(names))
    for categories in (names, {0: "sky", 1: "road", 11: "void"}, str(tmp_path / "names.json")):
        dataset = open_data_set(root, "png_semantic", "train", categories=categories, void_ids=[11])
        assert dataset.id2label == {0: "sky", 1: "road"}
        assert segments(dataset[0].target) == [(0, False, [[1, 0, 0], [0, 0, 0]]), (1, False, [[0, 1, 0], [1, 1, 0]])]
    with pytest.raises(ValueError, match=r"numbers \[11\], which belong to no category"):
        open_data_set(root, "png_semantic", "train", categories=names)[0]
    with pytest.raises(ValueError, match=r"void_ids=\[0, 1\] are the ids of all categories"):
        open_data_set(root, "png_semantic", "train", categories=names, void_ids=[1, 0])


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no split 'train' of .* images/train, labels/train, "):
        open_data_set(tmp_path, "png_semantic", "train")
    _write(tmp_path, "labels", [[1] * 3] * 2, None)
    with pytest.raises(FileNotFoundError, match=r"categories\.json: there is no such .* data\.categories=\["):
        open_data_set(tmp_path, "png_semantic", "train")
    with pytest.raises(FileNotFoundError, match=r"no split 'train' of the format png_instance"):
        open_data_set(tmp_path, "png_instance", "train")
