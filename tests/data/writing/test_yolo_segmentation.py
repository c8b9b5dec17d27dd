# SPDX-License-Identifier: Apache-2.0
"""Objects in YOLO's text files: read line by line as the format's page says, and filled by pycocotools."""

import numpy as np
import pytest
import yaml
from pycocotools import mask as coco_mask

from tests.data.writing.scenes import CATEGORIES, Scenes, write
from unisegment.data.writing.yolo_segmentation import YoloSegmentationWriter


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own array class
def test_each_object_is_a_line_with_one_polygon(tmp_path):
    images = Scenes(tmp_path / "source")
    fitted, lost = write(YoloSegmentationWriter(tmp_path / "out", CATEGORIES), images, "val")
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text()) == {
        "val": "images/val", "names": {0: "cow", 1: "zebra crossing"},
    }  # fmt: skip
    assert lost == [{"stuff": 1, "crowds": 1}, {}, {}, {"stuff": 2}]
    for path, sample, target in zip(images.paths, images, fitted, strict=True):
        lines = (tmp_path / f"out/labels/val/{path.stem}.txt").read_text().splitlines()
        assert len(lines) == len(target)
        height, width = sample.size
        for line, label, mask in zip(lines, target.labels.tolist(), target.binary_masks().numpy(), strict=True):
            name, *numbers = line.split()
            shares = np.array([float(number) for number in numbers])
            assert int(name) == label
            assert len(shares) % 2 == 0
            assert len(shares) >= 6
            assert 0 <= shares.min() <= shares.max() <= 1
            polygon = (shares.reshape(-1, 2) * [width, height]).ravel().tolist()
            filled = coco_mask.decode(coco_mask.frPyObjects([polygon], height, width))[..., 0]
            np.testing.assert_array_equal(filled, mask)


def test_numbers_are_exact_to_a_thousandth_of_a_pixel_in_single_precision(tmp_path):
    """Ultralytics reads them as float32, and images are up to 65,536 pixels wide."""
    widths = np.array([1, 17, 640, 1333, 65_535])
    for width in widths.tolist():
        corners = np.arange(0, width + 1, max(1, width // 97))
        written = np.array([float(f"{share:.10f}") for share in corners / width])
        np.testing.assert_allclose(written * width, corners, atol=1e-5)
        np.testing.assert_allclose(written.astype(np.float32) * np.float32(width), corners, atol=4e-3)
