# SPDX-License-Identifier: Apache-2.0
import numpy as np

from unisegment.visualization import colors
from unisegment.visualization.colors import distinct_colors, segment_colors


def test_colours_are_distinct_and_stay():
    found = distinct_colors(150)
    assert found.shape == (150, 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(distinct_colors(5), found[:5])
    distance = np.abs(found[:, None].astype(int) - found[None]).sum(axis=-1) + 999 * np.eye(150, dtype=int)
    assert distance.min() >= 20
    assert distance[:20, :20].min() > 60
    assert len(distinct_colors(5000)) == 5000
    assert distinct_colors(0).shape == (0, 3)


def test_colours_are_those_of_oklab():
    # Source: the table of pure colours in the reference implementation of CSS Color 4: white, red, green, blue. The
    # last is a near black, where the curve of sRGB is a straight line.
    lch = [[1, 0, 0], [0.62796, 0.25768, 29.234], [0.86644, 0.29483, 142.495], [0.45201, 0.31321, 264.052]]
    lch = np.array([*lch, [(5 / 255 / 12.92) ** (1 / 3), 0, 0]]) * [1, 1, np.pi / 180]
    expected = [[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [5, 5, 5]]
    np.testing.assert_allclose(colors._to_rgb(lch).astype(int), expected, atol=1)


def test_many_segments_of_one_label_differ():
    found = segment_colors([3] * 14).astype(int)
    distance = np.abs(found[:, None] - found[None]).sum(axis=-1) + 999 * np.eye(14, dtype=int)
    assert distance.min() > 20
