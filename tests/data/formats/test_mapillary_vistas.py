# SPDX-License-Identifier: Apache-2.0
"""Mapillary Vistas' semantic layout: numbers are labels, 65 is unlabelled."""

import pytest

from tests.data.map_files import segments, write_image, write_map
from unisegment.data.formats import open_data_set


@pytest.mark.parametrize("folder", ["validation/labels", "validation/v1.2/labels"])
def test_65_is_void(tmp_path, folder):
    write_image(tmp_path / "validation/images/x_-y.jpg", (2, 3))
    write_map(tmp_path / folder / "x_-y.png", [[0, 64, 65], [65, 65, 27]])
    dataset = open_data_set(tmp_path, "mapillary_vistas_semantic", "val")
    (sample,) = dataset
    assert sample.image_id == "x_-y"
    assert segments(sample.target) == [
        (0, False, [[1, 0, 0], [0, 0, 0]]),
        (27, False, [[0, 0, 0], [0, 0, 1]]),
        (64, False, [[0, 1, 0], [0, 0, 0]]),
    ]
    assert len(dataset.id2label) == 65
    assert {label: dataset.id2label[label] for label in (0, 27, 64)} == {0: "Bird", 27: "Sky", 64: "Ego Vehicle"}
    assert len(dataset.stuff_label_ids) == 28


def test_66_is_no_label(tmp_path):
    write_image(tmp_path / "training/images/a.jpg", (2, 3))
    write_map(tmp_path / "training/labels/a.png", [[0, 66, 65]] * 2)
    with pytest.raises(ValueError, match=r"numbers \[66\], .*categories \(0 to 64\), or void \(65\)"):
        open_data_set(tmp_path, "mapillary_vistas_semantic", "train")[0]
