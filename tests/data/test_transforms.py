# SPDX-License-Identifier: Apache-2.0
"""Sizes and pixels are those of detectron2's augmentations, worked out by hand or by Pillow."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.map_files import in_form
from unisegment.data import transforms
from unisegment.data.transforms import TrainTransform
from unisegment.ops.masks import segment_areas
from unisegment.structures import Sample, SegmentationTarget


class Scripted(np.random.Generator):
    """A generator whose random numbers, all in [0, 1], are known."""

    def __init__(self, *numbers):
        super().__init__(np.random.PCG64(0))
        self.numbers = list(numbers)

    def uniform(self, low=0.0, high=1.0):
        return low + (high - low) * self.numbers.pop(0)


def _sample(height, width, form="id_map"):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    id_map = torch.from_numpy(generator.choice([7, 2**24 - 1, 0], size=(height, width)).astype(np.int32))
    target = in_form(SegmentationTarget(labels=[3, 1], id_map=id_map, segment_ids=[7, 2**24 - 1]), form)
    return Sample(image, 5, "five.jpg", target=target)


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
    assert transforms.shortest_edge_size(size, shortest, longest) == expected
    assert transforms.shortest_edge_size(size[::-1], shortest, longest) == expected[::-1]


def test_images_are_resized_as_pillow_does():
    image = _sample(53, 37).image
    expected = np.asarray(Image.fromarray(image).resize((17, 29), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(transforms.resize_image(image, (29, 17)), expected)


@pytest.mark.parametrize("size", [(29, 17), (106, 74), (53, 37), (53, 101), (7, 211), (1, 1), (2, 300)])
def test_training_images_are_within_one_grey_level_of_pillow(size):
    image = _sample(53, 37).image
    image.flags.writeable = False  # as Pillow gives them
    exact, fast = transforms.resize_image(image, size), transforms.resize_image_fast(image, size)
    assert fast.shape == (*size, 3)
    assert np.abs(exact.astype(int) - fast).max() <= 1
    assert (exact != fast).mean() < 0.25


@pytest.mark.parametrize("size", [(29, 17), (59, 101), (2, 7)])
def test_targets_take_the_nearest_pixel_as_pillow_does(size):
    target = _sample(53, 37).target
    expected = np.asarray(Image.fromarray(target.id_map.numpy()).resize(size[::-1], Image.Resampling.NEAREST))
    resized = transforms.resize_target(target, size)
    np.testing.assert_array_equal(resized.id_map.numpy(), expected)
    as_masks = transforms.resize_target(_sample(53, 37, "masks").target, size)
    assert torch.equal(as_masks.binary_masks(), resized.binary_masks())


def _random_window(generator, size):
    return tuple(slice(*sorted(generator.choice(length + 3, 2, replace=False).tolist())) for length in size)


@pytest.mark.parametrize("form", ["id_map", "masks", "layers"])
@pytest.mark.parametrize("nearest", ["center", "corner"])
def test_a_window_is_that_part_of_the_whole(form, nearest):
    """Bit for bit, however much the image shrinks or grows."""
    generator = np.random.default_rng(6)
    for _ in range(60):
        sample = _sample(*generator.integers(1, 90, 2).tolist(), form)
        size = tuple(generator.integers(1, generator.choice([9, 90, 400]), 2).tolist())
        window = _random_window(generator, size)
        if not all(len(range(length)[part]) for length, part in zip(size, window, strict=True)):
            continue
        whole, part = transforms.resize(sample, size, nearest), transforms.resize(sample, size, nearest, window)
        np.testing.assert_array_equal(part.image, whole.image[window])
        np.testing.assert_array_equal(whole.image, transforms.resize_image(sample.image, size))
        fast = transforms.resize_image_fast(sample.image, size, window)
        np.testing.assert_array_equal(fast, transforms.resize_image_fast(sample.image, size)[window])
        np.testing.assert_array_equal(part.target.binary_masks(), whole.target.binary_masks()[:, *window])


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
    sample = _sample(5, 3, form)
    flipped = transforms.flip(sample)
    np.testing.assert_array_equal(flipped.image, np.fliplr(sample.image))
    np.testing.assert_array_equal(flipped.target.binary_masks()[0], np.fliplr(sample.target.binary_masks()[0]))
    assert (flipped.image_id, flipped.file_name) == (5, "five.jpg")


def test_jitter_that_shrinks_pads_with_grey_and_void():
    sample = _sample(53, 97)
    # min(0.5 * 61 / 53, 0.5 * 45 / 97) * (53, 97) = (12.3, 22.5); halves go to the even number.
    jittered = transforms.large_scale_jitter(sample, (61, 45), (0.0, 1.0), Scripted(0.5, 0.9))
    assert jittered.image.shape == (61, 45, 3)
    expected = transforms.resize(sample, (12, 22))
    image = transforms.resize_image_fast(sample.image, (12, 22))
    np.testing.assert_array_equal(jittered.image[:12, :22], image)
    assert (jittered.image[12:] == 128).all()
    assert (jittered.image[:, 22:] == 128).all()
    masks = jittered.target.binary_masks()
    assert torch.equal(masks[:, :12, :22], expected.target.binary_masks())
    assert masks.sum() == expected.target.binary_masks().sum()


def test_jitter_that_enlarges_crops_at_one_random_place():
    sample = _sample(53, 31)
    # min(2 * 23 / 53, 2 * 19 / 31) * (53, 31) = (46, 26.9): 23 rows and 8 columns are too many.
    jittered = transforms.large_scale_jitter(sample, (23, 19), (1.0, 2.0), Scripted(1.0, 0.3))
    expected = transforms.resize(sample, (46, 27))
    top, left = 7, 2
    image = transforms.resize_image_fast(sample.image, (46, 27))
    np.testing.assert_array_equal(jittered.image, image[top : top + 23, left : left + 19])
    assert torch.equal(jittered.target.id_map, expected.target.id_map[top : top + 23, left : left + 19])


def test_segments_that_are_cropped_away_keep_their_label():
    id_map = torch.zeros(11, 13, dtype=torch.int32)
    id_map[-1, -1] = 9
    sample = replace(_sample(11, 13), target=SegmentationTarget(labels=[4], id_map=id_map, segment_ids=[9]))
    jittered = transforms.large_scale_jitter(sample, (11, 13), (2.0, 2.0), Scripted(0.0, 0.0))
    assert jittered.target.labels.tolist() == [4]
    assert not jittered.target.binary_masks().any()


def test_the_transform_flips_then_resizes_then_jitters():
    sample = _sample(53, 31)
    transform = TrainTransform(
        flip_prob=0.5, shortest_edge=37, longest_edge=61, jitter_size=(23, 19), jitter_scale=(0.5, 1.5)
    )
    changed = transform(sample, Scripted(0.4, 0.8, 0.3))
    expected = transforms.resize(transforms.flip(sample), (61, 36))
    expected = transforms.large_scale_jitter(expected, (23, 19), (0.5, 1.5), Scripted(0.8, 0.3))
    np.testing.assert_array_equal(changed.image, expected.image)
    assert torch.equal(changed.target.id_map, expected.target.id_map)


def test_without_options_only_half_of_the_samples_are_flipped():
    sample = _sample(5, 3)
    assert TrainTransform()(sample, Scripted(0.5)) is sample
    np.testing.assert_array_equal(TrainTransform()(sample, Scripted(0.49)).image, sample.image[:, ::-1])
    assert TrainTransform(flip_prob=0.0)(sample, Scripted(0.0)) is sample


def test_the_same_generator_state_gives_the_same_sample():
    transform = TrainTransform(jitter_size=(23, 19))
    first, second = (transform(_sample(53, 31), np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip_prob": 1.5}, "flip_prob must be in"),
        ({"longest_edge": 1333}, "set shortest_edge"),
        ({"shortest_edge": ()}, r"shortest_edge must be 1 to 16,384 pixels, got \(\)"),
        ({"shortest_edge": (512, 0)}, "shortest_edge must be 1 to 16,384 pixels"),
        ({"shortest_edge": 8, "longest_edge": 0}, "longest_edge must be 1 to 2,147,483,647 pixels"),
        ({"crop_size": (512, 0)}, "crop_size must be 1 to 16,384 pixels"),
        ({"jitter_size": (-1, 512)}, "jitter_size must be 1 to 16,384 pixels"),
        ({"crop_size": (512, 512), "crop_category_max_area": 0.0}, r"crop_category_max_area must be in \(0, 1\]"),
        ({"crop_category_max_area": 0.75}, "set crop_size"),
        ({"pad_to_crop": True}, "set crop_size"),
        ({"crop_size": (512, 512), "jitter_size": (512, 512)}, "leave out either"),
        ({"jitter_scale": (2.0, 0.1)}, "the smaller one first"),
        ({"jitter_scale": (0.0, 1.0)}, "above 0"),
        ({"jitter_scale": (0.1, 1e9)}, "up to 10"),
        ({"jitter_size": (2**20, 2**20)}, "jitter_size must be 1 to 16,384 pixels"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainTransform(**options)
