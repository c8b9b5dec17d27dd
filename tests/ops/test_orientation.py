# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from PIL import Image, ImageOps

from unisegment.ops.orientation import exif_orientation, upright, upright_size


def turned(orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    image.getexif()[0x0112] = orientation
    return image


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 77])
def test_images_are_turned_as_pillow_does_once(orientation):
    image = turned(orientation)
    expected = ImageOps.exif_transpose(image)
    assert np.asarray(upright(image)).tolist() == np.asarray(expected).tolist()
    assert upright_size(image) == (expected.height, expected.width)
    assert exif_orientation(image) == (orientation if orientation in range(1, 9) else 1)
    assert upright(upright(image)).tobytes() == expected.tobytes()


def test_an_upright_image_is_not_copied():
    image = turned(1)
    assert upright(image) is image


@pytest.mark.parametrize("read", [exif_orientation, upright, upright_size])
def test_broken_exif_data_are_a_value_error(read):
    image = Image.fromarray(np.zeros((5, 7), dtype=np.uint8))
    image.info["exif"] = b"Exif\0\0P6 99999"
    with pytest.raises(ValueError, match="EXIF data"):
        read(image)
