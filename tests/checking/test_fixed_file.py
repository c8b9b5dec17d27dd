# SPDX-License-Identifier: Apache-2.0
"""A file is written again entry by entry: what needs no change stays, whatever else the file holds."""

import json

import pytest

from tests.checking.damage_kinds import INSTANCES
from tests.checking.data_sets import WRITERS, edit_json
from unisegment.checking.fixing import fix_data
from unisegment.checking.sources import find_parts


def test_everything_at_once_by_hand(tmp_path):
    WRITERS["coco_instance"](tmp_path / "data")

    def break_it(content):
        content.update(info={"year": 2026}, licenses=[{"id": 1, "name": "CC0"}])
        content["images"][1].update(height=99, date="today")
        annotations = content["annotations"]
        annotations[0].update(segmentation=[[-5, 3, 13, 3, 13, 14, -5, 14]], note="kept")
        annotations[1].update(id=1, iscrowd="1")
        annotations[3].update(segmentation=[])
        annotations[4].update(category_id=77)
        annotations[5].update(image_id=77)

    edit_json(tmp_path / "data" / INSTANCES, break_it)
    changes = fix_data(find_parts([str(tmp_path / "data")]), tmp_path / "fixed")
    assert changes.counts == {
        "wrong-size": 1, "outside-image": 1, "duplicate-annotation-id": 1, "odd-iscrowd": 1, "empty-annotation": 1,
        "unknown-category": 1, "unknown-image": 1,
    }  # fmt: skip
    content = json.loads((tmp_path / "fixed" / INSTANCES).read_text())
    assert (content["info"], content["licenses"]) == ({"year": 2026}, [{"id": 1, "name": "CC0"}])
    assert content["images"][1] == {"id": 2, "file_name": "b.jpg", "height": 31, "width": 23, "date": "today"}
    first, second, third, *others = content["annotations"]
    assert (first["bbox"], first["area"], first["note"]) == ([0, 3, 13, 11], 143, "kept")
    assert (second["id"], second["iscrowd"]) == (13, 1)
    assert (third["id"], [entry["id"] for entry in others]) == (3, [7, 8, 9, 10, 11, 12])


@pytest.mark.parametrize("order", ["annotations images categories", "categories annotations images"])
def test_lists_may_come_in_any_order(tmp_path, order):
    WRITERS["coco_instance"](tmp_path / "data")
    file = tmp_path / "data" / INSTANCES
    content = json.loads(file.read_text())
    content["annotations"][2]["id"] = 1
    file.write_text(json.dumps({key: content[key] for key in order.split()}))
    fix_data(find_parts([str(tmp_path / "data")], None, ["train"]), tmp_path / "fixed", workers=1)
    fixed = json.loads((tmp_path / "fixed" / INSTANCES).read_text())
    content["annotations"][2]["id"] = 13
    assert list(fixed) == [*order.split(), "info"]
    assert fixed == {**content, "info": {}}


def test_entries_that_are_none_are_left_out(tmp_path):
    WRITERS["coco_instance"](tmp_path / "data")
    edit_json(tmp_path / "data" / INSTANCES, lambda content: [content[key].insert(0, 7) for key in (*content,)])
    changes = fix_data(find_parts([str(tmp_path / "data")], None, ["train"]), tmp_path / "fixed", workers=1)
    assert changes.counts == {"wrong-structure": 3}
    fixed = json.loads((tmp_path / "fixed" / INSTANCES).read_text())
    assert [len(fixed[key]) for key in ("categories", "images", "annotations")] == [3, 4, 12]


def test_lists_that_become_empty_are_lists(tmp_path):
    WRITERS["coco_instance"](tmp_path / "data")
    edit_json(tmp_path / "data" / INSTANCES, lambda content: content.update(annotations=[]))
    fix_data(find_parts([str(tmp_path / "data")], None, ["train"]), tmp_path / "fixed", workers=1)
    assert json.loads((tmp_path / "fixed" / INSTANCES).read_text())["annotations"] == []


def test_images_are_found_as_readers_find_them(tmp_path):
    WRITERS["coco_instance"](tmp_path / "data")
    (tmp_path / "data/train/b.jpg").rename(tmp_path / "data/train/b c.jpg")
    names = ["/data/upload/1/a.jpg", "train\\b%20c.jpg", "c.jpg", "d.jpg"]

    def rename(content):
        for image, name in zip(content["images"], names, strict=True):
            image.update(file_name=name, height=7)

    edit_json(tmp_path / "data" / INSTANCES, rename)
    fix_data(find_parts([str(tmp_path / "data")], None, ["train"]), tmp_path / "fixed", workers=1)
    images = json.loads((tmp_path / "fixed" / INSTANCES).read_text())["images"]
    assert [(image["file_name"], image["height"]) for image in images] == [*zip(names, (29, 31, 41, 37), strict=True)]
