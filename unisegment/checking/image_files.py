# SPDX-License-Identifier: Apache-2.0
"""One image file in, what it is and what is wrong with it out; its beginning is read, its pixels are not."""

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from unisegment.data.problems import Problem
from unisegment.data.reading.image_problems import absence, kind_of, unreadable
from unisegment.data.reading.image_reading import Exif
from unisegment.ops.image_opening import is_cut, open_image
from unisegment.ops.orientation import exif_orientation, turned_size
from unisegment.ops.value_range import has_more_bits
from unisegment.types import Size

_FORMATS = {
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".webp": ("WEBP",),
    ".bmp": ("BMP", "DIB"),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
}
"""Pillow's names of what the ends of file names promise."""
_UNUSUAL_MODES = {
    "CMYK": "is CMYK, made for print: its colours are converted without a profile",
    "LA": "has an alpha channel, which is dropped",
    "PA": "has an alpha channel, which is dropped",
    "RGBA": "has an alpha channel, which is dropped",
    "RGBX": "has a fourth channel, which is dropped",
    "1": "is black and white",
    "I": "has 16 bits or more, of which 8 are kept",
    "F": "has floating-point pixels",
}


@dataclass(frozen=True)
class FileFacts:
    """What the beginning of an image file says.

    Args:
        format: Pillow's name of the format.
        mode: Pillow's name of the channels.
        stored: Height and width as stored.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        digest: Hash of all bytes of the file.
        has_16_bits: Whether channels have 16 bits or more.
    """

    format: str
    mode: str
    stored: Size
    orientation: int
    digest: int
    has_16_bits: bool = False

    def seen(self, exif: Exif) -> Size:
        """Return height and width as they are read."""
        return turned_size(self.stored, self.orientation) if exif == "upright" else self.stored


def look_at(file: Path, missing: str) -> tuple[FileFacts | None, list[Problem]]:
    """Return what a file is, or None where it is no image, and what is wrong with it.

    Args:
        file: The file.
        missing: Kind of finding where there is none.
    """
    problem = absence(file, missing)
    if problem is not None:
        return None, [problem]
    try:
        with file.open("rb") as stream:
            digest = int.from_bytes(hashlib.file_digest(stream, _hash).digest(), "big", signed=True)
    except OSError as error:
        return None, [Problem("unreadable-file", str(file), str(error))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # training shows them
            with Image.open(file) as image:
                facts = FileFacts(
                    image.format or "",
                    image.mode,
                    (image.height, image.width),
                    _orientation(image),
                    digest,
                    is_cut(image) or has_more_bits(image),
                )
                return facts, [Problem(kind, str(file), detail) for kind, detail in _oddities(file, image)]
    except Exception as error:  # of any kind: see `open_image`
        return None, [decode(file) or Problem(kind_of(error, file), str(file), str(error))]


def decode(file: Path) -> Problem | None:
    """Return what is wrong with the pixels of a file that `look_at` could open; None if nothing is."""
    try:
        open_image(file)
    except ValueError as error:
        return unreadable(file, error)
    return None


def _hash() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=8)  # as long as numpy's int64


def _orientation(image: Image.Image) -> int:
    try:
        return exif_orientation(image)
    except ValueError:  # broken EXIF data: whether reading minds them, reading will say
        return 1


def _oddities(file: Path, image: Image.Image) -> Iterator[tuple[str, str]]:
    expected = _FORMATS.get(file.suffix.lower())
    if expected is not None and image.format not in expected:
        yield "ending-disagrees", f"it is a {image.format} file"
    mode = "I" if image.mode.startswith("I;16") or is_cut(image) else image.mode
    if mode in _UNUSUAL_MODES:
        yield "unusual-image", f"it {_UNUSUAL_MODES[mode]} (Pillow's mode {image.mode})"
    elif "transparency" in image.info:
        yield "unusual-image", "it has transparent pixels, which become opaque"
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        yield "unusual-image", f"it has {frames} frames, of which the first is taken"
