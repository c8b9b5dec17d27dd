# SPDX-License-Identifier: Apache-2.0
"""Images of random brightness, contrast, saturation and hue; targets stay as they are.

Hue, saturation and value (HSV) are bytes as OpenCV has them: hue in steps of two degrees, 0 to 179; saturation and
value 0 to 255. Images are red, green, blue: in the original they may be blue, green, red, which comes to the same.
"""

import numpy as np
from jaxtyping import Float32, Int32, UInt8

_FIXED_POINT_BITS = 12
"""Source: OpenCV, which divides bytes by multiplying with whole numbers of 1 / 4096."""
_HALF = 1 << _FIXED_POINT_BITS - 1


def _divided_by_bytes(number: float) -> Int32[np.ndarray, " 256"]:
    """Return `number` divided by 0 to 255, in fixed point; 0 for the first."""
    return np.array([0, *np.rint(number * 2**_FIXED_POINT_BITS / np.arange(1, 256))], dtype=np.int32)


def _shares_by_hue() -> Float32[np.ndarray, "180 3"]:
    """Return how much of the saturation each hue takes from red, green and blue, 0 to 1."""
    # Over the circle each channel rests for a third, falls for a sixth, rests for a third and rises for a sixth.
    sixths = np.arange(180, dtype=np.float32) * np.float32(6 / 180)
    place = (sixths[:, None] + np.array([5.0, 3.0, 1.0])) % 6
    return np.minimum(place, 4 - place).clip(0, 1).astype(np.float32)


_SIXTH_OF_HUE = _divided_by_bytes(180 / 6)
_FULL_SATURATION = _divided_by_bytes(255)
_SHARES = _shares_by_hue()


def ssd_color(image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Change brightness, contrast, saturation and hue, each with probability one half.

    Brightness comes first. Contrast comes before or after saturation and hue, at random. Each step ends in bytes.

    Args:
        image: Red, green and blue, 0 to 255.
        generator: Where the random numbers come from.

    Source:
        SSD (arXiv 1512.02325) with the ranges of detectron2's PointRend (Apache-2.0), ColorAugSSDTransform.
    """
    image = _brightness(image, generator)
    contrast_first = generator.integers(2)
    for step in (_contrast, _saturation, _hue) if contrast_first else (_saturation, _hue, _contrast):
        image = step(image, generator)
    return image


def _brightness(image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    return _linear(image, 1, generator.uniform(-32, 32)) if generator.integers(2) else image


def _contrast(image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    return _linear(image, generator.uniform(0.5, 1.5), 0) if generator.integers(2) else image


def _saturation(image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    if not generator.integers(2):
        return image
    hsv = rgb_to_hsv(image)
    hsv[..., 1] = _linear(hsv[..., 1], generator.uniform(0.5, 1.5), 0)
    return hsv_to_rgb(hsv)


def _hue(image: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    if not generator.integers(2):
        return image
    hsv = rgb_to_hsv(image)
    hsv[..., 0] = (hsv[..., 0] + generator.integers(-18, 19)) % 180
    return hsv_to_rgb(hsv)


def _linear(values: UInt8[np.ndarray, "..."], factor: float, summand: float) -> UInt8[np.ndarray, "..."]:
    """Return the values changed in float32, clipped to bytes and rounded down, as in the original."""
    # There are but 256 values: each is changed once.
    changed = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(summand)
    return changed.clip(0, 255).astype(np.uint8)[values]


def rgb_to_hsv(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return hue (0 to 179), saturation and value (0 to 255) of red, green and blue.

    Source:
        OpenCV (Apache-2.0), COLOR_RGB2HSV of bytes: equal for every colour.
    """
    red, green, blue = (image[..., channel].astype(np.int32) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    # Sixths of the circle from red, times the spread: the largest channel says which two of them.
    sixths = np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    sixths = np.where(value == red, green - blue, sixths)
    hue = (sixths * _SIXTH_OF_HUE[spread] + _HALF) >> _FIXED_POINT_BITS
    saturation = (spread * _FULL_SATURATION[value] + _HALF) >> _FIXED_POINT_BITS
    hsv = np.empty_like(image)
    hsv[..., 0], hsv[..., 1], hsv[..., 2] = np.where(hue < 0, hue + 180, hue), saturation, value
    return hsv


def hsv_to_rgb(hsv: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return red, green and blue of hue (0 to 179), saturation and value (0 to 255), rounded down.

    Source:
        OpenCV (Apache-2.0), COLOR_HSV2RGB of bytes: equal to its vector code but for one value in 30,000, which is one
        grey level away. As there, errors of float32 make some values, greys too, one level darker.
    """
    saturation, value = (hsv[..., channel, None].astype(np.float32) * np.float32(1 / 255) for channel in (1, 2))
    return (value * (1 - saturation * _SHARES[hsv[..., 0]]) * 255).astype(np.uint8)
