# SPDX-License-Identifier: Apache-2.0
"""Sizes and pixels are those of detectron2's augmentations, worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.map_files import in_form
from tests.data.transforms.drawn_samples import Scripted, draw_sample
from unisegment.data.transforms import cropping, resizing
from unisegment.ops.masks import segment_areas
from unisegment.structures import SegmentationTarget


@pytest.mark.parametrize("form", ["id_map", "masks", "layers"])
def test_areas_are_counted(form):
    for seed in range(9):
        generator = np.random.default_rng(seed)
        id_map = generator.choice([-(2**31), 0, 7, 2**31 - 1, 5], size=generator.integers(1, 30, 2)).repeat(2, axis=1)
        ids = generator.permutation([2**31 - 1, 7, 0, -(2**31), 11])
        target = SegmentationTarget(labels=[1] * 5, id_map=id_map, segment_ids=ids)
        expected = target.binary_masks().sum((1, 2))
        assert torch.equal(segment_areas(in_form(target, form)), expected)


@pytest.mark.parametrize("form", ["id_map", "masks", "layers"])
def test_flip_mirrors_image_and_target_together(form):
    sample = draw_sample(5, 3, form)
    flipped = cropping.flip(sample)
    np.testing.assert_array_equal(flipped.image, np.fliplr(sample.image))
    np.testing.assert_array_equal(flipped.target.binary_masks()[0], np.fliplr(sample.target.binary_masks()[0]))
    assert (flipped.image_id, flipped.file_name) == (5, "five.jpg")


def test_jitter_that_shrinks_pads_with_grey_and_void():
    sample = draw_sample(53, 97)
    # min(0.5 * 61 / 53, 0.5 * 45 / 97) * (53, 97) = (12.3, 22.5); halves go to the even number.
    jittered = cropping.large_scale_jitter(sample, (61, 45), (0.0, 1.0), Scripted(0.5, 0.9))
    assert jittered.image.shape == (61, 45, 3)
    expected = resizing.resize(sample, (12, 22))
    image = resizing.resize_image_fast(sample.image, (12, 22))
    np.testing.assert_array_equal(jittered.image[:12, :22], image)
    assert (jittered.image[12:] == 128).all()
    assert (jittered.image[:, 22:] == 128).all()
    masks = jittered.target.binary_masks()
    assert torch.equal(masks[:, :12, :22], expected.target.binary_masks())
    assert masks.sum() == expected.target.binary_masks().sum()


def test_jitter_that_enlarges_crops_at_one_random_place():
    sample = draw_sample(53, 31)
    # min(2 * 23 / 53, 2 * 19 / 31) * (53, 31) = (46, 26.9): 23 rows and 8 columns are too many.
    jittered = cropping.large_scale_jitter(sample, (23, 19), (1.0, 2.0), Scripted(1.0, 0.3))
    expected = resizing.resize(sample, (46, 27))
    top, left = 7, 2
    image = resizing.resize_image_fast(sample.image, (46, 27))
    np.testing.assert_array_equal(jittered.image, image[top : top + 23, left : left + 19])
    assert torch.equal(jittered.target.id_map, expected.target.id_map[top : top + 23, left : left + 19])


def test_segments_that_are_cropped_away_keep_their_label():
    id_map = torch.zeros(11, 13, dtype=torch.int32)
    id_map[-1, -1] = 9
    sample = replace(draw_sample(11, 13), target=SegmentationTarget(labels=[4], id_map=id_map, segment_ids=[9]))
    jittered = cropping.large_scale_jitter(sample, (11, 13), (2.0, 2.0), Scripted(0.0, 0.0))
    assert jittered.target.labels.tolist() == [4]
    assert not jittered.target.binary_masks().any()
