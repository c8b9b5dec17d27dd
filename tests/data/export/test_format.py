# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from PIL import Image

from unisegment.data.export import open_export
from unisegment.data.export.format import ExportedImage, save_png, stream_json


@pytest.mark.parametrize("content", [{"a": [], "b": [1, {"c": "ä"}]}, {"a": [2]}, [], [[1], "x"]])
def test_json_is_streamed(tmp_path, content):
    stream_json(tmp_path / "new" / "file.json", content)
    assert json.loads((tmp_path / "new" / "file.json").read_text()) == content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.json"]


def test_a_file_that_breaks_off_is_not_there(tmp_path):
    def entries():
        yield 1
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"file\.json could not be written: No space left on device\. .* Make room"):
        stream_json(tmp_path / "file.json", entries())
    assert list(tmp_path.iterdir()) == []


def test_pixels_come_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    save_png(tmp_path / "a.png", pixels)
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), pixels)


def test_an_image_is_named_without_its_ending():
    image = ExportedImage(3, "folder/a.b.jpg", (5, 7))
    assert image.stem == "folder/a.b"
    assert image.entry() == {"id": 3, "file_name": "folder/a.b.jpg", "height": 5, "width": 7}


def test_an_unknown_format_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="no export format 'coco', only coco_panoptic, coco_instance, coco_test_dev"):
        open_export("coco", tmp_path, [])
