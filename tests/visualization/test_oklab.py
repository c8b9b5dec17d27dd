# SPDX-License-Identifier: Apache-2.0
import numpy as np

from unisegment.visualization import oklab


def test_hues_are_those_of_oklab():
    # Source: the table of pure colours in the reference implementation of CSS Color 4: white, red, green, blue. The
    # last is a near black, where the curve of sRGB is a straight line.
    lch = [[1, 0, 0], [0.62796, 0.25768, 29.234], [0.86644, 0.29483, 142.495], [0.45201, 0.31321, 264.052]]
    lch = np.array([*lch, [(5 / 255 / 12.92) ** (1 / 3), 0, 0]]) * [1, 1, np.pi / 180]
    colors = [[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [5, 5, 5]]
    np.testing.assert_allclose(oklab.to_rgb(lch).astype(int), colors, atol=1)
    for color, (lightness, chroma, hue) in zip(colors[1:4], lch[1:4], strict=True):
        np.testing.assert_allclose(
            oklab.to_lch(tuple(color)), (lightness, chroma, hue - 2 * np.pi * (hue > np.pi)), atol=1e-3
        )
