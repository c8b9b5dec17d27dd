# SPDX-License-Identifier: Apache-2.0
"""Numbered maps hold the segments that the target holds, whatever its form."""

import numpy as np
import pytest
import torch

from tests.data.transforms.scenes import assert_segments, draw_scene, segments_of
from unisegment.data.transforms.numbered_maps import NumberedMaps
from unisegment.structures import SegmentationTarget


@pytest.mark.parametrize("form", ["id_map", "masks", "layers"])
@pytest.mark.parametrize("num", [0, 1, 9])
def test_nothing_is_lost_on_the_way_there_and_back(form, num):
    for seed in range(5):
        target = draw_scene(13, 19, seed, form, num).target
        numbered, expected = NumberedMaps.of(target), segments_of(target)
        assert_segments(numbered.target(np.full(num, True)), expected)
        may_be_empty = np.random.default_rng(seed).random(num) < 0.5
        kept = [item for item, empty in zip(expected, may_be_empty, strict=True) if empty or item[2].any()]
        assert_segments(numbered.target(may_be_empty), kept)


@pytest.mark.parametrize("ids", [[7], [2**24 - 1, 1, 900], [0, 5], []])
def test_numbers_that_are_no_ids_are_void(ids):
    pixels = np.random.default_rng(0).choice([0, 1, 5, 7, 8, 899, 900, 901, 2**24 - 1], size=(11, 13)).astype(np.int32)
    target = SegmentationTarget(labels=[3] * len(ids), id_map=torch.from_numpy(pixels), segment_ids=ids)
    expected = [[ids.index(pixel) + 1 if pixel in ids else 0 for pixel in row] for row in pixels.tolist()]
    assert NumberedMaps.of(target).maps.tolist() == [expected]


def test_masks_take_as_few_maps_as_they_lie_on_one_another():
    masks = torch.zeros(3, 2, 5, dtype=torch.bool)
    masks[0, :, :3], masks[1, :, 2:4], masks[2, :, 4:] = True, True, True
    numbered = NumberedMaps.of(SegmentationTarget(labels=[7, 8, 9], masks=masks))
    assert numbered.maps.tolist() == [[[1, 1, 1, 0, 3]] * 2, [[0, 0, 2, 2, 0]] * 2]
    assert numbered.layers.tolist() == [0, 1, 0]
    without_overlap = NumberedMaps.of(SegmentationTarget(labels=[7, 9], masks=masks[[0, 2]]))
    assert without_overlap.target(np.full(2, True)).layers is None
