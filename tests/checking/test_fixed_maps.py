# SPDX-License-Identifier: Apache-2.0
"""PNG files and what is listed for them agree afterwards; those that need no change are the same files."""

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

from tests.checking.damage_kinds import PANOPTIC
from tests.checking.data_sets import WRITERS, edit_json, write_map
from unisegment.checking import check_data
from unisegment.checking.fixing import fix_data
from unisegment.checking.sources import find_parts
from unisegment.files import WriteError
from unisegment.ops.masks import ids_to_rgb


def test_pixels_without_a_segment_become_void(tmp_path):
    WRITERS["coco_panoptic"](tmp_path / "data")
    # Segment 4 is of no category, and the pixels of 9 are in no list.
    edit_json(
        tmp_path / "data" / PANOPTIC,
        lambda content: content["annotations"][1]["segments_info"][1].update(category_id=77),
    )
    edit_json(tmp_path / "data" / PANOPTIC, lambda content: content["annotations"][1]["segments_info"].pop(2))
    changes = fix_data(find_parts([str(tmp_path / "data")]), tmp_path / "fixed")
    assert changes.counts == {"unknown-category": 1, "unlisted-segment": 1}
    for folder, values in (("data", {0, 70_000, 280_000, 630_000}), ("fixed", {0, 70_000})):
        pixels = np.asarray(Image.open(tmp_path / folder / "annotations/panoptic_train/b.png")).astype(int)
        assert {*np.unique(pixels @ [1, 256, 65536]).tolist()} == values
    report = check_data(find_parts([str(tmp_path / "fixed")]), tmp_path / "out", workers=1, pictures=0)
    assert report.num_errors == 0


def test_maps_of_another_image_stay(tmp_path):
    WRITERS["coco_panoptic"](tmp_path / "data")
    write_map(tmp_path / "data/annotations/panoptic_train/b.png", ids_to_rgb(np.full((31, 23), 5)))
    fix_data(find_parts([str(tmp_path / "data")]), tmp_path / "fixed")
    name = "annotations/panoptic_train/b.png"
    assert (tmp_path / "fixed" / name).samefile(tmp_path / "data" / name)


def test_images_of_one_id_keep_their_own_maps(tmp_path):
    WRITERS["coco_panoptic"](tmp_path / "data")

    def merge(content):
        content["images"][1]["id"] = content["annotations"][1]["image_id"] = 1
        content["annotations"].append(content["annotations"][0])

    edit_json(tmp_path / "data" / PANOPTIC, merge)
    changes = fix_data(find_parts([str(tmp_path / "data")], None, ["train"]), tmp_path / "fixed", workers=1)
    assert changes.counts == {"duplicate-image-id": 1, "duplicate-annotation": 1}
    fixed = json.loads((tmp_path / "fixed" / PANOPTIC).read_text())
    names = {image["id"]: image["file_name"][0] for image in fixed["images"]}
    assert [(names[entry["image_id"]], entry["file_name"][0]) for entry in fixed["annotations"]] == [
        (name, name) for name in "abcd"
    ]


def test_names_that_lead_out_of_the_folder_are_left_out(tmp_path):
    WRITERS["coco_panoptic"](tmp_path / "data")
    edit_json(
        tmp_path / "data" / PANOPTIC,
        lambda content: content["annotations"][1].update(file_name="../panoptic_train/b.png"),
    )
    changes = fix_data(find_parts([str(tmp_path / "data")], None, ["train"]), tmp_path / "fixed", workers=1)
    assert changes.counts == {"wrong-structure": 1}
    assert "'..'" in changes.first["wrong-structure"]


@pytest.mark.parametrize("name", ["b.png", "elsewhere.png"])
def test_links_that_lead_nowhere_are_not_copied(tmp_path, name):
    WRITERS["coco_panoptic"](tmp_path / "data")
    file = tmp_path / "data/annotations/panoptic_train/b.png"
    file.unlink()
    file.symlink_to(name)  # to itself, or to a file that is missing
    changes = fix_data(find_parts([str(tmp_path / "data")], None, ["train"]), tmp_path / "fixed", workers=1)
    assert changes.counts == {}
    maps = tmp_path / "fixed/annotations/panoptic_train"
    assert sorted(path.name for path in maps.iterdir()) == ["a.png", "c.png", "d.png"]


def test_a_disk_that_is_full_when_a_map_is_written_is_said(tmp_path, monkeypatch):
    WRITERS["coco_panoptic"](tmp_path / "data")
    edit_json(tmp_path / "data" / PANOPTIC, lambda content: content["annotations"][1]["segments_info"].pop())

    def save(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", save)  # in the processes, too, that look at the files
    with pytest.raises(WriteError, match=r"b\.png could not be written: No space left"):
        fix_data(find_parts([str(tmp_path / "data")], None, ["train"]), tmp_path / "fixed", workers=1)
    assert not list(tmp_path.glob("fixed*"))
