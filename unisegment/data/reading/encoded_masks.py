# SPDX-License-Identifier: Apache-2.0
"""A mask as tools write it, a PNG file as a text, in; its pixels out, and nothing larger than the image."""

import base64
import binascii
import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from PIL import Image

from unisegment.ops.image_opening import open_image
from unisegment.ops.json_values import INT32, shown, whole_number
from unisegment.types import Size

_HEAD = struct.Struct(">8s4x4sII")
"""How a PNG file begins: signature, length of the first chunk, its name, width and height."""
_SPARE_BYTES = 2**16


def pixels_of_encoded_mask(text: Any, corner: Any, size: Size) -> Int64[np.ndarray, " p"]:
    """Return the pixels inside a mask of Supervisely, as places in the image read row by row.

    Args:
        text: A PNG file, compressed once more by zlib, in base64.
        corner: [x, y] of the mask's first pixel in the image.
        size: Height and width of the image, which the mask must lie in.

    Raises:
        ValueError: When it is none of this, or would be larger than the image.
    """
    left, top = _corner(corner)
    mask = read_encoded_mask(text, size, is_compressed=True)
    height, width = mask.shape
    if min(left, top) < 0 or left + width > size[1] or top + height > size[0]:
        raise ValueError(f"a mask of {height}x{width} (height x width) at x = {left}, y = {top} {_outside(size)}")
    rows, columns = np.nonzero(mask)
    return (rows + top) * size[1] + (columns + left)


def read_encoded_mask(text: Any, size: Size, *, is_compressed: bool) -> Bool[np.ndarray, "h w"]:
    """Return which pixels of a mask are inside: where it has transparency, those that have a colour, else those not 0.

    Args:
        text: A PNG file in base64.
        size: Height and width of the image.
        is_compressed: Whether the file is compressed once more, by zlib.

    Raises:
        ValueError: When it is no such text, or is larger than the image.
    """
    content = _decode(text, 2 * size[0] * size[1] + _SPARE_BYTES, is_compressed)
    if len(content) < _HEAD.size or not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("data must be a PNG file, got other bytes")
    _, _, width, height = _HEAD.unpack_from(content)
    if height > size[0] or width > size[1]:
        raise ValueError(f"a mask of {height}x{width} (height x width) {_outside(size)}")
    return _inside(open_image(BytesIO(content), "data"))


def _outside(size: Size) -> str:
    return f"does not lie in the image of {size[0]}x{size[1]}"


def _inside(stored: Image.Image) -> Bool[np.ndarray, "h w"]:
    if stored.mode in ("RGBA", "LA", "PA") or "transparency" in stored.info:
        return np.asarray(stored.convert("RGBA"))[..., 3] > 0
    levels = np.asarray(stored)
    return levels.reshape(*levels.shape[:2], -1).max(axis=2) > 0


def _corner(corner: Any) -> tuple[int, int]:
    if not isinstance(corner, list) or len(corner) != 2:
        raise ValueError(f"origin must be [x, y], got {shown(corner)}")
    left, top = (whole_number(place, "origin", *INT32) for place in corner)
    return left, top


def _decode(text: Any, most: int, is_compressed: bool) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"data must be a text, got {shown(text)}")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"data must be base64: {error}") from error
    if not is_compressed:
        return content
    try:
        decompressor = zlib.decompressobj()
        content = decompressor.decompress(content, most)
    except zlib.error as error:
        raise ValueError(f"data must be compressed by zlib: {error}") from error
    if not decompressor.eof:
        is_large = len(content) == most
        reason = f"it has more than {most} bytes, too many for its image" if is_large else "it ends too early"
        raise ValueError(f"data must be a PNG file compressed by zlib: {reason}")
    return content
