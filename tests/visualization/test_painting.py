# SPDX-License-Identifier: Apache-2.0
"""Segments keep the brightness of the photograph, borders are light lines, and void is hatched."""

import numpy as np
import pytest

from tests.visualization.pictures import (
    BLACK,
    COLORS,
    HEIGHT,
    NOTHING,
    WIDTH,
    far_from_names_and_borders,
    predictions_of_all_kinds,
)
from unisegment.visualization import draw
from unisegment.visualization.colors import segment_colors


@pytest.mark.parametrize("level", [0, 128, 255])
def test_void_is_hatched_on_any_ground(level):
    picture = np.asarray(draw(np.full_like(BLACK, level), NOTHING)).astype(int)
    assert (picture == picture[..., :1]).all()
    # Every window of 1/40 of the picture shows dark and light.
    for row, column in ((0, 0), (250, 400), (480, 770)):
        assert np.ptp(picture[row : row + 20, column : column + 20]) > 60


def test_borders_are_light():
    picture = np.asarray(draw(BLACK, predictions_of_all_kinds()["panoptic"], opacity=0.0, min_side=6 * WIDTH))
    border = HEIGHT // 2 * 6
    assert (picture[border - 1 : border + 1, 30] > 140).all()
    assert (picture[[border - 3, border + 2], 30] == 0).all()


def test_segments_keep_their_brightness():
    image = BLACK.copy()
    image[:, WIDTH // 3 :] = (90, 160, 230)
    picture = draw(image, predictions_of_all_kinds()["panoptic"], opacity=0.5, min_side=6 * WIDTH)
    dark, _, bright, _ = far_from_names_and_borders(picture)
    np.testing.assert_allclose(dark, np.array(COLORS[4]) / 2, atol=1)
    luma = 0.299 * 90 + 0.587 * 160 + 0.114 * 230
    np.testing.assert_allclose(bright, (luma + segment_colors([4, 0, 0], COLORS)[2]) / 2, atol=1)
