# SPDX-License-Identifier: Apache-2.0
"""COCO panoptic files: what is wrong is said with its place; the damages show each kind."""

from tests.checking.data_sets import coco_panoptic, edit_json
from unisegment.checking.panoptic_file import check_panoptic_file
from unisegment.data.problems import CollectedProblems


def check(root, change=lambda content: None, by_city=False):
    coco_panoptic(root)
    file = root / "annotations/panoptic_train.json"
    edit_json(file, change)
    findings = CollectedProblems()
    entries = check_panoptic_file(file, root / "train", root / "maps", by_city, findings)
    return entries, {found["kind"]: [item["detail"] for item in found["listed"]] for found in findings.as_dicts()}


def test_the_files_of_a_sound_data_set(tmp_path):
    entries, found = check(tmp_path)
    assert found == {}
    assert len(entries) == 4
    assert entries[2].image == tmp_path / "train/c.jpg"
    assert entries[2].label_map == tmp_path / "maps/c.png"
    assert entries[2].size == (41, 43)
    assert entries[2].segment_ids == [70_000, 280_000, 630_000]


def test_images_may_lie_by_city(tmp_path):
    def rename(content):
        content["images"][1]["file_name"] = "bonn_7_photo.png"

    entries, _ = check(tmp_path, rename, by_city=True)
    assert entries[1].image == tmp_path / "train/bonn/bonn_7_photo.png"


def test_all_of_it_is_said_at_once(tmp_path):
    def damage(content):
        annotations = content["annotations"]
        annotations[0]["image_id"] = 70
        annotations[1]["segments_info"][0].update(category_id=5, iscrowd="no")
        annotations[1]["segments_info"][2].update(category_id=5)
        annotations[2]["segments_info"][1]["id"] = 0
        annotations[3]["segments_info"][1]["id"] = 70_000
        annotations.append({"image_id": 4})

    entries, found = check(tmp_path, damage)
    assert [entries[place].image.name for place in range(len(entries))] == ["b.jpg", "c.jpg", "d.jpg"]
    assert found == {
        "wrong-structure": ["annotations[4]: file_name is missing"],
        "unknown-category": ["2 segments are of a category 5, first in annotations[1] (b.png)"],
        "unknown-image": ["annotations[0] (a.png): there is no image 70"],
        "unannotated-image": ["a.jpg is left out"],
        "odd-iscrowd": ["annotations[1] (b.png): iscrowd must be 0 or 1, or false or true, got 'no'"],
        "duplicate-segment-id": ["annotations[3] (d.png): id 70000"],
        "id-too-large": [
            "annotations[2] (c.png): id 0; a PNG file of three channels holds 1 to 16777215, and 0 is void"
        ],
    }
