# SPDX-License-Identifier: Apache-2.0
"""Colours in sRGB in, lightness, chroma and hue as people see them out, and back.

Source:
    B. Ottosson, "A perceptual color space for image processing" (OKLab), 2020.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

# From OKLab to the responses of the eye's cones (their cubic roots), and from these to linear red, green and blue.
_CONES_FROM_LAB = np.array([[1, 0.39633778, 0.21580376], [1, -0.10556135, -0.06385417], [1, -0.08948418, -1.29148555]])
_LIGHT_FROM_CONES = np.array(
    [[4.0767417, -3.3077116, 0.2309699], [-1.268438, 2.6097574, -0.3413194], [-0.0041961, -0.7034186, 1.7076147]]
)


def to_lch(color: tuple[int, int, int]) -> tuple[float, float, float]:
    """Return lightness, chroma and hue in radians."""
    encoded = np.array(color) / 255
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(np.linalg.solve(_LIGHT_FROM_CONES, light).clip(0))
    lightness, a, b = np.linalg.solve(_CONES_FROM_LAB, cones).tolist()
    return lightness, float(np.hypot(a, b)), float(np.arctan2(b, a))


def to_lab(lch: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Return OKLab's three axes, in which distances are as people see them."""
    lightness, chroma, hue = lch.T
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)


def _to_light(lch: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Return linear red, green and blue; outside of [0, 1] no screen shows them."""
    cones = (to_lab(lch) @ _CONES_FROM_LAB.T) ** 3
    return cones @ _LIGHT_FROM_CONES.T


def is_shown(lch: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
    """Tell which colours a screen can show."""
    light = _to_light(lch)
    return np.all((light >= -1e-4) & (light <= 1.0001), axis=1)


def to_rgb(lch: Float[np.ndarray, "n 3"]) -> UInt8[np.ndarray, "n 3"]:
    """Return red, green and blue; what no screen shows is clipped."""
    light = _to_light(lch).clip(0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * encoded).round().astype(np.uint8)
