# SPDX-License-Identifier: Apache-2.0
"""Segments keep the brightness of the photograph, borders are light lines, and void is hatched."""

import numpy as np
import pytest
import torch

from tests.visualization.pictures import (
    BLACK,
    COLORS,
    HEIGHT,
    NOTHING,
    WIDTH,
    far_from_names_and_borders,
    panoptic_of,
    predictions_of_all_kinds,
)
from unisegment.visualization import draw, label_colors
from unisegment.visualization.colors import segment_colors


@pytest.mark.parametrize("level", [0, 128, 255])
def test_void_is_hatched_on_any_ground(level):
    picture = np.asarray(draw(np.full_like(BLACK, level), NOTHING)).astype(int)
    assert (picture == picture[..., :1]).all()
    # Every window of 1/40 of the picture shows dark and light.
    for row, column in ((0, 0), (250, 400), (480, 770)):
        assert np.ptp(picture[row : row + 20, column : column + 20]) > 60


def test_borders_are_light_and_cover_nothing_of_what_is_small():
    picture = np.asarray(draw(BLACK, predictions_of_all_kinds()["panoptic"], opacity=0.0, min_side=6 * WIDTH))
    border = HEIGHT // 2 * 6
    assert (picture[border - 2 : border, 30] > 140).all()
    assert (picture[[border - 4, border + 1], 30] == 0).all()


def test_a_pole_keeps_its_colour_between_its_borders():
    ids = torch.ones(401, 803, dtype=torch.int32)
    ids[:, 400:403] = 2
    pixels = np.asarray(draw(np.zeros((401, 803, 3), np.uint8), panoptic_of(ids, [0, 1]), {0: "sky", 1: "pole"}, 1.0))
    np.testing.assert_array_equal(pixels[200, 401], label_colors({1: "pole"})[1])
    assert (pixels[200, [398, 399, 403, 404]] > 200).all()


def test_segments_keep_their_brightness():
    image = BLACK.copy()
    image[:, WIDTH // 3 :] = (90, 160, 230)
    picture = draw(image, predictions_of_all_kinds()["panoptic"], opacity=0.5, min_side=6 * WIDTH)
    dark, _, bright, _ = far_from_names_and_borders(picture)
    np.testing.assert_allclose(dark, np.array(COLORS[4]) / 2, atol=1)
    luma = 0.299 * 90 + 0.587 * 160 + 0.114 * 230
    np.testing.assert_allclose(bright, (luma + segment_colors([4, 0, 0], COLORS)[2]) / 2, atol=1)
