# SPDX-License-Identifier: Apache-2.0
"""An image of Pillow as it is stored in, upright as people see it out: the one place that applies EXIF data."""

from PIL import ExifTags, Image, ImageOps

from unisegment.types import Size

_QUARTER_TURNS = (5, 6, 7, 8)
"""Orientations by which height and width change places."""


def upright(image: Image.Image) -> Image.Image:
    """Return an image turned and mirrored as its EXIF data say: itself if they say nothing. The result says nothing."""
    return image if exif_orientation(image) == 1 else ImageOps.exif_transpose(image)


def upright_size(image: Image.Image) -> Size:
    """Return height and width that `upright` gives; nothing is decoded."""
    return turned_size((image.height, image.width), exif_orientation(image))


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation from 1 to 8; 1 is upright, and what is said of an image without one."""
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def turned_size(stored: Size, orientation: int) -> Size:
    """Return height and width after an EXIF orientation, of those that are stored."""
    return stored[::-1] if orientation in _QUARTER_TURNS else stored
