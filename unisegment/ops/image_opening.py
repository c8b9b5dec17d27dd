# SPDX-License-Identifier: Apache-2.0
"""The bytes of an image in, Pillow's image out, or one clear error: bytes may be anything."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

_EIGHT_OF_16 = "unisegment: 8 of 16 bits"
_HAS_MORE_FRAMES = "unisegment: more frames"
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def open_image(file: Path | BinaryIO, name: str = "") -> Image.Image:
    """Return the image in a file as it is stored, loaded whole.

    Args:
        file: The file, or its content.
        name: What messages call it; by default, its path.

    Raises:
        ValueError: When it cannot be read.
    """
    with _opened(file, name) as image:
        if is_cut(image):
            image.info[_EIGHT_OF_16] = True
        # The other pictures of phones' MPO files are small or of the second lens.
        if image.format != "MPO" and getattr(image, "is_animated", False):
            image.info[_HAS_MORE_FRAMES] = True
        image.load()
        return image


def require_image(file: Path) -> None:
    """Look at how a file begins, and at none of its pixels.

    Raises:
        ValueError: As `open_image` does, when it begins as no image does.
    """
    with _opened(file):
        pass


@contextmanager
def _opened(file: Path | BinaryIO, name: str = "") -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            # From half of the size on that it refuses.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file)
        with image:
            if image.format == "EPS":  # whatever the file is called; Pillow would hand it to Ghostscript
                raise ValueError("it is a program in PostScript, which is not run. Convert it to PNG.")
            yield image
    except UnidentifiedImageError as error:
        raise ValueError(f"{name or file} cannot be read as an image: {_kind(_head(file))}") from error
    except Exception as error:
        # Pillow raises OSError for most, SyntaxError for broken PNG files, DecompressionBombError for gigantic ones,
        # and struct.error, IndexError and others where its plugins stumble over bytes that they do not expect.
        raise ValueError(f"{name or file} cannot be read as an image: {error}") from error


def is_cut(image: Image.Image) -> bool:
    """Tell whether an image has 16 bits in several channels, of which Pillow reads the upper 8."""
    # Files that are not loaded yet say so; `BGR;16` are 16 bits of all channels together.
    stored = [str(tile.args) for tile in getattr(image, "tile", [])]
    is_reduced = len(image.getbands()) > 1 and any(";16" in mode and "BGR" not in mode for mode in stored)
    return is_reduced or _EIGHT_OF_16 in image.info


def has_more_frames(image: Image.Image) -> bool:
    """Tell whether `open_image` left out frames or pages of a file, as it does with all but the first."""
    return _HAS_MORE_FRAMES in image.info


def _head(file: Path | BinaryIO) -> bytes:
    if not isinstance(file, Path):
        file.seek(0)
        return file.read(512)
    with file.open("rb") as stream:
        return stream.read(512)


def _kind(head: bytes) -> str:
    """Say what begins with these bytes and is no image, and what helps."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty."
    if head[4:8] == b"ftyp" and head[8:12] not in (*_HEIC, b"avif", b"avis"):
        return "it is a video. Take single images out of it first."
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is a web page. Take the address of the image itself."
    kinds = ((head.startswith(b"%PDF"), "PDF"), (head[8:12] in _HEIC, "HEIC"), (b"<svg" in text, "SVG"))
    kind = next((f"{kind}, which is not read" for found, kind in kinds if found), "in no format that Pillow reads")
    return f"it is {kind}. Convert it to JPEG or PNG."
