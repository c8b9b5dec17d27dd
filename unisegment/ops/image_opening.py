# SPDX-License-Identifier: Apache-2.0
"""The bytes of an image in, Pillow's image out, or one clear error: bytes may be anything."""

from pathlib import Path
from typing import BinaryIO

from PIL import Image

_EIGHT_OF_16 = "unisegment: 8 of 16 bits"


def open_image(file: Path | BinaryIO, name: str = "") -> Image.Image:
    """Return the image in a file as it is stored, loaded whole.

    Args:
        file: The file, or its content.
        name: What messages call it; by default, its path.

    Raises:
        ValueError: When it cannot be read.
    """
    try:
        with Image.open(file) as image:
            if image.format == "EPS":  # whatever the file is called; Pillow would hand it to Ghostscript
                raise ValueError("it is a program in PostScript, which is not run. Convert it to PNG.")
            if is_cut(image):
                image.info[_EIGHT_OF_16] = True
            image.load()
            return image
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
