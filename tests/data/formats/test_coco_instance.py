# SPDX-License-Identifier: Apache-2.0
"""COCO's instance format: polygons, run lengths and crowds become the masks worked out by hand."""

import copy
import json
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from unisegment.data.formats import open_data_set
from unisegment.data.formats.coco_instance import CocoInstance
from unisegment.data.problems import CollectedProblems, DataError

# Categories are listed out of order and their ids have gaps. Images are not square.
CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
LEFT = np.array([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=bool)
MIDDLE = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0]], dtype=bool)
CROWD = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]], dtype=bool)
RLE = coco_mask.encode(np.asfortranarray(MIDDLE, dtype=np.uint8))["counts"].decode()
ANNOTATIONS = [
    {"id": 7, "image_id": 30, "category_id": 18, "iscrowd": 0, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]},
    {"id": 9, "image_id": 20, "category_id": 1, "segmentation": [[0, 0, 1, 0, 1, 2, 0, 2], [1, 2, 2, 2, 2, 4, 1, 4]]},
    {"id": 5, "image_id": 30, "category_id": 90, "iscrowd": 0, "segmentation": {"size": [3, 5], "counts": RLE}},
    # Runs go down the columns: nine pixels outside, one inside, two outside, three inside.
    {"id": 6, "image_id": 30, "category_id": 1, "iscrowd": 1, "segmentation": {"size": [3, 5], "counts": [9, 1, 2, 3]}},
]
CONTENT = {
    "info": {},
    "images": [
        {"id": 20, "file_name": "b.jpg", "height": 4, "width": 2},
        {"id": 30, "file_name": "a.jpg", "height": 3, "width": 5},
        {"id": 10, "file_name": "c.jpg", "height": 2, "width": 3},
    ],
    "annotations": ANNOTATIONS,
    "categories": CATEGORIES,
}


def _write(root, content=CONTENT, annotations="instances.json", images="images"):
    (root / images).mkdir(parents=True, exist_ok=True)
    (root / annotations).parent.mkdir(parents=True, exist_ok=True)
    (root / annotations).write_text(json.dumps(content))
    for entry in CONTENT["images"]:
        pixels = np.full((entry["height"], entry["width"], 3), entry["id"], dtype=np.uint8)
        Image.fromarray(pixels).save(root / images / entry["file_name"], format="png")


def _open(root, content=CONTENT):
    _write(root, content)
    return open_data_set(root, "coco_instance", "train")


def test_labels_are_the_order_of_the_ids_and_all_are_things(tmp_path):
    dataset = _open(tmp_path)
    assert dataset.id2label == {0: "person", 1: "dog", 2: "toothbrush"}
    assert dataset.label_of == {1: 0, 18: 1, 90: 2}
    assert dataset.stuff_label_ids == []


def test_masks_are_those_worked_out_by_hand(tmp_path):
    second, first, empty = pickle.loads(pickle.dumps(_open(tmp_path)))
    assert [sample.image_id for sample in (second, first, empty)] == [20, 30, 10]
    assert first.file_name == str(tmp_path / "images" / "a.jpg")
    assert first.image.shape == (3, 5, 3)
    assert (first.image == 30).all()
    assert first.target.labels.tolist() == [1, 2, 0]
    assert first.target.is_crowd.tolist() == [False, False, True]
    np.testing.assert_array_equal(first.target.binary_masks(), [LEFT, MIDDLE, CROWD])
    # The first two objects share a pixel.
    assert first.target.binary_masks()[:2].all(dim=0).sum() == 1
    assert second.target.layers is None
    assert second.target.binary_masks().int().tolist() == [[[1, 0], [1, 0], [0, 1], [0, 1]]]
    assert second.target.labels.tolist() == [0]
    assert len(empty.target) == 0
    assert empty.target.size == (2, 3)


def test_lists_may_come_in_any_order(tmp_path):
    dataset = _open(tmp_path, dict(reversed(CONTENT.items())))
    assert dataset[1].target.labels.tolist() == [1, 2, 0]


def test_a_second_layer_takes_what_overlaps(tmp_path):
    """Crowd, dog and toothbrush: the third overlaps the second; of the others, none is lost."""
    content = copy.deepcopy(CONTENT)
    first, _, third, fourth = content["annotations"]
    for order, has_layers in (([fourth, first, third], True), ([fourth, first], False), ([fourth, third], False)):
        content["annotations"] = order
        target = _open(tmp_path, content)[1].target
        assert (target.layers is not None) == has_layers
        shapes = {18: LEFT, 90: MIDDLE, 1: CROWD}
        np.testing.assert_array_equal(target.binary_masks(), [shapes[entry["category_id"]] for entry in order])


def test_labels_are_known_without_reading_an_image(tmp_path):
    dataset = _open(tmp_path)
    (tmp_path / "images" / "a.jpg").unlink()
    # The person of the second image is a crowd.
    assert [dataset.labels_in(index) for index in (0, 1, -1)] == [{0}, {1, 2}, set()]


def test_objects_of_void_categories_are_left_out(tmp_path):
    _open(tmp_path)
    dataset = open_data_set(tmp_path, "coco_instance", "train", void_ids=[18])
    assert dataset.labels_in(1) == {1}
    assert dataset.id2label == {0: "person", 1: "toothbrush"}
    np.testing.assert_array_equal(dataset[1].target.binary_masks(), [MIDDLE, CROWD])
    assert dataset[1].target.labels.tolist() == [1, 0]


def test_objects_that_cover_nothing_are_left_out(tmp_path):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["segmentation"] = []
    content["annotations"][1]["segmentation"] = [[0, 0, 1, 1]]
    dataset = _open(tmp_path, content)
    assert dataset[1].target.labels.tolist() == [2, 0]
    assert len(dataset[0].target) == 0


def test_samples_can_be_counted_from_the_end(tmp_path):
    dataset = _open(tmp_path)
    assert dataset[-2].image_id == 30
    with pytest.raises(IndexError):
        dataset[3]


@pytest.mark.parametrize(
    ("annotations", "images", "split"),
    [
        ("annotations/instances_train2017.json", "train2017", "train"),
        ("annotations/instances_val.json", "val", "val"),
        ("val/_annotations.coco.json", "val", "val"),
        ("valid/_annotations.coco.json", "valid", "val"),
        ("instances.json", "images", "train"),
    ],
)
def test_folders_are_recognised(tmp_path, annotations, images, split):
    _write(tmp_path, CONTENT, annotations, images)
    assert len(list(open_data_set(str(tmp_path), "coco_instance", split))) == 3


def test_ade20k_as_the_original_writes_it(tmp_path):
    """Ids are those of the semantic labels, scattered in 0 to 149; images have names."""
    content = {
        "images": [{"id": "ADE_train_00000001", "file_name": "a.jpg", "height": 3, "width": 5}],
        "annotations": [
            {"id": 1, "image_id": "ADE_train_00000001", "iscrowd": 0, "bbox": [1, 1, 3, 2], "area": 6,
             "category_id": 149, "segmentation": {"size": [3, 5], "counts": RLE}},
        ],
        "categories": [{"id": 7, "name": "bed"}, {"id": 149, "name": "flag"}, {"id": 12, "name": "person"}],
    }  # fmt: skip
    _write(tmp_path, content, "ade20k_instance_train.json", "images/training")
    (sample,) = open_data_set(tmp_path, "ade20k_instance", "train")
    assert sample.image_id == "ADE_train_00000001"
    assert sample.target.labels.tolist() == [2]
    np.testing.assert_array_equal(sample.target.binary_masks(), [MIDDLE])


def test_an_incomplete_folder_is_refused_with_what_was_looked_for(tmp_path):
    (tmp_path / "instances.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"instances_val2017\.json, val2017;.* or instances\.json, images\."):
        open_data_set(tmp_path, "coco_instance", "val")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("annotations", 2, "segmentation"), [1, 2, 3], r"annotations\[2\]: .*list of polygons"),
        (("annotations", 2, "segmentation"), None, r"annotations\[2\]: segmentation must be a list of polygons"),
        (("annotations", 1), {"image_id": 20, "category_id": 1}, r"annotations\[1\]: segmentation is missing"),
        (("images", 1), {"id": 30}, r"images\[1\]: height is missing"),
        (("categories", 0), {"name": "cat"}, r"categories\[0\]: id is missing"),
        (("categories",), [], r"it lists no categories\."),
        (("annotations", 1, "segmentation"), {"size": [2**40, 3], "counts": [9]}, r"annotations\[1\]: size must be a"),
        (("annotations", 1, "segmentation"), {"size": [3], "counts": [9]}, r"annotations\[1\]: size must be \[height"),
        (("annotations", 1, "segmentation"), [[1, 2, [3]]], r"annotations\[1\]: a polygon must be a list of numbers"),
        (("annotations", 1, "category_id"), 2**64, r"annotations\[1\]: category_id must be a whole number of 64 bits"),
        (("annotations", 1, "image_id"), [[]], r"annotations\[1\]: image_id must be a whole number of 64 bits or a te"),
        (("annotations", 1, "iscrowd"), {}, r"annotations\[1\]: iscrowd must be 0 or 1"),
        (("images", 1, "file_name"), "a\0b.jpg", r"images\[1\]: file_name must be a text .* without NUL"),
        (("images", 1, "file_name"), "a" * 10**6, r"images\[1\]: file_name must be a text of 1 to 1024 characters"),
        (("images", 1, "id"), 2**64, r"images\[1\]: id must be a whole number of 64 bits or a text"),
        (("images", 1, "id"), "twenty", r"images\[1\]: its id is a text, but those of others are numbers"),
        (("images", 1, "height"), "3", r"images\[1\]: height must be a whole number of 32 bits"),
        (("images", 1, "width"), float("nan"), r"images\[1\]: width must be a whole number of 32 bits"),
        (("images", 1), [], r"images\[1\]: it must be an object with height"),
        (("categories", 1, "name"), ["cow"], r"categories\[1\]: the name of a category must be a text"),
        (("annotations", 0, "category_id"), 44, r"annotations\[0\] of a\.jpg: its category 44 is not listed"),
        (("annotations", 0, "image_id"), 44, r"annotations\[0\]: it is of the image 44, which is not listed"),
    ],
)
def test_another_format_is_refused(tmp_path, path, value, message):
    content = copy.deepcopy(CONTENT)
    entry = content
    for key in path[:-1]:
        entry = entry[key]
    entry[path[-1]] = value
    with pytest.raises(ValueError, match=rf"instances\.json: {message}"):
        _open(tmp_path, content)


@pytest.mark.parametrize(
    "content", [b"[" * 10**5, b'{"images": ' + b"[" * 10**5, b'{"images": ["\xff"]}', b"\xff\xfe{}"]
)
def test_what_is_no_json_is_refused(tmp_path, content):
    _write(tmp_path)
    (tmp_path / "instances.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"instances\.json: it (is not valid JSON|must hold one JSON object)"):
        open_data_set(tmp_path, "coco_instance", "train")


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 2, 0, 2, 2, 1]], "even number of finite coordinates"),
        ([[0, 0, 2, 0, 2, float("nan")]], "even number of finite coordinates"),
        ({"size": [5, 3], "counts": [15]}, r"of size \[5, 3\], but the image is \[3, 5\]"),
        ({"size": [3, 5], "counts": [9, 1, 2, 4]}, "RLE"),
        ({"size": [3, 5], "counts": "zzzz"}, "RLE"),
        ({"size": [3, 5], "counts": [16, -1]}, "RLE"),
        ({"size": [3, 5], "counts": [2**32 + 15]}, "RLE"),
        ([[0, 0, 2, 2**32, 2, 2]], r"a polygon has y = 4294967296\.0, too far outside .* y must be from -3 to 6"),
        ([[0, 0, -1e300, 0, 2, 2]], "a polygon has x = -1e\\+300, too far outside"),
    ],
)
def test_what_cannot_be_drawn_is_named_and_harms_no_other_image(tmp_path, segmentation, message):
    content = copy.deepcopy(CONTENT)
    content["annotations"][2]["segmentation"] = segmentation
    dataset = _open(tmp_path, content)
    assert dataset[0].target.labels.tolist() == [0]
    with pytest.raises(ValueError, match=rf"instances\.json: annotations\[2\] of a\.jpg cannot be drawn: .*{message}"):
        dataset[1]


def test_missing_broken_and_resized_images_are_named(tmp_path):
    dataset = _open(tmp_path)
    file = tmp_path / "images" / "a.jpg"
    Image.new("RGB", (3, 5)).save(file, format="png")
    with pytest.raises(ValueError, match=r"a\.jpg: it is 5x3 .*instances\.json says 3x5"):
        dataset[1]
    file.write_bytes(b"not an image")
    with pytest.raises(ValueError, match=rf"{file}: it cannot be read as an image"):
        dataset[1]
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{file}: there is no such file"):
        dataset[1]


def test_real_coco_is_read_as_pycocotools_reads_it(capsys):
    root = Path(os.environ.get("UNISEGMENT_COCO_SAMPLE", "/nonexistent"))
    if not root.is_dir():
        pytest.skip("UNISEGMENT_COCO_SAMPLE does not name a folder with images of COCO and their annotations")
    oracle = COCO(root / "detection.json")
    for sample in CocoInstance(root / "detection.json", root / "images"):
        annotations = oracle.loadAnns(oracle.getAnnIds(imgIds=[sample.image_id]))
        with warnings.catch_warnings():
            # pycocotools' own array class is older than numpy 2.
            warnings.simplefilter("ignore", DeprecationWarning)
            expected = [oracle.annToMask(annotation) for annotation in annotations]
        np.testing.assert_array_equal(sample.target.binary_masks(), expected)
        assert sample.target.is_crowd.tolist() == [annotation["iscrowd"] == 1 for annotation in annotations]


def _damaged(tmp_path, thorough):
    """Open a data set of three images with many things wrong; return it and what was told, by kind."""
    content = copy.deepcopy(CONTENT)
    first = content["annotations"][0]
    content["annotations"] += [
        {**first, "id": 1, "image_id": 70},
        {**first, "id": 2, "image_id": 20, "category_id": "dog"},
        {**first, "id": 3, "image_id": 20, "iscrowd": "no"},
        {**first, "id": 4, "image_id": 10, "segmentation": {"size": [3, 2], "counts": [6]}},
        {**first, "id": 7, "bbox": [0, 0, 1000, 2], "area": 1e300},
        {**first, "id": 8, "segmentation": [[-8, 0, 2, 0, 2, 2]]},
        {**first, "id": 11, "segmentation": [[0, 0, 1, 1]]},
        {**first, "id": 12, "image_id": 20, "category_id": 44},
    ]
    _write(tmp_path, content)
    (tmp_path / "images/other.png").touch()
    problems = CollectedProblems(thorough=thorough)
    dataset = CocoInstance(tmp_path / "instances.json", tmp_path / "images", problems=problems)
    return dataset, {
        found["kind"]: [item["detail"].partition(". This must")[0] for item in found["listed"]]
        for found in problems.as_dicts()
    }


def test_images_that_cannot_be_used_are_left_out_and_named_once(tmp_path):
    dataset, found = _damaged(tmp_path, thorough=False)
    assert [dataset.files(index).image.name for index in range(len(dataset))] == ["a.jpg", "c.jpg"]
    assert found == {
        "wrong-structure": ["annotations[5]: category_id must be a whole number of 64 bits, got 'dog'"],
        "unknown-image": ["annotations[4]: it is of the image 70, which is not listed."],
    }


def test_all_problems_are_told_to_those_who_want_to_know(tmp_path):
    dataset, found = _damaged(tmp_path, thorough=True)
    assert len(dataset) == 3
    assert dataset.files(0).num_annotations == 1
    assert found == {
        "wrong-structure": ["annotations[5]: category_id must be a whole number of 64 bits, got 'dog'"],
        "odd-iscrowd": ["annotations[6]: iscrowd must be 0 or 1, or false or true, got 'no'."],
        "unknown-image": ["annotations[4]: it is of the image 70, which is not listed."],
        "unknown-category": ["annotations[11] of b.jpg: its category 44 is not listed."],
        "wrong-run-length-size": [
            "annotations[7] of c.jpg cannot be drawn: run lengths are of size [3, 2], but the image is [2, 3] (height, "
            "width). Correct or remove it."
        ],
        "bad-polygon": [
            "annotations[9] of a.jpg cannot be drawn: a polygon has x = -8.0, too far outside of the image of 3x5 "
            "(height x width): x must be from -5 to 10, in pixels. Correct or remove it."
        ],
        "duplicate-annotation-id": ["2 annotations have the id 7"],
        "duplicate-annotation": [
            "annotations[8] of a.jpg: an annotation before has the same image, category and shape",
        ],
        "box-disagrees": ["annotations[8] of a.jpg: bbox is [0.0, 0.0, 1000.0, 2.0], its shape's [0.0, 0.0, 2.0, 2.0]"],
        "area-disagrees": ["annotations[8] of a.jpg: area is 1e+300, its shape's 4"],
        "degenerate-polygon": ["annotations[10] of a.jpg: a polygon of 2 points, [0.0, 0.0, 1.0, 1.0]"],
        "unlisted-image": ["nothing refers to it"],
    }
    # What is told at opening is what is raised.
    for index, kind in ((0, "wrong-structure"), (1, "bad-polygon"), (2, "wrong-run-length-size")):
        with pytest.raises(DataError) as error:
            dataset[index]
        assert error.value.problem.kind == kind
        assert error.value.problem.detail.partition(". This must")[0] in found[kind]


def test_small_differences_and_other_forms_are_let_pass(tmp_path):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0].update(id=[3], image_id=30.0, category_id=18.0, bbox=[0.5, 0, 2, 2], area=90)
    content["categories"][1]["id"] = "1"
    content["annotations"].append({**content["annotations"][0], "image_id": 10, "id": 1})
    _write(tmp_path, content)
    problems = CollectedProblems(thorough=True)
    dataset = CocoInstance(tmp_path / "instances.json", tmp_path / "images", problems=problems)
    assert problems.as_dicts() == []
    assert [len(sample.target) for sample in dataset] == [1, 3, 1]
