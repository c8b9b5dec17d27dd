# SPDX-License-Identifier: Apache-2.0
"""Sizes and pixels are those of detectron2's augmentations, worked out by hand or by Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.transforms.drawn_samples import draw_sample
from unisegment.data.transforms import resizing


@pytest.mark.parametrize(
    ("size", "shortest", "longest", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 427), 800, None, (1199, 800)),
        ((333, 500), 333, 1333, (333, 500)),
        ((100, 400), 800, 1333, (333, 1333)),
        # 10 * 5 / 4 is 12.5, which goes up; Python's own rounding would go down.
        ((4, 10), 5, 17, (5, 13)),
        ((2, 2003), 2, 101, (1, 101)),
        ((1, 2003), 1, 101, (1, 101)),
    ],
)
def test_the_short_side_is_scaled_and_the_long_side_limited(size, shortest, longest, expected):
    assert resizing.shortest_edge_size(size, shortest, longest) == expected
    assert resizing.shortest_edge_size(size[::-1], shortest, longest) == expected[::-1]


def test_images_are_resized_as_pillow_does():
    image = draw_sample(53, 37).image
    expected = np.asarray(Image.fromarray(image).resize((17, 29), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resizing.resize_image(image, (29, 17)), expected)


@pytest.mark.parametrize("size", [(29, 17), (106, 74), (53, 37), (53, 101), (7, 211), (1, 1), (2, 300)])
def test_training_images_are_within_one_grey_level_of_pillow(size):
    image = draw_sample(53, 37).image
    image.flags.writeable = False  # as Pillow gives them
    exact, fast = resizing.resize_image(image, size), resizing.resize_image_fast(image, size)
    assert fast.shape == (*size, 3)
    assert np.abs(exact.astype(int) - fast).max() <= 1
    assert (exact != fast).mean() < 0.25


@pytest.mark.parametrize("size", [(29, 17), (59, 101), (2, 7)])
def test_targets_take_the_nearest_pixel_as_pillow_does(size):
    target = draw_sample(53, 37).target
    expected = np.asarray(Image.fromarray(target.id_map.numpy()).resize(size[::-1], Image.Resampling.NEAREST))
    resized = resizing.resize_target(target, size)
    np.testing.assert_array_equal(resized.id_map.numpy(), expected)
    as_masks = resizing.resize_target(draw_sample(53, 37, "masks").target, size)
    assert torch.equal(as_masks.binary_masks(), resized.binary_masks())


def _random_window(generator, size):
    return tuple(slice(*sorted(generator.choice(length + 3, 2, replace=False).tolist())) for length in size)


@pytest.mark.parametrize("form", ["id_map", "masks", "layers"])
@pytest.mark.parametrize("nearest", ["center", "corner"])
def test_a_window_is_that_part_of_the_whole(form, nearest):
    """Bit for bit, however much the image shrinks or grows."""
    generator = np.random.default_rng(6)
    for _ in range(60):
        sample = draw_sample(*generator.integers(1, 90, 2).tolist(), form)
        size = tuple(generator.integers(1, generator.choice([9, 90, 400]), 2).tolist())
        window = _random_window(generator, size)
        if not all(len(range(length)[part]) for length, part in zip(size, window, strict=True)):
            continue
        whole, part = resizing.resize(sample, size, nearest), resizing.resize(sample, size, nearest, window)
        np.testing.assert_array_equal(part.image, whole.image[window])
        np.testing.assert_array_equal(whole.image, resizing.resize_image(sample.image, size))
        fast = resizing.resize_image_fast(sample.image, size, window)
        np.testing.assert_array_equal(fast, resizing.resize_image_fast(sample.image, size)[window])
        np.testing.assert_array_equal(part.target.binary_masks(), whole.target.binary_masks()[:, *window])
