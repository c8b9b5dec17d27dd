# SPDX-License-Identifier: Apache-2.0
"""A whole check: what is counted, worked out by hand; what is drawn; and what happens to images that kill or hang."""

import json
import math
import os
import time

import pytest
from PIL import Image

from tests.checking.data_sets import WRITERS, edit_json, write_photo
from unisegment.checking import check_data
from unisegment.checking.parallel import _Worker
from unisegment.checking.sources import find_parts
from unisegment.data.formats.coco_instance import CocoInstance
from unisegment.data.reading.label_maps import LabelMaps


def kinds_of(part):
    return {found["kind"]: [item["file"] for item in found["listed"]] for found in part["findings"]}


def test_counts_of_an_instance_data_set(tmp_path):
    WRITERS["coco_instance"](tmp_path)
    report = check_data(find_parts([str(tmp_path)]), tmp_path / "out", workers=2, pictures=3)
    train, val = report.as_dict()["parts"]
    assert (train["name"], train["format"], train["split"]) == (f"{tmp_path}: train", "coco_instance", "train")
    assert [(part["images"], part["checked"], part["opened"]) for part in (train, val)] == [(4, 4, 4), (2, 2, 2)]
    assert (train["errors"], train["warnings"], train["findings"]) == (0, 0, [])
    pixels = 29 * 37 + 31 * 23 + 41 * 43 + 37 * 53
    assert [tuple(category.values()) for category in train["categories"]] == [
        (0, 1, "cow", True, 4, 0, 4, 4 * 121, 4 * 121 / pixels),
        (1, 4, "dog", True, 4, 0, 4, 4 * 119, 4 * 119 / pixels),
        (2, 9, "grass", False, 4, 4, 4, 4 * 7, 4 * 7 / pixels),
    ]
    assert train["segments"] == 12
    assert train["longest_sides"] == [{"from": 16, "to": 31, "count": 1}, {"from": 32, "to": 63, "count": 3}]
    assert train["segments_per_image"] == [{"from": 2, "to": 3, "count": 4}]
    assert [(item["from"], item["count"]) for item in train["root_areas"]] == [(2, 4), (4, 0), (8, 8)]
    assert train["coco_sizes"] == {"small": 12, "medium": 0, "large": 0}
    assert train["unlabelled_share"] == (pixels - 4 * 247) / pixels
    assert train["unlabelled_tenths"] == [0, 0, 0, 0, 0, 0, 1, 1, 2, 0]
    assert train["file_kinds"] == {"JPEG RGB": 4}
    with Image.open(tmp_path / "out/samples.jpg") as sheet:
        assert sheet.height > 2 * 360  # three and two pictures, two in a row
    assert json.loads((tmp_path / "out/report.json").read_text()) == report.as_dict()


def test_counts_of_a_panoptic_data_set(tmp_path):
    WRITERS["coco_panoptic"](tmp_path)
    (part,) = check_data(find_parts([str(tmp_path)], None, ["val"]), tmp_path / "out", workers=1, pictures=0).parts
    # Sizes 47x19 and 23x59, and below two void rows 7 rows of cow on the left and 12 of dog on the right.
    cow, dog, void, pixels = 7 * (9 + 29), 12 * (10 + 30), 2 * (19 + 59), 47 * 19 + 23 * 59
    assert [category["pixels"] for category in part["categories"]] == [cow, dog, pixels - cow - dog - void]
    assert [category["images"] for category in part["categories"]] == [2, 2, 2]
    assert part["unlabelled_share"] == void / pixels
    assert not (tmp_path / "out/samples.jpg").exists()


def test_a_limit_opens_images_from_all_over(tmp_path, monkeypatch):
    WRITERS["png_semantic"](tmp_path)
    for name in "bc":
        (tmp_path / f"images/train/{name}.jpg").write_bytes(b"")
    parts = find_parts([str(tmp_path)], None, ["train"])
    (part,) = check_data(parts, tmp_path / "out", workers=1, limit=2).parts
    assert (part["images"], part["checked"], part["opened"], part["findings"]) == (4, 2, 2, [])
    (part,) = check_data(parts, tmp_path / "out", workers=1, limit=99, pictures=0).parts
    assert (part["checked"], kinds_of(part)["empty-file"][0]) == (4, str(tmp_path / "images/train/b.jpg"))
    # A picture of an earlier check must not be taken for one of this.
    assert not (tmp_path / "out/samples.jpg").exists()


def test_images_that_kill_or_hang_are_named_and_the_others_checked(tmp_path, monkeypatch):
    WRITERS["png_semantic"](tmp_path)
    read = LabelMaps.__getitem__

    def suffer(self, index):
        if index == 1:
            os.kill(os.getpid(), 9)
        if index == 2:
            time.sleep(1000)
        return read(self, index)

    monkeypatch.setattr(LabelMaps, "__getitem__", suffer)
    parts = find_parts([str(tmp_path)], None, ["train"])
    begin = _Worker.begin
    # Only the one that hangs has little time: a busy machine must not make the others slow.
    monkeypatch.setattr(_Worker, "begin", lambda self, number, _: begin(self, number, 0.5 if number == 2 else 600))
    report = check_data(parts, tmp_path / "out", workers=2, timeout=600, pictures=0)
    assert kinds_of(report.parts[0]) == {
        "too-slow": [str(tmp_path / "images/train/c.jpg")],
        "process-died": [str(tmp_path / "images/train/b.jpg")],
    }
    assert report.parts[0]["opened"] == 2


def test_what_readers_should_not_raise_is_told(tmp_path, monkeypatch):
    WRITERS["coco_instance"](tmp_path)

    def fail(self, index):
        raise (ValueError, ZeroDivisionError)[index % 2]("why not")

    monkeypatch.setattr(CocoInstance, "__getitem__", fail)
    report = check_data(find_parts([str(tmp_path)], None, ["val"]), tmp_path / "out", workers=1)
    assert kinds_of(report.parts[0]) == {
        "unexpected-exception": [str(tmp_path / "val/f.jpg")],
        "unreadable-sample": [str(tmp_path / "val/e.jpg")],
    }


def test_listings_are_limited_and_everything_counted(tmp_path):
    WRITERS["coco_instance"](tmp_path)

    def repeat(content):
        content["images"] += [
            {**content["images"][0], "id": number, "file_name": f"{number}.jpg"} for number in range(9, 160)
        ]

    edit_json(tmp_path / "annotations/instances_train.json", repeat)
    report = check_data(find_parts([str(tmp_path)], None, ["train"]), tmp_path / "out", workers=2, pictures=0)
    found = {found["kind"]: found for found in report.parts[0]["findings"]}
    assert found["missing-image"]["count"] == found["unannotated-image"]["count"] == 151
    # In the order of the samples, whichever process was faster.
    names = [f"{tmp_path}/train/{number}.jpg" for number in range(9, 109)]
    assert [item["file"] for item in found["missing-image"]["listed"]] == names


def test_one_folder_for_both_parts_leaks(tmp_path):
    write_photo(tmp_path / "images/a.jpg", (29, 37))
    image = {"id": 1, "file_name": "a.jpg", "height": 29, "width": 37}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 3, 13, 3, 13, 14]]}
    content = {"categories": [{"id": 1, "name": "cow"}], "images": [image], "annotations": [annotation]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    overrides = {"data.splits": {"train": "train", "val": "train"}}
    report = check_data(find_parts([str(tmp_path)], overrides=overrides), tmp_path / "out", workers=1, pictures=0)
    assert [kinds_of(part) for part in report.parts] == [{}, {"leak": [str(tmp_path / "images/a.jpg")]}]
    # A data set without splits has nothing to evaluate on until some of it is held out.
    report = check_data(find_parts([str(tmp_path)]), tmp_path / "out", workers=1, pictures=0)
    assert [kinds_of(part) for part in report.parts] == [{}, {"nothing-held-out": [str(tmp_path)]}]
    assert report.num_errors == 0
    assert "data.val_share=0.1" in report.parts[1]["findings"][0]["listed"][0]["detail"]


@pytest.mark.parametrize(
    "settings", [{"workers": 0}, {"limit": 0}, *({"timeout": seconds} for seconds in (0, math.nan, math.inf))]
)
def test_numbers_out_of_range_are_refused(tmp_path, settings):
    with pytest.raises(ValueError, match="at least 1 worker"):
        check_data(find_parts([str(tmp_path)], "png_semantic"), tmp_path, **settings)
    with pytest.raises(ValueError, match="There must be parts"):
        check_data([], tmp_path)
