# SPDX-License-Identifier: Apache-2.0
"""ADE20K's semantic layout: numbers are shifted by one, 0 is unlabelled."""

import pytest

from tests.data.map_files import segments, write_image, write_map
from unisegment.data.categories import ADE20K
from unisegment.data.formats import open_data_set


@pytest.fixture
def root(tmp_path):
    write_image(tmp_path / "images/training/ADE_train_00000001.jpg", (2, 3))
    write_map(tmp_path / "annotations/training/ADE_train_00000001.png", [[0, 1, 150], [13, 13, 1]])
    write_image(tmp_path / "images/validation/ADE_val_00000001.jpg", (3, 2))
    write_map(tmp_path / "annotations/validation/ADE_val_00000001.png", [[0, 0], [0, 0], [0, 151]])
    return tmp_path


def test_labels_are_shifted_by_one(root):
    dataset = open_data_set(root, "ade20k_semantic", "train")
    (sample,) = dataset
    assert sample.image_id == "ADE_train_00000001"
    assert segments(sample.target) == [
        (0, False, [[0, 1, 0], [0, 0, 1]]),
        (12, False, [[0, 0, 0], [1, 1, 0]]),
        (149, False, [[0, 0, 1], [0, 0, 0]]),
    ]
    assert {label: dataset.id2label[label] for label in (0, 12, 149)} == {0: "wall", 12: "person", 149: "flag"}
    assert dataset.stuff_label_ids == [label for label, name in enumerate(ADE20K) if not ADE20K[name]]
    assert len(dataset.stuff_label_ids) == 50


def test_other_numbers_are_refused(root):
    with pytest.raises(ValueError, match=r"numbers \[151\], .*categories \(1 to 150\), or void \(0\)"):
        open_data_set(root, "ade20k_semantic", "val")[0]
