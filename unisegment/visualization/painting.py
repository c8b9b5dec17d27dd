# SPDX-License-Identifier: Apache-2.0
"""A photograph, a map of segments and their colours in, a painted picture out."""

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageFilter
from scipy.ndimage import maximum_filter

from unisegment.types import Size

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_OUTLINE = 0.9
"""Strength of the white line between segments."""


def paint(
    image: Image.Image,
    index_map: Int64[np.ndarray, "h w"],
    colors: UInt8[np.ndarray, "n 3"],
    opacity: float | Float[np.ndarray, " n"],
    is_void_hatched: bool = True,
) -> Image.Image:
    """Lay the colours of segments over the photograph in grey, outline the segments, and hatch what is void.

    Args:
        image: The photograph, of the size of the map.
        index_map: Index of the segment that each pixel belongs to, -1 for void.
        colors: Colour of each segment.
        opacity: Strength of the colours, in [0, 1], or of each of them.
        is_void_hatched: Whether void is hatched; otherwise it is the photograph in grey.
    """
    # Colours are laid over grey, so that they look as in the legend.
    grey = np.asarray(image) @ _LUMA
    strength = np.append(np.broadcast_to(opacity, len(colors)), 0).astype(np.float32)[:, None]
    layer = np.concatenate([colors, np.zeros((1, 3), np.uint8)]) * strength
    painted = layer[index_map] + ((1 - strength[:, 0])[index_map] * grey)[..., None]
    void = index_map == -1
    if void.any():
        painted[void] = (hatch(grey) if is_void_hatched else grey)[void][:, None]
    painted += (255 - painted) * _outline(index_map)[..., None]
    return Image.fromarray(painted.round().astype(np.uint8))


def hatch(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return a photograph in grey under slanting stripes, which are seen on dark and on light ground."""
    return grey * np.float32(0.45) + np.float32(55) + np.float32(80) * stripes(grey.shape)


def stripes(size: Size) -> Float[np.ndarray, "h w"]:
    """Return slanting stripes: 1 on them, 0 between them."""
    period = max(max(size) / 60, 6)
    rows, columns = (np.arange(length, dtype=np.float32) for length in size)
    phase = np.abs((rows[:, None] + columns) / np.float32(period) % 1 - np.float32(0.5))
    return ((np.float32(0.18) - phase) * np.float32(period) + np.float32(0.5)).clip(0, 1)


def outline_width(size: Size) -> int:
    """Return how many pixels wide the lines between segments are in a picture of a size."""
    return max(round(max(size) / 400), 1)


def _outline(index_map: Int64[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return how strong the line is at each pixel; it runs on both sides of the borders."""
    outline = np.zeros(index_map.shape, dtype=np.uint8)
    for axis in (0, 1):
        before, after = (np.moveaxis(outline, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        differs = np.moveaxis(np.diff(index_map, axis=axis) != 0, axis, 0)
        before[differs] = after[differs] = 255
    width = outline_width(index_map.shape)
    if width > 2:
        outline = maximum_filter(outline, size=width - 1)
    soft = Image.fromarray(outline).filter(ImageFilter.BoxBlur(0.5))
    return np.asarray(soft, dtype=np.float32) * np.float32(_OUTLINE / 255)
