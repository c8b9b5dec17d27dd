# SPDX-License-Identifier: Apache-2.0
"""Pascal VOC's folders, as the challenge, CVAT and labelme write them: which images, which labels, which objects."""

import numpy as np
import pytest

from tests.data import mask_trees
from unisegment import open_data_set
from unisegment.data.formats import guess_format
from unisegment.data.problems import CollectedProblems
from unisegment.ops.masks import boxes_from_masks, segment_areas

VOC = "VOCdevkit/VOC2012"


def _described(images, index=0):
    """Return name, box and area of each thing of an image, and the areas of stuff."""
    target = images[index].target
    boxes = boxes_from_masks(target.binary_masks()).tolist()
    found = zip(target.labels.tolist(), boxes, segment_areas(target).tolist(), strict=True)
    things = [(images.id2label[label], box, area) for label, box, area in found]
    return [one for one in things if one[0] != "background"], [one[2] for one in things if one[0] == "background"]


@pytest.mark.parametrize("place", ["", "VOC2012", VOC])
def test_the_challenge(tmp_path, place):
    mask_trees.pascal_voc(tmp_path / place)
    assert guess_format(tmp_path) == "pascal_voc"
    parts = {split: open_data_set(tmp_path, None, split) for split in ("train", "val", "trainval")}
    assert {split: [images[index].image_id for index in range(len(images))] for split, images in parts.items()} == {
        "train": ["2007_000032", "2007_000063"],
        "val": ["2007_000039"],
        "trainval": ["2007_000032", "2007_000039", "2007_000063"],
    }
    train = parts["train"]
    assert len(train.categories) == 21
    assert (train.id2label[0], train.id2label[1], train.id2label[20]) == ("background", "aeroplane", "tvmonitor")
    assert train.stuff_label_ids == [0]
    # 240 pixels, of which 8 x 6 are the bicycle with its border of 24, and 15 the person
    assert _described(train) == (
        [("bicycle", [2, 3, 8, 7], 24), ("person", [10, 5, 13, 10], 15)],
        [240 - 48 - 15],
    )


def test_classes_alone_are_semantic(tmp_path):
    mask_trees.pascal_voc(tmp_path / VOC, objects=False)
    assert guess_format(tmp_path) == "pascal_voc_semantic"
    images = open_data_set(tmp_path, split="val")
    assert (len(images), len(images.categories)) == (1, 21)
    assert _described(images)[0] == [("bicycle", [2, 3, 8, 7], 24), ("person", [10, 5, 13, 10], 15)]


def test_semantic_may_be_asked_for_where_there_are_objects(tmp_path):
    mask_trees.pascal_voc(tmp_path)
    for name in ("2007_000032", "2007_000063"):
        mask_trees.palette_png(tmp_path / f"SegmentationClass/{name}.png", mask_trees.array(15, 15))
    target = open_data_set(tmp_path, "pascal_voc_semantic")[0].target
    assert (target.labels.tolist(), segment_areas(target).tolist()) == ([0, 15], [240 - 39, 39])


def test_background_can_be_void(tmp_path):
    mask_trees.pascal_voc(tmp_path)
    images = open_data_set(tmp_path, void_ids=[0])
    assert (len(images.categories), images.stuff_label_ids, images[0].target.labels.tolist()) == (20, [], [1, 14])


def test_cvat_masks(tmp_path):
    mask_trees.cvat_masks(tmp_path)
    assert guess_format(tmp_path) == "pascal_voc"
    images = open_data_set(tmp_path)
    assert images.id2label == {0: "background", 1: "car", 2: "cat"}
    assert [category.color for category in images.categories] == [(0, 0, 0), (10, 128, 0), (0, 108, 128)]
    assert [images[index].image_id for index in range(len(images))] == ["frame 1", "frame_2"]
    for index in range(2):
        assert _described(images, index) == (
            [("car", [2, 3, 8, 7], 24), ("cat", [10, 5, 13, 10], 15)],
            [240 - 39],
        )
    with pytest.raises(FileNotFoundError, match=r"no split 'val' .*data\.val_share"):
        open_data_set(tmp_path, split="val")
    assert [len(open_data_set(tmp_path, split=split, val_share=0.5)) for split in ("train", "val")] == [1, 1]


def test_cvat_has_parts_and_images_that_nobody_has_annotated(tmp_path):
    mask_trees.cvat_masks(tmp_path)
    mask_trees.image(tmp_path / "JPEGImages/new.jpg")
    mask_trees.split_list(tmp_path, "Train", "cam/frame_2", "new")
    mask_trees.split_list(tmp_path, "Validation", '"frame 1"')
    (tmp_path / "ImageSets/Segmentation/default.txt").unlink()
    problems = CollectedProblems(thorough=True)
    parts = [open_data_set(tmp_path, None, split, problems=problems) for split in ("train", "val")]
    assert [(len(images), images[0].image_id) for images in parts] == [(1, "frame_2"), (1, "frame 1")]
    (found,) = problems.as_dicts()
    assert (found["kind"], found["listed"][0]["file"]) == ("unannotated-image", str(tmp_path / "JPEGImages/new.jpg"))
    (tmp_path / "SegmentationObject/cam/frame_2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"SegmentationObject/cam/frame_2\.png: there is no such file"):
        open_data_set(tmp_path)


def test_names_of_classes_without_colors(tmp_path):
    """As labelme's script writes them: no lists, and the background first."""
    mask_trees.pascal_voc(tmp_path)
    for file in (tmp_path / "ImageSets/Segmentation").iterdir():
        file.unlink()
    (tmp_path / "class_names.txt").write_text("_background_\na\nb")
    for name in ("2007_000032", "2007_000039", "2007_000063"):
        mask_trees.palette_png(tmp_path / f"SegmentationClass/{name}.png", mask_trees.array(2, 1))
    images = open_data_set(tmp_path)
    assert (len(images), images.id2label) == (3, {0: "_background_", 1: "a", 2: "b"})
    assert images.stuff_label_ids == [0]
    areas = dict(zip(images[0].target.labels.tolist(), segment_areas(images[0].target).tolist(), strict=True))
    assert areas == {0: 240 - 48 - 15, 2: 24, 1: 15}


@pytest.mark.parametrize(
    ("label_map", "expected"),
    [
        ("car:10,128,0::\n\ncat:0,108,128::\n", ["background", "car", "cat"]),  # black is background, though not listed
        ("cat:0,108,128\nbackground:0,128,0::\ncar:10,128,0", ["background", "cat", "car"]),
        ("car:10,128,0\nnothing:0,0,0\ncat:0,108,128", ["nothing", "car", "cat"]),
    ],
)
def test_background_comes_first(tmp_path, label_map, expected):
    mask_trees.cvat_masks(tmp_path)
    (tmp_path / "labelmap.txt").write_text(label_map)
    images = open_data_set(tmp_path)
    assert ([*images.id2label.values()], images.stuff_label_ids) == (expected, [0])
    areas = dict(zip(images[0].target.labels.tolist(), segment_areas(images[0].target).tolist(), strict=True))
    assert areas == {0: 240 - 39, expected.index("car"): 24, expected.index("cat"): 15}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dog:1,2", "got 'dog:1,2'"),
        ("dog:1,2,256", "got 'dog:1,2,256': a level is out of range"),
        ("dog:red", "got 'dog:red'"),
        (":1,2,3", "name must be a text"),
        ("cat:1,2,3", "that of a class before it"),
        ("dog:0,108,128", "that of a class before it"),
    ],
)
def test_other_label_maps_are_refused(tmp_path, line, message):
    mask_trees.cvat_masks(tmp_path)
    with (tmp_path / "labelmap.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match=rf"labelmap\.txt: line \d must be name:red,green,blue, .*{message}"):
        open_data_set(tmp_path)


def test_what_is_missing_is_said_or_left_out(tmp_path):
    mask_trees.pascal_voc(tmp_path)
    mask_trees.split_list(tmp_path, "train", "2007_000032", "2009_1", "2008_000001", "../x", "2007_000063")
    (tmp_path / "SegmentationObject/2007_000063.png").unlink()
    problems = CollectedProblems()
    images = open_data_set(tmp_path, problems=problems)
    assert [images[index].image_id for index in range(len(images))] == ["2007_000032"]
    assert [(problem.kind, problem.file.removeprefix(f"{tmp_path}/")) for problem in problems.errors()] == [
        ("wrong-structure", "ImageSets/Segmentation/train.txt"),
        ("missing-image", "JPEGImages/2009_1.jpg"),
        ("missing-label-map", "SegmentationClass/2008_000001.png"),
        ("missing-label-map", "SegmentationObject/2007_000063.png"),
    ]
    assert problems.errors()[-1].image == str(tmp_path / "JPEGImages/2007_000063.jpg")
    with pytest.raises(ValueError, match=r"train\.txt: line 4: '\.\./x' is no name of a file"):
        open_data_set(tmp_path)
    mask_trees.split_list(tmp_path, "train", "2007_000063", "2007_000063")
    with pytest.raises(FileNotFoundError, match=r"SegmentationObject/2007_000063\.png: .*off the list"):
        open_data_set(tmp_path)
    mask_trees.split_list(tmp_path, "train")
    with pytest.raises(ValueError, match=r"no annotated images"):
        open_data_set(tmp_path)


def test_an_image_that_is_listed_twice_counts_once(tmp_path):
    mask_trees.pascal_voc(tmp_path)
    mask_trees.split_list(tmp_path, "val", "2007_000039", "2007_000039", "2007_000063")
    problems = CollectedProblems(thorough=True)
    images = open_data_set(tmp_path, split="val", problems=problems)
    assert [images[index].image_id for index in range(len(images))] == ["2007_000039", "2007_000063"]
    assert [found["kind"] for found in problems.as_dicts()] == ["duplicate-image-name"]


def test_lists_and_maps_may_lie_elsewhere(tmp_path):
    """As the further annotations of Pascal VOC (SBD) do, `SegmentationClassAug` and `train_aug.txt`."""
    mask_trees.pascal_voc(tmp_path)
    mask_trees.palette_png(tmp_path / "SegmentationClassAug/2007_000063.png", mask_trees.array(7, 7))
    (tmp_path / "train_aug.txt").write_text("2007_000063\n")
    images = open_data_set(
        tmp_path, "pascal_voc_semantic", annotations="train_aug.txt", segments="SegmentationClassAug"
    )
    assert (len(images), images[0].target.labels.tolist()) == (1, [0, 7])


def test_lists_without_the_split_are_no_tree_without_splits(tmp_path):
    mask_trees.pascal_voc(tmp_path)
    (tmp_path / "ImageSets/Segmentation/train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"Segmentation has no list of 'train', only trainval\.txt, val"):
        open_data_set(tmp_path)


def test_two_years_beside_each_other_are_told_apart(tmp_path):
    for year in (2007, 2012):
        mask_trees.pascal_voc(tmp_path / f"VOCdevkit/VOC{year}")
    with pytest.raises(ValueError, match=r"holds VOCdevkit/VOC2007.* and VOCdevkit/VOC2012.*: open one data set"):
        open_data_set(tmp_path)


def test_images_that_are_read_are_those_of_the_list(tmp_path):
    mask_trees.pascal_voc(tmp_path)
    mask_trees.image(tmp_path / "JPEGImages/2007_000063.jpg", value=200)
    images = open_data_set(tmp_path)
    assert np.abs(images[1].image.astype(int) - 200).max() <= 2
    assert images.files(1).image == tmp_path / "JPEGImages/2007_000063.jpg"
