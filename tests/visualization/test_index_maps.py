# SPDX-License-Identifier: Apache-2.0
"""Enlarged segments follow their outlines, none is lost, and none is hidden."""

import numpy as np
import pytest
import torch

from tests.visualization.pictures import BLACK, COLORS, HEIGHT, WIDTH, infos_of
from unisegment.structures import PanopticPrediction, SegmentationTarget
from unisegment.visualization import draw
from unisegment.visualization.index_maps import resize_map


def _disc(height, width, factor):
    """Return a disc, drawn at a factor of this size by its definition."""
    rows, columns = ((np.arange(length * factor) + 0.5) / factor for length in (height, width))
    return np.hypot(rows[:, None] - 30, columns - 47) <= 21.3


def test_enlarged_masks_follow_their_outline():
    drawn, expected = _disc(HEIGHT, WIDTH, 1).astype(int), _disc(HEIGHT, WIDTH, 8)
    enlarged = resize_map(drawn, expected.shape)
    steps = np.kron(drawn, np.ones((8, 8), int))
    assert (enlarged != expected).sum() < 0.6 * (steps != expected).sum()
    np.testing.assert_array_equal(np.unique(enlarged), [0, 1])


@pytest.mark.parametrize("area", ["pixel", "line"])
def test_enlarging_loses_nothing(area):
    ids = torch.ones(HEIGHT, WIDTH, dtype=torch.int32)
    ids[(20, 31) if area == "pixel" else (slice(None), 31)] = 2
    own = {0: (0, 0, 0), 1: (255, 0, 0)}
    picture = np.asarray(
        draw(BLACK, PanopticPrediction(ids, infos_of(0, 1)), None, 1.0, palette=own, min_side=8 * WIDTH)
    )
    assert picture[20 * 8 + 4, 31 * 8 + 4, 0] == 255
    if area == "line":
        assert (picture[:, 31 * 8 + 4] == (255, 0, 0)).all()


def test_small_masks_are_drawn_over_large_ones():
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, :, : WIDTH // 2] = True
    masks[0, :10, :10] = True
    masks[1] = True
    picture = np.asarray(draw(BLACK, SegmentationTarget(labels=[0, 1], masks=masks), opacity=1.0))
    np.testing.assert_array_equal(picture[5, 5], COLORS[0])
    np.testing.assert_array_equal(picture[5, -5], COLORS[1])
