# SPDX-License-Identifier: Apache-2.0
"""Objects in YOLO's text files: read line by line as the format's page says, and filled by pycocotools."""

import numpy as np
import pytest
import yaml
from pycocotools import mask as coco_mask

from tests.data.writing.scenes import CATEGORIES, Scenes, mask_of, target_of, write
from unisegment.data.writing.data_set_writer import WrittenImage
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


def test_coordinates_of_large_images_are_exact_to_a_hundredth_of_a_pixel(tmp_path):
    """Read in double precision, and in single precision as Ultralytics does."""
    size = (2, 65_535)
    boxes = [(0, left, 2, left + 3) for left in range(0, 65_000, 977)]
    target = target_of(size, *((0, False, mask_of(size, box)) for box in boxes))
    image = WrittenImage(1, "a", "a.png", size)
    YoloSegmentationWriter(tmp_path, CATEGORIES).write("train", image, target)
    lines = (tmp_path / "labels/train/a.txt").read_text().splitlines()
    for line, (_, left, _, right) in zip(lines, boxes, strict=True):
        for dtype in (np.float32, np.float64):
            x = np.array(line.split()[1::2], dtype) * dtype(size[1])
            np.testing.assert_allclose(sorted(x), [left, left, right, right], atol=0.01)
