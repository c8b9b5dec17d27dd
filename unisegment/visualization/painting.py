# SPDX-License-Identifier: Apache-2.0
"""A photograph, a map of segments and their colours in, a painted picture out."""

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageFilter
from scipy.ndimage import minimum_filter

from unisegment.types import Size

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_PIXELS_AT_A_TIME = 2**18
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
    strength = np.broadcast_to(np.asarray(opacity, dtype=np.float32), len(colors))[:, None]
    # What is added to the grey, and how much of that is left; the last row is for void.
    layers = np.append(np.concatenate([colors * strength, 1 - strength], axis=1), [[0, 0, 0, 1]], axis=0)
    layers = layers.astype(np.float32)
    pixels, line = np.asarray(image), _outline(index_map)
    on_stripes = stripes(index_map.shape)
    painted = np.empty_like(pixels)
    step = max(_PIXELS_AT_A_TIME // index_map.shape[1], 1)
    for top in range(0, len(index_map), step):
        band = slice(top, top + step)
        # Colours are laid over grey, so that they look as in the legend.
        grey = pixels[band] @ _LUMA
        if is_void_hatched:
            void = index_map[band] == -1
            grey[void] = hatch(grey[void], on_stripes[band][void])
        layered = layers.take(index_map[band], axis=0, mode="wrap")
        mixed = layered[..., :3] + layered[..., 3:] * grey[..., None]
        mixed += (255 - mixed) * line[band][..., None]
        painted[band] = mixed.round()
    return Image.fromarray(painted)


def hatch(grey: Float[np.ndarray, "*p"], on_stripe: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    """Return a photograph in grey under slanting stripes, which are seen on dark and on light ground."""
    return grey * np.float32(0.45) + np.float32(55) + np.float32(80) * on_stripe


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
