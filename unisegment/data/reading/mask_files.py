# SPDX-License-Identifier: Apache-2.0
"""A PNG file of labels, objects or a mask in, Pillow's image out; what is wrong is a problem of that file."""

from pathlib import Path

from PIL import Image

from unisegment.data.reading.image_problems import absence, lossy, unreadable
from unisegment.data.reading.image_reading import ImageReading
from unisegment.ops.image_opening import open_image


def open_mask(file: Path, reading: ImageReading) -> Image.Image:
    """Return the image in a PNG file, turned as the image that it belongs to.

    Raises:
        FileNotFoundError: When it is missing.
        DataError: When it cannot be read, or is a JPEG file.
    """
    if not file.is_file() and (problem := absence(file, "missing-label-map")) is not None:
        raise problem.error()
    try:
        image = open_image(file)
    except ValueError as error:
        raise unreadable(file, error).error() from error
    if (problem := lossy(file, image.format)) is not None:
        raise problem.error()
    turned: Image.Image = reading.turned(image)
    return turned
