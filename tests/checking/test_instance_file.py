# SPDX-License-Identifier: Apache-2.0
"""COCO instance files: what is wrong is said with the annotation and the image; the damages show each kind."""

from pathlib import Path

from tests.checking.data_sets import coco_instance, edit_json
from unisegment.checking.instance_file import check_instance_file
from unisegment.data.problems import CollectedProblems


def check(root, change=lambda content: None):
    coco_instance(root)
    file = root / "annotations/instances_train.json"
    edit_json(file, change)
    findings = CollectedProblems()
    entries = check_instance_file(file, root / "train", findings)
    return entries, {found["kind"]: [item["detail"] for item in found["listed"]] for found in findings.as_dicts()}


def test_the_files_of_a_sound_data_set(tmp_path):
    entries, found = check(tmp_path)
    assert found == {}
    assert len(entries) == 4
    assert entries[1].image == tmp_path / "train/b.jpg"
    assert entries[1].size == (31, 23)
    assert entries[1].num_annotations == 3
    assert entries.source == Path(tmp_path / "annotations/instances_train.json")


def test_lists_may_come_in_any_order(tmp_path):
    def turn_around(content):
        content["annotations"][4]["segmentation"] = [[1, 15, 30, 15, 30, 22, 1, 22]]
        for key in ("categories", "images"):
            content[key] = content.pop(key)

    _, found = check(tmp_path, turn_around)
    assert found["outside-image"] == [
        "annotations[4] (id 5, b.jpg): partly outside: x 1.0 to 30.0 of 23, y 15.0 to 22.0 of 31"
    ]


def test_all_of_it_is_said_at_once(tmp_path):
    def damage(content):
        annotations = content["annotations"]
        annotations[0]["image_id"] = 70
        annotations[1]["category_id"] = "dog"
        annotations[2]["segmentation"] = {"size": [37, 29], "counts": [37 * 29 - 5, 5]}
        annotations[3].update(bbox=[2, 3, 13, 14], area=1)
        del annotations[4]["segmentation"]
        annotations[6] = {**annotations[6], "segmentation": [[80, 3, 86, 3, 86, 14]], "bbox": None, "area": None}
        annotations.append({**annotations[7], "id": 99})

    entries, found = check(tmp_path, damage)
    assert len(entries) == 4
    assert [entry.num_annotations for entry in (entries[0], entries[1])] == [1, 2]
    assert found == {
        "wrong-structure": [
            "annotations[1]: category_id must be a whole number of 64 bits, got 'dog'",
            "annotations[4]: segmentation is missing",
        ],
        "unknown-image": ["annotations[0] (id 1, image 70): no image has the id of this one"],
        "wrong-run-length-size": [
            "annotations[2] (id 3, a.jpg): its size is [37, 29], that of the image [29, 37] (height, width)"
        ],
        "box-disagrees": ["annotations[3] (id 4, image 2): bbox is [2, 3, 13, 14], its shape's [2.0, 3.0, 11.0, 11.0]"],
        "area-disagrees": ["annotations[3] (id 4, image 2): area is 1, its shape's 121"],
        "outside-image": [
            "annotations[6] (id 7, c.jpg): wholly outside: x 80.0 to 86.0 of 43, y 3.0 to 14.0 of 41",
        ],
        "duplicate-annotation": [
            "annotations[12] (id 99, c.jpg): an annotation before has the same image, category and shape"
        ],
    }


def test_wild_numbers_are_survived(tmp_path):
    def damage(content):
        content["annotations"][0].update(bbox=[float("inf"), 0, -float("inf"), float("nan")], area=1e300)
        content["annotations"][3]["segmentation"] = [[1e300, 3, 13, 3e300, -1e300, 14]]

    assert check(tmp_path, damage)[1].keys() == {"box-disagrees", "area-disagrees", "bad-polygon"}


def test_small_differences_are_let_pass(tmp_path):
    def change(content):
        content["annotations"][0].update(bbox=[1.1, 2.2, 12, 13], area=190.5)
        content["annotations"][1]["segmentation"] = [[-0.5, 15, 18, 15, 18, 22, -0.5, 22]]
        content["annotations"][3].update(bbox=None, area="large")
        # What the reader takes is no error.
        content["annotations"][4].update(id=[3], image_id=2.0, category_id=4.0)
        content["categories"][0]["id"] = "1"

    assert check(tmp_path, change)[1] == {}
