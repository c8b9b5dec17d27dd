# SPDX-License-Identifier: Apache-2.0
"""Pictures show the right colours at the right pixels."""

import numpy as np
import pytest
import torch

from tests.visualization.pictures import HEIGHT, WIDTH, id_map_of, image_of, infos_of, predictions_of_all_kinds
from unisegment.structures import PanopticPrediction, SegmentationTarget
from unisegment.visualization import distinct_colors, draw
from unisegment.visualization.colors import segment_colors


def _far_from_names_and_borders(picture):
    """Return the colours in a corner of each segment of `id_map_of`, and of void, where no name is written."""
    pixels = np.asarray(picture)
    factor = pixels.shape[0] // HEIGHT
    places = [(2, 2), (HEIGHT // 2 + 2, 2), (HEIGHT // 2 + 2, WIDTH // 2 + 2), (9, WIDTH - 1)]
    return [pixels[int((row + 0.5) * factor), int((column + 0.5) * factor)] for row, column in places]


def test_small_images_are_enlarged_by_a_whole_factor():
    prediction = predictions_of_all_kinds()["panoptic"]
    assert draw(image_of(), prediction).size == (WIDTH * 6, HEIGHT * 6)
    large = PanopticPrediction(id_map_of(401, 503), infos_of(1, 2, 3))
    assert draw(image_of(401, 503), large).size == (503, 401)


@pytest.mark.parametrize("kind", ["panoptic", "instance", "id map", "masks", "semantic"])
def test_segments_have_the_colour_of_their_label(kind):
    picture = draw(np.zeros((HEIGHT, WIDTH, 3), np.uint8), predictions_of_all_kinds()[kind], opacity=1.0)
    upper, left, right, _ = _far_from_names_and_borders(picture)
    colors = distinct_colors(5)
    np.testing.assert_array_equal(upper, colors[4])
    np.testing.assert_array_equal(left, colors[0])
    if kind == "semantic":
        np.testing.assert_array_equal(right, colors[0])
    else:
        assert np.abs(right.astype(int) - left).sum() > 40


def test_void_is_left_and_segments_keep_their_brightness():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, WIDTH // 3 :] = (90, 160, 230)
    picture = draw(image, predictions_of_all_kinds()["panoptic"], opacity=0.5)
    dark, _, bright, void = _far_from_names_and_borders(picture)
    np.testing.assert_array_equal(void, (90, 160, 230))
    np.testing.assert_allclose(dark, distinct_colors(5)[4] / 2, atol=1)
    luma = 0.299 * 90 + 0.587 * 160 + 0.114 * 230
    shade = segment_colors([4, 0, 0])[2]
    np.testing.assert_allclose(bright, (luma + shade) / 2, atol=1)


def test_borders_are_light():
    picture = np.asarray(
        draw(np.zeros((HEIGHT, WIDTH, 3), np.uint8), predictions_of_all_kinds()["panoptic"], opacity=0.0)
    )
    border = HEIGHT // 2 * 6
    assert (picture[border - 1 : border + 1, 6] == 140).all()
    assert (picture[border - 2, 6] == 0).all()
    assert (picture[border + 1, 6] == 0).all()


def test_small_masks_are_drawn_over_large_ones():
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, :, : WIDTH // 2] = True
    masks[0, :10, :10] = True
    masks[1] = True
    target = SegmentationTarget(labels=[0, 1], masks=masks)
    picture = np.asarray(draw(np.zeros((HEIGHT, WIDTH, 3), np.uint8), target, opacity=1.0))
    np.testing.assert_array_equal(picture[5, 5], distinct_colors(2)[0])
    np.testing.assert_array_equal(picture[5, -5], distinct_colors(2)[1])


def test_nothing_found_leaves_the_image():
    image = image_of(401, 653)
    empty = PanopticPrediction(torch.zeros(401, 653, dtype=torch.int32), [])
    np.testing.assert_array_equal(draw(image, empty), image)
    hidden = PanopticPrediction(torch.zeros(401, 653, dtype=torch.int32), infos_of(2))
    np.testing.assert_array_equal(draw(image, hidden), image)
