# SPDX-License-Identifier: Apache-2.0
"""A photograph, a map of segments and their colours in, a painted picture out."""

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageFilter
from scipy.ndimage import minimum_filter

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
    strength = np.broadcast_to(np.asarray(opacity, dtype=np.float32), len(colors))[:, None]
    # What is added to the grey, and how much of that is left; the last row is for void.
    layers = np.concatenate([colors * strength, 1 - strength], axis=1, dtype=np.float32)
    layered = np.append(layers, [[0, 0, 0, 1]], axis=0).astype(np.float32).take(index_map, axis=0, mode="wrap")
    painted = layered[..., :3] + layered[..., 3:] * grey[..., None]
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
    phase = np.abs(np.arange(sum(size) - 1, dtype=np.float32) / np.float32(period) % 1 - np.float32(0.5))
    profile = ((np.float32(0.18) - phase) * np.float32(period) + np.float32(0.5)).clip(0, 1)
    # Each line is the one above, moved by a pixel.
    return np.lib.stride_tricks.sliding_window_view(profile, size[1])


def _outline(index_map: Int64[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Return how strong the line between segments is at each pixel.

    It runs on the side of the larger one, so that it covers no pole or person far away.
    """
    sizes = np.bincount(index_map.ravel() + 1)
    ranks = np.empty(len(sizes), dtype=np.int32)
    ranks[sizes.argsort(kind="stable")] = np.arange(len(sizes))
    ranked = ranks[index_map + 1]
    width = max(round(max(index_map.shape) / 350), 1)
    line = minimum_filter(ranked, size=2 * width + 1) < ranked
    soft = Image.fromarray(line.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(0.5))
    return np.asarray(soft, dtype=np.float32) * np.float32(_OUTLINE / 255)
