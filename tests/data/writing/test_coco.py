# SPDX-License-Identifier: Apache-2.0
"""What is written in COCO's formats is read by pycocotools, by panopticapi's rules and by our readers, and is equal."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.data.writing.scenes import CATEGORIES, SIZES, Scenes, mask_of, segments, target_of, write
from unisegment.data.formats import open_data_set
from unisegment.data.writing.coco import CocoInstanceWriter, CocoPanopticWriter
from unisegment.metrics import panoptic_quality_from_files


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own array class
def test_pycocotools_reads_the_objects(tmp_path):
    images = Scenes(tmp_path / "source")
    write(CocoInstanceWriter(tmp_path / "out", CATEGORIES), images)
    coco = COCO(str(tmp_path / "out/annotations/instances_train.json"))
    assert {item["id"]: item["name"] for item in coco.loadCats(coco.getCatIds())} == {7: "cow", 64: "zebra crossing"}
    assert coco.getImgIds() == [100, 101, 102, 103]
    for number, sample in enumerate(images):
        entry = coco.loadImgs(100 + number)[0]
        assert (entry["height"], entry["width"]) == SIZES[number]
        assert (tmp_path / "out/train" / entry["file_name"]).is_file()
        annotations = coco.loadAnns(coco.getAnnIds(100 + number))
        is_thing = [CATEGORIES[label].is_thing for label in sample.target.labels.tolist()]
        masks = sample.target.binary_masks().numpy()[is_thing]
        assert len(annotations) == len(masks)
        for annotation, mask, crowd in zip(annotations, masks, sample.target.is_crowd[is_thing].tolist(), strict=True):
            rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            np.testing.assert_array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
            left, top = columns[0], rows[0]
            assert annotation["bbox"] == [left, top, columns[-1] + 1 - left, rows[-1] + 1 - top]
            assert annotation["iscrowd"] == crowd
    ids = coco.getAnnIds()
    assert len({*ids}) == len(ids)


def test_objects_come_back_as_they_were(tmp_path):
    images = Scenes(tmp_path / "source")
    _, lost = write(CocoInstanceWriter(tmp_path / "out", CATEGORIES), images)
    read = open_data_set(tmp_path / "out", "coco_instance")
    things = [category for category in CATEGORIES if category.is_thing]
    assert read.categories == things
    assert [sample.image_id for sample in read] == [100, 101, 102, 103]
    assert lost == [{"stuff": 1}, {}, {}, {"stuff": 2}]
    for sample, original in zip(read, images, strict=True):
        own = [item for item in segments(original.target, CATEGORIES) if item[0] in ("cow", "zebra crossing")]
        assert segments(sample.target, things) == own
        np.testing.assert_array_equal(sample.image, original.image)


def test_panoptic_data_come_back_as_they_were(tmp_path):
    images = Scenes(tmp_path / "source")
    fitted, lost = write(CocoPanopticWriter(tmp_path / "out", CATEGORIES), images)
    root = tmp_path / "out/annotations"
    read = open_data_set(tmp_path / "out", "coco_panoptic")
    assert [(item.id, item.name, item.is_thing, item.color) for item in read.categories] == sorted(
        (item.id, item.name, item.is_thing, item.color) for item in CATEGORIES
    )
    assert [sample.image_id for sample in read] == [100, 101, 102, 103]
    for sample, target in zip(read, fitted, strict=True):
        assert segments(sample.target, read.categories) == segments(target, read.categories)
    assert read[3].target.segment_ids.tolist() == [2**24 - 1, 70_000, 12, 256]
    # What was not to be changed: the fourth image has no overlaps.
    assert segments(read[3].target, read.categories) == segments(images[3].target, CATEGORIES)
    for sample, missing in zip(images, lost, strict=True):
        masks = sample.target.binary_masks().int()
        assert missing.get("covered", 0) == int(masks.sum() - masks.amax(dim=0).sum() if len(masks) else 0)
    assert [bool(missing) for missing in lost] == [True, True, False, False]
    content = json.loads((root / "panoptic_train.json").read_text())
    for annotation in content["annotations"]:
        colors = np.asarray(Image.open(root / "panoptic_train" / annotation["file_name"])).astype(np.int64)
        ids = colors @ [1, 256, 65536]
        for segment in annotation["segments_info"]:
            assert segment["area"] == (ids == segment["id"]).sum()


def test_it_agrees_with_itself(tmp_path):
    write(CocoPanopticWriter(tmp_path / "out", CATEGORIES), Scenes(tmp_path / "source"))
    file, folder = tmp_path / "out/annotations/panoptic_train.json", tmp_path / "out/annotations/panoptic_train"
    scores = panoptic_quality_from_files(file, folder, file, folder)
    assert scores["all"]["pq"] == scores["all"]["sq"] == scores["all"]["rq"] == 1
    # The rule of panopticapi's pq_compute, written out: every segment that is no crowd must match, and none be left.
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        ids = np.asarray(Image.open(folder / annotation["file_name"])).astype(np.int64) @ [1, 256, 65536]
        listed = [segment["id"] for segment in annotation["segments_info"]]
        assert {*np.unique(ids).tolist()} - {0} == {*listed}
        assert len({*listed}) == len(listed)


def test_smaller_objects_lie_on_larger_ones_and_crowds_beneath(tmp_path):
    size = (7, 11)
    large, small, crowd = mask_of(size, (0, 0, 7, 8)), mask_of(size, (2, 2, 4, 4)), mask_of(size, (3, 3, 4, 4))
    for order in ((0, 1), (1, 0)):
        objects = [(0, False, large), (1, False, small)]
        target = target_of(size, (0, True, crowd), *(objects[place] for place in order))
        found, lost = CocoPanopticWriter(tmp_path, CATEGORIES).fitted(target)
        names = [item[0] for item in segments(found, CocoPanopticWriter(tmp_path, CATEGORIES).categories)]
        assert (names, lost) == (["cow", "zebra crossing"], {"hidden": 1, "covered": 5})
        masks = dict(zip(found.labels.tolist(), found.binary_masks().numpy(), strict=True))
        # Labels are in the order of the ids: 3, 7, 64, 300.
        np.testing.assert_array_equal(masks[2], small)
        np.testing.assert_array_equal(masks[1], large & ~small)


def test_ids_of_images_are_numbered_where_they_are_no_different_numbers(tmp_path):
    writer = CocoInstanceWriter(tmp_path, CATEGORIES)
    for ids in (["a", "b"], [3, 3], [3, "3"]):
        parts = [{"image": {"id": number}, "objects": [{"category_id": 7}] * 2} for number in ids]
        writer.finish("val", lambda parts=parts: iter(parts))
        content = json.loads((tmp_path / "annotations/instances_val.json").read_text())
        assert [item["id"] for item in content["images"]] == [1, 2]
        assert [(item["id"], item["image_id"]) for item in content["annotations"]] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def test_500_segments_keep_their_ids(tmp_path):
    size = (47, 61)
    boxes = [(row, column, row + 2, column + 2) for row in range(0, 46, 2) for column in range(0, 60, 2)][:500]
    target = target_of(size, *((0, False, mask_of(size, box)) for box in boxes))
    images = Scenes(tmp_path / "source", [target], ["a.png"])
    write(CocoPanopticWriter(tmp_path / "out", CATEGORIES), images)
    write(CocoInstanceWriter(tmp_path / "out", CATEGORIES), images)
    for to in ("coco_panoptic", "coco_instance"):
        read = open_data_set(tmp_path / "out", to)
        assert segments(read[0].target, read.categories) == segments(target, CATEGORIES)
