# SPDX-License-Identifier: Apache-2.0
"""Supervisely's projects: which data sets are which split, and objects with the boxes and areas worked out by hand."""

import json

import numpy as np
import pytest

from tests.data import mask_trees
from tests.data.mask_trees import POLYGON, annotation, bitmap, figure
from unisegment.data.formats import guess_format, open_data_set
from unisegment.data.problems import CollectedProblems
from unisegment.ops.masks import boxes_from_masks, segment_areas


def _described(images, index=0):
    target = images[index].target
    boxes, areas = boxes_from_masks(target.binary_masks()).tolist(), segment_areas(target).tolist()
    return [*zip([images.id2label[label] for label in target.labels.tolist()], boxes, areas, strict=True)]


@pytest.fixture
def root(tmp_path):
    mask_trees.supervisely(tmp_path)
    return tmp_path


def test_data_sets_that_are_called_as_splits(root):
    assert guess_format(root) == "supervisely"
    for split in ("train", "val"):
        images = open_data_set(root, split=split)
        assert [images[index].image_id for index in range(len(images))] == ["a", "b"]
        assert images[1].file_name == str(root / split / "img/b.png")
        assert images.id2label == {0: "nucleus", 1: "cell"}
        assert (images.stuff_label_ids, [category.id for category in images.categories]) == ([], [0, 1])
        assert images.categories[0].color == (0xF6, 0xFF, 0x00)
        assert _described(images) == [("cell", [2, 3, 8, 7], 24), ("nucleus", [10, 5, 13, 10], 15)]


def test_data_sets_of_other_names_are_all_for_training(tmp_path):
    mask_trees.supervisely(tmp_path, "ds1", "ds0")
    assert guess_format(tmp_path) == "supervisely"
    images = open_data_set(tmp_path)
    assert [images[index].image_id for index in range(4)] == ["ds0/a.jpeg", "ds0/b.png", "ds1/a.jpeg", "ds1/b.png"]
    assert [len(open_data_set(tmp_path, split=split, val_share=0.25)) for split in ("train", "val")] == [3, 1]
    with pytest.raises(FileNotFoundError, match="no split 'val'"):
        open_data_set(tmp_path, split="val")
    # one that is called as the other split is that one, and no longer learned
    (tmp_path / "ds0").rename(tmp_path / "valid")
    assert [len(open_data_set(tmp_path, split=split)) for split in ("train", "val")] == [2, 2]


def test_objects_of_all_shapes_may_overlap(root):
    ring = np.ones((6, 7))
    ring[2:4, 2:5] = 0
    annotation(
        root / "train/ann/a.jpeg.json",
        figure("polygon", [[2, 1], [12, 1], [12, 11], [2, 11]], [[4, 3], [8, 3], [8, 6], [4, 6]]),
        {"classTitle": "nucleus", **bitmap(ring, (10, 4))},
        figure("rectangle", [[0, 0], [3, 12]]),
        figure("point", [[3, 3]]),
        figure("line", [[3, 3], [9, 9]]),
        figure("polygon", [[1, 1], [2, 2]]),  # covers nothing
        {"classTitle": "cell", "geometryType": "multipolygon", "parts": [POLYGON["points"]]},
    )
    images = open_data_set(root)
    assert _described(images) == [
        ("cell", [2, 1, 12, 11], 100 - 12),
        ("nucleus", [10, 4, 17, 10], 42 - 6),
        ("cell", [0, 0, 3, 12], 36),
        ("cell", [2, 3, 8, 7], 24),
    ]
    assert images[0].target.has_overlaps()
    assert images.labels_in(0) == {0, 1}
    assert images.files(0).num_annotations == 5
    assert (images.files(0).size, images.files(0).source) == ((12, 20), root / "train/ann/a.jpeg.json")


def test_void_classes_are_left_out(root):
    images = open_data_set(root, void_ids=[1])
    assert (images.id2label, _described(images)) == ({0: "nucleus"}, [("nucleus", [10, 5, 13, 10], 15)])
    assert images.labels_in(0) == {0}


def test_images_without_objects_are_part_of_it(root):
    annotation(root / "train/ann/a.jpeg.json")
    images = open_data_set(root)
    assert (len(images), len(images[0].target), images.labels_in(0)) == (2, 0, set())


@pytest.mark.parametrize(
    ("figures", "kind", "message"),
    [
        ([POLYGON, figure("polygon", [[0, 0], [99, 0], [0, 9]])], "bad-polygon", r"objects\[1\] cannot be .*x = 99"),
        ([{**POLYGON, "points": []}], "bad-polygon", r"objects\[0\] cannot be drawn"),
        ([{"classTitle": "cell", **bitmap([[1]], (-1, 0))}], "bad-bitmap", r"objects\[0\] cannot be drawn: .*x = -1"),
        ([{"classTitle": "cell", **bitmap(np.ones((99, 99)), (0, 0))}], "bad-bitmap", r"99x99 .* not lie in the image"),
        ([POLYGON, {**POLYGON, "classTitle": "dog"}], "unknown-category", r"objects\[1\] is of the class 'dog', which"),
        ([POLYGON, {"geometryType": "point"}], "wrong-structure", r"objects\[1\]: classTitle is missing"),
        ([{"classTitle": "cell"}], "wrong-structure", r"objects\[0\]: geometryType is missing"),
        ([3], "wrong-structure", r"objects\[0\]: it must be an object with geometryType, got 3"),
    ],
)
def test_other_objects_are_refused(root, figures, kind, message):
    annotation(root / "train/ann/a.jpeg.json", *figures)
    images = open_data_set(root)
    with pytest.raises(ValueError, match=rf"a\.jpeg\.json: .*{message}") as refused:
        images[0]
    assert refused.value.problem.kind == kind
    assert len(images[1].target) == 2


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("{", "broken-json", "it is not valid JSON"),
        ("[]", "wrong-structure", "it must be an object with size"),
        ('{"size": {"height": 12}, "objects": []}', "wrong-structure", "width is missing"),
        ('{"size": {"height": 0, "width": 3}, "objects": []}', "wrong-structure", "height must be a whole"),
        ('{"size": {"height": 12, "width": 20}}', "wrong-structure", "objects is missing"),
        ('{"size": {"height": 12, "width": 20}, "objects": 3}', "wrong-structure", "objects must be a list"),
    ],
)
def test_other_annotation_files_are_refused(root, text, kind, message):
    (root / "train/ann/a.jpeg.json").write_text(text)
    images = open_data_set(root)
    with pytest.raises(ValueError, match=rf"a\.jpeg\.json: .*{message}") as refused:
        images[0]
    assert refused.value.problem.kind == kind
    assert images.files(0).num_annotations is None


def test_the_size_must_be_that_of_the_image(root):
    annotation(root / "train/ann/a.jpeg.json", POLYGON, size=(20, 12))
    with pytest.raises(ValueError, match=r"a\.jpeg: it is 12x20 \(height x width\), but .*a\.jpeg\.json says 20x12"):
        open_data_set(root)[0]


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be an object with classes"),
        ({}, "classes is missing"),
        ({"classes": []}, "classes lists nothing"),
        ({"classes": [{"shape": "any"}]}, r"classes\[0\]: title is missing"),
        ({"classes": [{"title": "a"}, {"title": "a"}]}, r"classes\[1\]: another class is called 'a'"),
    ],
)
def test_other_lists_of_classes_are_refused(root, meta, message):
    (root / "meta.json").write_text(meta if isinstance(meta, str) else json.dumps(meta))
    with pytest.raises(ValueError, match=rf"meta\.json: .*{message}"):
        open_data_set(root)


def test_colors_are_of_no_account(root):
    classes = [{"title": name, "color": color} for name, color in zip("abcd", ("#FF", None, 3, "#0102FF"), strict=True)]
    (root / "meta.json").write_text(json.dumps({"classes": classes}))
    assert [item.color for item in open_data_set(root).categories] == [(128, 128, 128)] * 3 + [(1, 2, 255)]


def test_what_is_missing_is_said_or_left_out(root):
    (root / "train/img/a.jpeg").unlink()
    with pytest.raises(FileNotFoundError, match=r"img/a\.jpeg: there is no such file, but .*a\.jpeg\.json is its"):
        open_data_set(root)
    problems = CollectedProblems()
    assert len(open_data_set(root, problems=problems)) == 1
    (problem,) = problems.errors()
    assert problem.kind == "missing-image"
    (root / "train/ann/b.png.json").unlink()
    with pytest.raises(ValueError, match="no image of it has a JSON file"):
        open_data_set(root, problems=problems)


def test_objects_without_area_are_warned_of(root):
    classes = [*mask_trees.CLASSES, {"title": "tip", "shape": "point"}, {"title": "any", "shape": "any"}]
    (root / "meta.json").write_text(json.dumps({"classes": classes}))
    annotation(root / "train/ann/a.jpeg.json", POLYGON, figure("point", [[1, 1]], title="any"))
    problems = CollectedProblems(thorough=True)
    images = open_data_set(root, problems=problems)
    assert (len(images[0].target), problems.count("error")) == (1, 0)
    (found,) = problems.as_dicts()
    assert found["kind"] == "empty-annotation"
    assert [(entry["file"].removeprefix(f"{root}/"), entry["detail"]) for entry in found["listed"]] == [
        ("meta.json", "the class 'tip' is of the shape 'point', which has no area: its objects are left out."),
        ("train/ann/a.jpeg.json", "objects[1] is of the shape 'point', which has no area; it is left out."),
    ]
