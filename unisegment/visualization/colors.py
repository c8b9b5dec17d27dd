# SPDX-License-Identifier: Apache-2.0
"""Labels in, colours out that people can tell apart."""

from collections import Counter
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

_FIRST_COLOR = (0.65, 0.16, -1.7)
"""A blue, in OKLab's lightness, chroma and hue."""
# From OKLab to the responses of the eye's cones (their cubic roots), and from these to linear red, green and blue.
_CONES_FROM_LAB = np.array([[1, 0.39633778, 0.21580376], [1, -0.10556135, -0.06385417], [1, -0.08948418, -1.29148555]])
_LIGHT_FROM_CONES = np.array(
    [[4.0767417, -3.3077116, 0.2309699], [-1.268438, 2.6097574, -0.3413194], [-0.0041961, -0.7034186, 1.7076147]]
)


def distinct_colors(count: int) -> UInt8[np.ndarray, "n 3"]:
    """Return colours that differ from each other as much as can be, always the same ones.

    More colours leave the first ones as they are. They repeat only after some thousand.

    Source:
        Each colour is the farthest from all before it in OKLab (B. Ottosson, "A perceptual color space for image
        processing", 2020).
    """
    return _to_rgb(_distinct_lch(count))


@cache
def _distinct_lch(count: int) -> Float[np.ndarray, "n 3"]:
    """Return lightness, chroma and hue in radians."""
    grid = np.meshgrid(
        np.linspace(0.55, 0.85, 9), np.linspace(0.07, 0.2, 9), np.linspace(-np.pi, np.pi, 73)[1:], indexing="ij"
    )
    candidates = np.stack(grid, axis=-1).reshape(-1, 3)
    candidates = candidates[((_to_light(candidates) >= 0) & (_to_light(candidates) <= 1)).all(axis=1)]
    points = _to_lab(candidates)
    chosen = [int(np.abs(candidates - _FIRST_COLOR).sum(axis=1).argmin())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return candidates[np.resize(chosen, count)]


def segment_colors(labels: list[int]) -> UInt8[np.ndarray, "n 3"]:
    """Return the colour of the label for its first segment, and shades of it for the others."""
    seen: Counter[int] = Counter()
    shades = np.zeros((len(labels), 3))
    for index, label in enumerate(labels):
        # Multiples of these fractions spread evenly over a square however many there are. Source: M. Roberts, "The
        # unreasonable effectiveness of quasirandom sequences", 2018.
        across = (0.5 + seen[label] * np.array([0.7548777, 0.5698403])) % 1 - 0.5
        shades[index] = _distinct_lch(max(labels) + 1)[label] + [0.34 * across[0], 0, 0.9 * across[1]]
        seen[label] += 1
    return _to_rgb(shades)


def _to_lab(lch: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    lightness, chroma, hue = lch.T
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)


def _to_light(lch: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Return linear red, green and blue; outside of [0, 1] no screen shows them."""
    cones = (_to_lab(lch) @ _CONES_FROM_LAB.T) ** 3
    return cones @ _LIGHT_FROM_CONES.T


def _to_rgb(lch: Float[np.ndarray, "n 3"]) -> UInt8[np.ndarray, "n 3"]:
    light = _to_light(lch).clip(0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * encoded).round().astype(np.uint8)
