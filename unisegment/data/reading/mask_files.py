# SPDX-License-Identifier: Apache-2.0
"""A PNG file with masks in, Pillow's image out, of the size of another one; what is wrong is a problem of that file."""

from pathlib import Path

from PIL import Image

from unisegment.data.problems import Problem
from unisegment.data.reading.image_reading import ImageReading
from unisegment.ops.image_opening import open_image
from unisegment.types import Size


def open_mask(file: Path, reading: ImageReading) -> Image.Image:
    """Return the image in a file of masks, turned as the image that it belongs to.

    Raises:
        DataError: When it is missing, cannot be read, or is a JPEG file.
    """
    if not file.is_file():
        raise Problem("missing-label-map", str(file), "there is no such file.").error()
    try:
        image = open_image(file, "it")
    except ValueError as error:
        raise Problem("broken-image", str(file), str(error)).error() from error
    if image.format in ("JPEG", "MPO"):
        detail = "it is a JPEG file, which does not keep numbers: make it again from its source, as PNG."
        raise Problem("lossy-label-map", str(file), detail).error()
    return reading.turned(image)


def check_mask_size(file: Path, size: Size, expected: Size, other: Path) -> None:
    """Raise a DataError unless a file of masks has the height and width that another file has."""
    if tuple(size) != tuple(expected):
        height, width = expected
        detail = f"it is {size[0]}x{size[1]} (height x width), but {other} is {height}x{width}: make one of them again."
        raise Problem("wrong-size", str(file), detail).error()
