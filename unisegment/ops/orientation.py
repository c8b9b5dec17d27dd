# SPDX-License-Identifier: Apache-2.0
"""An image of Pillow as it is stored in, upright as people see it out: the one place that applies EXIF data."""

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import ExifTags, Image, ImageOps

from unisegment.types import Size

_QUARTER_TURNS = (5, 6, 7, 8)
"""Orientations by which height and width change places."""


def upright(image: Image.Image) -> Image.Image:
    """Return an image turned and mirrored as its EXIF data say: itself if they say nothing. The result says nothing.

    Raises:
        ValueError: When they are broken.
    """
    if exif_orientation(image) == 1:
        return image
    with _broken_exif():
        return ImageOps.exif_transpose(image)


def upright_size(image: Image.Image) -> Size:
    """Return height and width that `upright` gives; nothing is decoded."""
    return turned_size((image.height, image.width), exif_orientation(image))


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation from 1 to 8; 1 is upright, and what is said of an image without one.

    Raises:
        ValueError: When its EXIF data are broken.
    """
    with _broken_exif():
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def turned_size(stored: Size, orientation: int) -> Size:
    """Return height and width after an EXIF orientation, of those that are stored."""
    return stored[::-1] if orientation in _QUARTER_TURNS else stored


@contextmanager
def _broken_exif() -> Iterator[None]:
    """Turn what Pillow's reader of EXIF data raises, SyntaxError, struct.error and others, into a ValueError."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"the EXIF data of the image cannot be read ({error}): write it anew without them.") from error
