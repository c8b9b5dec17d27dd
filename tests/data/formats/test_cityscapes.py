# SPDX-License-Identifier: Apache-2.0
"""Cityscapes' layout: numbers of labels, training ids and `class * 1000 + n` come to the labels worked out by hand."""

import numpy as np
import pytest

from tests.data.map_files import segments, write_image, write_map
from unisegment.data.formats import open_data_set

NAME = "aachen_000000_000019"
LABEL_IDS = [[7, 0, 4], [33, 24, 29]]
TRAIN_IDS = [[0, 255, 255], [18, 11, 255]]
# A road, a wall, two cars of which one is in two parts, a group of persons, a caravan, ego vehicle.
INSTANCE_IDS = [[7, 26000, 26001], [26000, 24, 29000], [12, 1, 33012]]


@pytest.fixture
def root(tmp_path):
    write_image(tmp_path / f"leftImg8bit/train/aachen/{NAME}_leftImg8bit.png", (2, 3))
    write_image(tmp_path / "leftImg8bit/train/bochum/bochum_000000_000313_leftImg8bit.png", (2, 3), 9)
    return tmp_path


def _write(root, kind, rows, dtype=np.uint8):
    for city, name in (("aachen", NAME), ("bochum", "bochum_000000_000313")):
        write_map(root / f"gtFine/train/{city}/{name}_gtFine_{kind}.png", rows, dtype)


@pytest.mark.parametrize(("kind", "rows"), [("labelIds", LABEL_IDS), ("labelTrainIds", TRAIN_IDS)])
def test_both_numberings_come_to_the_same_labels(root, kind, rows):
    _write(root, kind, rows)
    dataset = open_data_set(root, "cityscapes_semantic", "train")
    sample, other = dataset
    assert (sample.image_id, other.image_id) == (NAME, "bochum_000000_000313")
    assert (other.image == 9).all()
    assert sorted(segments(sample.target)) == [
        (0, False, [[1, 0, 0], [0, 0, 0]]),
        (11, False, [[0, 0, 0], [0, 1, 0]]),
        (18, False, [[0, 0, 0], [1, 0, 0]]),
    ]
    assert {label: dataset.id2label[label] for label in (0, 10, 11, 18)} == {
        0: "road", 10: "sky", 11: "person", 18: "bicycle",
    }  # fmt: skip
    assert dataset.stuff_label_ids == list(range(11))


def test_every_label_that_is_evaluated_has_its_number(root):
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    _write(root, "labelIds", [[*range(34)]] * 2)
    write_image(root / f"leftImg8bit/train/aachen/{NAME}_leftImg8bit.png", (2, 34))
    target = open_data_set(root, "cityscapes_semantic", "train")[0].target
    assert target.segment_ids.tolist() == ids
    assert target.labels.tolist() == list(range(19))


def test_label_ids_are_preferred(root):
    _write(root, "labelIds", LABEL_IDS)
    _write(root, "labelTrainIds", [[1] * 3] * 2)
    assert open_data_set(root, "cityscapes_semantic", "train")[0].target.labels.tolist() == [0, 11, 18]


def test_objects_are_told_apart_and_groups_are_crowds(root):
    for name in ("aachen/" + NAME, "bochum/bochum_000000_000313"):
        write_image(root / f"leftImg8bit/train/{name}_leftImg8bit.png", (3, 3))
    _write(root, "instanceIds", INSTANCE_IDS, np.uint16)
    dataset = open_data_set(root, "cityscapes_instance", "train")
    # Number 24 is person, 26 car, 33 bicycle: labels 0, 2 and 7 of the eight things.
    assert segments(dataset[0].target) == [
        (0, True, [[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
        (2, False, [[0, 1, 0], [1, 0, 0], [0, 0, 0]]),
        (2, False, [[0, 0, 1], [0, 0, 0], [0, 0, 0]]),
        (7, False, [[0, 0, 0], [0, 0, 0], [0, 0, 1]]),
    ]
    assert list(dataset.id2label.values()) == [
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ]  # fmt: skip
    assert dataset.stuff_label_ids == []


def test_missing_files_are_named(root):
    with pytest.raises(FileNotFoundError, match=r"no split 'train' of .*gtFine/train/\*/\*_gtFine_instanceIds\.png\."):
        open_data_set(root, "cityscapes_instance", "train")
    _write(root, "instanceIds", INSTANCE_IDS, np.uint16)
    (root / f"gtFine/train/aachen/{NAME}_gtFine_instanceIds.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"aachen/{NAME}_gtFine_instanceIds\.png: there is no such file for"):
        open_data_set(root, "cityscapes_instance", "train")
    with pytest.raises(FileNotFoundError, match=r"no split 'val' of .* leftImg8bit/val, gtFine/val, gtFine/val/\*/\*_"):
        open_data_set(root, "cityscapes_semantic", "val")
