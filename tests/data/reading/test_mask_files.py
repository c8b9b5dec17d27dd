# SPDX-License-Identifier: Apache-2.0
"""Files of masks: what is wrong with one is a problem of that file, in words that name nothing twice."""

import numpy as np
import pytest
from PIL import Image

from unisegment.data.problems import DataError, MissingDataError
from unisegment.data.reading.image_reading import ImageReading
from unisegment.data.reading.mask_files import open_mask


def test_masks_are_turned_as_their_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[1, 2, 3]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert np.asarray(open_mask(tmp_path / "a.png", ImageReading())).tolist() == [[1], [2], [3]]
    assert np.asarray(open_mask(tmp_path / "a.png", ImageReading("stored"))).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        (None, "missing-label-map", "there is no such file"),
        (b"", "empty-file", "it is empty: 0 bytes."),
        (b"GIF89a", "not-an-image", "it cannot be read as an image: "),
        ("JPEG", "lossy-label-map", "it is a JPEG file, which does not keep numbers"),
    ],
)
def test_what_is_no_mask_is_told(tmp_path, content, kind, text):
    file = tmp_path / "a.png"
    if content == "JPEG":
        Image.new("L", (3, 2)).save(file, content)
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(MissingDataError if content is None else DataError) as refused:
        open_mask(file, ImageReading())
    assert refused.value.problem.kind == kind
    assert str(refused.value).startswith(f"{file}: {text}")
